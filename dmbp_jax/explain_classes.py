"""`explain_classes`: several classes of every image, whose forward pass is one."""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh

from dmbp_jax.batching.arguments import as_array, check_division
from dmbp_jax.batching.explicit import automatic, on_automatic_axes
from dmbp_jax.checks import (
    InputError,
    called,
    check_classes_once,
    check_first,
    check_targets,
    check_whole,
    is_here,
    refuse_pair,
)
from dmbp_jax.explain import BatchSize, check_call, run_call
from dmbp_jax.methods import get_method
from dmbp_jax.ops.hoist import hoist
from dmbp_jax.result import Attribution, Method
from dmbp_jax.typing import Apply, Key, Keys, Params


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
    classes_at_once: int | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    **options: Any,
) -> Attribution:
    """Explain several classes of each of `images`: what `explain` gives for one after the other, to rounding.

    What does not depend on the class is computed once for each image: the forward pass and its gates of
    everything that backpropagates; the whole path of Integrated Gradients, all noisy images of SmoothGrad and
    all masked ones of RISE. Per class remain the backward pass, and what a method learns for each: the steps
    of DMBP's preset `"paper"` and of LPR, and everything behind the step of `meta_saliency`.

    Args:
        apply: as in `explain`, like `params`, `images`, `method`, `mesh`, `progress` and `options`.
        params: the network's parameters.
        images: `(n, h, w, c)`.
        classes: `(k,)` indices for all images, or `(n, k)`, some for each, which are whole numbers; or
            weights, `(k, classes)` or `(n, k, classes)`, which are floating.
        method: a name or a function.
        key: a random key, or one for each image; an image's classes see the same draws.
        batch_size: images explained at once, each with all of its classes; as in `explain`.
        classes_at_once: of each image; None takes all. The memory of the backward passes grows with it. A
            method that loops repeats what its classes share for every group of so many.
        mesh: devices among which the images are divided.
        progress: whether a bar shows.
        **options: of the method.

    Returns:
        An `Attribution` with one axis more: `values` are `(n, k, h, w, c)`, `finite` and the scores `(n, k)`;
        `take(i)` gives the explanations of image `i`.

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
        # Any target will do for the checks that `explain` makes: those of the classes are made below.
        images = as_array(images, "images")
        some = np.zeros(images.shape[:1], np.int32)
        call = check_call(apply, params, images, some, of_all, key=key, mesh=mesh, options=options)
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
    """The method of one image whose target is several, `(k,)` or `(k, classes)`: one function for each, since
    programs are kept by it."""

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

        # Nothing else is left within: the forward pass is before it, however the classes are divided.
        constants, within = hoist(one, jax.ShapeDtypeStruct(target.shape[1:], target.dtype))
        explained: Attribution = jax.lax.map(
            lambda target: within(constants, target), target, batch_size=at_once or len(target)
        )
        return explained

    # The options are checked against the method's own.
    of_classes.__name__ = called(method)
    of_classes.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return of_classes
