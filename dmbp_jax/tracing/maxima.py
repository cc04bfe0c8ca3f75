"""Maxima over windows and axes: as the max-pool that rules know, or as a choice among stacked elements.

And what else is linear once it is known which element goes where: sorts, the largest k, running maxima.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmbp_jax.checks import InputError
from dmbp_jax.ops.equations import ordering_of, removed_axes, windows_of
from dmbp_jax.ops.pool import window_extent
from dmbp_jax.tracing.axes import AxesOf
from dmbp_jax.tracing.flatten import Flat, Op
from dmbp_jax.tracing.steps import Choice, Pool
from dmbp_jax.typing import Window


def as_pool(flat: Flat, op: Op, axes: AxesOf) -> Pool | None:
    """The step of a square pool over two axes; None if the maximum is another one."""
    images = axes[op.inputs[0]].images
    if op.name not in ("reduce_window_max", "reduce_window_min") or images is None:
        return None
    over, shape = windows_of(op.params), flat.kinds[op.inputs[0]].shape
    sizes, strides, pads = over.sizes, over.strides, over.padding
    space = [axis for axis, size in enumerate(sizes) if size > 1]
    still = [axis for axis in range(len(shape)) if axis not in space]
    if (
        len(shape) != 4
        or len(space) != 2
        or images not in [(axis, 1, 1) for axis in still]
        or {*over.base_dilation, *over.window_dilation} != {1}
        or any((strides[axis], pads[axis]) != (1, (0, 0)) for axis in still)
        or len({(sizes[axis], strides[axis], pads[axis][0]) for axis in space}) != 1
    ):
        return None
    size, stride, (padding, _) = sizes[space[0]], strides[space[0]], pads[space[0]]
    for ceil_mode in (False, True):
        window = Window(size, stride, padding, ceil_mode)
        if all(_fits(shape[axis], pads[axis], window) for axis in space):
            # Of the two axes that are not pooled, the other one is the channels'.
            (channel,) = set(still) - {images.axis}
            sign = 1 if op.name == "reduce_window_max" else -1
            return Pool("", op.inputs[0], op.outputs[0], window, (images.axis, *space, channel), sign)
    return None


def _fits(length: int, pads: tuple[int, int], window: Window) -> bool:
    """Whether the window's own padding has the same windows as these pads."""
    if length + sum(pads) < window.size:
        return False
    count, (_, after) = window_extent(length, window)
    here = (length + sum(pads) - window.size) // window.stride + 1
    return count == here and after >= 0


def elements_of(op: Op) -> tuple[tuple[Callable[..., Array], ...], int]:
    """What stacks the elements of each maximum on a new first axis; and -1 for minima, else 1.

    A window over several axes is the maximum of maxima: one stack for each axis, the last first, so that of
    equal elements the first one row by row is taken.
    """
    if op.name in ("max", "min"):
        return (lambda *both: jnp.stack(jnp.broadcast_arrays(*both)),), (1 if op.name == "max" else -1)
    if op.name in ("reduce_max", "reduce_min"):
        axes = removed_axes(op.params)

        def stack(x: Array) -> Array:
            moved = jnp.moveaxis(x, axes, range(len(axes)))
            return moved.reshape(-1, *moved.shape[len(axes) :])

        return (stack,), (1 if op.name == "reduce_max" else -1)
    if op.name in ("reduce_window_max", "reduce_window_min"):
        return _window_stacks(op), (1 if op.name == "reduce_window_max" else -1)
    raise InputError(f"{op.name} of several values that depend on the image is not supported, at {op.place}")


def _window_stacks(op: Op) -> tuple[Callable[..., Array], ...]:
    over = windows_of(op.params)
    used = [
        axis
        for axis in reversed(range(len(over.sizes)))
        if (over.sizes[axis], over.strides[axis], over.padding[axis], over.base_dilation[axis])
        != (1, 1, (0, 0), 1)
    ]

    def stack(x: Array, *, axis: int) -> Array:
        size, stride, (low, high) = over.sizes[axis], over.strides[axis], over.padding[axis]
        apart, spread = over.window_dilation[axis], over.base_dilation[axis] - 1
        config = [(low, high, spread) if other == axis else (0, 0, 0) for other in range(x.ndim)]
        padded = jax.lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), config)
        count = (padded.shape[axis] - (size - 1) * apart - 1) // stride + 1
        places = np.arange(size)[:, None] * apart + np.arange(count)[None] * stride
        return jnp.moveaxis(jnp.take(padded, places, axis=axis, mode="clip"), axis, 0)

    return tuple(functools.partial(stack, axis=axis) for axis in used)


def choice_of(op: Op) -> Choice:
    """The step of one of `ORDERINGS`, or of a `clamp` whose bounds depend on the images.

    Of equal elements a sort and the largest k take the one that stands first, a running maximum the one that
    it has met first. At a bound a `clamp` takes the bound.
    """
    if op.name == "clamp":
        return Choice("", op, _beyond, _clamped)
    axis, keys, reverse = ordering_of(op.params)

    def taken(order: Array, *operands: Array) -> tuple[Array, ...]:
        return tuple(
            jnp.take_along_axis(operand, order, axis, mode="promise_in_bounds") for operand in operands
        )

    if op.name == "sort":

        def sorting(*operands: Array) -> Array:
            places = jax.lax.broadcasted_iota(jnp.int32, operands[0].shape, axis)
            return jax.lax.sort((*operands[:keys], places), dimension=axis, num_keys=keys)[-1]

        return Choice("", op, sorting, taken)
    if op.name in ("top_k", "approx_top_k"):
        return Choice("", op, lambda x: op.run(x)[1], lambda at, x: (*taken(at, x), at))
    return Choice("", op, lambda x: _first_so_far(op, x, axis, reverse=reverse), taken)


def _first_so_far(op: Op, x: Array, axis: int, *, reverse: bool) -> Array:
    """Where the running maximum, or minimum, was met first."""
    (best,) = op.run(x)
    before = jax.lax.slice_in_dim(best, 0, -1, axis=axis)
    after = jax.lax.slice_in_dim(best, 1, None, axis=axis)
    same = (before == after) | (jnp.isnan(before) & jnp.isnan(after))
    edge = [(0, 0)] * x.ndim
    edge[axis] = (0, 1) if reverse else (1, 0)
    is_new = jnp.pad(~same, edge, constant_values=True)
    places = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)
    if reverse:
        return jax.lax.cummin(jnp.where(is_new, places, x.shape[axis] - 1), axis, reverse=True)
    return jax.lax.cummax(jnp.where(is_new, places, 0), axis)


def _beyond(low: Array, x: Array, high: Array) -> Array:
    # The lower bound first, as `clamp` has it: where they cross, the upper one is taken.
    is_high = jnp.maximum(low, x) >= high
    return jnp.where(is_high, 2, jnp.where(x <= low, 0, 1))


def _clamped(choice: Array, low: Array, x: Array, high: Array) -> tuple[Array]:
    return (jnp.where(choice == 2, high, jnp.where(choice == 0, low, x)),)
