"""What theory says of each method."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import references.deeplift
import scipy.ndimage
from small import CLASSES, long_but, small_network, tiny_network

from dmbp_jax import ops
from dmbp_jax._checks import ExplanationWarning
from dmbp_jax.attribution._fullgrad import full_gradients, fullgrad
from dmbp_jax.attribution._grad_cam import grad_cam, guided_grad_cam
from dmbp_jax.attribution._gradients import deconvnet, deeplift, gradient, gradient_x_input, guided_backprop
from dmbp_jax.attribution._paths import blur_integrated_gradients, integrated_gradients
from dmbp_jax.attribution._wrappers import smoothgrad
from dmbp_jax.rules._guided import deconvnet_relu, guided_relu
from dmbp_jax.typing import Window

NETWORKS = pytest.mark.parametrize(
    "kind", long_but(("vgg11",), ("resnet18", "vgg11", "squeezenet1_1", "alexnet"))
)
BASELINES = pytest.mark.parametrize("baseline", ["zero", "blur", "mean"])


def linear(params, images, *, rule=None):
    return images.reshape(len(images), -1) @ params["w"]


LINEAR = (linear, {"w": jnp.asarray(np.random.default_rng(0).normal(size=(48, 3)), jnp.float32)})
IMAGE = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4, 3)), jnp.float32)
TARGET = jnp.asarray(1)


def close(actual, expected, rtol=1e-5):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


def one_of(kind, dtype=jnp.float32):
    apply, params, images = small_network(kind, dtype)
    return apply, params, images[0], jax.random.normal(jax.random.key(9), (CLASSES,), dtype)


@pytest.mark.long
@BASELINES
@NETWORKS
@pytest.mark.usefixtures("x64")
def test_deeplift_is_complete_through_pools(kind, baseline):
    apply, params, image, weights = one_of(kind, jnp.float64)
    a = jax.jit(lambda x: deeplift(apply, params, x, weights, baseline=baseline))(image)
    assert abs(a.convergence_delta) < 1e-10 * np.abs(a.values).sum()
    assert np.abs(a.values).max() > 0


@NETWORKS
def test_deeplift_is_complete_in_single_precision(kind):
    apply, params, image, weights = one_of(kind)
    a = jax.jit(lambda x: deeplift(apply, params, x, weights))(image)
    assert abs(a.convergence_delta) < 1e-4 * np.abs(a.values).sum()


def test_deeplift_of_one_layer_is_the_slope_between_baseline_and_image():
    def apply(params, images, *, rule):
        return rule.relu("r", images.reshape(len(images), -1) + params["b"])

    a = deeplift(apply, {"b": jnp.asarray([[1.0]])}, jnp.asarray([[[-3.0]]]), jnp.asarray(0))
    # From relu(1) = 1 down to relu(-2) = 0 over a difference of -3, where the gradient is zero.
    assert a.values.item() == -1.0


@BASELINES
def test_integrated_gradients_are_complete_in_the_limit(baseline):
    apply, params, images = tiny_network()
    deltas = []
    for n_steps in (4, 400):
        a = integrated_gradients(apply, params, images[0], TARGET, n_steps=n_steps, baseline=baseline)
        deltas.append(abs(float(a.convergence_delta)) / np.abs(a.values).sum())
    assert deltas[1] < 2e-3
    assert deltas[1] < deltas[0]


def test_linear_models_have_known_maps():
    apply, params = LINEAR
    weights = params["w"][:, 1].reshape(IMAGE.shape)
    arguments = (apply, params, IMAGE, TARGET)
    close(gradient(*arguments).values, weights)
    close(gradient_x_input(*arguments).values, IMAGE * weights)
    close(integrated_gradients(*arguments, n_steps=3).values, IMAGE * weights)
    start = IMAGE * 0.25 + 1
    close(integrated_gradients(*arguments, baseline=start).values, (IMAGE - start) * weights)
    close(deeplift(*arguments, baseline=start).values, (IMAGE - start) * weights)
    with pytest.warns(ExplanationWarning, match="exactly its gradient"):
        close(guided_backprop(*arguments).values, weights)
    close(smoothgrad(*arguments, key=jax.random.key(0), n_samples=3).values, weights)


@pytest.mark.parametrize("n_steps", [1, 10])
def test_blur_integrated_gradients_of_a_linear_model_are_the_difference_to_the_blur(n_steps):
    apply, params = LINEAR
    a = blur_integrated_gradients(apply, params, IMAGE, TARGET, n_steps=n_steps, max_sigma=5.0)
    blurred = ops.gaussian_blur(IMAGE, 5.0, max_sigma=5.0)
    close(a.values, (IMAGE - blurred) * params["w"][:, 1].reshape(IMAGE.shape), rtol=1e-5)
    assert abs(a.convergence_delta) < 1e-5


def test_blur_integrated_gradients_miss_ever_less_of_their_sum():
    """A smooth score, of the second order in the image; PAIR's sum at equal steps misses it by more."""

    def edges(params, x, rule=None):
        return (jnp.diff(x, axis=2) ** 2).sum(axis=(1, 2))

    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64, 1)), jnp.float32).cumsum(axis=1)
    rest = (
        edges(None, image[None])[0, 0]
        - edges(None, ops.gaussian_blur(image, 20.0, max_sigma=20.0)[None])[0, 0]
    )

    def missed(n_steps, **options):
        a = blur_integrated_gradients(
            edges, {}, image, jnp.asarray(0), n_steps=n_steps, max_sigma=20.0, **options
        )
        np.testing.assert_allclose(a.convergence_delta, a.values.sum() - rest, rtol=1e-3, atol=1e-3)
        return float(jnp.abs(a.convergence_delta) / rest)

    few, many = missed(10), missed(40)
    assert many < few / 10 < 0.004
    assert missed(10, power=1.0) > 5 * few
    assert missed(10, power=1.0, grad_step=0.01) > 20 * few


@pytest.mark.parametrize("sigma", [0.0, 0.6, 2.0, 7.5])
@pytest.mark.parametrize(("padding", "mode"), [("edge", "nearest"), ("zero", "constant")])
def test_blur_equals_scipy(sigma, padding, mode):
    image = np.random.default_rng(0).normal(size=(9, 12, 2)).astype(np.float32)
    blurred = jax.jit(lambda x, s: ops.gaussian_blur(x, s, max_sigma=8.0, padding=padding))(image, sigma)
    close(blurred, scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode=mode), rtol=1e-5)


@pytest.mark.long
@NETWORKS
@pytest.mark.usefixtures("x64")
def test_full_gradients_sum_to_the_score(kind):
    apply, params, image, weights = one_of(kind, jnp.float64)
    full = jax.jit(lambda x: full_gradients(apply, params, x, weights))(image)
    total = full.input.sum() + sum(bias.sum() for bias in full.biases.values())
    close(total, full.score, rtol=1e-9)
    close(full.score, jnp.vdot(weights, apply(params, image[None])[0]), rtol=1e-9)
    assert fullgrad(*one_of("alexnet", jnp.float64)).values.min() >= 0


def test_smoothgrad_without_noise_is_the_gradient():
    apply, params, images = tiny_network()
    smooth = smoothgrad(apply, params, images[0], TARGET, key=jax.random.key(0), noise_level=0.0, n_samples=4)
    close(smooth.values, gradient(apply, params, images[0], TARGET).values)


def test_guided_is_deconvnet_times_the_plain_gate():
    z, cotangent = (jax.random.normal(jax.random.key(i), (5, 6)) for i in (0, 1))
    (guided,) = jax.vjp(guided_relu, z)[1](cotangent)
    (reversed_,) = jax.vjp(deconvnet_relu, z)[1](cotangent)
    np.testing.assert_array_equal(guided, np.where(z > 0, reversed_, 0))
    np.testing.assert_array_equal(reversed_, np.maximum(cotangent, 0))


def test_grad_cam_by_hand():
    """On `tiny_network` the class layer follows the mean of relu2: the weights of Grad-CAM are its kernel."""
    apply, params, images = tiny_network()
    cam = grad_cam(apply, params, images[0], TARGET)
    h = np.asarray(images[:1])
    h = np.maximum(ops.conv2d(jnp.asarray(h), **params["conv1"], padding=1), 0)
    h = ops.max_pool(jnp.asarray(h), Window(2, 2))
    h = np.maximum(h + ops.conv2d(h, **params["conv2"], padding=1), 0)
    weighted = np.maximum(
        (np.asarray(h)[0] * np.asarray(params["fc"]["kernel"])[:, 1] / 16).sum(-1, keepdims=True), 0
    )
    close(cam.values, ops.upsample(jnp.asarray(weighted), (8, 8)))
    guided = guided_grad_cam(apply, params, images[0], TARGET).values
    close(guided, guided_backprop(apply, params, images[0], TARGET).values * cam.values)


def test_times_input_is_the_product_with_the_image():
    apply, params, images = tiny_network()
    for method in (guided_backprop, deconvnet, guided_grad_cam):
        plain = method(apply, params, images[0], TARGET).values
        product = method(apply, params, images[0], TARGET, multiply_by_inputs=True).values
        close(product, plain * images[0])


@pytest.mark.usefixtures("x64")
def test_deeplift_equals_the_loops():
    apply, params, images = tiny_network()
    params, images = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, images))
    start = jnp.asarray(np.random.default_rng(2).normal(size=images[0].shape))
    actual = deeplift(apply, params, images[0], TARGET, baseline=start).values
    plain = jax.tree.map(np.asarray, params)
    close(actual, references.deeplift.deeplift(plain, np.asarray(images[0]), np.asarray(start), 1), 1e-10)
