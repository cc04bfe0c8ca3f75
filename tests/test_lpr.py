"""LPR: the gradient that trains it, the mask that comes of it, and its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import lpr as reference
from small import CLASSES, tiny_network

from dmbp_jax import InputError
from dmbp_jax.attribution._gradients import target_gradient
from dmbp_jax.attribution._lpr import learn_rules, learned_saliency, lpr, lpr_loss, make_mask, mask_scale
from dmbp_jax.ops._programs import run_loop
from dmbp_jax.rules import PLAIN, Plain, find_sites
from dmbp_jax.rules._masked import Learned, learned_gate
from dmbp_jax.targets import contrast

OPTIONS = {"percentile": 90.0, "area_weight": 0.7, "total_variation_weight": 0.3}
LEARNING = {"learning_rate": 0.1, "eps": 1e-8, "start": 3.0}


@pytest.fixture(scope="module")
def network():
    apply, params, images = tiny_network()
    return (lambda params, x, *, rule=PLAIN: 5 * apply(params, x, rule=rule)), params, images[0]


def random_thetas(apply, params, image):
    """As after some training: the gates differ, and so do the losses of the two kinds of second pass."""
    sites = [site for site in find_sites(apply, params, image) if site.kind == "relu"]
    keys = jax.random.split(jax.random.key(5), len(sites))
    return {
        site.name: 2 * jax.random.normal(key, site.shape, image.dtype)
        for site, key in zip(sites, keys, strict=True)
    }


def in_double(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)


def along(gradient, direction):
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction))).item()


@pytest.mark.long
@pytest.mark.parametrize(("target", "baseline"), [("index", "zero"), ("contrast", "blur")])
def test_the_loss_trains_on_its_own_gradient(network, x64, target, baseline):
    """Against central differences, in double precision, through the pool and the shortcut too.

    With the learned rule in the second pass as well, the loss is the same number and its gradient another.
    """
    apply, params, image = network
    params, image = in_double((params, image))
    target = jnp.asarray(3) if target == "index" else contrast(3, 5, classes=CLASSES)
    options = {**OPTIONS, "baseline": baseline}
    thetas = random_thetas(apply, params, image)
    saliency = learned_saliency(apply, params, image, target, thetas)
    scale = jnp.percentile(saliency, OPTIONS["percentile"])

    @jax.jit
    def held(thetas):
        return lpr_loss(apply, params, image, target, thetas, scale=scale, **options)

    def learned_twice(thetas):
        def apply_learned(params, x, *, rule=None):
            return apply(params, x, rule=Learned(thetas))

        return lpr_loss(apply_learned, params, image, target, thetas, **options)

    value, gradient = jax.jit(
        jax.value_and_grad(lambda thetas: lpr_loss(apply, params, image, target, thetas, **options))
    )(thetas)
    wrong_value, wrong = jax.jit(jax.value_and_grad(learned_twice))(thetas)
    np.testing.assert_allclose([held(thetas), wrong_value], value, rtol=1e-12)

    step = 1e-6
    for seed in range(5):
        keys = iter(jax.random.split(jax.random.key(seed), len(thetas)))
        direction = jax.tree.map(lambda t, keys=keys: jax.random.normal(next(keys), t.shape, t.dtype), thetas)
        above, below = (
            held(jax.tree.map(lambda t, d, sign=sign: t + sign * step * d, thetas, direction))
            for sign in (1, -1)
        )
        difference = ((above - below) / (2 * step)).item()
        assert along(gradient, direction) == pytest.approx(difference, rel=1e-6)
        assert along(wrong, direction) != pytest.approx(difference, rel=1e-2)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_the_references_and_so_is_its_gradient(x64, weighted, output):
    draw = np.random.default_rng(0)
    image, baseline = draw.normal(size=(2, 3, 4, 2))
    matrices = [draw.normal(size=shape) / 3 for shape in ((24, 12), (12, 9), (9, 5))]
    thetas = [draw.normal(size=(size,)) for size in (12, 9)]
    weights = np.asarray([0, 1, 0, -0.5 if weighted else 0, 0])
    target = jnp.asarray(weights) if weighted else jnp.asarray(1)

    def apply(params, x, *, rule=PLAIN):
        h = x.reshape(len(x), -1)
        for i in range(2):
            h = rule.relu(f"relu{i}", h @ params[str(i)])
        return h @ params["2"]

    params = {str(i): jnp.asarray(matrix) for i, matrix in enumerate(matrices)}
    scale = np.percentile(reference.saliency(matrices, image, weights, thetas), OPTIONS["percentile"])
    ours = jax.value_and_grad(
        lambda thetas: lpr_loss(
            apply,
            params,
            jnp.asarray(image),
            target,
            thetas,
            baseline=jnp.asarray(baseline),
            output=output,
            **OPTIONS,
        )
    )
    loss, gradient = ours({f"relu{i}": jnp.asarray(theta) for i, theta in enumerate(thetas)})

    def slow(thetas):
        return reference.loss(
            matrices,
            image,
            weights,
            thetas,
            scale=scale,
            baseline=baseline,
            area_weight=OPTIONS["area_weight"],
            total_variation_weight=OPTIONS["total_variation_weight"],
            output=output,
        )

    assert loss.item() == pytest.approx(slow(thetas), rel=1e-12)
    for i, expected in enumerate(reference.finite_differences(slow, thetas)):
        np.testing.assert_allclose(gradient[f"relu{i}"], expected, rtol=1e-6, atol=1e-8)
        assert np.abs(expected).max() > 1e-3


def test_the_gate_scales_the_cotangent_and_not_the_value():
    z, theta = jnp.asarray([-1.0, 0.0, 2.0, 3.0]), jnp.asarray([1.0, 1.0, 1.0, -2.0])
    value, pull = jax.vjp(lambda z, theta: learned_gate(jax.nn.relu(z), theta), z, theta)
    to_z, to_theta = pull(jnp.full(4, 10.0))
    np.testing.assert_array_equal(value, [0, 0, 2, 3])
    np.testing.assert_allclose(to_z, [0, 0, 10 / (1 + np.exp(-1)), 10 / (1 + np.exp(2))], rtol=1e-6)
    np.testing.assert_array_equal(to_theta, 0)


def test_the_learned_rule_is_plain_without_thetas_and_at_large_ones(network):
    apply, params, image = network
    plain = target_gradient(apply, params, image, jnp.asarray(3))
    np.testing.assert_array_equal(target_gradient(apply, params, image, jnp.asarray(3), Learned({})), plain)
    sites = [site for site in find_sites(apply, params, image) if site.kind == "relu"]
    open_ = Learned({site.name: jnp.full(site.shape, 40.0) for site in sites})
    np.testing.assert_allclose(target_gradient(apply, params, image, jnp.asarray(3), open_), plain, rtol=1e-6)
    assert isinstance(open_, Plain)


@pytest.mark.parametrize("reduction", ["max", "mean"])
def test_without_steps_the_mask_is_the_plain_gradients(network, reduction):
    apply, params, image = network
    a = lpr(apply, params, image, jnp.asarray(3), n_steps=0, start=40.0, percentile=90.0, reduction=reduction)
    gradient = np.abs(np.asarray(target_gradient(apply, params, image, jnp.asarray(3))))
    reduced = getattr(gradient, reduction)(axis=-1)
    expected = np.minimum(reduced / np.percentile(reduced, 90), 1)
    np.testing.assert_allclose(a.heatmap, expected, rtol=1e-5)


def test_the_loss_falls_and_the_mask_stays_a_mask(network):
    apply, params, image = network
    loop = learn_rules(apply, params, image, jnp.asarray(3), n_steps=30, **LEARNING, **OPTIONS)
    _, losses = run_loop(loop)
    assert losses.shape == (30,)
    assert losses[-1] < losses[0] - 0.1
    a = lpr(apply, params, image, jnp.asarray(3), n_steps=30, **LEARNING, **OPTIONS)
    assert a.values.shape == (8, 8, 1)
    assert a.finite
    assert 0 <= a.values.min() < a.values.max() == 1
    again = lpr(apply, params, image, jnp.asarray(3), n_steps=30, **LEARNING, **OPTIONS)
    np.testing.assert_array_equal(a.values, again.values)
    untrained = lpr(apply, params, image, jnp.asarray(3), n_steps=0, **LEARNING, **OPTIONS)
    assert np.abs(a.values - untrained.values).max() > 0.1


def test_total_variation_is_smoothed_away_as_far_as_it_weighs(network):
    apply, params, image = network
    rough, between, smooth = (
        reference.total_variation(
            np.asarray(
                lpr(apply, params, image, jnp.asarray(3), n_steps=20, total_variation_weight=w).heatmap
            )
        )
        for w in (0.0, 20.0, 1000.0)
    )
    assert smooth < between < rough
    assert smooth < 0.9 * rough


def test_an_index_and_its_one_hot_weights_give_the_same_mask(network):
    apply, params, image = network
    indexed, weighted = (
        lpr(apply, params, image, target, n_steps=5).values
        for target in (jnp.asarray(3), jnp.eye(CLASSES)[3])
    )
    np.testing.assert_allclose(weighted, indexed, atol=1e-4)


@pytest.mark.long
def test_odd_sizes_and_a_blurred_baseline(network):
    apply, params, image = network
    a = lpr(apply, params, image[:5, :7], jnp.asarray(3), n_steps=2, baseline="blur")
    assert a.values.shape == (5, 7, 1)
    assert a.finite
    assert 0 < a.values.mean() < 1


def test_a_scale_of_zero_falls_back():
    sparse = jnp.zeros((10, 10)).at[2, 3].set(4.0).at[5, 5].set(2.0)
    mask = make_mask(sparse, mask_scale(sparse, 90.0))
    assert (mask[2, 3], mask[5, 5], mask.sum()) == (1.0, 0.5, 1.5)
    empty = jnp.zeros((3, 3))
    np.testing.assert_array_equal(make_mask(empty, mask_scale(empty, 99.0)), 0)


@pytest.mark.long
def test_half_precision_keeps_its_thetas_in_single(network):
    apply, params, image = network
    params, image = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params, image))
    options = {"percentile": 90.0}
    loop = learn_rules(apply, params, image, jnp.asarray(3), n_steps=2, **LEARNING, **options)
    thetas, losses = run_loop(loop)
    assert {theta.dtype for theta in thetas.values()} == {jnp.dtype(jnp.float32)}
    assert losses.dtype == jnp.float32
    assert lpr(apply, params, image, jnp.asarray(3), n_steps=2).values.dtype == jnp.bfloat16


def test_bad_input_is_one_clear_error(network):
    apply, params, image = network
    for options, message in (
        ({"n_steps": -1}, "n_steps must be at least 0, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"eps": 0.0}, "eps must be above 0, got 0.0"),
        ({"start": float("inf")}, "start must be finite, got inf"),
        ({"percentile": 0.0}, r"percentile must be in \(0, 100\], got 0.0"),
    ):
        with pytest.raises(InputError, match=message):
            lpr(apply, params, image, jnp.asarray(3), **options)
    with pytest.raises(InputError, match="no ReLU"):
        lpr(lambda params, x, *, rule=PLAIN: x.mean(axis=(1, 2)), {}, image, jnp.asarray(0))
    assert not lpr(apply, params, image, jnp.asarray(CLASSES), n_steps=1).finite
