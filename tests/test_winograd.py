"""Winograd's convolution against JAX's own; `convolve` uses it where it pays, on CPUs, in gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmbp_jax.ops import Loop
from dmbp_jax.ops._convolution import convolve, transform_kernel, winograd, winograd_pays
from dmbp_jax.ops._programs import run_loop

NUMBERS = ("NHWC", "HWIO", "NHWC")
SAME = ((1, 1), (1, 1))
WIDE = (16, 16, 320, 320)
"""Height, width and channels for which it pays."""


def _random(*shape, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape).astype(dtype))


def _plain(x, kernel, pads):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=NUMBERS)


def _wide():
    height, width, inner, outer = WIDE
    return _random(1, height, width, inner, dtype=np.float32), _random(3, 3, inner, outer, dtype=np.float32)


LONG = pytest.mark.long


@pytest.mark.parametrize(
    "size", [(8, 6), (5, 9), *(pytest.param(size, marks=LONG) for size in ((7, 8), (3, 3), (3, 4)))]
)
@pytest.mark.parametrize(
    "pads",
    [
        ((0, 1), (2, 0)),
        *(pytest.param(pads, marks=LONG) for pads in (SAME, ((0, 0), (0, 0)), ((2, 2), (2, 2)))),
    ],
)
def test_it_is_the_convolution(x64, size, pads):
    x, kernel = _random(2, *size, 3), _random(3, 3, 3, 4)
    expected = _plain(x, kernel, pads)
    actual = winograd(x, transform_kernel(kernel), pads)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
@pytest.mark.parametrize("pads", [SAME, ((0, 0), (0, 0)), ((0, 1), (2, 0))])
def test_transposed_it_is_the_gradient_at_the_data(x64, size, pads):
    x, kernel = _random(2, *size, 3), _random(3, 3, 3, 4)
    output, back = jax.vjp(lambda x: _plain(x, kernel, pads), x)
    cotangent = _random(*output.shape)
    around = tuple((2 - low, 2 - high) for low, high in pads)
    actual = winograd(cotangent, transform_kernel(kernel), around, transposed=True)
    np.testing.assert_allclose(actual, back(cotangent)[0], rtol=0, atol=1e-12)


def test_it_rounds_at_most_twice_as_much_as_a_plain_convolution():
    x, kernel = _wide()
    with jax.enable_x64(True):
        exact = np.asarray(_plain(x.astype(jnp.float64), kernel.astype(jnp.float64), SAME))

    def error(output):
        return np.sqrt(np.mean((np.asarray(output, np.float64) - exact) ** 2) / np.mean(exact**2))

    plain = error(_plain(x, kernel, SAME))
    assert error(winograd(x, transform_kernel(kernel), SAME)) < 2 * plain
    # Of a sum of n products, one after the other, roundings make a random walk of n steps at most.
    assert plain < np.sqrt(kernel.size / kernel.shape[-1]) * np.finfo(np.float32).eps


def test_it_pays_for_much_work_of_3_x_3_in_float32():
    x, kernel = _wide()
    assert winograd_pays(x, kernel, SAME)
    assert not winograd_pays(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), SAME)
    assert not winograd_pays(x, jnp.zeros((5, 5, *kernel.shape[2:])), SAME)
    assert not winograd_pays(x[:, :4], kernel, SAME)
    assert not winograd_pays(jnp.zeros((1, 224, 224, 64)), jnp.zeros((3, 3, 64, 64)), SAME)
    assert not winograd_pays(jnp.zeros((1, 112, 112, 32)), jnp.zeros((3, 3, 32, 128)), SAME)


def test_convolve_has_jaxs_gradients_where_it_pays():
    x, kernel = _wide()
    value, expected = jax.vjp(lambda x, k: _plain(x, k, SAME), x, kernel)
    actual_value, actual = jax.vjp(lambda x, k: convolve(x, k, (1, 1), SAME), x, kernel)
    cotangent = _random(*value.shape, dtype=np.float32)
    pairs = zip((actual_value, *actual(cotangent)), (value, *expected(cotangent)), strict=True)
    for mine, other in pairs:
        np.testing.assert_allclose(mine, other, rtol=0, atol=3e-6 * float(abs(other).max()))
    # A pass that nobody differentiates takes the same way.
    np.testing.assert_array_equal(convolve(x, kernel, (1, 1), SAME), actual_value)


@pytest.mark.long
def test_batches_and_second_derivatives_are_jaxs():
    """LPR differentiates a gradient once more, and `explain` maps over images."""
    x, kernel = _wide()
    images, scale = jnp.stack([x, 2 - x]), jnp.linspace(0.5, 1, x.shape[3])[None, None, None]

    def slopes(convolution):
        def loss(scale, x):
            value, back = jax.vjp(lambda x: convolution(x, kernel), x)
            return jnp.sin(back(value * scale)[0] / 1e4).sum()

        return jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1)), (None, 0)))(scale, images)

    expected = slopes(lambda x, k: _plain(x, k, SAME))
    for mine, other in zip(slopes(lambda x, k: convolve(x, k, (1, 1), SAME)), expected, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5 * float(abs(other).max()))


@pytest.mark.parametrize(("platform", "convolutions", "products"), [("cpu", 0, 32), ("cuda", 2, 0)])
def test_gradients_use_it_on_cpus_only(platform, convolutions, products):
    x, kernel = _wide()

    def both(x, kernel):
        value, back = jax.vjp(lambda x: convolve(x, kernel, (1, 1), SAME), x)
        return value, back(jnp.ones_like(value))

    program = jax.jit(both).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution") == convolutions
    assert program.count("stablehlo.dot_general") == products


def test_a_loop_transforms_its_kernel_once():
    x, kernel = _wide()

    def step(x, _):
        value, back = jax.vjp(lambda x: convolve(x, kernel, (1, 1), SAME), x)
        return back(value)[0]

    program = jax.make_jaxpr(lambda x: run_loop(Loop(2, x, step)))(x)
    before, _, body = str(program).partition("scan[")
    assert "div" in before
    assert "div" not in body
