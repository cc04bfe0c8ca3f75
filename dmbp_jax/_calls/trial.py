"""A network traced on the shapes of its images before anything is compiled: its logits, or why it fails.

If it fails, other shapes are tried: channels last, a batch axis, another number of channels. If one of them
works, the message names it as the remedy; otherwise the network's own error is raised.
"""

import dataclasses
import functools
import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from dmbp_jax._checks import NO_TORCH, InputError, ShapeError, advise_on_dtype, is_torch, kind_of
from dmbp_jax._gated import GatedApply
from dmbp_jax._gated.program import is_own
from dmbp_jax.rules import PLAIN
from dmbp_jax.typing import Apply, Params

_GATE_IT = (
    "takes no rule=, by which methods enter a network: make it one that does with gated, "
    "apply, params = gated(model) or gated((function, params))"
)


def check_network(apply: Any, params: Any) -> None:
    """Raise `InputError` unless `apply` is a function that takes a rule, and `params` a tree of arrays.

    >>> check_network({"w": 1.0}, lambda params, images, *, rule: images)
    Traceback (most recent call last):
    dmbp_jax.InputError: apply and params are swapped: explain(apply, params, images, targets)
    """
    if is_torch(apply):
        raise InputError(f"apply is {kind_of(apply)}: {NO_TORCH}")
    if not callable(apply):
        if callable(params):
            raise InputError("apply and params are swapped: explain(apply, params, images, targets)")
        raise InputError(
            f"apply must be a function apply(params, images, *, rule) -> logits, got {kind_of(apply)}"
        )
    if not isinstance(apply, GatedApply) and not _takes_rule(apply):
        raise InputError(f"{_name(apply)} {_GATE_IT}")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        try:
            jax.typeof(leaf)
        except TypeError:
            at = jax.tree_util.keystr(path)
            raise InputError(
                f"params must be a tree of arrays, got {kind_of(leaf)}{f' at {at}' if at else ''}"
            ) from None


def try_network(apply: Apply, params: Params, images: jax.Array | np.ndarray) -> jax.ShapeDtypeStruct:
    """The shape and dtype of the logits: `(n, k)`, or `(1, k)` of a gated network.

    Raises `InputError` for images that `apply` does not take, if the remedy is certain, and for logits of
    another shape; otherwise the network's own error.
    """
    try:
        logits = _logits(apply, params, images)
    except Exception as error:
        advice = _advice(apply, params, images, error)
        if advice is not None:
            raise InputError(advice) from error
        if not isinstance(error, InputError):
            error.add_note(f"This is the network's own error, on images {images.shape} of {images.dtype}.")
        raise
    if not isinstance(logits, jax.ShapeDtypeStruct):
        raise InputError(f"apply must return one array, the logits (n, classes), got {kind_of(logits)}")
    count = 1 if isinstance(apply, GatedApply) else len(images)
    if logits.ndim != 2 or logits.shape[0] != count:
        raise InputError(f"apply must return logits of shape ({count}, classes), got {logits.shape}")
    return logits


def plain_program(apply: Apply) -> Callable[[Params, Any], Any]:
    """`apply` under the plain rule as a compiled function of parameters and images.

    For each shape a network is traced once, whoever asks for its program.
    """
    # `rule` is not always among the function's own names.
    return functools.partial(jax.jit(apply, static_argnames=("rule",)), rule=PLAIN)


def _logits(apply: Apply, params: Params, images: Any) -> Any:
    program = plain_program(apply)
    if isinstance(apply, GatedApply):
        # Whether it mixes images is seen when it is traced; methods run it on one.
        return jax.eval_shape(lambda params, images: program(params, images[:1]), params, images)
    return jax.eval_shape(program, params, images)


def _advice(apply: Apply, params: Params, images: jax.Array | np.ndarray, error: Exception) -> str | None:
    """A message with the remedy, if it is certain."""
    said = str(error) if isinstance(error, TypeError) else ""
    missing = re.search(r"missing \d+ required .*", said)
    if "unexpected keyword argument 'rule'" in said:
        return f"{_name(apply)} {_GATE_IT}"
    if isinstance(apply, jax.stages.Wrapped):
        return "apply is compiled by jax.jit, through which no rule passes: give the function itself"
    if missing is not None and not _is_raised_by_user(error):
        return (
            f"the network is called with its images alone, {missing[0]}: give a function that fixes the "
            "others, gated((lambda params, x: module.apply(params, x, train=False), params))"
        )
    if params is None:
        return "params are None, and the network needs its parameters"
    # A gated network's error is not about image axes, except for a missing batch axis.
    if isinstance(error, InputError) and not isinstance(error, ShapeError) and images.ndim > 3:
        return None
    return _better_shape(apply, params, images) or _better_dtype(apply, params, images)


def _better_dtype(apply: Apply, params: Params, images: jax.Array | np.ndarray) -> str | None:
    """The dtype of its parameters, if the network takes images of that."""
    advice = advise_on_dtype(params, images.dtype)
    if advice:
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype")}
        for dtype in dtypes:
            try:
                _logits(apply, params, jax.ShapeDtypeStruct(images.shape, dtype))
            except Exception:
                continue
            return f"the network does not take images of {images.dtype}: {advice}"
    return None


def _better_shape(apply: Apply, params: Params, images: jax.Array | np.ndarray) -> str | None:
    """A shape that the network takes instead, if one is found."""
    for other, shape, remedy in _others(apply, images.shape):
        try:
            logits = _logits(other, params, jax.ShapeDtypeStruct(shape, images.dtype))
        except Exception:
            continue
        count = 1 if isinstance(other, GatedApply) else shape[0]
        if getattr(logits, "ndim", None) == 2 and logits.shape[0] == count:
            return f"the network does not take images of shape {images.shape}: {remedy}"
    return None


def _others(apply: Apply, shape: tuple[int, ...]) -> Iterator[tuple[Apply, tuple[int, ...], str]]:
    """Shapes that a caller may have meant."""
    if len(shape) != 4:
        yield apply, (1, *shape), "add a batch axis with images[None]"
        return
    n, *sides, channels = shape
    yield apply, (n, *sides[1:], channels, sides[0]), "channels come last, images.transpose(0, 2, 3, 1)"
    if isinstance(apply, GatedApply):
        layout = "NHWC" if apply.layout == "NCHW" else "NCHW"
        yield dataclasses.replace(apply, layout=layout), shape, f"give gated(..., layout={layout!r})"
    for number in {1, 3, 4} - {channels}:
        yield apply, (n, *sides, number), f"it takes {number} channel{'s' if number > 1 else ''}"


def _is_raised_by_user(error: Exception) -> bool:
    return is_own(traceback.extract_tb(error.__traceback__)[-1].filename)


def _takes_rule(apply: Any) -> bool:
    try:
        parameters = inspect.signature(apply).parameters
    except (TypeError, ValueError):
        return True
    return "rule" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _name(apply: Any) -> str:
    return getattr(apply, "__qualname__", type(apply).__name__)
