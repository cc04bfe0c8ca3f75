"""Infidelity, sensitivity-n and ROAD: their theory, loops on what they removed, how they run, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import removal as reference
from small import tiny_network

from dmbp_jax import InputError
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax.metrics import (
    infidelity,
    noisy_baseline,
    noisy_linear_imputation,
    remove_square,
    road,
    sensitivity_n,
)
from dmbp_jax.metrics._faithfulness import Perturbation

KEY = jax.random.key(3)
TARGET = jnp.asarray(3)
SIZE = (9, 11)


def picture(size=SIZE, seed=0, channels=3):
    """Without a zero in it, so that what is removed can be told from what is shown."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0.2, 1.2, (*size, channels)) * rng.choice([-1, 1], (*size, channels))
    return jnp.asarray(image, jnp.float32)


@functools.cache
def class_weights(classes=5, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(*SIZE, 3, classes)), jnp.float32)


def linear(images):
    """A linear network with a bias."""
    return jnp.einsum("nhwc,hwck->nk", images, class_weights(), precision="highest") + 7


def gradient_x_input(image, target=TARGET):
    return image * class_weights()[..., target]


TINY_APPLY, TINY_PARAMS, _ = tiny_network()


def bent(images):
    """A network that is not linear."""
    return 5 * TINY_APPLY(TINY_PARAMS, images)


class Spy:
    """A network that remembers what it was shown. Without `jit`, the loop over chunks is Python's."""

    def __init__(self, network):
        self.network, self.shown = network, []

    def __call__(self, images):
        self.shown.append(np.asarray(images))
        return self.network(images)


def spied(metric, network, *arguments, **options):
    """What a metric gives, and all images that it looked at, in order."""
    spy = Spy(network)
    with jax.disable_jit():
        found = metric(spy, *arguments, **options)
    return found, np.concatenate(spy.shown)


def score_of(network, target=3):
    return lambda image: float(network(jnp.asarray(image, jnp.float32)[None])[0, target])


# Infidelity.


def test_infidelity_of_a_linear_network_explained_by_gradient_x_input_is_zero():
    image = picture()
    found = infidelity(linear, image, gradient_x_input(image), TARGET, key=KEY)
    np.testing.assert_allclose(found, 0, atol=1e-8)
    summed = infidelity(linear, image, gradient_x_input(image).sum(axis=-1), TARGET, key=KEY)
    np.testing.assert_allclose(summed, 0, atol=1e-8)


def test_and_so_is_that_of_its_gradient_under_a_noisy_baseline():
    """Slopes are multiplied by what is removed, whatever that is: the network's bias never matters."""
    found = infidelity(linear, picture(), class_weights()[..., 3], TARGET, key=KEY, perturb=noisy_baseline)
    np.testing.assert_allclose(found, 0, atol=1e-8)


@pytest.mark.long
def test_infidelity_of_nothing_is_the_mean_square_of_the_falls():
    image = picture()
    (unscaled, scaled), shown = spied(infidelity, bent, image, jnp.zeros(SIZE), TARGET, key=KEY, n_samples=20)
    falls = [score_of(bent)(image) - score_of(bent)(one) for one in shown[1:21]]
    assert np.mean(np.square(falls)) > 0.01
    np.testing.assert_allclose([unscaled, scaled], np.mean(np.square(falls)), rtol=1e-4)


def test_a_factor_changes_one_infidelity_and_not_the_other():
    image = picture()
    values = gradient_x_input(image).sum(axis=-1)
    measure = jax.jit(lambda values: infidelity(bent, image, values, TARGET, key=KEY, n_samples=40))
    one, other = measure(values), measure(-3e3 * values)
    assert one.scaled < one.unscaled < other.unscaled
    np.testing.assert_allclose(one.scaled, other.scaled, rtol=1e-3)


@pytest.mark.parametrize("with_channels", [True, False])
def test_infidelity_is_the_loops(with_channels):
    image, rng = picture(), np.random.default_rng(5)
    values = jnp.asarray(rng.normal(size=image.shape if with_channels else SIZE), jnp.float32)
    options = {"key": KEY, "n_samples": 25, "perturbations_per_eval": 7}
    ours, shown = spied(infidelity, bent, image, values, TARGET, **options)
    perturbed = shown[1:26]
    removed = (perturbed == 0).all(axis=-1)
    assert len({one.sum() for one in removed}) > 2
    theirs = reference.infidelity(score_of(bent), np.asarray(image), np.asarray(values), perturbed, removed)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_infidelity_under_a_noisy_baseline_is_the_loops():
    image = picture()
    values = jnp.asarray(np.random.default_rng(5).normal(size=image.shape), jnp.float32)
    ours, shown = spied(
        infidelity, bent, image, values, TARGET, key=KEY, n_samples=12, perturb=noisy_baseline
    )
    removed = np.asarray(image) - shown[1:13]
    theirs = reference.infidelity(score_of(bent), np.asarray(image), np.asarray(values), shown[1:13], removed)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)


def test_every_square_is_as_likely_as_any_other():
    """Of 4 x 5 pixels and squares of up to 2: 20 of one pixel, 12 of four."""
    draw = jax.jit(jax.vmap(lambda key: remove_square(key, jnp.ones((4, 5, 1)), max_side=2)))
    shown, removed = draw(jax.random.split(KEY, 6400))
    np.testing.assert_array_equal(shown[..., 0], 1 - removed)
    squares, counts = np.unique(np.asarray(removed).reshape(6400, 20), axis=0, return_counts=True)
    assert sorted(squares.sum(axis=1)) == [1] * 20 + [4] * 12
    # 200 of each are expected, give or take 14.
    assert counts.min() > 130
    assert counts.max() < 270


def test_squares_grow_with_the_image_and_show_the_baseline():
    sides = {}
    for size in ((28, 28), (56, 70)):
        draw = jax.jit(jax.vmap(lambda key, size=size: remove_square(key, jnp.ones((*size, 1)))))
        _, removed = draw(jax.random.split(KEY, 400))
        sides[size] = np.asarray(removed).any(axis=2).sum(axis=1)
        assert sides[size].min() == 1
    assert (sides[28, 28].max(), sides[56, 70].max()) == (10, 20)
    image = picture()
    shown, removed = remove_square(KEY, image, max_side=4, baseline=image + 5)
    np.testing.assert_allclose(shown, image + 5 * removed[..., None], rtol=1e-6)


def test_a_noisy_baseline_has_the_noise_that_is_asked_for():
    image = 10 * picture((40, 50))
    shown, removed = noisy_baseline(KEY, image, noise_level=0.5, baseline=image + 3)
    np.testing.assert_allclose(removed, image - shown)
    noise = np.asarray(shown - image - 3)
    assert noise.mean() == pytest.approx(0, abs=0.6)
    assert noise.std() == pytest.approx(0.5 * float(image.max() - image.min()), rel=0.03)


# Sensitivity-n.


def test_sensitivity_n_of_gradient_x_input_on_a_linear_network_is_one():
    image = picture()
    heatmap = gradient_x_input(image).sum(axis=-1)
    measure = jax.jit(lambda heatmap: sensitivity_n(linear, image, heatmap, TARGET, key=KEY, n_subsets=10))
    found = measure(heatmap)
    assert found.sizes[0] == 1
    assert found.sizes[-1] == round(0.8 * heatmap.size)
    np.testing.assert_allclose(found.correlation, 1, atol=1e-4)
    # A factor does not matter, its sign does.
    np.testing.assert_allclose(measure(1e3 * heatmap).correlation, 1, atol=1e-4)
    np.testing.assert_allclose(measure(-heatmap).correlation, -1, atol=1e-4)


def test_sensitivity_n_of_a_map_that_knows_nothing_is_near_zero():
    heatmap = jnp.asarray(np.random.default_rng(0).normal(size=SIZE), jnp.float32)
    found = sensitivity_n(linear, picture(), heatmap, TARGET, key=KEY, sizes=(10, 50), n_subsets=400)
    # Of the map as such, and of 400 pairs, which alone vary by 0.05.
    claimed = np.corrcoef(np.ravel(heatmap), np.ravel(gradient_x_input(picture()).sum(axis=-1)))[0, 1]
    np.testing.assert_allclose(found.correlation, claimed, atol=0.2)


def test_sensitivity_n_is_the_loops():
    image = picture()
    heatmap = jnp.asarray(np.random.default_rng(5).normal(size=SIZE), jnp.float32)
    options = {"key": KEY, "sizes": (1, 13, 98), "n_subsets": 8, "perturbations_per_eval": 7}
    found, shown = spied(sensitivity_n, bent, image, heatmap, TARGET, **options)
    subsets = (shown[:24] == 0).all(axis=-1).reshape(3, 8, *SIZE)
    assert subsets.sum(axis=(2, 3)).tolist() == [[1] * 8, [13] * 8, [98] * 8]
    assert len(np.unique(subsets.reshape(24, -1), axis=0)) > 20
    expected = [
        reference.sensitivity_n(score_of(bent), np.asarray(image), np.asarray(heatmap), of_one_size)
        for of_one_size in subsets
    ]
    np.testing.assert_allclose(found.correlation, expected, atol=1e-3)


def test_what_does_not_vary_correlates_with_nothing():
    image, options = picture(), {"key": KEY, "sizes": (1, 30), "n_subsets": 5}
    for heatmap in (jnp.full(SIZE, 0.1), image[..., 0].at[0, 0].set(jnp.nan)):
        assert np.isnan(sensitivity_n(linear, image, heatmap, TARGET, **options).correlation).all()
    heatmap = image.sum(axis=-1)
    found = sensitivity_n(lambda x: jnp.ones((len(x), 5)), image, heatmap, TARGET, **options)
    assert np.isnan(found.correlation).all()


# Noisy linear imputation.


def holes():
    rng = np.random.default_rng(0)
    block, frame = np.zeros((2, *SIZE), bool)
    block[2:8, 1:9] = True
    frame[:] = True
    frame[3:5, 4:6] = False
    return {
        "one pixel": np.arange(99).reshape(SIZE) == 40,
        "scattered": rng.random(SIZE) < 0.5,
        "block": block,
        "all but the middle": frame,
        "all but one": np.arange(99).reshape(SIZE) != 0,
        "none": np.zeros(SIZE, bool),
    }


@pytest.mark.parametrize("hole", holes().values(), ids=holes())
def test_imputation_is_the_direct_solution(hole):
    image = picture()
    ours = noisy_linear_imputation(image, hole, key=KEY, noise_level=0)
    np.testing.assert_allclose(ours, reference.linear_imputation(np.asarray(image), hole), atol=2e-4)
    np.testing.assert_array_equal(np.asarray(ours)[~hole], np.asarray(image)[~hole])


@pytest.mark.usefixtures("fully_optimized")
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_imputation_of_a_photographs_size_is_the_sparse_solution(share):
    """At 224 x 224, with the hole that takes most steps: what is left lies in one corner."""
    from scipy import sparse
    from scipy.sparse import linalg

    side = 224
    image = np.random.default_rng(0).random((side, side, 1))
    image = np.cumsum(np.cumsum(image - 0.5, axis=0), axis=1)
    image = (image - image.min()) / (image.max() - image.min())
    near = -np.add.outer(np.arange(side), np.arange(side))
    hole = near >= np.quantile(near, 1 - share)
    along = sparse.diags([1.0, 1.0], [-1, 1], shape=(side, side))
    one = sparse.eye(side)
    mean_of = (sparse.kron(along, one) + sparse.kron(one, along)) / 6 + sparse.kron(along, along) / 12
    mean_of = sparse.diags(1 / np.asarray(mean_of.sum(axis=1)).ravel()) @ mean_of
    inside = hole.ravel()
    equations = (sparse.eye(side * side) - mean_of).tocsr()[inside]
    expected = image.ravel().copy()
    expected[inside] = linalg.spsolve(
        equations[:, inside].tocsc(), -equations[:, ~inside] @ expected[~inside]
    )
    impute = jax.jit(functools.partial(noisy_linear_imputation, key=KEY, noise_level=0))
    ours = impute(jnp.asarray(image, jnp.float32), hole)
    np.testing.assert_allclose(np.ravel(ours), expected, atol=2e-3)


def test_imputation_keeps_what_is_constant_or_a_ramp():
    """A weighted mean does: of one value anywhere, of a ramp where all eight neighbours are there."""
    constant = jnp.full((*SIZE, 2), 0.3)
    for hole in holes().values():
        np.testing.assert_allclose(
            noisy_linear_imputation(constant, hole, key=KEY, noise_level=0), constant, atol=1e-5
        )
    ramp = jnp.asarray(np.add.outer(np.arange(9), 2 * np.arange(11))[..., None] / 10, jnp.float32)
    made_up = noisy_linear_imputation(ramp, holes()["block"], key=KEY, noise_level=0)
    np.testing.assert_allclose(made_up, ramp, atol=1e-4)


def test_nothing_of_the_removed_pixels_remains():
    image, hole = picture(), holes()["block"]
    other = jnp.where(hole[..., None], picture(seed=9) / 5, image)
    made_up = [noisy_linear_imputation(one, hole, key=KEY, noise_level=0) for one in (image, other)]
    np.testing.assert_array_equal(*made_up)


def test_imputation_commutes_with_normalisation():
    image, hole = picture(), holes()["scattered"]
    mean, deviation = jnp.asarray([0.5, -2.0, 7.0]), jnp.asarray([0.1, 1.0, 3.0])
    one = noisy_linear_imputation(
        (image - mean[None, None]) / deviation[None, None], hole, key=KEY, noise_level=0
    )
    other = noisy_linear_imputation(image, hole, key=KEY, noise_level=0)
    np.testing.assert_allclose(one * deviation[None, None] + mean[None, None], other, atol=2e-3)


def test_the_noise_is_on_removed_pixels_only_and_as_large_as_asked_for():
    image = 10 * picture((60, 70))
    hole = np.random.default_rng(0).random((60, 70)) < 0.6
    noisy, clean = (noisy_linear_imputation(image, hole, key=KEY, noise_level=level) for level in (0.05, 0))
    noise = np.asarray(noisy - clean)
    assert not noise[~hole].any()
    assert noise[hole].std() == pytest.approx(0.05 * float(image.max() - image.min()), rel=0.03)


def test_of_nothing_nothing_is_made_up():
    assert np.isnan(noisy_linear_imputation(picture(), np.ones(SIZE, bool), key=KEY)).all()


# ROAD.


def probabilities(images):
    return jax.nn.softmax(bent(images))


def test_road_of_a_constant_image_is_its_probability_throughout():
    image = jnp.full((*SIZE, 3), 0.7)
    heatmap = jnp.asarray(np.random.default_rng(0).normal(size=SIZE), jnp.float32)
    target = probabilities(image[None])[0].argmax()
    found = road(probabilities, image, heatmap, target, key=KEY, noise_level=0)
    for curve in found:
        np.testing.assert_allclose(curve.probabilities, probabilities(image[None])[0, target], rtol=1e-4)
        assert curve.recognized.tolist() == [1.0] * 9


def test_most_relevant_first_is_least_relevant_first_of_the_negated_map():
    image = picture()
    heatmap = jnp.asarray(np.random.default_rng(0).normal(size=SIZE), jnp.float32)
    measure = jax.jit(lambda a: road(probabilities, image, a, TARGET, key=KEY, noise_level=0))
    one, other = measure(heatmap), measure(-heatmap)
    np.testing.assert_allclose(one.morf.probabilities, other.lerf.probabilities, rtol=1e-5)
    np.testing.assert_allclose(one.lerf.probabilities, other.morf.probabilities, rtol=1e-5)


def test_a_map_that_knows_the_object_does_what_the_paper_asks_for():
    """A bright object on a dark ground, recognised by its brightest pixel."""
    image = jnp.zeros((10, 10, 1)).at[2:5, 2:5].set(1.0)

    def predict(x):
        seen = x.max(axis=(1, 2, 3))
        return jnp.stack([seen, 1 - seen], axis=1)

    knows, hides = (
        road(predict, image, sign * image[..., 0], jnp.asarray(0), key=KEY, shares=(0.1, 0.5, 0.9))
        for sign in (1, -1)
    )
    assert knows.morf.recognized.tolist() == [0.0, 0.0, 0.0]
    assert knows.lerf.recognized.tolist() == [1.0, 1.0, 1.0]
    np.testing.assert_allclose(hides.morf.recognized, knows.lerf.recognized)


@pytest.mark.parametrize("tied", [False, True])
def test_road_is_the_loops(tied):
    image = picture()
    heatmap = jnp.asarray(np.random.default_rng(2).normal(size=SIZE), jnp.float32)
    heatmap = jnp.round(heatmap) if tied else heatmap
    target = probabilities(image[None])[0].argmax()
    shares = (0.05, 0.3, 0.65, 0.98)
    ours = road(
        probabilities, image, heatmap, target, key=KEY, shares=shares, noise_level=0, perturbations_per_eval=3
    )

    def predict(x):
        return np.asarray(probabilities(jnp.asarray(x, jnp.float32)[None])[0])

    for curve, decreasing in ((ours.morf, True), (ours.lerf, False)):
        theirs = reference.road(
            predict, np.asarray(image), np.asarray(heatmap), int(target), shares, decreasing
        )
        np.testing.assert_allclose(curve.probabilities, theirs[0], rtol=2e-3)
        np.testing.assert_array_equal(curve.recognized, theirs[1])


def test_a_map_that_is_not_a_number_orders_nothing():
    found = road(probabilities, picture(), jnp.ones(SIZE).at[0, 0].set(jnp.nan), TARGET, key=KEY)
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(found))


# How they run.


def measure_all(image, heatmap, target, key, *, perturbations_per_eval=32):
    options = {"key": key, "perturbations_per_eval": perturbations_per_eval}
    return (
        infidelity(bent, image, heatmap, target, n_samples=10, **options),
        sensitivity_n(bent, image, heatmap, target, sizes=(5, 40), n_subsets=10, **options),
        road(probabilities, image, heatmap, target, shares=(0.2, 0.7), **options),
    )


IMAGES = jnp.stack([picture(seed=seed) for seed in range(3)])
EACH = IMAGES, IMAGES.sum(axis=-1), jnp.asarray([3, 0, 4]), jax.random.split(KEY, 3)


@pytest.fixture(scope="module")
def alone():
    """All metrics of each image, one after the other, in one program."""
    measure = jax.jit(measure_all)
    results = [measure(*(array[0] for array in EACH))]
    with count_compile_time() as compiled:
        results += [measure(*(array[number] for array in EACH)) for number in (1, 2)]
    assert [name for name in compiled.programs if "measure_all" in name] == []
    return results


def same(found, expected):
    for leaf, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=2e-3, atol=1e-4)


@pytest.mark.long
def test_one_compilation_serves_all_images_and_a_batch_is_a_loop(alone):
    same(jax.jit(jax.vmap(measure_all))(*EACH), jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone))


@pytest.mark.long
def test_chunks_do_not_show_and_arrays_of_numpy_will_do(alone):
    image, heatmap = (np.asarray(array[0]) for array in EACH[:2])
    measure = functools.partial(measure_all, image, heatmap, perturbations_per_eval=3)
    same(jax.jit(measure)(*(array[0] for array in EACH[2:])), alone[0])


def test_weights_are_a_sum_over_classes():
    image = picture()
    weights = jnp.asarray([0, 2.0, 0, -1.0, 0])
    values = 2 * gradient_x_input(image, 1) - gradient_x_input(image, 3)
    np.testing.assert_allclose(infidelity(linear, image, values, weights, key=KEY), 0, atol=1e-7)
    found = sensitivity_n(linear, image, values.sum(axis=-1), weights, key=KEY, sizes=(9,), n_subsets=9)
    np.testing.assert_allclose(found.correlation, 1, atol=1e-4)


# Bad input.


def test_bad_input_is_one_clear_error():
    image = picture()
    heatmap = image.sum(axis=-1)

    def outside(key, image):
        return Perturbation(image[1:], jnp.ones(SIZE))

    for call, message in (
        (
            lambda: infidelity(bent, image, heatmap.T, TARGET, key=KEY),
            r"\(9, 11, 3\) or \(9, 11\), got \(11, 9\)",
        ),
        (
            lambda: infidelity(bent, image, heatmap, TARGET, key=KEY, n_samples=0),
            "n_samples must be at least 1",
        ),
        (
            lambda: infidelity(bent, image, heatmap, TARGET, key=KEY, perturbations_per_eval=0),
            "perturbations_per_eval must be at least 1",
        ),
        (
            lambda: infidelity(bent, image, heatmap, TARGET, key=KEY, perturb=noisy_baseline),
            r"differs between channels: give values of shape \(9, 11, 3\)",
        ),
        (lambda: infidelity(lambda x: x, image, heatmap, TARGET, key=KEY), r"shape \(1, classes\), got"),
        (lambda: infidelity(linear, image, heatmap, jnp.ones(4), key=KEY), "weights of 4 classes, but .* 5"),
        (lambda: remove_square(KEY, image, max_side=10), "max_side must be from 1 to 9, .*got 10"),
        (lambda: remove_square(KEY, image, max_side=0), "max_side must be from 1 to 9, .*got 0"),
        (lambda: sensitivity_n(bent, image, heatmap.T, TARGET, key=KEY), "rows and columns"),
        (
            lambda: sensitivity_n(bent, image, heatmap, TARGET, key=KEY, sizes=()),
            "sizes must be one",
        ),
        (
            lambda: sensitivity_n(bent, image, heatmap, TARGET, key=KEY, sizes=(99,)),
            "each of sizes must be from 1 to 98 pixels, got 99",
        ),
        (
            lambda: sensitivity_n(bent, image, heatmap, TARGET, key=KEY, n_subsets=1),
            "n_subsets must be at least 2",
        ),
        (lambda: road(probabilities, image, heatmap.T, TARGET, key=KEY), "rows and columns"),
        (
            lambda: road(probabilities, image, heatmap, TARGET, key=KEY, shares=(0.5, 1.0)),
            r"each of shares must be in \(0, 1\), got 1\.0",
        ),
        (
            lambda: road(probabilities, image, heatmap, TARGET, key=KEY, shares=()),
            "shares must be one",
        ),
        (lambda: noisy_linear_imputation(image, np.ones((11, 9), bool), key=KEY), "removed must have"),
        (
            lambda: noisy_linear_imputation(image, np.ones(SIZE, bool), key=KEY, noise_level=-1.0),
            "noise_level",
        ),
    ):
        with pytest.raises(InputError, match=message):
            call()
