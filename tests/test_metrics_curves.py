"""Insertion, complementary insertion and deletion: their theory, the loops of the papers, bad input."""

import functools
import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.ndimage
from references import metrics as reference

import dmbp_jax
from dmbp_jax import InputError
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax.metrics import (
    area_under_curve,
    complementary_insertion,
    deletion,
    insertion,
    relevance_rank_accuracy,
)
from dmbp_jax.metrics._curves import make_baseline, pixel_order, pixel_ranks
from dmbp_jax.metrics._variants import as_map, as_order
from dmbp_jax.ops._resample import folded_gaussian_blur, folded_gaussian_kernel

CLASSES = 10
ODD = (13, 17)
TARGET = jnp.asarray(3)
OTHERS = jnp.zeros(CLASSES).at[jnp.asarray([0, 7])].set(1.0)


def weights(size=ODD, seed=0):
    """Of a class layer that looks at every pixel, so that no two may be taken for each other."""
    shape = (size[0] * size[1] * 3, CLASSES)
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape, scale=2 / shape[0] ** 0.5), jnp.float32)


def predict_with(weights, x):
    return jax.nn.softmax(x.reshape(len(x), -1) @ weights)


@pytest.fixture(scope="module")
def predict():
    return functools.partial(predict_with, weights())


@pytest.fixture(scope="module")
def plain_predict():
    """Of one image, for the loops."""
    wide = np.asarray(weights(), np.float64)

    def predict(x):
        powers = np.exp(x.reshape(-1) @ wide)
        return powers / powers.sum()

    return predict


def picture(size=ODD, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(*size, 3)), jnp.float32), jnp.asarray(
        rng.normal(size=size), jnp.float32
    )


def all_metrics(predict, image, heatmap, **options):
    """The three curves, by name."""
    return {
        "insertion": insertion(predict, image, heatmap, TARGET, **options),
        "deletion": deletion(predict, image, heatmap, TARGET, **options),
        "complementary": complementary_insertion(predict, image, heatmap, OTHERS, **options),
    }


# Theory.


def seen_share(pixels):
    """A black box whose first probability is the share of `pixels` that are ones; its second the rest."""

    def predict(x):
        share = jnp.einsum("nhw,hw->n", x[..., 0], pixels) / pixels.sum()
        return jnp.stack([share, 1 - share], axis=1)

    return predict


@jax.jit
def areas(pixels, heatmap):
    """Insertion, deletion, and complementary insertion along the opposite map, of a white image."""
    box, image, options = seen_share(pixels), jnp.ones((5, 7, 1)), {"n_steps": 35}
    of_first = jnp.asarray([1.0, 0.0])
    curves = (
        insertion(box, image, heatmap, jnp.asarray(0), baseline="zero", **options),
        deletion(box, image, heatmap, jnp.asarray(0), **options),
        complementary_insertion(box, image, -heatmap, of_first, baseline="zero", **options),
    )
    return [curve.auc for curve in curves]


@pytest.mark.parametrize("pixels", [1, 5, 24, 35])
def test_the_best_and_the_worst_map_have_the_area_that_theory_says(pixels):
    """With `m` of `n` pixels that matter first, `p_i = min(i / m, 1)`; last, `max(0, 1 - (n - i) / m)`."""
    rng = np.random.default_rng(pixels)
    matters = jnp.asarray((rng.permutation(35) < pixels).reshape(5, 7), jnp.float32)
    # The area under the ramp and the plateau behind it.
    high, low = 1 - pixels / 70, pixels / 70
    np.testing.assert_allclose(areas(matters, matters), (high, low, high), rtol=1e-5)
    np.testing.assert_allclose(areas(matters, -matters), (low, high, low), rtol=1e-5)
    for _ in range(3):
        random = jnp.asarray(rng.normal(size=(5, 7)), jnp.float32)
        inserted, deleted, complementary = (float(area) for area in areas(matters, random))
        assert low - 1e-6 <= inserted <= high + 1e-6
        assert inserted == pytest.approx(complementary, abs=1e-6)
        # What insertion shows, deletion hides.
        assert inserted + deleted == pytest.approx(1, abs=1e-5)


def test_area_of_given_curves():
    for values, area in (([0, 1], 0.5), ([1, 1, 1], 1), ([0, 1, 1], 0.75), ([0.2, 0.4, 0.9, 0.1], 1.45 / 3)):
        assert float(area_under_curve(jnp.asarray(values, jnp.float32))) == pytest.approx(area, abs=1e-6)
    values = np.random.default_rng(0).random(29)
    ours = float(area_under_curve(jnp.asarray(values, jnp.float32)))
    # `auc` of RISE's evaluation.py.
    assert ours == pytest.approx((values.sum() - values[0] / 2 - values[-1] / 2) / 28, abs=1e-5)
    assert ours == pytest.approx(reference.auc(values), abs=1e-5)


def test_rise_at_its_own_size_takes_29_looks_and_1792_pixels_a_step():
    """The probability is the share of ones, so that the curve counts the pixels."""
    ones = jnp.ones((224, 224, 1))
    heatmap = jnp.asarray(np.random.default_rng(0).random((224, 224)), jnp.float32)

    def counted(x):
        return x.sum(axis=(1, 2))

    curve = insertion(counted, ones, heatmap, jnp.asarray(0), baseline="zero", perturbations_per_eval=10)
    np.testing.assert_array_equal(curve.probabilities, np.arange(29) * 224 * 8)


@pytest.mark.parametrize(
    ("size", "n_steps"), [(ODD, 28), (ODD, 221), ((4, 4), 28), ((10, 10), 28), ((3, 3), 1)]
)
def test_the_same_share_at_other_sizes(size, n_steps):
    """Steps of equal size and one remainder, the image whole at the last look and not before."""
    _, heatmap = picture(size)
    curve = insertion(
        lambda x: x.sum(axis=(1, 2)),
        jnp.ones((*size, 1)),
        heatmap,
        jnp.asarray(0),
        baseline="zero",
        n_steps=n_steps,
    )
    total = size[0] * size[1]
    step = math.ceil(total / n_steps)
    np.testing.assert_array_equal(curve.probabilities, [*range(0, total, step), total])


def test_the_kernel_is_rises():
    along = folded_gaussian_kernel(11, 5.0)
    kernel = np.outer(along, along)
    np.testing.assert_allclose(kernel, reference.rise_kernel(), atol=1e-15)
    assert kernel[5, 5] == pytest.approx(0.00883, abs=5e-6)
    assert kernel[0, 0] == kernel[10, 10] == pytest.approx(0.00774, abs=5e-6)
    assert kernel.sum() == pytest.approx(1)


@pytest.mark.parametrize("size", [ODD, (30, 24), (5, 3), (1, 1)])
def test_the_blur_is_rises_convolution(size):
    image, _ = picture(size)
    padded = np.pad(np.asarray(image, np.float64), ((5, 5), (5, 5), (0, 0)))
    expected = np.zeros(image.shape)
    for i, j in np.ndindex(size):
        expected[i, j] = (padded[i : i + 11, j : j + 11] * reference.rise_kernel()[..., None]).sum(
            axis=(0, 1)
        )
    np.testing.assert_allclose(folded_gaussian_blur(image), expected, atol=1e-6)
    np.testing.assert_allclose(reference.rise_blur(np.asarray(image)), expected, atol=1e-6)


def test_baselines():
    image, _ = picture()
    np.testing.assert_array_equal(make_baseline(image, "rise"), folded_gaussian_blur(image))
    gaussian = scipy.ndimage.gaussian_filter(np.asarray(image, np.float64), (5, 5, 0), mode="nearest")
    np.testing.assert_allclose(make_baseline(image, "gaussian"), gaussian, atol=1e-5)
    assert not make_baseline(image, "zero").any()
    np.testing.assert_array_equal(make_baseline(image, image + 1), image + 1)


def test_the_order_is_total_and_the_reverse_of_the_opposite_one():
    heatmap = np.asarray([[0.0, 1.0, -0.0], [1.0, -np.inf, 1.0]])
    ties = reference.tie_breaker(heatmap.shape).ravel()
    assert ties.tolist() == [0, 1, 3, 5, 4, 2]
    assert pixel_order(heatmap, decreasing=False).tolist() == [4, 0, 2, 1, 5, 3]
    assert pixel_order(heatmap, decreasing=True).tolist() == [3, 5, 1, 2, 0, 4]
    assert pixel_ranks(heatmap, decreasing=True).tolist() == [[4, 2, 3], [0, 5, 1]]
    # NaN is above every number, and all NaN are equal.
    assert pixel_order(np.asarray([[np.nan, np.inf, -np.nan, 0.0]]), decreasing=True).tolist()[2:] == [1, 3]
    for shape in ((1, 1), (1, 9), (40, 50)):
        ties = reference.tie_breaker(shape)
        found = pixel_ranks(np.zeros(shape, np.float16), decreasing=False)
        np.testing.assert_array_equal(found, ties)
        np.testing.assert_array_equal(pixel_ranks(np.ones(shape), decreasing=True), ties.size - 1 - ties)


def test_a_map_without_ties_has_the_order_of_its_values():
    heatmap = np.random.default_rng(0).permutation(221).reshape(ODD).astype(np.float32) - 100
    increasing = np.argsort(heatmap.ravel())
    np.testing.assert_array_equal(pixel_order(heatmap, decreasing=False), increasing)
    np.testing.assert_array_equal(pixel_order(heatmap, decreasing=True), increasing[::-1])


def test_the_order_is_the_same_compiled_batched_and_of_any_precision():
    levels = np.random.default_rng(0).integers(-2, 3, size=(3, *ODD))
    for decreasing in (True, False):
        order = functools.partial(pixel_order, decreasing=decreasing)
        expected = np.stack([order(one.astype(np.float32)) for one in levels])
        for dtype in (np.float16, jnp.bfloat16, np.float32):
            batch = jnp.asarray(levels, dtype)
            np.testing.assert_array_equal(jax.jit(jax.vmap(order))(batch), expected)


def test_equal_pixels_enter_scattered():
    """The rows of a constant map would enter as a stripe, of which a network recognises more."""
    first = np.asarray(pixel_ranks(np.zeros((224, 224)), decreasing=True) < 1792)
    in_blocks = first.reshape(4, 56, 4, 56).sum(axis=(1, 3))
    # 112 in each are expected, with a deviation of 10.
    assert np.abs(in_blocks - 112).max() < 40
    assert first.sum(axis=1).max() < 30


def test_a_constant_map_is_the_map_that_holds_the_order_of_ties(predict):
    image, _ = picture()
    scattered = reference.tie_breaker(ODD).astype(np.float32)
    constant, other = (
        all_metrics(predict, image, heatmap) for heatmap in (np.full(ODD, 0.3, np.float32), scattered)
    )
    for name, curve in constant.items():
        np.testing.assert_array_equal(curve.probabilities, other[name].probabilities)


def test_equal_pixels_count_as_any_other_of_them_on_average():
    """Of the 100 highest of a map of three levels, as many lie on a region as a random choice has."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        levels, region = rng.permutation(221) % 3, rng.random(221) < 0.4
        chosen = (
            np.asarray(pixel_ranks(levels.reshape(ODD).astype(np.float32), decreasing=True)).ravel() < 100
        )
        # 73 pixels are of the highest level, and 27 of the 74 of the next one are chosen.
        expected = region[levels == 2].sum() + region[levels == 1].sum() * 27 / 74
        found.append(region[chosen].sum() - expected)
    # One such difference deviates by 2.0.
    assert abs(np.mean(found)) < 0.35
    assert 1.5 < np.std(found) < 2.5


def test_only_the_order_of_the_values_matters(predict):
    image, heatmap = picture()
    measure = jax.jit(functools.partial(all_metrics, predict))
    before = measure(image, heatmap)
    for monotone in (lambda x: 3 * x - 7, jnp.exp, jnp.arctan):
        after = measure(image, monotone(heatmap))
        for name, curve in before.items():
            np.testing.assert_array_equal(curve.probabilities, after[name].probabilities)


def test_maps_of_double_precision_and_of_long_numbers_keep_their_order(predict):
    """Which JAX would round to single precision and cut to 32 bits."""
    image, _ = picture()
    places = np.random.default_rng(0).permutation(221).reshape(ODD)
    half = places >= 110
    expected = all_metrics(predict, image, places)
    share = relevance_rank_accuracy(places, half[::-1])
    for heatmap in (places * 1e-60, places * 1e60, 1 + places * 1e-12, places * 2**40, places - 2**60):
        for name, curve in all_metrics(predict, image, heatmap).items():
            np.testing.assert_array_equal(curve.probabilities, expected[name].probabilities)
        assert relevance_rank_accuracy(heatmap, half[::-1]) == share
    np.testing.assert_array_equal(as_map(places * 2**40), places * np.float32(2**40))
    broken = np.where(places == 7, np.nan, places.astype(float))
    np.testing.assert_array_equal(np.isnan(as_order(broken)), np.isnan(broken))


def test_the_coldest_first_is_the_warmest_first_of_the_negated_map(predict):
    image, heatmap = picture()
    one = complementary_insertion(predict, image, heatmap, jnp.eye(CLASSES)[3])
    np.testing.assert_allclose(one.probabilities, insertion(predict, image, -heatmap, TARGET).probabilities)


def test_weights_are_a_sum_over_classes(predict):
    image, heatmap = picture()
    target = jnp.zeros(CLASSES).at[jnp.asarray([1, 4])].set(jnp.asarray([0.25, -2.0]))
    one, four = (insertion(predict, image, heatmap, jnp.asarray(k)).probabilities for k in (1, 4))
    ours = insertion(predict, image, heatmap, target).probabilities
    np.testing.assert_allclose(ours, 0.25 * one - 2 * four, atol=1e-6)


# The loops.


@pytest.mark.parametrize("n_steps", [28, 221, 10, 3])
@pytest.mark.parametrize("tied", [False, True])
def test_curves_are_the_loops(predict, plain_predict, n_steps, tied):
    image, heatmap = picture()
    if tied:
        heatmap = jnp.round(heatmap)
    x, a = np.asarray(image, np.float64), np.asarray(heatmap)
    step = reference.step_size(a, n_steps)
    ours = all_metrics(predict, image, heatmap, n_steps=n_steps, perturbations_per_eval=7)
    for name in ("insertion", "deletion"):
        curve = getattr(reference, name)(plain_predict, x, a, 3, step)
        assert np.ptp(curve) > 0.03
        np.testing.assert_allclose(ours[name].probabilities, curve, rtol=1e-4)
        assert float(ours[name].auc) == pytest.approx(reference.auc(curve), rel=1e-5)
    area = reference.complementary_insertion(plain_predict, x, a, (0, 7), step)
    assert float(ours["complementary"].auc) == pytest.approx(area, rel=1e-5)


def test_the_embedded_network_sees_the_blurred_image_first_and_the_image_last():
    model = dmbp_jax.load_model("squeezenet1_1")
    image = jax.image.resize(model.spec.preprocess(dmbp_jax.example_photo()), (64, 64, 3), "bilinear")
    heatmap = jnp.asarray(np.random.default_rng(0).random((64, 64)), jnp.float32)
    forward = jax.jit(lambda x: jax.nn.softmax(model.apply(model.params, x)))
    blurred = jnp.asarray(reference.rise_blur(np.asarray(image, np.float64)), jnp.float32)
    first, last, nothing = (forward(x[None])[0] for x in (blurred, image, jnp.zeros_like(image)))
    target = last.argmax()
    options = {"n_steps": 4, "perturbations_per_eval": 3}
    inserted = insertion(forward, image, heatmap, target, **options).probabilities
    deleted = deletion(forward, image, heatmap, target, **options).probabilities
    np.testing.assert_allclose(inserted[jnp.asarray([0, -1])], [first[target], last[target]], rtol=1e-3)
    np.testing.assert_allclose(deleted[jnp.asarray([0, -1])], [last[target], nothing[target]], rtol=1e-3)


# Numbers as users give them.


def test_targets_maps_and_baselines_may_be_plain_numbers_and_lists(predict):
    image, heatmap = picture()
    expected = all_metrics(predict, image, heatmap)
    for target in (3, np.int64(3), np.asarray(3), jnp.asarray(3)):
        curve = deletion(predict, image, heatmap.tolist(), target, baseline=0)
        np.testing.assert_array_equal(curve.probabilities, expected["deletion"].probabilities)
    others = np.asarray(OTHERS).astype(int).tolist()
    curve = complementary_insertion(predict, image, heatmap, others)
    np.testing.assert_allclose(curve.auc, expected["complementary"].auc, rtol=1e-6)
    for number in (0.5, np.float32(0.5), jnp.asarray(0.5)):
        np.testing.assert_array_equal(make_baseline(image, number), jnp.full(image.shape, 0.5))
    levels = jnp.round(heatmap).astype(int).tolist()
    whole = insertion(predict, image, levels, np.eye(CLASSES)[3].tolist())
    ranked = insertion(predict, image, jnp.round(heatmap), TARGET)
    np.testing.assert_allclose(whole.probabilities, ranked.probabilities, rtol=1e-6)
    for target in (2.5, True, "3", 2**40, np.int64(2**32 + 3), np.ones((1, 1)), [True] * 10, [0, 0, 1]):
        with pytest.raises(InputError, match="target must be the index of a class"):
            insertion(predict, image, heatmap, target)


# How it runs.


def test_one_compilation_serves_all_images_targets_and_numbers_of_other_classes():
    @jax.jit
    def measure(params, image, heatmap, target, others):
        predict = functools.partial(predict_with, params)
        return (
            insertion(predict, image, heatmap, target),
            deletion(predict, image, heatmap, target),
            complementary_insertion(predict, image, heatmap, others),
        )

    image, heatmap = picture()
    results = [measure(weights(), image, heatmap, TARGET, OTHERS)]
    another_image, another_heatmap = picture(seed=1)
    other_classes = OTHERS.at[5].set(1.0)
    params, target = weights(seed=1), jnp.asarray(6)
    with count_compile_time() as compiled:
        results.append(measure(params, another_image, another_heatmap, target, other_classes))
    assert compiled.programs == []
    assert results[0][0].auc != results[1][0].auc
    # And what is compiled is what is not.
    for jitted, (name, eager) in zip(
        results[0],
        all_metrics(functools.partial(predict_with, weights()), image, heatmap).items(),
        strict=True,
    ):
        np.testing.assert_allclose(jitted.probabilities, eager.probabilities, rtol=1e-4, err_msg=name)


def test_chunks_do_not_show(predict):
    image, heatmap = picture()
    curves = [all_metrics(predict, image, heatmap, perturbations_per_eval=size) for size in (1, 4, 29)]
    for other in curves[1:]:
        for name, curve in curves[0].items():
            np.testing.assert_allclose(other[name].probabilities, curve.probabilities, rtol=1e-5)


def test_the_network_never_sees_more_than_a_chunk():
    image, heatmap = picture()
    sizes = []

    def predict(x):
        sizes.append(len(x))
        return x.mean(axis=(1, 2))

    for perturbations_per_eval in (1, 16, 28, 29, 100):
        insertion(predict, image, heatmap, jnp.asarray(0), perturbations_per_eval=perturbations_per_eval)
    assert sorted(set(sizes)) == [1, 15, 29]


def test_memory_does_not_grow_with_the_number_of_steps():
    image, heatmap = picture((40, 50))
    predict = functools.partial(predict_with, weights((40, 50)))

    def temporary(n_steps):
        run = jax.jit(
            lambda x, a: insertion(predict, x, a, TARGET, n_steps=n_steps, perturbations_per_eval=8)
        )
        return run.lower(image, heatmap).compile().memory_analysis().temp_size_in_bytes

    assert temporary(2000) <= temporary(31) + 32_000


def test_a_batch_is_a_loop_over_images(predict):
    images, heatmaps = (
        jnp.stack(arrays) for arrays in zip(*(picture(seed=s) for s in range(3)), strict=True)
    )
    targets = jnp.asarray([3, 0, 9])
    others = jnp.stack([OTHERS, jnp.eye(CLASSES)[2], jnp.zeros(CLASSES)])
    for metric, classes in ((insertion, targets), (deletion, targets), (complementary_insertion, others)):
        measure = jax.jit(functools.partial(metric, predict))
        batch = jax.vmap(measure)(images, heatmaps, classes)
        loop = [measure(*one) for one in zip(images, heatmaps, classes, strict=True)]
        np.testing.assert_allclose(batch.auc, [curve.auc for curve in loop], rtol=1e-5)
        np.testing.assert_allclose(batch.probabilities, [curve.probabilities for curve in loop], rtol=1e-4)


def test_double_precision(x64):
    single = weights(), *picture()
    double = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), single)
    single, double = (
        jax.jit(functools.partial(all_metrics, functools.partial(predict_with, w)))(*rest)
        for w, *rest in (single, double)
    )
    for name, curve in double.items():
        assert curve.auc.dtype == curve.probabilities.dtype == jnp.float64
        assert single[name].auc.dtype == jnp.float32
        np.testing.assert_allclose(curve.probabilities, single[name].probabilities, rtol=1e-4)


def test_half_precision_images_have_single_precision_curves(predict):
    image, heatmap = picture()

    def half(x):
        assert x.dtype == jnp.bfloat16
        return predict(x.astype(jnp.float32)).astype(jnp.bfloat16)

    for curve in all_metrics(half, image.astype(jnp.bfloat16), heatmap.astype(jnp.bfloat16)).values():
        assert curve.auc.dtype == jnp.float32


# Bad values are NaN, bad input is an error.


def test_what_is_not_defined_is_nan(predict):
    image, heatmap = picture()
    measure = jax.jit(functools.partial(all_metrics, predict))
    assert all(jnp.isfinite(curve.auc) for curve in measure(image, heatmap.at[4, 5].set(jnp.inf)).values())
    for curve in measure(image, heatmap.at[4, 5].set(jnp.nan)).values():
        assert jnp.isnan(curve.auc)
        assert jnp.isnan(curve.probabilities).all()
    for target in (-1, CLASSES):
        assert jnp.isnan(insertion(predict, image, heatmap, jnp.asarray(target)).auc)
    assert jnp.isnan(complementary_insertion(predict, image, heatmap, jnp.zeros(CLASSES)).auc)


def test_others_may_be_truth_values_and_the_map_of_numpy(predict):
    image, heatmap = picture()
    ours = complementary_insertion(predict, image, np.asarray(heatmap), OTHERS > 0)
    assert ours.auc == complementary_insertion(predict, image, heatmap, OTHERS).auc


def test_bad_input_is_one_clear_error(predict):
    image, heatmap = picture()
    for metric, classes in ((insertion, TARGET), (deletion, TARGET), (complementary_insertion, OTHERS)):
        for options, message in (
            ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
            ({"perturbations_per_eval": 0}, "perturbations_per_eval must be at least 1, got 0"),
            (
                {"baseline": image[1:]},
                r"baseline must be one number or have the image's shape \(13, 17, 3\), got \(12, 17, 3\)",
            ),
        ):
            with pytest.raises(InputError, match=message):
                metric(predict, image, heatmap, classes, **options)
        with pytest.raises(InputError, match=r"rows and columns \(13, 17\), got \(17, 13\)"):
            metric(predict, image, heatmap.T, classes)
        with pytest.raises(InputError, match=r"shape \(29, classes\), got \(29, 13, 17, 3\)"):
            metric(lambda x: x, image, heatmap, classes)
        with pytest.raises(InputError, match="weights of 4 classes, but the network has 10"):
            metric(predict, image, heatmap, jnp.ones(4))
    # Whichever check comes first: tests also check annotations.
    with pytest.raises((InputError, jaxtyping.TypeCheckError), match="baseline"):
        insertion(predict, image, heatmap, TARGET, baseline="rose")
    with pytest.raises(InputError, match="at least 2 values, got 1"):
        area_under_curve(jnp.ones(1))
    for size, sigma, message in ((10, 5.0, "size must be odd.*got 10"), (11, 0.0, "sigma must be above 0")):
        with pytest.raises(InputError, match=message):
            folded_gaussian_blur(image, size=size, sigma=sigma)
