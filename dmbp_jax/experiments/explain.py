"""`explain`: any method on a batch of images, jitted, vmapped, and in chunks if asked."""

import functools
import inspect
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from dmbp_jax.checks import InputError, check_choice, check_images, check_targets, is_concrete
from dmbp_jax.experiments.methods import get_method
from dmbp_jax.typing import Apply, Attribution, Key, Method, Params

Options = tuple[tuple[str, type, Hashable], ...]


def explain(
    apply: Apply,
    params: Params,
    images: npt.ArrayLike | jax.Array,
    targets: npt.ArrayLike | jax.Array,
    method: str | Method = "dmbp",
    *,
    key: Key | None = None,
    batch_size: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Attribution:
    """Explain what a network sees in each of `images`.

    Images are independent: a batch gives the same maps as its images one by one. Works inside `jax.jit` and
    `jax.vmap`; a second call with the same `apply`, shapes and options compiles nothing.

    Args:
        apply: `apply(params, images, *, rule) -> logits`, as in `dmbp_jax.models`.
        params: its parameters.
        images: `(n, h, w, c)` floats, normalised as the network takes them.
        targets: `(n,)` class indices, or `(n, classes)` weights: a contrast such as `dmbp_jax.contrast(...)`.
        method: a name in `dmbp_jax.experiments.METHODS`, or a function with the methods' signature, such as
            `meta_saliency(norm_grad)`.
        key: a random key, for methods that draw; every image gets its own.
        batch_size: images explained at once; None takes all. The chunks have one shape, so that there is one
            compilation, a progress bar shows on a terminal, and the result lives in host memory. (Inside
            `jit` and `vmap` there is neither bar nor host, and the last chunk may be smaller.)
        progress: whether that bar shows.
        **options: of the method; for `"dmbp"` see `dmbp_jax.dmbp.dmbp` and `DMBPConfig`. An array, such as
            a `baseline`, serves all images.

    Returns:
        An `Attribution`; `finite` says per image whether all its numbers are.

    Raises:
        InputError: wrong shape or dtype, unknown method or option, target out of range; images that hold NaN,
            unless they are being traced by `jit` or `vmap`, where `finite` tells.

    >>> from dmbp_jax.models import get_architecture, init
    >>> apply, params = get_architecture("squeezenet1_1").apply, init(jax.random.key(0), "squeezenet1_1")
    >>> a = explain(apply, params, jnp.ones((2, 32, 32, 3)), [3, 7], steps=2)
    >>> a.values.shape, a.scores.total.shape
    ((2, 32, 32, 3), (2,))
    """
    method = get_method(method)
    _check_options(method, options)
    images, targets = jnp.asarray(images), jnp.asarray(targets)
    check_images(images)
    count = images.shape[0]
    logits = jax.eval_shape(jax.jit(apply), params, images)
    if logits.ndim != 2 or logits.shape[0] != count:
        raise InputError(f"apply must return logits of shape ({count}, classes), got {logits.shape}")
    check_targets(targets, count, logits.shape[1])
    keys = None if key is None else jax.random.split(key, count)
    arrays = {k: jnp.asarray(v) for k, v in options.items() if isinstance(v, jax.Array | np.ndarray)}
    static = _hashable({k: v for k, v in options.items() if k not in arrays})
    run = functools.partial(
        _explain_batch, params, arrays, apply=apply, method=method, classes=logits.shape[1], options=static
    )
    if batch_size is None:
        return run(images, targets, keys)
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    inputs = (images, targets, keys)
    if all(is_concrete(leaf) for leaf in jax.tree.leaves((params, inputs))):
        return _in_chunks(run, inputs, count, batch_size, progress=progress)
    chunks = [
        run(*jax.tree.map(lambda leaf, at=at: leaf[at : at + batch_size], inputs))
        for at in range(0, count, batch_size)
    ]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *chunks)


@functools.partial(jax.jit, static_argnames=("apply", "method", "classes", "options"))
def _explain_batch(
    params: Params,
    arrays: dict[str, jax.Array],
    images: jax.Array,
    targets: jax.Array,
    keys: jax.Array | None,
    *,
    apply: Apply,
    method: Method,
    classes: int,
    options: Options,
) -> Attribution:
    def one(image: jax.Array, target: jax.Array, key: jax.Array | None) -> Attribution:
        fixed = {name: value for name, _, value in options}
        result = method(apply, params, image, target, key=key, **arrays, **fixed)
        if target.ndim:
            return result
        # The gradient of a class that does not exist is zero, which is finite and no explanation.
        return result._replace(finite=result.finite & (target >= 0) & (target < classes))

    return jax.vmap(one)(images, targets, keys)


def _check_options(method: Method, options: dict[str, Any]) -> None:
    parameters = inspect.signature(method).parameters.values()
    if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        known = [
            parameter.name for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        for name in options:
            check_choice(f"option of {method.__name__}", name, known)


def _hashable(options: dict[str, Any]) -> Options:
    for name, value in options.items():
        try:
            hash(value)
        except TypeError:
            raise InputError(
                f"option {name} must be a plain number, string or flag, got {type(value).__name__}"
            ) from None
    # 7, 7.0 and True are equal keys to jit's cache, but not equal options.
    return tuple((name, type(value), value) for name, value in sorted(options.items()))


def _in_chunks(run: Any, inputs: Any, count: int, batch_size: int, *, progress: bool) -> Attribution:
    """Walk the batch in chunks of one shape, the last one filled up, and collect the results on the host."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    chunks: list[Attribution] = []
    console = Console(stderr=True)
    shown = progress and console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("explaining", total=count)
        for at in range(0, count, batch_size):
            index = np.minimum(np.arange(at, at + batch_size), count - 1)
            chunk = jax.device_get(run(*jax.tree.map(lambda leaf, i=index: leaf[i], inputs)))
            kept = min(batch_size, count - at)
            chunks.append(jax.tree.map(lambda leaf, n=kept: leaf[:n], chunk))
            bar.advance(task, kept)
    return jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)
