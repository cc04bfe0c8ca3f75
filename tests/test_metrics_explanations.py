"""Max-sensitivity and sparseness: what a map is like, whether right or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import metrics as gini_reference
from references import removal as reference
from small import tiny_network

import dmbp_jax
from dmbp_jax import InputError
from dmbp_jax.metrics import max_sensitivity, sparseness

KEY = jax.random.key(2)
IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 3)), jnp.float32)


class Spy:
    def __init__(self, explain):
        self.explain, self.images = explain, None

    def __call__(self, images):
        assert self.images is None
        self.images = images
        return self.explain(images)


# Max-sensitivity.


def test_a_map_that_does_not_look_at_the_image_is_not_sensitive():
    values = jnp.asarray(np.random.default_rng(1).normal(size=(8, 8)), jnp.float32)
    assert max_sensitivity(lambda x: jnp.broadcast_to(values, (len(x), 8, 8)), IMAGE, values, key=KEY) == 0


def test_a_map_that_is_the_image_is_as_sensitive_as_the_noise_is_large():
    spy = Spy(lambda x: x)
    found = max_sensitivity(spy, IMAGE, IMAGE, key=KEY, radius=0.3, n_samples=20)
    noise = np.asarray(spy.images - IMAGE[None])
    reach = 0.3 * float(IMAGE.max() - IMAGE.min())
    assert 0.98 * reach < np.abs(noise).max() <= reach * (1 + 1e-5)
    largest = max(np.linalg.norm(one) for one in noise)
    assert float(found) == pytest.approx(largest / np.linalg.norm(IMAGE), rel=1e-5)


def test_neither_the_maps_unit_nor_the_images_matters():
    """A linear map of the image, of images in [0, 1] or [0, 255], in units large and small."""
    found = []
    for unit, scale in ((1, 1.0), (255, 1.0), (1, 1e-30), (255, 1e30)):

        def explain(x, scale=scale):
            return scale * x.sum(axis=-1)

        image = unit * IMAGE
        found.append(max_sensitivity(explain, image, explain(image), key=KEY))
    np.testing.assert_allclose(found, found[0], rtol=1e-4)


def test_more_draws_and_a_wider_reach_find_more():
    def squares(x):
        return x * x

    few, many = (max_sensitivity(squares, IMAGE, squares(IMAGE), key=KEY, n_samples=n) for n in (3, 300))
    near, far = (max_sensitivity(squares, IMAGE, squares(IMAGE), key=KEY, radius=r) for r in (0.05, 0.2))
    assert few < many
    assert near < far
    assert max_sensitivity(squares, IMAGE, squares(IMAGE), key=KEY, radius=0) < 1e-6


@pytest.mark.parametrize("method", ["gradient_x_input", "gradient"])
def test_max_sensitivity_of_a_networks_maps_is_the_loops(method):
    apply, params, images = tiny_network()

    def explain(x):
        targets = np.full(len(x), 3)
        return dmbp_jax.explain(apply, params, x, targets, method, batch_size=4, progress=False).values

    spy = Spy(explain)
    found = max_sensitivity(spy, images[0], explain(images[:1])[0], key=KEY, n_samples=9)
    expected = reference.max_sensitivity(
        lambda x: np.asarray(explain(jnp.asarray(x)[None])[0], np.float64),
        images[0],
        np.asarray(spy.images - images[0][None]),
    )
    assert expected > 0.05
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_it_may_be_compiled_and_batched():
    apply, params, images = tiny_network()

    def explain(x):
        targets = jnp.full(len(x), 3)
        return dmbp_jax.explain(apply, params, x, targets, "gradient").heatmap

    def measure(image, key):
        return max_sensitivity(explain, image, explain(image[None])[0], key=key, n_samples=5)

    keys = jax.random.split(KEY, 3)
    batched = jax.jit(jax.vmap(measure))(images, keys)
    alone = [measure(image, key) for image, key in zip(images, keys, strict=True)]
    np.testing.assert_allclose(batched, jnp.stack(alone), rtol=1e-4)


def test_a_change_of_nothing_has_no_size():
    nothing = jnp.zeros((8, 8))
    assert jnp.isnan(max_sensitivity(lambda x: 0 * x[..., 0], IMAGE, nothing, key=KEY))
    assert jnp.isnan(max_sensitivity(lambda x: x[..., 0] / 0, IMAGE, IMAGE[..., 0], key=KEY))


def test_bad_max_sensitivity_is_one_clear_error():
    for options, message in (
        ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
        ({"radius": -1}, "radius must be finite and at least 0, got -1"),
    ):
        with pytest.raises(InputError, match=message):
            max_sensitivity(lambda x: x, IMAGE, IMAGE, key=KEY, **options)
    with pytest.raises(InputError, match=r"of shape \(50, 8, 8\), got \(50, 8, 8, 3\)"):
        max_sensitivity(lambda x: x, IMAGE, IMAGE[..., 0], key=KEY)


# Sparseness.


@pytest.mark.parametrize("shape", [(1,), (7,), (5, 6), (4, 3, 2), (224, 224)])
def test_sparseness_of_equal_magnitudes_is_zero_and_of_a_single_pixel_the_most(shape):
    signs = jnp.asarray(np.random.default_rng(0).choice([-1, 1], shape), jnp.float32)
    size = signs.size
    assert float(sparseness(0.3 * signs)) == pytest.approx(0, abs=1e-6)
    single = jnp.zeros(size).at[size // 2].set(-4.0).reshape(shape)
    assert float(sparseness(single)) == pytest.approx(1 - 1 / size, rel=1e-6)


def test_of_k_equal_pixels_among_n_it_is_what_theory_says():
    """The Lorenz curve is 0 up to `1 - k / n` and straight from there."""
    for k in (1, 3, 20, 49, 50):
        heatmap = jnp.where(jnp.arange(50) < k, 2.0, 0.0)
        assert float(sparseness(heatmap)) == pytest.approx(1 - k / 50, abs=1e-6)


@pytest.mark.parametrize("shape", [(30,), (5, 7), (4, 3, 3)])
def test_sparseness_is_the_loops_and_the_papers_formula(shape):
    values = np.random.default_rng(0).normal(size=shape)
    ours = float(sparseness(jnp.asarray(values, jnp.float32)))
    assert ours == pytest.approx(gini_reference.gini(values), rel=1e-5)
    ordered = np.sort(np.abs(values).ravel())
    places = np.arange(1, ordered.size + 1)
    paper = 1 - 2 * (ordered / ordered.sum() * (ordered.size - places + 0.5) / ordered.size).sum()
    assert ours == pytest.approx(paper, rel=1e-5)


def test_neither_order_nor_unit_nor_sign_matters():
    values = np.random.default_rng(0).normal(size=40).astype(np.float32)
    base = sparseness(values)
    for same in (values[::-1], -values, np.abs(values), 1e30 * values, 1e-30 * values):
        assert float(sparseness(same)) == pytest.approx(float(base), rel=1e-5)
    measure = jax.jit(jax.vmap(sparseness))
    np.testing.assert_allclose(
        measure(jnp.stack([values, values**3])), [base, sparseness(values**3)], rtol=1e-5
    )


def test_sparseness_of_nothing_is_nan():
    for value in (0.0, np.nan, np.inf):
        assert jnp.isnan(sparseness(np.full((3, 3), value)))
    assert jnp.isnan(sparseness(jnp.ones(4).at[1].set(jnp.nan)))
