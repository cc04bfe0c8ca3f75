"""The PyTorch programs of `bench --against torch` compute what the package computes, on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmbp_jax
from dmbp_jax import InputError
from dmbp_jax.bench._run import random_params
from dmbp_jax.bench._torch import baselines as torch_baselines
from dmbp_jax.bench._torch import dmbp as torch_reference
from dmbp_jax.bench._torch.network import check_known, forward, to_nchw, torch_network
from dmbp_jax.models import get_architecture

pytestmark = pytest.mark.parity

NETWORKS = ("squeezenet1_1", "resnet18", "vgg11")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """`apply`, its parameters, two images, and torchvision's network with the same parameters."""
    random = np.random.default_rng(0)
    params = random_params(random, request.param)
    images = random.standard_normal((2, 64, 64, 3), np.float32)
    return get_architecture(request.param).apply, params, images, torch_network(request.param, params)


@pytest.mark.parametrize("name", NETWORKS)
def test_dmbp_is_the_same(x64, name):
    """In float64: in float32 rounding, in which CPUs differ, may decide a gate or the maximum of a pool.

    PyTorch's masks are float32 all the same.
    """
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float64), random_params(random, name))
    images = random.standard_normal((2, 64, 64, 3), np.float32).astype(np.float64)
    apply, theirs = get_architecture(name).apply, torch_network(name, params, "float64")
    targets = np.asarray(jax.jit(apply)(params, images)).argmax(axis=1)
    x = to_nchw(images, "float64")
    expected = torch_reference.dmbp(theirs, x, targets.tolist(), steps=4, learning_rate=0.1)
    a = dmbp_jax.explain(apply, params, images, targets, steps=4, learning_rate=0.1)
    close(a.scores.positive, expected.positive, 1e-5)
    close(a.scores.negative, expected.negative, 1e-5)
    close(a.values, expected.values, 1e-5)


def test_logits_are_the_same(network):
    apply, params, images, theirs = network
    close(jax.jit(apply)(params, images), forward(theirs, to_nchw(images)).numpy())


@pytest.fixture(scope="module")
def small_net():
    random = np.random.default_rng(0)
    params = random_params(random, "squeezenet1_1")
    images = random.standard_normal((2, 48, 48, 3), np.float32)
    return (
        get_architecture("squeezenet1_1").apply,
        params,
        images,
        torch_network("squeezenet1_1", params),
    )


@pytest.mark.parametrize(("method", "options"), [("integrated_gradients", {"n_steps": 12}), ("fullgrad", {})])
def test_baselines_are_the_same(small_net, method, options):
    apply, params, images, theirs = small_net
    targets = np.asarray(jax.jit(apply)(params, images)).argmax(axis=1)
    expected = getattr(torch_baselines, method)(theirs, to_nchw(images), targets.tolist(), **options)
    a = dmbp_jax.explain(apply, params, images, targets, method, **options)
    close(a.values, expected)


def test_baselines_that_draw_agree_on_average(small_net):
    apply, params, images, theirs = small_net
    targets, x = np.asarray(jax.jit(apply)(params, images)).argmax(axis=1), to_nchw(images)

    def ours(method, **options):
        key = jax.random.key(0)
        a = dmbp_jax.explain(apply, params, jnp.asarray(images), targets, method, key=key, **options)
        return np.asarray(a.heatmap)

    import torch

    # So many samples that the two means differ little: with 40 they correlated with 0.5.
    torch.manual_seed(0)
    expected = torch_baselines.smoothgrad(theirs, x, targets.tolist(), n_samples=200).sum(axis=-1)
    for actual, other in zip(ours("smoothgrad", n_samples=200), expected, strict=True):
        assert np.corrcoef(actual.ravel(), other.ravel())[0, 1] > 0.5
    # A network with random weights sees nothing, so that RISE's map is level and the rest is noise.
    expected = torch_baselines.rise(theirs, x, targets.tolist(), n_masks=400).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(ours("rise", n_masks=400).mean(axis=(1, 2)), expected, rtol=0.1)


def test_a_network_that_torchvision_lacks_is_refused():
    with pytest.raises(InputError, match="no PyTorch program of 'resnet50_caffe'"):
        check_known("resnet50_caffe")


def close(actual, expected, tolerance=1e-3):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())
