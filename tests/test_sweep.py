"""The masks of `fast`: chosen from the logit down, against a slow program in float64 and in the limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import tiny_network

import dmbp_jax
from dmbp_jax._checks import InputError
from dmbp_jax.dmbp._sweep import sweep
from dmbp_jax.rules import PLAIN, find_sites
from dmbp_jax.rules._masked import Choice, choose_theta

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def located(params, images, *, rule=PLAIN):
    """Three layers of 1 x 1 convolutions, the mean over places, and a class layer."""
    first, second, third, last = params
    h = rule.relu("first", images @ first + 0.1)
    h = rule.relu("second", h @ second - 0.2)
    h = rule.relu("third", h @ third + 0.1)
    return h.mean(axis=(1, 2)) @ last


def is_relu(site):
    return site.kind == "relu"


def by_hand(params, image, target, strength, places):
    """`(3, h, w, c)`: the gradients of the plain network and both branches; the masks; written for loops."""
    first, second, third, last = params
    z1 = image @ first + 0.1
    a1 = np.maximum(z1, 0)
    z2 = a1 @ second - 0.2
    a2 = np.maximum(z2, 0)
    z3 = a2 @ third + 0.1
    a3 = np.maximum(z3, 0)
    height, width, _ = image.shape
    flow = [np.tile(last[:, target] / (height * width), (height, width, 1)) for _ in range(3)]
    masks = []
    layers = ((a3, z3, third, places, 0), (a2, z2, second, False, 8), (a1, z1, first, False, 16))
    for a, z, kernel, whole, of_plain in layers:
        c = np.zeros_like(a)
        for weight, d in zip((of_plain, 1, 1), flow, strict=True):
            given = a * d
            c += weight * given / np.abs(given).sum()
        if whole:
            c = np.stack([c.sum(axis=-1)] * c.shape[-1], axis=-1)
        root = np.sign(c) * np.sqrt(np.abs(c))
        theta = strength * root / np.sqrt((root[c != 0] ** 2).mean())
        open_, shut = 2 / (1 + np.exp(-theta)), 2 / (1 + np.exp(theta))
        flow = [flow[0], open_ * flow[1], shut * flow[2]]
        flow = [np.where(z > 0, d, 0) @ kernel.T for d in flow]
        masks.append(open_)
    return np.stack(flow), masks[::-1]


@pytest.mark.parametrize("strength", [0.5, 2.0])
@pytest.mark.parametrize("target", [0, 1])
def test_a_slow_program_gives_the_same(strength, target):
    params = tuple(RNG.normal(size=shape) for shape in ((3, 5), (5, 4), (4, 4), (4, 2)))
    image = RNG.normal(size=(3, 4, 3))
    expected, masks = by_hand(params, image, target, strength, places=True)
    with jax.enable_x64(True):
        found = sweep(located, params, jnp.asarray(image), jnp.asarray(target), is_relu, strength=strength)
        np.testing.assert_allclose(jnp.stack(found[1:4]), expected, rtol=1e-9, atol=1e-12)
        for name, expected_masks in zip(("first", "second", "third"), masks, strict=True):
            np.testing.assert_allclose(found.masks[name], expected_masks, rtol=1e-6)
        plain = jax.grad(lambda x: located(params, x[None])[0, target])(jnp.asarray(image))
        np.testing.assert_allclose(found.plain, plain, rtol=1e-9)


def test_the_last_map_decides_by_places(network):
    apply, params, images = network
    sites = [site for site in find_sites(apply, params, images[0]) if site.kind == "relu"]
    masks = sweep(apply, params, images[0], jnp.asarray(1), is_relu).masks
    last = next(site.name for site in reversed(sites) if len(site.shape) == 3)
    for site in sites:
        spread = np.ptp(np.asarray(masks[site.name]), axis=-1).max()
        assert (spread < 1e-6) == (site.name == last), site.name
        assert (masks[site.name] > 0).all()
        assert (masks[site.name] < 2).all()


def test_without_strength_both_branches_are_the_network(network):
    apply, params, images = network
    found = sweep(apply, params, images[0], jnp.asarray(1), is_relu, strength=0.0)
    for branch in (found.positive, found.negative):
        np.testing.assert_allclose(branch, found.plain, rtol=1e-5, atol=1e-7)


def test_great_strength_takes_paths_of_one_sign():
    """One hidden layer: what is left of a branch is units that all speak for it."""
    hidden, out = RNG.normal(size=(6, 40)), RNG.normal(size=(40, 1))

    def apply(params, x, *, rule=PLAIN):
        return rule.relu("relu", x @ hidden) @ out

    # Its input is a vector, which only a gated network may take.
    apply.gated = True
    x = jnp.asarray(RNG.normal(size=6).astype(np.float32))
    found = sweep(apply, {}, x, jnp.asarray(0), is_relu, strength=1e4)
    contributions = (np.maximum(x @ hidden, 0) * out[:, 0]).astype(np.float64)
    np.testing.assert_allclose(found.positive @ x, 2 * contributions[contributions > 0].sum(), rtol=1e-4)
    np.testing.assert_allclose(found.negative @ x, 2 * contributions[contributions < 0].sum(), rtol=1e-4)


@pytest.mark.parametrize("unit", [1.0, 1e-30, 1e30])
def test_theta_does_not_depend_on_units(unit):
    """One closed gate, contributions far apart, and a row of another size."""
    rows = np.asarray([[4.0, -1.0, 0.0, 1e-6]] * 3) * np.asarray([[1.0], [3.0], [0.0]])
    choice = Choice(plain_weight=8.0, scale=2.0)
    theta = choose_theta(jnp.asarray(unit * rows, jnp.float32), choice, strength=2.0)
    s = np.sign(rows[0]) * np.sqrt(np.abs(rows[0]))
    np.testing.assert_allclose(theta, 2 * s / np.sqrt((s**2).sum() / 3), rtol=1e-5)
    np.testing.assert_array_equal(choose_theta(jnp.zeros((3, 4)), choice, strength=2.0), np.zeros(4))


@pytest.mark.long
@pytest.mark.parametrize(
    "depth", [50, *(pytest.param(depth, marks=pytest.mark.long) for depth in (121, 400))]
)
def test_no_depth_is_refused(depth):
    kernels = RNG.normal(size=(depth, 8, 8)).astype(np.float32) * np.sqrt(2 / 8).astype(np.float32)

    def deep(params, images, *, rule=PLAIN):
        h = images.mean(axis=(1, 2)) @ params[0, :3]
        for i in range(depth):
            h = h + 0.1 * rule.relu(f"relu{i}", h @ params[i])
        return h / 1e6

    a = dmbp_jax.explain(deep, jnp.asarray(kernels), jnp.ones((1, 4, 4, 3)), [0], preset="fast")
    assert a.finite.all()
    assert float(jnp.abs(a.values).max()) > 0


def test_masks_are_returned_and_a_history_is_refused(network):
    apply, params, images = network
    a = dmbp_jax.explain(apply, params, images, [1, 2, 3], preset="fast", return_masks=True)
    sites = [site for site in find_sites(apply, params, images[0]) if site.kind == "relu"]
    assert {name: mask.shape for name, mask in a.masks.items()} == {
        site.name: (3, *site.shape) for site in sites
    }
    with pytest.raises(InputError, match="takes no steps and has no history"):
        dmbp_jax.explain(apply, params, images, [1, 2, 3], preset="fast", return_history=True)


def test_three_rows_go_back_and_one_goes_forward(network):
    """The rows differ in their cotangents alone. The network is traced once."""
    apply, params, images = network
    rows = []

    def counting(params, x, *, rule=PLAIN):
        rows.append(len(x))
        return apply(params, x, rule=rule)

    found = sweep(counting, params, images[0], jnp.asarray(1), is_relu)
    assert rows == [1]
    assert jnp.isfinite(found.positive).all()


def test_a_site_without_a_part_in_the_score_has_the_same_mask_in_both_branches():
    def apply(params, x, *, rule=PLAIN):
        h = rule.relu("first", x @ params)
        rule.relu("beside", h)
        stopped = rule.relu("stopped", jax.lax.stop_gradient(h))
        return (h + 0 * stopped).mean(axis=(1, 2))

    params, image = jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32), jnp.ones((2, 2, 3))
    masks = sweep(apply, params, image, jnp.asarray(0), is_relu).masks
    np.testing.assert_array_equal(masks["beside"], np.ones((2, 2, 2)))
    np.testing.assert_array_equal(masks["stopped"], np.ones((2, 2, 2)))
