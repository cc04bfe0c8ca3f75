"""Counts of arithmetic against hand counts and against XLA's; the roofline's sums."""

import jax
import jax.numpy as jnp
import pytest
from small import tiny_network

from dmbp_jax import InputError
from dmbp_jax.bench._counts import NetworkCounts, count_flops, count_network
from dmbp_jax.bench._measure import ACCELERATORS, BYTES, Accelerator, project, slice_seconds, step_bytes
from dmbp_jax.models import get_architecture, init
from dmbp_jax.ops import conv2d


def shapes(name, size=224):
    params = jax.eval_shape(lambda: init(jax.random.key(0), name))
    return get_architecture(name).apply, params, jax.ShapeDtypeStruct((size, size, 3), jnp.float32)


def test_a_network_counted_by_hand():
    """8 x 8 pixels, a 3x3 convolution 3 -> 4, a 2x2 pool, a 3x3 convolution 4 -> 4, a class layer."""
    apply, params, images = tiny_network()
    conv1, conv2, fc = 2 * 64 * 27 * 4, 2 * 16 * 36 * 4, 2 * 4 * 10
    counts = count_network(apply, params, images[0])
    assert counts == NetworkCounts(
        forward_flops=conv1 + conv2 + fc,
        first_flops=conv1,
        weights=(27 * 4 + 4) + (36 * 4 + 4) + (4 * 10 + 10),
        activations=256 + 64 + 10,
        gates=256 + 64,
        masks=256 + 64,
    )
    assert counts.step_flops == 3 * (conv2 + fc)


@pytest.mark.parametrize(
    ("name", "giga_products"), [("squeezenet1_1", 0.349), ("resnet50", 4.089), ("vgg16", 15.47)]
)
def test_networks_are_as_large_as_published(name, giga_products):
    """torchvision's documentation gives multiply-adds (`GFLOPS` of its table of weights)."""
    assert count_network(*shapes(name)).forward_flops / 2e9 == pytest.approx(giga_products, rel=0.01)


def test_xla_counts_the_same_without_padding():
    x, kernel, bias = jnp.ones((1, 9, 9, 8)), jnp.ones((3, 3, 8, 16)), jnp.zeros(16)

    def network(x):
        return conv2d(x, kernel, bias, stride=2).reshape(1, -1) @ jnp.ones((4 * 4 * 16, 5))

    counted = jax.jit(network).lower(x).compile().cost_analysis()["flops"]
    # XLA counts the bias as well.
    assert counted == pytest.approx(count_flops(network, x), rel=0.02)


def test_the_gradient_of_data_is_as_much_as_the_layer():
    x, kernel, bias = jnp.ones((1, 8, 8, 3)), jnp.ones((2, 2, 3, 5)), jnp.zeros(5)
    forward = count_flops(lambda x: conv2d(x, kernel, bias, stride=2), x)
    both = count_flops(jax.grad(lambda x: (conv2d(x, kernel, bias, stride=2) ** 2).sum()), x)
    assert both == 2 * forward


def test_loops_count_with_their_length_and_branches_with_the_longest():
    a = jnp.ones((4, 4))

    def loop(a):
        return jax.lax.scan(lambda carry, _: (carry @ a, None), a, None, length=7)[0]

    def choose(a):
        return jax.lax.cond(a[0, 0] > 0, lambda a: a @ a @ a, lambda a: a @ a, a)

    assert count_flops(jax.jit(loop), a) == 7 * 2 * 64
    assert count_flops(choose, a) == 2 * 2 * 64


def test_bytes_of_a_step():
    counts = NetworkCounts(0, 0, weights=1000, activations=10, gates=8, masks=6)
    single, half = (step_bytes(counts, precision=precision) for precision in ("float32", "bfloat16"))
    assert single == 10 * 32 + 6 * 28 + 8 * 3 + 8000
    # Activations and weights halve, masks and gates do not.
    assert half == 10 * 16 + 6 * 28 + 8 * 3 + 4000
    assert step_bytes(counts, batch_size=8) == single - 8000 + 1000
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        step_bytes(counts, batch_size=0)


def test_the_roofline_is_the_slower_of_the_two():
    device = Accelerator("toy", {"float32": 100.0, "bfloat16": 400.0}, bandwidth=10.0)
    assert project(1000, 50, device, "float32") == (10.0, "arithmetic")
    assert project(1000, 50, device, "bfloat16") == (5.0, "memory")
    with pytest.raises(InputError, match="unknown precision of toy 'tf32'"):
        project(1, 1, device, "tf32")


def test_accelerators_know_known_precisions():
    for device in ACCELERATORS.values():
        assert set(device.peaks) <= set(BYTES)


def test_a_slice_shares_images_evenly():
    assert slice_seconds(2.0, chips=16, images=5000) == 2.0 * 313
    with pytest.raises(InputError, match="chips must be at least 1"):
        slice_seconds(1.0, chips=0, images=1)
