"""Metrics against Quantus and Captum, given the same images, maps and perturbations.

Both draw with generators of their own, so that what a metric draws is taken from ours and handed to them.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dmbp_jax import metrics

pytestmark = pytest.mark.parity

CLASSES, TARGET, SIDE = 4, 2, 12
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@functools.cache
def torch_network(channels):
    """Two layers with a ReLU between them, seeded."""
    import torch

    torch.manual_seed(0)
    layers = (
        torch.nn.Flatten(),
        torch.nn.Linear(channels * SIDE**2, 30),
        torch.nn.ReLU(),
        torch.nn.Linear(30, CLASSES),
    )
    return torch.nn.Sequential(*layers).eval()


def network(images):
    """The same in JAX, of images in our order."""
    model = torch_network(images.shape[3])
    h = jnp.moveaxis(images, 3, 1).reshape(len(images), -1)
    for at in (1, 3):
        weight, bias = (jnp.asarray(tensor.detach().numpy()) for tensor in (model[at].weight, model[at].bias))
        h = jnp.matmul(h, weight.T, precision="highest") + bias[None]
        h = jax.nn.relu(h) if at == 1 else h
    return h


def gradient(images):
    return jax.grad(lambda x: network(x)[:, TARGET].sum())(jnp.asarray(images))


def picture(channels):
    return jnp.asarray(RNG.uniform(0.1, 1, (SIDE, SIDE, channels)), jnp.float32)


def channels_first(images):
    return np.ascontiguousarray(np.moveaxis(np.asarray(images), -1, -3))


def tensor(images):
    import torch

    return torch.from_numpy(channels_first(images))


def spied(metric, *arguments, **options):
    """What a metric gives, and the images that its network, or its explanations, were asked about."""
    shown = []
    function, *rest = arguments

    def spy(images):
        shown.append(np.asarray(images))
        return function(images)

    with jax.disable_jit():
        return metric(spy, *rest, **options), np.concatenate(shown)


def quantus_metric(name, **options):
    import quantus

    return getattr(quantus, name)(disable_warnings=True, display_progressbar=False, **options)


def run_quantus(metric, channels, images, values, masks=None, targets=None, **options):
    """A metric of Quantus on images and values of ours, in our order."""
    with warnings.catch_warnings():
        # It warns of settings that it thinks sensitive, and of what later versions of its libraries will do.
        warnings.simplefilter("ignore")
        found = metric(
            model=torch_network(channels),
            x_batch=channels_first(images),
            y_batch=np.full(len(images), TARGET) if targets is None else targets,
            a_batch=channels_first(values),
            s_batch=None if masks is None else channels_first(masks),
            **options,
        )
    return found


# Infidelity.


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("perturb", [metrics.remove_square, metrics.noisy_baseline])
def test_infidelity_is_captums(perturb, normalize):
    from captum.metrics import infidelity

    image = picture(3)
    values = gradient(image[None])[0]
    values = values * image if perturb is metrics.remove_square else values
    ours, shown = spied(
        metrics.infidelity,
        network,
        image,
        values,
        jnp.asarray(TARGET),
        key=KEY,
        perturb=perturb,
        n_samples=20,
    )
    perturbed = shown[1:21]
    gone = np.asarray(image) - perturbed
    gone = (gone != 0).astype(np.float32) if perturb is metrics.remove_square else gone

    theirs = infidelity(
        torch_network(3),
        lambda inputs: (tensor(gone), tensor(perturbed)),
        tensor(image[None]),
        tensor(values[None]),
        target=TARGET,
        n_perturb_samples=20,
        normalize=normalize,
    )
    assert float(theirs) > 1e-4
    assert float(ours.scaled if normalize else ours.unscaled) == pytest.approx(float(theirs), rel=1e-3)


def test_infidelity_is_quantus_given_the_same_perturbed_images():
    """Its own blacks out patch after patch without restoring the ones before; ours take their place."""
    image = picture(3)
    values = gradient(image[None])[0]
    options = {"key": KEY, "perturb": metrics.noisy_baseline, "n_samples": 9}
    ours, shown = spied(metrics.infidelity, network, image, values, jnp.asarray(TARGET), **options)
    given = iter(channels_first(shown[1:10]))
    metric = quantus_metric(
        "Infidelity",
        perturb_func=lambda arr, indices, **_: next(given).reshape(1, -1),
        perturb_patch_sizes=[4],
        n_perturb_samples=1,
    )
    (theirs,) = run_quantus(metric, 3, image[None], values[None])
    assert float(ours.unscaled) == pytest.approx(float(theirs), rel=1e-3)
    assert list(given) == []


# Max-sensitivity.


def given_noise(image):
    """Of our draws."""
    values = gradient(image[None])[0]
    ours, shown = spied(metrics.max_sensitivity, gradient, image, values, key=KEY, radius=0.2, n_samples=8)
    return float(ours), values, shown


def test_max_sensitivity_is_captums():
    from captum.metrics import sensitivity_max

    image = picture(3)
    ours, _, shown = given_noise(image)

    def explain(inputs):
        (inputs,) = inputs if isinstance(inputs, tuple) else (inputs,)
        return (tensor(gradient(np.moveaxis(inputs.numpy(), 1, -1))),)

    theirs = sensitivity_max(
        explain,
        tensor(image[None]),
        perturb_func=lambda inputs: tensor(shown),
        n_perturb_samples=8,
    )
    assert ours > 0.05
    assert ours == pytest.approx(float(theirs), rel=1e-4)


def test_max_sensitivity_is_quantus():
    image = picture(3)
    ours, values, shown = given_noise(image)
    given = iter(channels_first(shown))
    metric = quantus_metric(
        "MaxSensitivity",
        perturb_func=lambda arr, indices, **_: next(given).reshape(1, -1),
        nr_samples=8,
        abs=False,
        normalise=False,
    )

    def explain(model, inputs, targets, **_):
        return channels_first(gradient(np.moveaxis(np.asarray(inputs), 1, -1)))

    (theirs,) = run_quantus(metric, 3, image[None], values[None], explain_func=explain)
    assert ours == pytest.approx(float(theirs), rel=1e-4)


# Sensitivity-n.


def test_sensitivity_n_of_quantus_is_something_else():
    """A linear network of which gradient x input says everything: ours is 1 for every n, Quantus' is not.

    It sets one step's values, not their sum, against the fall since the whole image, over a batch of images.
    """
    import torch

    weights = RNG.normal(size=(SIDE, SIDE, 1)).astype(np.float32)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIDE**2, 1, bias=False))
    linear[1].weight.data = tensor(weights).reshape(1, -1)
    images = np.stack([picture(1) for _ in range(20)])
    values = weights * images

    def score(images):
        return jnp.einsum("nhwc,hwc->n", images, weights, precision="highest")[:, None]

    ours = metrics.sensitivity_n(
        score, images[0], values[0, ..., 0], jnp.asarray(0), key=KEY, sizes=(1, 30, 100)
    )
    np.testing.assert_allclose(ours.correlation, 1, atol=1e-4)
    metric = quantus_metric(
        "SensitivityN", perturb_baseline=0.0, normalise=False, abs=False, return_aggregate=False
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = metric(
            model=linear.eval(),
            x_batch=channels_first(images),
            y_batch=np.zeros(20, int),
            a_batch=channels_first(values),
            softmax=False,
        )
    theirs = np.asarray(theirs)
    # One number for each step up to 80 % of the pixels, none for an image.
    assert theirs.shape == (int(0.8 * SIDE**2),)
    assert theirs[0] == pytest.approx(1, abs=1e-4)
    assert theirs[30:].max() < 0.9


# ROAD.


def test_road_is_quantus():
    """The accuracy with the most relevant pixels removed, of images of one channel, without noise."""
    images = np.stack([picture(1) for _ in range(30)])
    heatmaps = RNG.normal(size=(30, SIDE, SIDE)).astype(np.float32)
    targets = np.asarray(network(jnp.asarray(images)).argmax(axis=1))
    shares = (0.1, 0.3, 0.5, 0.7, 0.9)
    measure = functools.partial(metrics.road, network, key=KEY, shares=shares, noise_level=0.0)
    ours = jax.jit(jax.vmap(measure))(images, heatmaps, targets).morf.recognized.mean(axis=0)
    percentages = [100 * share for share in shares]
    metric = quantus_metric("ROAD", percentages=percentages, noise=0.0, normalise=False, abs=False)
    theirs = run_quantus(metric, 1, images, heatmaps[..., None], targets=targets)
    assert 0 < ours.min() < ours.max()
    np.testing.assert_allclose(ours, list(theirs.values()), atol=1e-6)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_imputation_is_quantus(share):
    from quantus.functions.perturb_func import noisy_linear_imputation

    image, hole = picture(1), RNG.random((SIDE, SIDE)) < share
    theirs = noisy_linear_imputation(channels_first(image), np.flatnonzero(hole), noise=0.0)
    ours = metrics.noisy_linear_imputation(image, hole, key=KEY, noise_level=0.0)
    np.testing.assert_allclose(channels_first(ours), theirs, atol=1e-4)


# Localisation and sparseness.


def maps_and_masks():
    heatmaps = RNG.normal(size=(6, SIDE, SIDE)).astype(np.float32)
    return heatmaps, RNG.random((6, SIDE, SIDE)) < 0.4


def test_relevance_mass_accuracy_is_quantus_for_maps_without_negative_values():
    heatmaps, masks = maps_and_masks()
    positive = np.maximum(heatmaps, 0)
    images = np.stack([picture(1)] * 6)
    metric = quantus_metric("RelevanceMassAccuracy")
    theirs = run_quantus(metric, 1, images, positive[..., None], masks[..., None])
    ours = jax.vmap(metrics.relevance_mass_accuracy)(heatmaps, masks)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    # Of a map with negative values its shares are no shares: it divides by what is left of the sum.
    signed = run_quantus(metric, 1, images, heatmaps[..., None], masks[..., None])
    assert np.abs(np.asarray(signed) - np.asarray(ours)).max() > 0.5


def test_relevance_rank_accuracy_is_quantus():
    heatmaps, masks = maps_and_masks()
    metric = quantus_metric("RelevanceRankAccuracy")
    theirs = run_quantus(metric, 1, np.stack([picture(1)] * 6), heatmaps[..., None], masks[..., None])
    np.testing.assert_allclose(jax.vmap(metrics.relevance_rank_accuracy)(heatmaps, masks), theirs, rtol=1e-6)


def test_sparseness_is_quantus():
    heatmaps, _ = maps_and_masks()
    theirs = run_quantus(quantus_metric("Sparseness"), 1, np.stack([picture(1)] * 6), heatmaps[..., None])
    np.testing.assert_allclose(jax.vmap(metrics.sparseness)(heatmaps), theirs, rtol=1e-4)
