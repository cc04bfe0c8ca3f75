"""Activations and gradients of a named layer, by hand on a network of two convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small_network, tiny_network

import dmbp_jax
from dmbp_jax import InputError, ops
from dmbp_jax.attribution import layer_activation, layer_gradient, layer_gradient_x_activation
from dmbp_jax.rules import find_sites
from dmbp_jax.typing import Window

TARGETS = [1, 2, 3]


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def close(actual, expected, rtol=1e-5):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


def by_hand(params, images):
    """The output of every site of `tiny_network`, written out."""
    conv1 = ops.conv2d(images, **params["conv1"], padding=1)
    relu1 = jnp.maximum(conv1, 0)
    pool = ops.max_pool(relu1, Window(2, 2))
    conv2 = ops.conv2d(pool, **params["conv2"], padding=1)
    relu2 = jnp.maximum(pool + conv2, 0)
    fc = relu2.mean(axis=(1, 2)) @ params["fc"]["kernel"] + params["fc"]["bias"][None]
    return {"conv1": conv1, "relu1": relu1, "pool": pool, "conv2": conv2, "relu2": relu2, "fc": fc}


def test_activations_are_those_of_the_network_written_out(network):
    apply, params, images = network
    for site, expected in by_hand(params, images).items():
        actual = layer_activation(apply, params, images, site)
        assert actual.shape == expected.shape
        close(actual, expected)
    inside = jax.jit(lambda x: layer_activation(apply, params, x, "relu1"))(images)
    close(inside, by_hand(params, images)["relu1"])


def test_the_gradient_of_the_last_map_is_the_class_layers_kernel(network):
    """The class layer follows the mean over the 16 positions of relu2."""
    apply, params, images = network
    a = dmbp_jax.explain(apply, params, images, TARGETS, layer_gradient, site="relu2")
    expected = np.asarray(params["fc"]["kernel"])[:, TARGETS].T[:, None, None] / 16
    close(a.values, np.broadcast_to(expected, a.values.shape))
    assert a.finite.all()


@pytest.mark.parametrize("site", ["conv1", "relu1", "pool", "conv2", "relu2", "fc"])
def test_a_small_step_at_a_layer_changes_the_score_as_its_gradient_says(network, site):
    """Finite differences: the rest of the network, from the pool on, is run by hand."""
    apply, params, images = network
    with jax.enable_x64(True):
        params, image = jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), (params, images[:1])
        )
        outputs = by_hand(params, image)
        step = jnp.asarray(1e-5 * np.random.default_rng(0).normal(size=outputs[site].shape))
        if site == "relu1":
            # A window of zeros is at a corner: whichever is lifted becomes its maximum.
            step = jnp.where(outputs[site] > 0, step, 0)

        def score(sign):
            at = dict(outputs)
            at[site] = at[site] + sign * step
            relu1 = at["relu1"] if site != "conv1" else jnp.maximum(at["conv1"], 0)
            pool = at["pool"] if site not in ("conv1", "relu1") else ops.max_pool(relu1, Window(2, 2))
            before = site in ("conv1", "relu1", "pool")
            conv2 = ops.conv2d(pool, **params["conv2"], padding=1) if before else at["conv2"]
            relu2 = jnp.maximum(pool + conv2, 0) if before or site == "conv2" else at["relu2"]
            fc = (
                relu2.mean(axis=(1, 2)) @ params["fc"]["kernel"] + params["fc"]["bias"][None]
                if site != "fc"
                else at["fc"]
            )
            return fc[0, 1]

        gradient = layer_gradient(apply, params, image[0], jnp.asarray(1), site=site).values
        close((score(1) - score(-1)) / 2, (gradient * step[0]).sum(), rtol=1e-6)
        product = layer_gradient_x_activation(apply, params, image[0], jnp.asarray(1), site=site).values
        close(product, gradient * outputs[site][0], rtol=1e-9)


def test_behind_the_last_nonlinearity_products_sum_up_to_the_score_less_its_bias(network):
    apply, params, images = network
    a = dmbp_jax.explain(apply, params, images, TARGETS, layer_gradient_x_activation, site="relu2")
    scores = (
        np.asarray(apply(params, images))[np.arange(3), TARGETS] - np.asarray(params["fc"]["bias"])[TARGETS]
    )
    close(np.asarray(a.values).sum(axis=(1, 2, 3)), scores)
    assert a.heatmap.shape == (3, 4, 4)


def test_grad_cam_is_made_of_them(network):
    apply, params, images = network
    gradient = dmbp_jax.explain(apply, params, images, TARGETS, layer_gradient, site="relu1").values
    weights = gradient.mean(axis=(1, 2), keepdims=True)
    cam = jnp.maximum((weights * layer_activation(apply, params, images, "relu1")).sum(-1, keepdims=True), 0)
    # relu1 has the size of the image.
    close(dmbp_jax.explain(apply, params, images, TARGETS, "grad_cam", site="relu1").values, cam)


def test_every_site_of_a_real_architecture_has_one():
    apply, params, images = small_network("squeezenet1_1")
    sites = find_sites(apply, params, images[0])
    for site in sites[:: len(sites) // 4]:
        assert layer_activation(apply, params, images, site.name).shape == (2, *site.shape)


def test_a_gated_network_has_its_sites_too():
    apply, params = dmbp_jax.gated((lambda w, x: jnp.maximum(x @ w, 0) @ jnp.ones((3, 2)), jnp.ones((4, 3))))
    inputs = jnp.asarray([[1.0, 2.0, 3.0, -4.0]])
    np.testing.assert_array_equal(layer_activation(apply, params, inputs, "relu"), 2 * np.ones((1, 3)))
    a = dmbp_jax.explain(apply, params, inputs, [1], layer_gradient_x_activation, site="relu")
    np.testing.assert_array_equal(a.values, 2 * np.ones((1, 3)))


@pytest.mark.parametrize("method", [layer_gradient, layer_gradient_x_activation])
def test_an_unknown_site_is_refused_with_the_known_ones(network, method):
    apply, params, images = network
    message = "unknown site 'rleu1': did you mean 'relu1'. Known: conv1, conv2, fc, pool, relu1, relu2"
    with pytest.raises(InputError, match=message):
        dmbp_jax.explain(apply, params, images, TARGETS, method, site="rleu1")
    with pytest.raises(InputError, match=message):
        layer_activation(apply, params, images, "rleu1")


def test_bad_images_are_refused(network):
    apply, params, images = network
    with pytest.raises(InputError, match="add a batch axis"):
        layer_activation(apply, params, images[0], "relu1")
