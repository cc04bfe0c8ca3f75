"""Pooling with PyTorch's window rules, and max-pooling split into its choice and its linear part.

At a fixed image a max-pool is linear: it copies one input per window. `select_max` finds its index;
`pool_selected` copies the input at that index, also from another input.

Each element of a small window is an operation, and XLA fuses them. For larger windows the program's size does
not depend on the window: loops find the maximum along columns and then along rows, and its index selects it.
"""

import functools
import itertools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int, Integer

from dmbp_jax._checks import ShapeError
from dmbp_jax.ops._derivatives import transposable
from dmbp_jax.typing import Window

Sizes: TypeAlias = tuple[int, int]

UNROLLED = 9
"""The most elements of a window, 3 x 3, that are an operation each: the most frequent windows, and fastest
so."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: Inexact[Array, "n h w c"], window: Window) -> Inexact[Array, "n hh ww c"]:
    """The maximum over each window; its gradient goes to the first maximum, row by row, as PyTorch's does.

    XLA's own gradient runs element by element on a CPU, and took half of the time of a small network's
    gradient.
    """
    pad_h, pad_w = (window_extent(size, window)[1] for size in x.shape[1:3])

    def largest(x: Array, sizes: Sizes, strides: Sizes, pads: tuple[Sizes, Sizes]) -> Array:
        return jax.lax.reduce_window(
            x,
            -jnp.inf,
            jax.lax.max,
            window_dimensions=(1, *sizes, 1),
            window_strides=(1, *strides, 1),
            padding=((0, 0), *pads, (0, 0)),
        )

    size, stride = window.size, window.stride
    if _is_unrolled(window):
        return largest(x, (size, size), (stride, stride), (pad_h, pad_w))
    in_rows = largest(x, (1, size), (1, stride), ((0, 0), pad_w))
    return largest(in_rows, (size, 1), (stride, 1), (pad_h, (0, 0)))


def select_max(x: Inexact[Array, "n h w c"], window: Window) -> Integer[Array, "n hh ww c"]:
    """The index of each window's first maximum, row by row from 0; NaN is above every number.

    In 8 bits, or in 32 where a window has more than 255 elements.
    """
    if not _is_unrolled(window):
        return _first_maximum(x, window)
    best, *others = pool_windows(x, window, fill=-jnp.inf)
    selection = jnp.zeros(best.shape, jnp.uint8)
    for index, element in enumerate(others, start=1):
        above = _is_above(element, best)
        best, selection = jnp.where(above, element, best), jnp.where(above, jnp.uint8(index), selection)
    return selection


def _is_unrolled(window: Window) -> bool:
    return window.size**2 <= UNROLLED


def _is_above(one: Array, other: Array) -> Array:
    return (one > other) | (jnp.isnan(one) & ~jnp.isnan(other))


def _first_maximum(x: Array, window: Window) -> Array:
    """The indices of the first maxima: in each row of a window, and then among the rows."""
    (rows, pad_h), (columns, pad_w) = (window_extent(size, window) for size in x.shape[1:3])
    pads = ((0, 0), pad_h, pad_w, (0, 0))
    padded = jnp.pad(jax.lax.stop_gradient(x), pads, constant_values=-jnp.inf)

    def along(axis: int, count: int, values: Array, numbers: Array, apart: int) -> tuple[Array, Array]:
        """The first maxima along one axis, whose elements' indices are `apart` from each other."""

        def element(array: Array, at: int | Array) -> Array:
            return _strided(array, at, count, window.stride, axis)

        def compare(at: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
            value, number = element(values, at), element(numbers, at) + at.astype(jnp.int32) * apart
            above = _is_above(value, best[0])
            return jnp.where(above, value, best[0]), jnp.where(above, number, best[1])

        return jax.lax.fori_loop(1, window.size, compare, (element(values, 0), element(numbers, 0)))

    # Zeros that vary over devices where the data do.
    numbers = 0 * jnp.isnan(padded).astype(jnp.int32)
    values, numbers = along(2, columns, padded, numbers, 1)
    _, numbers = along(1, rows, values, numbers, window.size)
    return numbers.astype(jnp.uint8 if window.size**2 <= _NO_WINDOW else jnp.int32)


def _strided(array: Array, start: int | Array, count: int, stride: int, axis: int) -> Array:
    """`count` entries `stride` apart along an axis; the start may be known at run time only."""
    span = jax.lax.dynamic_slice_in_dim(array, start, (count - 1) * stride + 1, axis)
    return jax.lax.slice_in_dim(span, 0, None, stride, axis)


@max_pool.defjvp
def _max_pool_jvp(window: Window, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    # Without the barrier XLA computes each maximum again for every window that it is compared with.
    selection = jax.lax.optimization_barrier(select_max(x, window))
    return max_pool(x, window), pool_selected(tangent, selection, window)


def pool_selected(
    x: Inexact[Array, "n h w c"], selection: Integer[Array, "n hh ww c"], window: Window
) -> Inexact[Array, "n hh ww c"]:
    """The selected element of each window: linear in `x`; `max_pool(x)` for `x`'s own selection."""
    if not _is_unrolled(window):
        return _gather_selected(x, selection, window)
    shape = x.shape
    return transposable(
        lambda x, selection: _compare_selected(x, selection, window),
        lambda cotangent, selection: _unpool(cotangent, selection, window, shape),
        x,
        selection,
    )


def _compare_selected(x: Array, selection: Array, window: Window) -> Array:
    """Each element of all windows, one after the other, where it is the selected one."""
    elements = pool_windows(x, window, fill=0.0)
    chosen = jnp.zeros_like(elements[0])
    for index, element in enumerate(elements):
        chosen = jnp.where(selection == index, element, chosen)
    return chosen


def _gather_selected(x: Array, selection: Array, window: Window) -> Array:
    """Each window's element by its index in the padded input."""
    pads = [window_extent(size, window)[1] for size in x.shape[1:3]]
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    n, _, width, c = padded.shape
    _, rows, columns, _ = selection.shape
    number = selection.astype(jnp.int32)
    row = number // window.size + (window.stride * np.arange(rows, dtype=np.int32))[None, :, None, None]
    column = number % window.size + (window.stride * np.arange(columns, dtype=np.int32))[None, None, :, None]
    place = (row * width + column).reshape(n, rows * columns, c)
    chosen = jnp.take_along_axis(padded.reshape(n, -1, c), place, axis=1, mode="promise_in_bounds")
    return chosen.reshape(selection.shape)


def pick(elements: Inexact[Array, "m *shape"], index: Int[Array, "*shape"]) -> Inexact[Array, "*shape"]:
    """The one at `index` of each `m` elements.

    >>> pick(jnp.asarray([[1.0, 2.0], [3.0, 4.0]]), jnp.asarray([1, 0])).tolist()
    [3.0, 2.0]
    """
    return jnp.take_along_axis(elements, index[None], axis=0)[0]


def _unpool(cotangent: Array, selection: Array, window: Window, shape: tuple[int, ...]) -> Array:
    """The gradient at the input, of that `shape`: each input sums the cotangents of the windows that selected
    it.

    Inputs a stride apart are computed together: input `s q + a` (padding included) is element `a + s i` of
    window `q - i`. XLA's own transpose adds one padded copy of the input's size for each element of a window.
    If a window has more elements than there are windows, the loop is over the windows instead.
    """
    size = shape[1:3]
    if not _is_unrolled(window):
        (to_input,) = jax.linear_transpose(
            lambda x: _gather_selected(x, selection, window), jax.ShapeDtypeStruct(shape, cotangent.dtype)
        )(cotangent)
        return to_input
    stride, first = window.stride, window.padding // window.stride
    counts = [(extent - 1 + window.padding) // stride + 1 - first for extent in size]

    def shifted(windows: Array, back: tuple[int, ...], fill: int) -> Array:
        pads = [
            (i - first, count + first - i - have, 0)
            for i, count, have in zip(back, counts, windows.shape[1:3], strict=True)
        ]
        return jax.lax.pad(windows, jnp.asarray(fill, windows.dtype), ((0, 0, 0), *pads, (0, 0, 0)))

    covering = list(itertools.product(range(-(-window.size // stride)), repeat=2))
    chosen = {back: shifted(selection, back, _NO_WINDOW) for back in covering}
    arriving = {back: shifted(cotangent, back, 0) for back in covering}

    def collect(a: int, b: int) -> Array:
        total = jnp.zeros_like(arriving[0, 0])
        for i, j in covering:
            row, column = a + stride * i, b + stride * j
            if row < window.size and column < window.size:
                here = chosen[i, j] == row * window.size + column
                total = total + jnp.where(here, arriving[i, j], 0)
        return total

    phases = jnp.stack([jnp.stack([collect(a, b) for b in range(stride)], 3) for a in range(stride)], 2)
    n, rows, _, columns, _, channels = phases.shape
    spread = phases.reshape(n, rows * stride, columns * stride, channels)
    left = window.padding % stride
    return spread[:, left : left + size[0], left : left + size[1]]


_NO_WINDOW = 255
"""An index that no element has."""


def adaptive_avg_pool(x: Inexact[Array, "n h w c"], size: int) -> Inexact[Array, "n size size c"]:
    """The mean over `size x size` bins, bin `i` spanning `floor(i h / size)` to `ceil((i + 1) h / size)`.

    As `torch.nn.AdaptiveAvgPool2d`: bins overlap or repeat where `size` does not divide the input.

    >>> adaptive_avg_pool(jnp.arange(9.0).reshape(1, 3, 3, 1), 1).item()
    4.0
    """
    rows, columns = (jnp.asarray(_bins(extent, size), x.dtype) for extent in x.shape[1:3])
    return jnp.einsum("ih,nhwc,jw->nijc", rows, x, columns)


def _bins(extent: int, size: int) -> np.ndarray:
    weights = np.zeros((size, extent))
    for i in range(size):
        start, stop = i * extent // size, -((-(i + 1) * extent) // size)
        weights[i, start:stop] = 1 / (stop - start)
    return weights


def window_extent(size: int, window: Window) -> tuple[int, tuple[int, int]]:
    """How many windows fit along an axis, and the padding before and after it that they need."""
    span = size + 2 * window.padding - window.size
    if span < 0 and not (window.ceil_mode and span > -window.stride):
        raise ShapeError(
            f"the image is too small for this network: a {window.size}-pixel pooling window "
            f"meets a map of {size} pixels; use larger images"
        )
    count = (-(-span // window.stride) if window.ceil_mode else span // window.stride) + 1
    # PyTorch drops a last window that would start beyond the input.
    if window.ceil_mode and (count - 1) * window.stride >= size + window.padding:
        count -= 1
    after = (count - 1) * window.stride + window.size - size - window.padding
    return count, (window.padding, max(after, 0))


def pool_windows(x: Array, window: Window, *, fill: float) -> list[Array]:
    """Per position within a window, row by row, that element of every window: `(n, hh, ww, c)` each."""
    (rows, pad_h), (columns, pad_w) = (window_extent(size, window) for size in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), pad_h, pad_w, (0, 0)), constant_values=fill)
    last_row, last_column = ((count - 1) * window.stride + 1 for count in (rows, columns))
    return [
        padded[:, i : i + last_row : window.stride, j : j + last_column : window.stride]
        for i in range(window.size)
        for j in range(window.size)
    ]


def window_element(
    x: Inexact[Array, "n h w c"], window: Window, *, fill: float
) -> Callable[[Int[Array, ""]], Inexact[Array, "n hh ww c"]]:
    """One element of every window as a function of its number, row by row: `pool_windows` for loops."""
    (rows, pad_h), (columns, pad_w) = (window_extent(size, window) for size in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), pad_h, pad_w, (0, 0)), constant_values=fill)

    def element(number: Int[Array, ""]) -> Inexact[Array, "n hh ww c"]:
        row, column = number // window.size, number % window.size
        return _strided(_strided(padded, row, rows, window.stride, 1), column, columns, window.stride, 2)

    return element
