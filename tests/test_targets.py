"""Targets beyond a class: regions of a segmentation, detections, sums; each is the score that it names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import draw_images

import dmbp_jax
from dmbp_jax import InputError, targets

SHAPE = (6, 5, 3)
"""Of the segmentation: rows, columns, classes."""


def segment(kernel, images):
    """Class logits of every pixel: a 3x3 convolution, a ReLU and a layer of its own for each pixel."""
    h = jax.lax.conv_general_dilated(
        images, kernel["conv"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jnp.maximum(h, 0) @ kernel["pixel"]


def kernels():
    random = np.random.default_rng(0)
    return {
        "conv": jnp.asarray(random.normal(size=(3, 3, 2, 4)), jnp.float32),
        "pixel": jnp.asarray(random.normal(size=(4, 3)), jnp.float32),
    }


@pytest.fixture(scope="module")
def segmentation():
    return dmbp_jax.gated((segment, kernels()), output=targets.flatten)


IMAGES = draw_images(2, 6, 5, 2)
MASKS = np.random.default_rng(1).uniform(size=(2, 6, 5)) < 0.3


def close(actual, expected, rtol=1e-5):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


def gradient_of(score):
    """JAX's own, of the network as it is."""
    return jax.grad(lambda images: score(segment(kernels(), images)))(IMAGES)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_region_is_the_mean_or_sum_of_a_logit_over_a_mask(segmentation, reduction):
    weights = targets.region(MASKS, 2, classes=3, reduction=reduction)
    a = dmbp_jax.explain(*segmentation, IMAGES, weights, "gradient")
    sizes = MASKS.sum(axis=(1, 2)) if reduction == "mean" else np.ones(2)

    def score(logits):
        return sum(logits[i, ..., 2][MASKS[i]].sum() / int(sizes[i]) for i in range(2))

    close(a.values, gradient_of(score))
    assert weights.shape == (2, 6 * 5 * 3)


def test_one_mask_is_one_row_of_weights():
    both = targets.region(MASKS, 1, classes=3)
    for mask, row in zip(MASKS, both, strict=True):
        np.testing.assert_array_equal(targets.region(mask, 1, classes=3), row)
        np.testing.assert_allclose(float(row.sum()), 1, rtol=1e-6)


def test_regions_subtract(segmentation):
    left, right = np.zeros((6, 5), bool), np.zeros((6, 5), bool)
    left[:, :2], right[:, 3:] = True, True
    weights = targets.region(left, 0, classes=3) - targets.region(right, 0, classes=3)
    a = dmbp_jax.explain(*segmentation, IMAGES[:1], weights[None], "gradient")
    expected = gradient_of(lambda logits: logits[0, :, :2, 0].mean() - logits[0, :, 3:, 0].mean())
    close(a.values[0], expected[0])


def test_dmbp_splits_the_logit_of_a_region(segmentation):
    weights = targets.region(MASKS, 2, classes=3)
    for options in ({"preset": "fast"}, {"steps": 3}):
        a = dmbp_jax.explain(*segmentation, IMAGES, weights, **options)
        logits = segment(kernels(), IMAGES)
        close(a.scores.total, [logits[i, ..., 2][MASKS[i]].mean() for i in range(2)])
        close(a.scores.positive + a.scores.negative + a.scores.nuisance, a.scores.total)


def test_an_element_is_that_number_of_the_output(segmentation):
    a = dmbp_jax.explain(*segmentation, IMAGES, [targets.element(SHAPE, 4, 1, 2)] * 2, "gradient")
    close(a.values, gradient_of(lambda logits: logits[:, 4, 1, 2].sum()))
    for index in np.ndindex(SHAPE):
        assert targets.element(SHAPE, *index) == np.ravel_multi_index(index, SHAPE)
        assert targets.element(SHAPE, *(i - n for i, n in zip(index, SHAPE, strict=True))) == targets.element(
            SHAPE, *index
        )


def test_of_several_outputs_the_first_come_first():
    """A detector: boxes of four numbers and class scores, for three anchors."""

    def detect(w, x):
        h = jnp.maximum(x @ w, 0)
        return {"boxes": h[:, :12].reshape(-1, 3, 4), "scores": h[:, 12:].reshape(-1, 3, 2)}

    w = jnp.asarray(np.random.default_rng(0).normal(size=(5, 18)), jnp.float32)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5)), jnp.float32)
    for output, target in (
        (lambda out: targets.flatten(out["scores"]), targets.element((3, 2), 1, 0)),
        (targets.flatten, 12 + targets.element((3, 2), 1, 0)),
    ):
        apply, params = dmbp_jax.gated((detect, w), output=output)
        a = dmbp_jax.explain(apply, params, x, [target] * 2, "gradient")
        close(a.values, jax.grad(lambda x: detect(w, x)["scores"][:, 1, 0].sum())(x))


def test_a_total_is_the_sum_of_its_logits_and_contrast_a_difference(segmentation):
    logits = targets.flatten(segment(kernels(), IMAGES))
    weights = targets.total([3, 7, 7], classes=90)
    close(logits @ weights, logits[:, 3] + 2 * logits[:, 7])
    close(logits @ targets.contrast(3, 7, classes=90), logits[:, 3] - logits[:, 7])
    with pytest.raises(InputError, match="class 90 is out of range: there are classes 0 to 89"):
        targets.contrast(90, 3, classes=90)


def test_inside_jit_an_empty_region_is_flagged(segmentation):
    @jax.jit
    def run(mask):
        weights = targets.region(mask, 0, classes=3)
        return dmbp_jax.explain(*segmentation, IMAGES[:1], weights[None], "gradient").finite

    assert run(jnp.asarray(MASKS[0])).all()
    assert not run(jnp.zeros((6, 5), bool)).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: targets.region(np.zeros((2, 2), bool), 0, classes=3), "at least one pixel"),
        (
            lambda: targets.region(np.stack([MASKS[0], 0 * MASKS[0]]).astype(bool), 0, classes=3),
            "at least one",
        ),
        (lambda: targets.region(MASKS, 3, classes=3), "class 3 is out of range: there are classes 0 to 2"),
        (lambda: targets.region(MASKS, 0, classes=3, reduction="men"), "did you mean 'mean'"),
        (lambda: targets.element(SHAPE, 1, 2), "has 3 indices"),
        (lambda: targets.element(SHAPE, 6, 0, 0), "there is no element"),
        (lambda: targets.total([1, 90], classes=90), "class 90 is out of range: there are classes 0 to 89"),
        (lambda: targets.total([True, False], classes=2), "a class is a whole number from 0 to 1, got True"),
        (lambda: targets.contrast(True, 0, classes=3), "a class is a whole number from 0 to 2, got True"),
        (
            lambda: targets.contrast(1, 1, classes=3),
            "a contrast is of two classes, got 1 minus itself: name another",
        ),
        (lambda: targets.region(MASKS, True, classes=3), "a class is a whole number from 0 to 2, got True"),
        (lambda: targets.element(SHAPE, True, 0, 0), "an element's indices are whole numbers"),
        (lambda: targets.total([], classes=90), "got .."),
    ],
)
def test_what_is_out_of_range_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
