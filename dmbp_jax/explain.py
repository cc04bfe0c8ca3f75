"""`explain`: any method on a batch of images, jitted, vmapped, and in chunks if asked."""

import numbers
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy.typing as npt
from jax.sharding import Mesh

from dmbp_jax.batching.arguments import (
    as_array,
    check_division,
    check_key,
    check_options,
    divide_options,
    key_of_each,
)
from dmbp_jax.batching.call import Call, Settings, automatic_chunk, make_program
from dmbp_jax.batching.chunks import replicate, take_chunk, walk
from dmbp_jax.batching.explicit import automatic, on_automatic_axes
from dmbp_jax.batching.processes import divide, is_shared, spans_processes, take_own
from dmbp_jax.batching.trial import check_network, try_network
from dmbp_jax.checks import (
    InputError,
    as_number,
    check_first,
    check_images,
    check_targets,
    is_concrete,
    refuse_pair,
)
from dmbp_jax.methods import get_method
from dmbp_jax.result import Attribution, Method
from dmbp_jax.typing import Apply, Keys, OnStep, Params, is_traced

BatchSize: TypeAlias = int | Literal["auto"] | None


@check_first(refuse_pair)
def explain(
    apply: Apply,
    params: Params,
    images: npt.ArrayLike | jax.Array,
    targets: npt.ArrayLike | jax.Array,
    method: str | Method = "dmbp",
    *,
    key: Keys | None = None,
    batch_size: BatchSize = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    on_step: OnStep | None = None,
    **options: Any,
) -> Attribution:
    """Explain what a network sees in each of `images`.

    Images are independent: a batch gives the same maps as its images one by one. Works inside `jax.jit` and
    `jax.vmap`; a second call with the same `apply`, shapes and options compiles nothing. Options that are
    numbers of the arithmetic, such as `noise_level` and `learning_rate`, may then have another value, and may
    be traced; those that decide shapes, such as `steps`, and words and flags may not.

    Args:
        apply: `apply(params, images, *, rule) -> logits`, as in `dmbp_jax.models` or from `dmbp_jax.gated`.
        params: its parameters.
        images: `(n, h, w, c)` floats, normalised as the network takes them; a gated network may take other
            inputs, `(n, ...)`.
        targets: `(n,)` class indices, which are whole numbers; or `(n, classes)` weights, which are floating,
            such as a contrast: see `dmbp_jax.targets`.
        method: a name in `dmbp_jax.methods.METHODS`, or a function with the methods' signature, such as
            `meta_saliency(norm_grad)` or `noise_tunnel(gradient)`.
        key: a random key, for methods that draw: each image gets its own, by its place among `images`. Or
            a key for each image, `(n,)` of `jax.random.key` or `(n, 2)` of `PRNGKey`: then an image's map
            does not depend on what else is explained beside it.
        batch_size: images explained at once; None takes all, `"auto"` the largest number that helps and
            that the free memory holds (`dmbp_jax.batching.chunk_size`). The chunks have one shape, so that
            there is one compilation, a progress bar shows on a terminal, and the result lives in host memory,
            where NumPy images also wait for their turn: the device's memory does not depend on their number.
            (Inside `jit` and `vmap` there is neither bar nor host, `"auto"` takes all, and the last chunk
            may be smaller.) In a program of several processes each one walks its own images, and gets their
            maps alone.
        mesh: devices among which the images are divided, whatever the mesh's axes; the parameters are copied
            to each. Chunks are rounded up to a multiple of its size. None stays on the default device, or on
            those of the images. Its devices may be of several processes, which then make the same call.
        progress: whether that bar shows.
        on_step: called with the number of steps done and of all steps while a method with a loop is at work
            (see `dmbp_jax.batching.slices`), and after each chunk for a method without one.
        **options: of the method; for `"dmbp"` see `dmbp_jax.dmbp.dmbp` and `DMBPConfig`. An array, such as
            a `baseline`, serves all images.

    Returns:
        An `Attribution`; `finite` says per image whether all its numbers are. Of images that are divided over
        several processes it is divided as they are, and it holds flags in place of the errors about values.

    Raises:
        InputError: wrong shape or dtype, unknown method or option, target out of range; images that hold NaN,
            unless they are being traced by `jit` or `vmap`, where `finite` tells; with `"auto"`, memory that
            does not hold a single image.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", rule.affine("scale", x * params, "filter")).mean(axis=(1, 2))
    >>> a = explain(apply, jnp.asarray(2.0), jnp.ones((2, 8, 8, 3)), [1, 2], steps=2)
    >>> a.values.shape, a.scores.total.tolist()
    ((2, 8, 8, 3), [2.0, 2.0])
    """
    check_division(batch_size, mesh, on_step)

    def run(images: Any, targets: Any, params: Params, key: Keys | None) -> Attribution:
        call = check_call(apply, params, images, targets, method, key=key, mesh=mesh, options=options)
        return run_call(call, batch_size=batch_size, mesh=mesh, progress=progress, on_step=on_step)

    return on_automatic_axes(run, images, targets, params, key)


def run_call(
    call: Call, *, batch_size: BatchSize, mesh: Mesh | None, progress: bool, on_step: OnStep | None
) -> Attribution:
    """What `explain` does with its arguments once they are checked."""
    count, stepwise = len(call.inputs[0]), on_step is not None
    if not all(is_concrete(leaf) for leaf in jax.tree.leaves((call.params, call.arrays, call.inputs))):
        if mesh is not None:
            raise InputError("mesh= does nothing inside jit, vmap and grad: shard the images that go in")
        if stepwise:
            raise InputError("on_step= is called on the host, not inside jit, vmap and grad: leave it out")
        return _inside(call, batch_size if isinstance(batch_size, numbers.Integral) else count)
    if is_shared(call, mesh):
        if batch_size is None:
            shared = divide(call, mesh)
            return make_program(shared, count, mesh, stepwise=stepwise).run(shared.inputs, on_step=on_step)
        call, mesh = take_own(call, mesh)
        count = len(call.inputs[0])
    if batch_size is None and (mesh is None or count % mesh.size == 0):
        inputs = call.inputs if mesh is None else take_chunk(call.inputs, 0, count, mesh)
        return make_program(call, count, mesh, stepwise=stepwise).run(inputs, on_step=on_step)
    if batch_size == "auto":
        chunk = automatic_chunk(call, mesh, stepwise)
    else:
        devices = 1 if mesh is None else mesh.size
        chunk = -(-(batch_size or count) // devices) * devices
    program = make_program(call, chunk, mesh, stepwise=stepwise)
    return walk(program.run, call.inputs, chunk, mesh, progress=progress, on_step=on_step)


@check_first(refuse_pair)
def automatic_batch_size(
    apply: Apply,
    params: Params,
    images: npt.ArrayLike | jax.Array,
    targets: npt.ArrayLike | jax.Array,
    method: str | Method = "dmbp",
    *,
    key: Keys | None = None,
    mesh: Mesh | None = None,
    stepwise: bool = False,
    **options: Any,
) -> int:
    """The chunk that `explain(..., batch_size="auto")` takes now, with the same arguments.

    `stepwise`: as with an `on_step`. Compiles the program for it. Raises `InputError` as `explain` does.

    >>> def apply(params, x, *, rule=None):
    ...     return jax.nn.relu(x * params).mean(axis=(1, 2))
    >>> automatic_batch_size(apply, jnp.asarray(2.0), jnp.ones((2, 8, 8, 3)), [1, 2], "gradient")
    2
    """
    call = check_call(apply, params, images, targets, method, key=key, mesh=mesh, options=options)
    if is_shared(call, mesh):
        call, mesh = take_own(call, mesh)
    return automatic_chunk(call, mesh, stepwise)


def _inside(call: Call, chunk: int) -> Attribution:
    """Inside `jit` and `vmap`: chunk after chunk, the last one smaller."""
    chunks = []
    for at in range(0, len(call.inputs[0]), chunk):
        inputs = jax.tree.map(lambda leaf, at=at: leaf[at : at + chunk], call.inputs)
        chunks.append(make_program(call, chunk, None).run(inputs))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *chunks) if len(chunks) > 1 else chunks[0]


def check_call(
    apply: Apply,
    params: Params,
    images: npt.ArrayLike | jax.Array,
    targets: npt.ArrayLike | jax.Array,
    method: str | Method,
    *,
    key: Keys | None,
    mesh: Mesh | None,
    options: dict[str, Any],
) -> Call:
    """The arguments of `explain`, checked; raises `InputError`."""
    check_network(apply, params)
    method = get_method(method)
    options = {name: as_number(value) for name, value in options.items()}
    check_options(method, options)
    arrays, static = divide_options(method, options)
    check_key(key)
    arguments = (params, key, as_array(images, "images"), as_array(targets, "targets"))
    params, key, images, targets = automatic(arguments)
    check_images(images, any_rank=is_traced(apply))
    count = images.shape[0]
    logits = try_network(apply, params, images)
    check_targets(targets, count, logits.shape[1])
    keys = key_of_each(key, count)
    settings = Settings(apply, method, logits.shape[1], static)
    # What each process does with a mesh of several is known once the images are divided.
    local = None if spans_processes(mesh) else mesh
    return Call((images, targets, keys), replicate(params, local), replicate(arrays, local), settings)
