"""Several classes of one image: equal to one after the other, and the forward pass is one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CLASSES, small_network, tiny_network
from test_methods import SHORT

import dmbp_jax
from dmbp_jax import InputError
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax._methods import METHODS
from dmbp_jax.attribution import meta_saliency
from dmbp_jax.bench._counts import count_flops

NAMED = [1, 4, 7]
FAST = ("dmbp", {"preset": "fast"})


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def assert_same(one, other, rtol=1e-5):
    def check(a, b):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), 1e-12))

    jax.tree.map(check, one, other)


def one_by_one(network, classes, method, **options):
    """The loop over classes, `classes[i][j]` for image `i`, as any caller would write it."""
    apply, params, images = network
    columns = [
        dmbp_jax.explain(apply, params, images, jnp.asarray(column), method, **options)
        for column in zip(*classes, strict=True)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *columns)


@pytest.mark.parametrize(
    ("name", "classes_at_once"),
    [(name, None) for name in ("grad_cam", "rise", "fast")]
    + [
        pytest.param(name, None if index % 2 else 2, marks=pytest.mark.long)
        for index, name in enumerate([*METHODS, "fast"])
    ],
)
def test_equal_to_the_loop_over_classes(network, name, classes_at_once):
    method, options = FAST if name == "fast" else (name, SHORT.get(name, {}))
    options = {"key": jax.random.key(7), **options}
    apply, params, images = network
    a = dmbp_jax.explain_classes(
        apply, params, images, NAMED, method, classes_at_once=classes_at_once, **options
    )
    assert a.heatmap.shape == (3, 3, 8, 8)
    assert a.finite.all()
    assert_same(a, one_by_one(network, [NAMED] * 3, method, **options))


def forward_passes(method, options, count, classes_at_once=None):
    """The arithmetic of explaining `count` classes of an image, in forward passes."""
    apply, params, images = small_network("squeezenet1_1")
    options = {"key": jax.random.key(0), **options}

    def run(params, image):
        return dmbp_jax.explain_classes(
            apply, params, image, jnp.arange(count), method, classes_at_once=classes_at_once, **options
        )

    return count_flops(run, params, images[:1]) / count_flops(apply, params, images[:1])


@pytest.mark.parametrize(
    ("method", "options", "shared"),
    [
        # One forward pass, and its own gradient of every class.
        pytest.param("gradient_x_input", {}, 1, marks=pytest.mark.long),
        pytest.param("guided_backprop", {}, 1, marks=pytest.mark.long),
        ("grad_cam", {}, 1),
        # Three rows go back for every class.
        ("dmbp", {"preset": "fast"}, 1),
        # The plain pass, and what the loop does not change: most of the first layer and of the last passes.
        pytest.param("dmbp", {"steps": 2}, 2, marks=pytest.mark.long),
        # Every node of the path and both ends; every noisy image.
        pytest.param("integrated_gradients", {"n_steps": 3}, 5, marks=pytest.mark.long),
        pytest.param("smoothgrad", {"n_samples": 3}, 3, marks=pytest.mark.long),
        pytest.param("deeplift", {}, 2, marks=pytest.mark.long),
        ("rise", {"n_masks": 6, "perturbations_per_eval": 4}, 8),
    ],
)
def test_the_forward_pass_is_one_for_all_classes(method, options, shared):
    one, four = (forward_passes(method, options, count) for count in (1, 4))
    each = (four - one) / 3
    assert 0.99 * shared <= one - each <= 1.2 * shared + 1


def test_the_forward_pass_is_one_however_the_classes_are_divided():
    together = forward_passes("gradient_x_input", {}, 4)
    assert forward_passes("gradient_x_input", {}, 4, classes_at_once=1) == pytest.approx(together)
    assert forward_passes("gradient_x_input", {}, 1) > 2
    # But a loop is one operation, and its path is walked again for every group.
    loop = ("integrated_gradients", {"n_steps": 3})
    again = forward_passes(*loop, 4, classes_at_once=1) - forward_passes(*loop, 4)
    # Three groups more, three nodes each; products with the targets are a few numbers beside a pass.
    assert again == pytest.approx(3 * 3, rel=1e-4)


@pytest.mark.long
def test_a_step_on_the_parameters_shares_nothing(network):
    """The documentation says so: `meta_saliency` goes another way for each class."""
    apply, params, images = network
    method = meta_saliency(METHODS["gradient_x_input"])
    a = dmbp_jax.explain_classes(apply, params, images, NAMED, method)
    assert_same(a, one_by_one(network, [NAMED] * 3, method))
    one, four = (forward_passes(method, {}, count) for count in (1, 4))
    # Every class has the backward pass of the step, and behind it a forward and a backward one of its own.
    assert (four - one) / 3 > 3


def test_classes_of_each_image_and_weights(network):
    apply, params, images = network
    own = [[0, 1], [5, 2], [9, 8]]
    a = dmbp_jax.explain_classes(apply, params, images, own, "gradient_x_input")
    assert_same(a, one_by_one(network, own, "gradient_x_input"))
    weights = np.random.default_rng(0).normal(size=(4, CLASSES)).astype(np.float32)
    a = dmbp_jax.explain_classes(apply, params, images, weights, "gradient_x_input")
    assert_same(a, one_by_one(network, [weights] * 3, "gradient_x_input"))
    each = dmbp_jax.explain_classes(apply, params, images, np.stack([weights] * 3), "gradient_x_input")
    assert_same(each, a, rtol=0)


def test_chunks_and_jit_give_the_same_and_a_second_call_compiles_nothing(network):
    apply, params, images = network
    arguments = (NAMED, "dmbp")
    whole = dmbp_jax.explain_classes(apply, params, images, *arguments, preset="fast")
    chunked = dmbp_jax.explain_classes(
        apply, params, images, *arguments, preset="fast", batch_size=2, progress=False
    )
    assert_same(chunked, whole)
    inside = jax.jit(
        lambda x, classes: dmbp_jax.explain_classes(apply, params, x, classes, "dmbp", preset="fast")
    )(images, jnp.asarray(NAMED))
    assert_same(inside, whole)
    with count_compile_time() as compiled:
        dmbp_jax.explain_classes(apply, params, np.asarray(images), [4, 7, 1], "dmbp", preset="fast")
    assert compiled.programs == []


def test_inside_jit_a_class_out_of_range_is_flagged(network):
    apply, params, images = network
    run = jax.jit(lambda classes: dmbp_jax.explain_classes(apply, params, images, classes, "gradient").finite)
    assert run(jnp.asarray([1, CLASSES])).tolist() == [[True, False]] * 3


def test_take_gives_the_classes_of_one_image(network):
    apply, params, images = network
    a = dmbp_jax.explain_classes(apply, params, images, NAMED, preset="fast")
    own = dmbp_jax.explain(apply, params, images[jnp.asarray([1, 1, 1])], NAMED, preset="fast")
    assert_same(a[1], own)


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        ([1, CLASSES], {}, "target 10 is out of range"),
        ([-1], {}, "target -1 is out of range"),
        ([[1, 2]] * 2, {}, "classes must be indices"),
        (np.zeros((2, 4), np.float32), {}, "target"),
        (np.zeros((2, 1, CLASSES), np.float32), {}, "classes must be indices"),
        (np.zeros((0,), np.int32), {}, "got shape"),
        ([1], {"classes_at_once": 0}, "classes_at_once must be at least 1"),
        ([1], {"stpes": 3}, "unknown"),
        ([1], {"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_bad_input_is_refused(network, classes, options, message):
    apply, params, images = network
    with pytest.raises(InputError, match=message):
        dmbp_jax.explain_classes(apply, params, images, classes, **options)


def test_numbers_share_a_program(network):
    apply, params, images = network

    def explain(level):
        options = {"key": jax.random.key(7), "n_samples": 2, "noise_level": level}
        return dmbp_jax.explain_classes(apply, params, images, NAMED, "smoothgrad", **options)

    explain(0.1)
    with count_compile_time() as compiled:
        found = explain(0.3)
    assert compiled.programs == []
    assert_same(jax.jit(explain)(0.3), found)
    options = {"key": jax.random.key(7), "n_samples": 2, "noise_level": 0.3}
    assert_same(found, one_by_one(network, [NAMED] * 3, "smoothgrad", **options))
