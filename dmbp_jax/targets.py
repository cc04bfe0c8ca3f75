"""Targets beyond a class: contrasts, sums, a region of a segmentation, a detection, a token.

A target is the index of a logit, or one weight for each. A network whose outputs have another shape than `(n,
k)` is wrapped by `gated(network, output=flatten)`; then each of its output numbers is a logit, and the
functions here return its index, or weights. Weights can be added: the difference of two regions explains one
region in contrast to the other.

>>> import jax, dmbp_jax as dmbp
>>> def segment(params, images):
...     return jax.nn.relu(images) @ params
>>> apply, params = dmbp.gated((segment, jnp.eye(3)), output=flatten)
>>> cat = jnp.zeros((4, 4), bool).at[1:3, 1:3].set(True)
>>> weights = region(cat, 2, classes=3)
>>> a = dmbp.explain(apply, params, jnp.ones((1, 4, 4, 3)), weights[None], "gradient_x_input")
>>> a.heatmap[0].tolist()[1]
[0.0, 0.25, 0.25, 0.0]
"""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from dmbp_jax._checks import InputError, check_choice, check_class, is_here

__all__ = ["contrast", "element", "flatten", "region", "total"]

REDUCTIONS = ("mean", "sum")


def flatten(outputs: Any) -> Inexact[Array, "n k"]:
    """All output numbers of a network for each input, as logits: for `gated(network, output=flatten)`.

    Several outputs, arrays `(n, ...)`, are concatenated in JAX's order of trees.

    >>> flatten((jnp.zeros((2, 3, 4)), jnp.zeros((2, 5)))).shape
    (2, 17)
    """
    return jnp.concatenate(
        [jnp.reshape(leaf, (leaf.shape[0], -1)) for leaf in jax.tree.leaves(outputs)], axis=1
    )


def element(shape: Sequence[int], *index: int) -> int:
    """The target of one number of an output of `shape`, without batch axis, under `flatten`.

    A detection's score, `element((anchors, classes), anchor, class)`; the logit of a token at a position,
    `element((positions, vocabulary), position, token)`. Negative indices count from the end.

    Raises `InputError` for an index out of range, and for another number of indices than of axes.

    >>> element((5, 100), 2, 17), element((5, 100), -1, 0)
    (217, 400)
    """
    if len(index) != len(shape):
        raise InputError(
            f"an element of an output of shape {tuple(shape)} has {len(shape)} indices, got {index}"
        )
    if not all(isinstance(i, numbers.Integral) and not isinstance(i, bool) for i in index):
        raise InputError(f"an element's indices are whole numbers, got {index}")
    if any(not -length <= i < length for i, length in zip(index, shape, strict=True)):
        raise InputError(f"there is no element {index} in an output of shape {tuple(shape)}")
    wrapped = [i % length for i, length in zip(index, shape, strict=True)]
    return int(np.ravel_multi_index(wrapped, tuple(shape)))


def region(
    mask: Bool[Array | np.ndarray, "*n h w"], target: int, *, classes: int, reduction: str = "mean"
) -> Float[Array, "*n k"]:
    """The weights of a class's logit over a region of a segmentation `(h, w, classes)`, under `flatten`.

    Args:
        mask: the region, of the output's size, `(h, w)`; or one for each image, `(n, h, w)`.
        target: the class, from 0 to `classes - 1`.
        classes: channels of the output.
        reduction: the `"mean"` of the logit over the region, or its `"sum"`.

    Returns:
        `(k,)` or `(n, k)` weights, `k = h * w * classes`. Inside `jit` an empty mask is not refused and gives
        NaN under `"mean"`.

    Raises:
        InputError: a mask that is not boolean or has no pixel, a class out of range, an unknown reduction.

    >>> mask = jnp.asarray([[True, True], [False, False]])
    >>> region(mask, 1, classes=2).reshape(2, 2, 2)[..., 1].tolist()
    [[0.5, 0.5], [0.0, 0.0]]
    """
    check_choice("reduction", reduction, REDUCTIONS)
    mask = jnp.asarray(mask)
    if mask.dtype != bool or mask.ndim not in (2, 3):
        raise InputError(
            f"a region is a mask of booleans, (h, w) or (n, h, w), got {mask.shape} of {mask.dtype}"
        )
    check_class(target, classes)
    if is_here(mask) and not np.asarray(mask).any(axis=(-2, -1)).all():
        raise InputError("a region must have at least one pixel")
    weights = mask.astype(float)
    if reduction == "mean":
        pixels = weights.sum(axis=(-2, -1), keepdims=True)
        # XLA may simplify the quotient 0 / 0 to 0, where it knows that the mask is 0 or 1.
        weights = jnp.where(pixels > 0, weights / pixels, jnp.nan)
    weights = weights[..., None] * jnp.zeros(classes).at[target].set(1.0)[(None,) * mask.ndim]
    return weights.reshape(*mask.shape[:-2], math.prod(mask.shape[-2:]) * classes)


def total(targets: Sequence[int], *, classes: int) -> Float[Array, "k"]:
    """The weights of the sum of several logits, "any of these"; a repeated one counts twice.

    `classes` is their number, or under `flatten` that of all outputs. Raises `InputError` for a target out of
    range, and for none.

    >>> total([0, 2], classes=4).tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    if np.ndim(targets) != 1 or not len(targets):
        raise InputError(f"targets must be some of the classes 0 to {classes - 1}, got {targets}")
    for one in targets:
        check_class(one, classes)
    return jnp.zeros(classes).at[jnp.asarray(targets)].add(1.0)


def contrast(target: int, other: int, *, classes: int) -> Float[Array, "k"]:
    """The weights of "`target` minus `other`": why this class rather than that one.

    `classes` is their number, or under `flatten` that of all outputs. Raises `InputError` for a target out of
    range, and for a class minus itself, whose explanation is zero everywhere.

    >>> contrast(2, 0, classes=3).tolist()
    [-1.0, 0.0, 1.0]
    """
    for index in (target, other):
        check_class(index, classes)
    if is_here(target) and is_here(other) and target == other:
        raise InputError(f"a contrast is of two classes, got {target} minus itself: name another one")
    return jnp.zeros(classes).at[target].add(1.0).at[other].add(-1.0)
