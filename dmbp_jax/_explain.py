"""`explain`: a method on each image of a batch; `explain_classes`: for several classes of each image."""

import contextlib
import functools
import inspect
import numbers
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh

from dmbp_jax._calls.arguments import (
    as_array,
    check_division,
    check_key,
    check_options,
    divide_options,
    key_of_each,
    keys_from,
)
from dmbp_jax._calls.call import Call, Settings, automatic_chunk, make_program
from dmbp_jax._calls.chunks import (
    automatic,
    on_automatic_axes,
    place_like,
    replicate,
    take_chunk,
    walk,
)
from dmbp_jax._calls.processes import divide, is_shared, spans_processes, take_own
from dmbp_jax._calls.trial import check_network, try_network
from dmbp_jax._checks import (
    InputError,
    as_number,
    called,
    check_classes_once,
    check_first,
    check_images,
    check_targets,
    is_concrete,
    is_here,
    kind_of,
    refuse_pair,
)
from dmbp_jax._methods import get_method
from dmbp_jax._progress import bar
from dmbp_jax._ranges import check_whole
from dmbp_jax.ops._programs import hoist
from dmbp_jax.result import Attribution, Method
from dmbp_jax.result._attribution import Kept, check_kept
from dmbp_jax.typing import Apply, Key, Keys, OnStep, Params, is_gated

# `explain`: any method on a batch of images, jitted, vmapped, and in chunks if asked.

BatchSize: TypeAlias = int | Literal["auto"] | None
Keep: TypeAlias = Kept | Sequence[Kept] | None


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
    keep: Keep = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    on_step: OnStep | None = None,
    **options: Any,
) -> Attribution:
    """Explain the target's score for each of `images`: which pixels it depends on.

    Images are independent: a batch gives the same maps as its images one by one. Works inside `jax.jit` and
    `jax.vmap`; a second call with the same `apply`, shapes and options compiles nothing. Numeric options that
    do not affect shapes, such as `noise_level` and `learning_rate`, may then have another value, and may be
    traced; options that affect shapes, such as `steps`, strings and flags may not.

    Args:
        apply: `apply(params, images, *, rule) -> logits`, as in `dmbp_jax.models` or from `dmbp_jax.gated`.
        params: its parameters.
        images: `(n, h, w, c)` floats, normalised as the network takes them; a gated network may take other
            inputs, `(n, ...)`.
        targets: `(n,)` class indices, which are whole numbers; or `(n, classes)` weights, which are floating,
            such as a contrast: see `dmbp_jax.targets`.
        method: a name in `dmbp_jax.METHODS`, or a function with the methods' signature, such as
            `meta_saliency(norm_grad)` or `noise_tunnel(gradient)`.
        key: a random key, for methods that draw random numbers: each image gets its own, by its index in
            `images`. Or a key for each image, `(n,)` of `jax.random.key` or `(n, 2)` of `PRNGKey`: then an
            image's map does not depend on the other images.
        batch_size: images explained at once; None takes all, `"auto"` the largest number that helps and
            that the free memory holds. The chunks have one shape, so that
            there is one compilation, and a progress bar shows on a terminal. NumPy images wait for their turn
            in host memory: the device's memory does not depend on their number.
            (Inside `jit` and `vmap` there is neither bar nor host, `"auto"` takes all, and the last chunk
            may be smaller.) In a program of several processes each one walks its own images, and gets their
            maps alone.
        keep: what has the size of the images, and is kept: `"heatmap"` (`values` summed over channels,
            `(n, h, w, 1)`, a third of the memory of `values` of photographs), `"values"`, and `"parts"`
            (`positive` and `negative`; of heat maps also summed); one name or several, such as
            `("heatmap", "parts")`. None keeps everything, as `("values", "parts")` does. What is one number
            for each image is always kept, masks and history where they are asked for.
        mesh: devices among which the images are divided, whatever the mesh's axes; the parameters are copied
            to each. Chunks are rounded up to a multiple of its size. None stays on the default device, or on
            those of the images. Its devices may be of several processes, which then make the same call.
        progress: whether that bar shows.
        on_step: called as `on_step(done, total)` during the loop of a method that has one, otherwise after
            each chunk.
        **options: of the method; for `"dmbp"` see `dmbp_jax.dmbp.dmbp` and `DMBPConfig`. An array, such as
            a `baseline`, is used for all images.

    Returns:
        An `Attribution`; `finite` says per image whether all its numbers are. Whatever `batch_size` is, its
        arrays are where the images are: NumPy arrays for images in host memory, JAX arrays on the images'
        device, or divided over their devices as they are. Of images that are divided over
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
        call = check_call(
            apply, params, images, targets, method, key=key, mesh=mesh, options=options, keep=keep
        )
        return run_call(call, batch_size=batch_size, mesh=mesh, progress=progress, on_step=on_step)

    return on_automatic_axes(run, images, targets, params, key)


def run_call(
    call: Call, *, batch_size: BatchSize, mesh: Mesh | None, progress: bool, on_step: OnStep | None
) -> Attribution:
    """`explain` with checked arguments."""
    result = _run_call(call, batch_size=batch_size, mesh=mesh, progress=progress, on_step=on_step)
    return place_like(result, call.inputs[0])


def _run_call(
    call: Call, *, batch_size: BatchSize, mesh: Mesh | None, progress: bool, on_step: OnStep | None
) -> Attribution:
    """The result wherever it is computed or collected."""
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
    keep: Keep = None,
    mesh: Mesh | None = None,
    stepwise: bool = False,
    **options: Any,
) -> int:
    """The number of images at once that `explain(..., batch_size="auto")` would choose, with the same
    arguments.

    `stepwise`: as with an `on_step`. Compiles the program for it. Raises `InputError` as `explain` does.

    >>> def apply(params, x, *, rule=None):
    ...     return jax.nn.relu(x * params).mean(axis=(1, 2))
    >>> automatic_batch_size(apply, jnp.asarray(2.0), jnp.ones((2, 8, 8, 3)), [1, 2], "gradient")
    2
    """
    call = check_call(apply, params, images, targets, method, key=key, mesh=mesh, options=options, keep=keep)
    if is_shared(call, mesh):
        call, mesh = take_own(call, mesh)
    return automatic_chunk(call, mesh, stepwise)


def _inside(call: Call, chunk: int) -> Attribution:
    """Inside `jit` and `vmap`: the chunks one after the other, the last one smaller."""
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
    keep: Keep = None,
) -> Call:
    """The arguments of `explain`, checked; raises `InputError`."""
    check_network(apply, params)
    method = get_method(method)
    kept = check_kept(keep)
    options = {name: as_number(value) for name, value in options.items()}
    check_options(method, options)
    arrays, static = divide_options(method, options)
    check_key(key)
    arguments = (params, key, as_array(images, "images"), as_array(targets, "targets"))
    params, key, images, targets = automatic(arguments)
    check_images(images, any_rank=is_gated(apply))
    count = images.shape[0]
    logits = try_network(apply, params, images)
    check_targets(targets, count, logits.shape[1])
    keys = key_of_each(key, count)
    settings = Settings(apply, method, logits.shape[1], static, kept)
    # With several processes each one's part is known once the images are divided.
    local = None if spans_processes(mesh) else mesh
    return Call((images, targets, keys), replicate(params, local), replicate(arrays, local), settings)


# `explain_batches`: more images than fit into memory, batch after batch.


@check_first(refuse_pair)
def explain_batches(
    apply: Apply,
    params: Params,
    batches: Iterable[tuple[npt.ArrayLike | jax.Array, npt.ArrayLike | jax.Array]],
    method: str | Method = "dmbp",
    *,
    key: Key | None = None,
    batch_size: int | None = None,
    keep: Keep = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    **options: Any,
) -> Iterator[Attribution]:
    """Explain batch after batch of images, and yield the explanation of each: of ten thousand photographs no
    more than a batch is in memory.

    Together the explanations are what `explain` gives for all images at once, to rounding. Nothing is read of
    `batches` before its explanation is asked for, and no explanation is kept here.

    Args:
        apply: as in `explain`, like `params`, `method`, `keep` and `mesh`.
        params: the network's parameters.
        batches: pairs `(images, targets)` as `explain` takes them, such as a data loader gives or a generator
            that reads photographs; the last batch may be smaller.
        method: a name or a function.
        key: one random key, for methods that draw: each image gets its own, by its place among all images.
        batch_size: images explained at once. None: as many as the first batch has. Smaller batches are
            filled up, so that one program is compiled for all.
        keep: what of each explanation is kept, such as `"heatmap"`.
        mesh: devices among which the images of a batch are divided.
        progress: whether a bar shows how many images are done.
        **options: of the method.

    Yields:
        An `Attribution` for each batch, where its images are.

    Raises:
        InputError: as `explain`, once the batch is asked for; a batch that is no pair; a key for each image.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", rule.affine("scale", x * params, "filter")).mean(axis=(1, 2))
    >>> batches = ((np.ones((count, 8, 8, 3), np.float32), [0] * count) for count in (2, 2, 1))
    >>> found = explain_batches(apply, jnp.asarray(2.0), batches, preset="fast", keep="heatmap")
    >>> [a.heatmap.shape for a in found]
    [(2, 8, 8), (2, 8, 8), (1, 8, 8)]
    """
    check_division(batch_size, mesh)
    if isinstance(batch_size, str):
        raise InputError(
            "batch_size must be a number or None here: with None each batch is explained at once"
        )
    check_kept(keep)
    check_key(key, several=False)
    if isinstance(batches, np.ndarray | jax.Array) or not isinstance(batches, Iterable):
        raise InputError(
            "batches must give pairs (images, targets), as a generator or a data loader does, got "
            f"{kind_of(batches)}"
        )

    def run(shown: Any) -> Iterator[Attribution]:
        done, at_once = 0, batch_size
        for batch in batches:
            if not isinstance(batch, Sequence) or len(batch) != 2:
                raise InputError(f"each batch must be a pair (images, targets), got {kind_of(batch)}")
            images, targets = as_array(batch[0], "images"), batch[1]
            count = len(images) if images.ndim else 0
            at_once = at_once or count
            a = explain(
                apply,
                params,
                images,
                targets,
                method,
                key=None if key is None else keys_from(key, done, count),
                batch_size=None if count in (0, at_once) else at_once,
                keep=keep,
                mesh=mesh,
                progress=False,
                **options,
            )
            done += count
            if shown is not None:
                shown.update(shown.task_ids[0], completed=done)
            yield a
            # Before the next one is computed.
            del a, batch, images, targets

    def show() -> Iterator[Attribution]:
        with bar("explaining", None) if progress else contextlib.nullcontext() as shown:
            yield from run(shown)

    return show()


# `explain_classes`: several classes of every image with one forward pass.


@check_first(refuse_pair)
def explain_classes(
    apply: Apply,
    params: Params,
    images: npt.ArrayLike | jax.Array,
    classes: npt.ArrayLike | jax.Array,
    method: str | Method = "dmbp",
    *,
    key: Keys | None = None,
    batch_size: BatchSize = None,
    keep: Keep = None,
    classes_at_once: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    **options: Any,
) -> Attribution:
    """Explain several classes of each of `images`: the results of `explain` for each class, up to rounding.

    Computations that do not depend on the class run once for each image: the forward pass and its gates, the
    path of Integrated Gradients, all noisy images of SmoothGrad and all masked images of RISE. For each class
    run the backward pass, the optimisation of DMBP's preset `"paper"` and of LPR, and everything after the
    step of `meta_saliency`.

    Args:
        apply: as in `explain`, like `params`, `images`, `method`, `mesh`, `progress` and `options`.
        params: the network's parameters.
        images: `(n, h, w, c)`.
        classes: `(k,)` indices for all images, or `(n, k)`, some for each, which are whole numbers; or
            weights, `(k, classes)` or `(n, k, classes)`, which are floating.
        method: a name or a function.
        key: a random key, or one for each image; all classes of an image have the same random numbers.
        batch_size: images explained at once, each with all of its classes; as in `explain`.
        keep: what has the size of the images and is kept, as in `explain`: `values` of `"heatmap"` are
            `(n, k, h, w, 1)`.
        classes_at_once: classes of each image computed together; None takes all. The memory of the backward
            passes grows with it. A method with a loop repeats the shared computations for every such group.
        mesh: devices among which the images are divided.
        progress: whether a bar shows.
        **options: of the method.

    Returns:
        An `Attribution` with one axis more, where the images are: `values` are `(n, k, h, w, c)`, `finite`
        and the scores `(n, k)`; `a[i]` gives the explanations of image `i`.

    Raises:
        InputError: as `explain`; classes of another shape, or none; a class that is given twice for an
            image; `classes_at_once` below 1.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", rule.affine("scale", x * params, "filter")).mean(axis=(1, 2))
    >>> a = explain_classes(apply, jnp.asarray(2.0), jnp.ones((2, 8, 8, 3)), [0, 1, 2], preset="fast")
    >>> a.heatmap.shape, a.scores.total[0].tolist()
    ((2, 3, 8, 8), [2.0, 2.0, 2.0])
    """
    check_division(batch_size, mesh)
    if classes_at_once is not None:
        check_whole("classes_at_once", classes_at_once, least=1)
    of_all = _of_classes(get_method(method), classes_at_once)

    def run(images: Any, classes: Any, params: Params, key: Keys | None) -> Attribution:
        # Any target passes `explain`'s checks; the classes are checked below.
        images = as_array(images, "images")
        some = np.zeros(images.shape[:1], np.int32)
        call = check_call(apply, params, images, some, of_all, key=key, mesh=mesh, options=options, keep=keep)
        inputs, _, keys = call.inputs
        targets = _for_each_image(automatic(as_array(classes, "classes")), len(inputs), call.settings.classes)
        call = call._replace(inputs=(inputs, targets, keys))
        return run_call(call, batch_size=batch_size, mesh=mesh, progress=progress, on_step=None)

    return on_automatic_axes(run, images, classes, params, key)


def _for_each_image(classes: jax.Array | np.ndarray, count: int, known: int) -> jax.Array | np.ndarray:
    """The targets `(n, k)` or `(n, k, classes)`, checked."""
    row = 1 if jnp.issubdtype(classes.dtype, jnp.integer) else 2
    if classes.ndim == row:
        numpy: Any = np if isinstance(classes, np.ndarray) else jnp
        classes = numpy.broadcast_to(classes[None], (count, *classes.shape))
    if classes.ndim != row + 1 or classes.shape[0] != count or 0 in classes.shape:
        raise InputError(
            f"classes must be indices (k,) or ({count}, k), or weights (k, {known}) or "
            f"({count}, k, {known}) that are floating, got shape {classes.shape} of {classes.dtype}"
        )
    check_targets(classes.reshape(-1, *classes.shape[2:]), classes.shape[0] * classes.shape[1], known)
    if row == 1 and is_here(classes):
        for number, own in enumerate(np.asarray(classes).tolist()):
            check_classes_once(f"image {number}", own)
    return classes


@functools.lru_cache(maxsize=64)
def _of_classes(method: Method, at_once: int | None) -> Method:
    """The method of one image with several targets, `(k,)` or `(k, classes)`; cached, since programs are
    cached by function."""

    def of_classes(
        apply: Apply,
        params: Params,
        image: jax.Array,
        target: jax.Array,
        *,
        key: Key | None = None,
        **options: Any,
    ) -> Attribution:
        def one(target: jax.Array) -> Attribution:
            return method(apply, params, image, target, key=key, **options)

        # The forward pass is outside of this loop, however the classes are divided.
        constants, within = hoist(one, jax.ShapeDtypeStruct(target.shape[1:], target.dtype))
        explained: Attribution = jax.lax.map(
            lambda target: within(constants, target), target, batch_size=at_once or len(target)
        )
        return explained

    # Options are checked against the method's signature.
    of_classes.__name__ = called(method)
    of_classes.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return of_classes
