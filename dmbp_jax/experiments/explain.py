"""`explain`: any method on a batch of images, jitted, vmapped, and in chunks if asked."""

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy.typing as npt
from jax.sharding import Mesh

from dmbp_jax.checks import InputError, is_concrete
from dmbp_jax.experiments.call import automatic_chunk, prepare
from dmbp_jax.experiments.chunks import take_chunk, walk
from dmbp_jax.typing import Apply, Attribution, Key, Method, OnStep, Params

BatchSize: TypeAlias = int | Literal["auto"] | None


def explain(
    apply: Apply,
    params: Params,
    images: npt.ArrayLike | jax.Array,
    targets: npt.ArrayLike | jax.Array,
    method: str | Method = "dmbp",
    *,
    key: Key | None = None,
    batch_size: BatchSize = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    on_step: OnStep | None = None,
    **options: Any,
) -> Attribution:
    """Explain what a network sees in each of `images`.

    Images are independent: a batch gives the same maps as its images one by one. Works inside `jax.jit` and
    `jax.vmap`; a second call with the same `apply`, shapes and options compiles nothing.

    Args:
        apply: `apply(params, images, *, rule) -> logits`, as in `dmbp_jax.models` or from `dmbp_jax.gated`.
        params: its parameters.
        images: `(n, h, w, c)` floats, normalised as the network takes them; a gated network may take other
            inputs, `(n, ...)`.
        targets: `(n,)` class indices, or `(n, classes)` weights: a contrast such as `dmbp_jax.contrast(...)`.
        method: a name in `dmbp_jax.experiments.METHODS`, or a function with the methods' signature, such as
            `meta_saliency(norm_grad)`.
        key: a random key, for methods that draw; every image gets its own.
        batch_size: images explained at once; None takes all, `"auto"` as many as the free memory holds and
            as bring anything (see `chunk_size`). The chunks have one shape, so that there is one
            compilation, a progress bar shows on a terminal, and the result lives in host memory, where NumPy
            images also wait for their turn: the device's memory does not depend on their number. (Inside
            `jit` and `vmap` there is neither bar nor host, `"auto"` takes all, and the last chunk may be
            smaller.)
        mesh: devices among which the images are divided, whatever the mesh's axes; the parameters are copied
            to each. Chunks are rounded up to a multiple of its size. None stays on the default device.
        progress: whether that bar shows.
        on_step: called with the number of steps done and of all steps while a method with a loop is at work
            (see `slices`), and after each chunk for a method without one.
        **options: of the method; for `"dmbp"` see `dmbp_jax.dmbp.dmbp` and `DMBPConfig`. An array, such as
            a `baseline`, serves all images.

    Returns:
        An `Attribution`; `finite` says per image whether all its numbers are.

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
    _check_batch_size(batch_size)
    call = prepare(apply, params, images, targets, method, key=key, mesh=mesh, options=options)
    count, stepwise = len(call.inputs[0]), on_step is not None
    if not all(is_concrete(leaf) for leaf in jax.tree.leaves((params, call.inputs))):
        if mesh is not None:
            raise InputError("mesh= does nothing inside jit and vmap: shard the images that go in")
        if stepwise:
            raise InputError("on_step= is called on the host, and so not inside jit and vmap: leave it out")
        step = batch_size if isinstance(batch_size, int) else count
        chunks = [
            call.runner(step, None)(*jax.tree.map(lambda leaf, at=at: leaf[at : at + step], call.inputs))
            for at in range(0, count, step)
        ]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *chunks) if len(chunks) > 1 else chunks[0]
    if batch_size is None and (mesh is None or count % mesh.size == 0):
        inputs = call.inputs if mesh is None else take_chunk(call.inputs, 0, count, mesh)
        return call.runner(count, mesh, stepwise=stepwise)(*inputs, on_step=on_step)
    devices = 1 if mesh is None else mesh.size
    chunk = (
        automatic_chunk(call, mesh, stepwise)
        if batch_size == "auto"
        else -(-(batch_size or count) // devices) * devices
    )
    run = call.runner(chunk, mesh, stepwise=stepwise, owned=True)
    return walk(run, call.inputs, chunk, mesh, progress=progress, on_step=on_step)


def automatic_batch_size(
    apply: Apply,
    params: Params,
    images: npt.ArrayLike | jax.Array,
    targets: npt.ArrayLike | jax.Array,
    method: str | Method = "dmbp",
    *,
    key: Key | None = None,
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
    call = prepare(apply, params, images, targets, method, key=key, mesh=mesh, options=options)
    return automatic_chunk(call, mesh, stepwise)


def _check_batch_size(batch_size: BatchSize) -> None:
    if isinstance(batch_size, str) and batch_size != "auto":
        raise InputError(f"batch_size must be a number, None or 'auto', got {batch_size!r}")
    if isinstance(batch_size, int) and batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
