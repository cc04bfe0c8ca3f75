"""A call of `explain`: checked, and made into programs for chunks of images."""

import functools
import inspect
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh

from dmbp_jax.checks import InputError, check_choice, check_images, check_targets
from dmbp_jax.experiments.chunk_size import (
    ProgramBytes,
    fitting_chunk,
    free_bytes,
    most_at_once,
    program_bytes,
)
from dmbp_jax.experiments.chunks import Inputs, chunk_shapes, replicate
from dmbp_jax.experiments.methods import get_method
from dmbp_jax.experiments.slices import Slices, slice_loops
from dmbp_jax.gated import GatedApply
from dmbp_jax.ops import Loop, loop_of
from dmbp_jax.typing import Apply, Attribution, Key, Method, OnStep, Params

Options = tuple[tuple[str, type, Hashable], ...]


class Call(NamedTuple):
    """A call of `explain`, checked: a program, and what goes into it."""

    inputs: Inputs
    params: Params
    arguments: dict[str, Any]
    arrays: dict[str, jax.Array]

    def runner(
        self, chunk: int, mesh: Mesh | None, *, stepwise: bool = False, owned: bool = False
    ) -> Callable[..., Attribution]:
        """What explains a chunk: `run(images, targets, keys, on_step=None)`.

        `stepwise`: whether it can report the steps of a loop. `owned`: the images are nobody else's.
        """
        sliced = self.slices(chunk, mesh) if stepwise else None
        if sliced is not None:

            def run_slices(*inputs: Any, on_step: OnStep | None = None) -> Attribution:
                result: Attribution = sliced.run((self.params, self.arrays), inputs, on_step=on_step)
                return result

            return run_slices
        program = self.program(chunk, mesh) if owned else _explain_given

        def run(*inputs: Any, on_step: OnStep | None = None) -> Attribution:
            result = program(self.params, self.arrays, *inputs, **self.arguments)
            if on_step is not None:
                jax.block_until_ready(result)
                on_step(1, 1)
            return result

        return run

    def lower(self, chunk: int, mesh: Mesh | None, stepwise: bool) -> jax.stages.Lowered:
        """The program that needs the most memory for a chunk."""
        shapes = chunk_shapes(self.inputs, chunk, mesh)
        sliced = self.slices(chunk, mesh) if stepwise else None
        if sliced is not None:
            return sliced.lower((self.params, self.arrays), shapes)
        return self.program(chunk, mesh).lower(self.params, self.arrays, *shapes, **self.arguments)

    def slices(self, chunk: int, mesh: Mesh | None) -> Slices | None:
        """The method's loop in slices; None for a method without one, or without a step to take."""
        make, others = loop_of(self.arguments["method"]), {**self.arguments}
        if make is None:
            return None
        del others["method"]
        leaves, structure = jax.tree.flatten(
            ((self.params, self.arrays), chunk_shapes(self.inputs, chunk, mesh))
        )
        kinds = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
        slices = _slices(make, structure, kinds, **others)
        return slices if slices.length else None

    def program(self, chunk: int, mesh: Mesh | None) -> Any:
        """What explains a chunk of images that are nobody else's, so that a result may take their memory, if
        one is of their size: XLA warns about a buffer that it cannot make use of."""
        images, *others = chunk_shapes(self.inputs, chunk, mesh)
        results = _explain_given.eval_shape(self.params, self.arrays, images, *others, **self.arguments)
        wanted = (images.shape, images.dtype)
        reusable = any((leaf.shape, leaf.dtype) == wanted for leaf in jax.tree.leaves(results))
        return _explain_owned if reusable else _explain_given


def prepare(
    apply: Apply,
    params: Params,
    images: npt.ArrayLike | jax.Array,
    targets: npt.ArrayLike | jax.Array,
    method: str | Method,
    *,
    key: Key | None,
    mesh: Mesh | None,
    options: dict[str, Any],
) -> Call:
    """Check the arguments of `explain`, which see; raises `InputError`."""
    method = get_method(method)
    _check_options(method, options)
    images, targets = _as_array(images), _as_array(targets)
    check_images(images, any_rank=isinstance(apply, GatedApply))
    count = images.shape[0]
    logits = jax.eval_shape(jax.jit(apply), params, images)
    if logits.ndim != 2 or logits.shape[0] != count:
        raise InputError(f"apply must return logits of shape ({count}, classes), got {logits.shape}")
    check_targets(targets, count, logits.shape[1])
    arrays = {k: jnp.asarray(v) for k, v in options.items() if isinstance(v, jax.Array | np.ndarray)}
    static = _hashable({k: v for k, v in options.items() if k not in arrays})
    keys = None if key is None else jax.random.split(key, count)
    arguments = {"apply": apply, "method": method, "classes": logits.shape[1], "options": static}
    return Call((images, targets, keys), replicate(params, mesh), arguments, replicate(arrays, mesh))


def automatic_chunk(call: Call, mesh: Mesh | None, stepwise: bool) -> int:
    """The images at once that the free memory holds; compiles the program for them.

    A single image, or one for each device, cannot be divided, so that nothing is asked.
    """
    if len(call.inputs[0]) <= (1 if mesh is None else mesh.size):
        return 1 if mesh is None else mesh.size
    devices = list(mesh.local_devices) if mesh is not None else jax.local_devices()[:1]
    fixed = sum(leaf.nbytes for leaf in jax.tree.leaves((call.params, call.arrays)))

    def bytes_of(chunk: int) -> ProgramBytes:
        return program_bytes(call.lower(chunk, mesh, stepwise).compile(), fixed)

    count = 1 if mesh is None else mesh.size
    return fitting_chunk(
        bytes_of,
        count=len(call.inputs[0]),
        free=min(free_bytes(device) for device in devices),
        most=count * most_at_once(devices[0]),
        devices=count,
    )


def _as_array(values: npt.ArrayLike | jax.Array) -> jax.Array | np.ndarray:
    """An array where it is: on its device, or in host memory."""
    if isinstance(values, jax.Array):
        return values
    array = np.asarray(values)
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


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
    plain = {name: value for name, _, value in options}

    def one(image: jax.Array, target: jax.Array, key: jax.Array | None) -> Attribution:
        result = method(apply, params, image, target, key=key, **arrays, **plain)
        return _flag(result, target, classes)

    return jax.vmap(one)(images, targets, keys)


def _flag(result: Attribution, target: jax.Array, classes: int) -> Attribution:
    if target.ndim:
        return result
    # The gradient of a class that does not exist is zero, which is finite and no explanation.
    return result._replace(finite=result.finite & (target >= 0) & (target < classes))


_STATIC = ("apply", "method", "classes", "options")
_explain_given = jax.jit(_explain_batch, static_argnames=_STATIC)
_explain_owned = jax.jit(_explain_batch, static_argnames=_STATIC, donate_argnames=("images",))


@functools.lru_cache(maxsize=32)
def _slices(
    make: Callable[..., Loop],
    structure: Any,
    kinds: tuple[jax.ShapeDtypeStruct, ...],
    *,
    apply: Apply,
    classes: int,
    options: Options,
) -> Slices:
    """As with `jit`, a second call of the same kind traces nothing."""
    plain = {name: value for name, _, value in options}

    def loop(params: Params, arrays: Any, image: jax.Array, target: jax.Array, key: jax.Array | None) -> Loop:
        made = make(apply, params, image, target, key=key, **arrays, **plain)
        return made.then(lambda result: _flag(result, target, classes))

    return slice_loops(loop, *jax.tree.unflatten(structure, kinds))


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
