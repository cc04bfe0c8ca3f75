"""Operations against loops, on random maps, on ties, and at every window that a network uses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import pooling

from dmbp_jax import ops
from dmbp_jax.ops._pool import pool_selected, select_max
from dmbp_jax.rules._rescale import RESCALE
from dmbp_jax.typing import Window

WINDOWS = (
    Window(2, 2),
    Window(2, 2, ceil_mode=True),
    Window(3, 2),
    Window(3, 2, ceil_mode=True),
    Window(3, 2, padding=1),
    Window(3, 2, padding=1, ceil_mode=True),
    Window(2, 3, padding=1, ceil_mode=True),
    Window(3, 3, padding=1),
    Window(4, 1, padding=2),
    Window(1, 2, ceil_mode=True),
    Window(5, 1, padding=2),
    Window(7, 3, padding=3, ceil_mode=True),
    Window(17, 2, padding=8),
)
SOME_WINDOWS = [
    pytest.param(window, marks=[] if window in WINDOWS[1:6:2] or window in WINDOWS[-2:] else pytest.mark.long)
    for window in WINDOWS
]


@pytest.mark.parametrize("shape", [(9, 8), pytest.param((6, 7), marks=pytest.mark.long)])
@pytest.mark.parametrize("window", SOME_WINDOWS, ids=lambda w: "-".join(map(str, w)))
def test_max_pool_selection_and_gradient_equal_the_loop(window, shape):
    """Maps of one to eight levels have many ties: the first maximum, row by row, is the one."""
    rng = np.random.default_rng(0)
    x = np.stack([rng.integers(0, levels, shape) for levels in range(1, 9)]).astype(np.float32)
    looped = [pooling.max_pool(one, *window) for one in x]
    values = np.stack([value for value, _ in looped])
    weights = rng.normal(size=values.shape).astype(np.float32)
    expected = np.zeros_like(x)
    for n, (_, places) in enumerate(looped):
        for i, j in np.ndindex(values.shape[1:]):
            expected[(n, *places[i, j])] += weights[n, i, j]

    batch, to_pooled = jnp.asarray(x)[..., None], jnp.asarray(weights)[..., None]
    selection = select_max(batch, window)
    for pool in (
        lambda b: ops.max_pool(b, window),
        lambda b: pool_selected(b, selection, window),
    ):
        pooled, back = jax.vjp(pool, batch)
        np.testing.assert_array_equal(pooled[..., 0], values)
        np.testing.assert_allclose(back(to_pooled)[0][..., 0], expected, atol=1e-6)


@pytest.mark.parametrize("window", [Window(2, 2), Window(5, 2, padding=2)], ids=["small", "large"])
def test_the_gradient_of_a_pool_is_differentiated_in_its_turn(window):
    """That of `sum_i x_i d(sum of squares)/dx_i`, which is twice the sum of squares."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 7, 2)), jnp.float32)

    def squares(x):
        return (ops.max_pool(x, window) ** 2).sum()

    once = jax.grad(squares)(x)
    twice = jax.grad(lambda x: jnp.vdot(x, jax.grad(squares)(x)))(x)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)
    assert np.abs(once).max() > 0


@pytest.mark.parametrize("size", [5, 18])
def test_nan_is_above_all_in_windows_of_every_size(size):
    x = np.zeros((1, 20, 20, 1), np.float32)
    x[0, 3, 4], x[0, 3, 2], x[0, 4, 1] = np.nan, np.nan, np.inf
    selection = select_max(jnp.asarray(x), Window(size, size))
    assert selection[0, 0, 0, 0] == 3 * size + 2


def test_programs_do_not_grow_with_the_window():
    """Of the gradient, of a recorded and masked pass, and of DeepLIFT's chain of maxima."""
    x = jnp.zeros((2, 20, 20, 1))

    def operations(size):
        window = Window(size, 1, padding=size // 2)

        def pools(x):
            selected = pool_selected(x, select_max(x, window), window)
            return (ops.max_pool(x, window) + selected + RESCALE.max_pool("pool", x, window)).sum()

        return jax.jit(jax.grad(pools)).lower(x).as_text().count("stablehlo.")

    assert operations(7) == operations(15)
    assert abs(operations(17) - operations(15)) < 10  # Selections of more bits are not converted.


@pytest.mark.parametrize("shape", [(1, 1), (2, 4), (7, 7), (8, 15), (6, 13)])
@pytest.mark.parametrize("size", [1, 6, 7])
def test_adaptive_average_equals_the_loop(shape, size):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    pooled = ops.adaptive_avg_pool(jnp.asarray(x)[None, :, :, None], size)[0, :, :, 0]
    np.testing.assert_allclose(pooled, pooling.adaptive_avg_pool(x, size), atol=1e-6)


def test_a_window_larger_than_the_map_is_a_clear_error():
    with pytest.raises(ValueError, match="too small for this network"):
        ops.max_pool(jnp.ones((1, 2, 2, 1)), Window(3, 2))


def test_conv_equals_the_sum_over_its_window():
    x, kernel, bias = (
        np.random.default_rng(0).normal(size=shape).astype(np.float32)
        for shape in ((1, 6, 5, 2), (3, 3, 2, 4), (4,))
    )
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((1, 3, 3, 4))
    for i, j in np.ndindex(3, 3):
        patch = padded[0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        expected[0, i, j] = np.einsum("hwc,hwco->o", patch, kernel) + bias
    actual = ops.conv2d(*map(jnp.asarray, (x, kernel, bias)), stride=2, padding=1)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_conv_refuses_another_number_of_channels():
    with pytest.raises(ValueError, match="takes 3 channels"):
        ops.conv2d(jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 3, 4)), jnp.zeros(4))


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 0), (7, 2, 3)]
)
def test_conv_has_jaxs_own_gradients(x64, size, stride, padding):
    x, kernel, bias = (
        jnp.asarray(np.random.default_rng(0).normal(size=shape))
        for shape in ((2, 10, 9, 3), (size, size, 3, 4), (4,))
    )

    def plain(x, kernel, bias):
        pads = ((padding, padding),) * 2
        numbers = ("NHWC", "HWIO", "NHWC")
        return (
            jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=numbers) + bias
        )

    def ours(x, kernel, bias):
        return ops.conv2d(x, kernel, bias, stride=stride, padding=padding)

    with jax.numpy_rank_promotion("allow"):
        value, expected = jax.vjp(plain, x, kernel, bias)
    actual_value, actual = jax.vjp(ours, x, kernel, bias)
    np.testing.assert_allclose(actual_value, value, rtol=1e-12)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=value.shape))
    for mine, other in zip(actual(weights), expected(weights), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12)
