"""The masks' gradient, written by hand from the duality, is the gradient of the objective."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import tiny_network

from dmbp_jax.dmbp import masked_sites, objective
from dmbp_jax.dmbp._optimization import Branch, mask_gradient, split
from dmbp_jax.ops import target_score
from dmbp_jax.result import Scores
from dmbp_jax.rules import Masked, find_sites, linearize, tap
from dmbp_jax.rules._tap import read

TARGET = jnp.asarray(3)


@pytest.fixture(scope="module")
def masked_network():
    """A small residual network in float64 at one image: its masked pass, its logit, and where masks sit."""
    with jax.enable_x64(True):
        apply, params, images = tiny_network()
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        image = jnp.asarray(images[0], jnp.float64)
        sites = masked_sites(find_sites(apply, params, image), "filter")
        logits, at = linearize(apply, params, image)
        yield apply, params, image, sites, at, logits[TARGET]


@pytest.mark.parametrize("which", ["all", "posneg", "positive"])
@pytest.mark.parametrize("sign", [1, -1], ids=["short", "over"])
def test_it_equals_jaxs_own_gradient(masked_network, x64, which, sign):
    """`sign`: whether `y~` is above or below zero, which decides the branch that goes back."""
    apply, params, image, sites, at, total = masked_network
    random = np.random.default_rng(5)
    thetas = {site.name: jnp.asarray(random.normal(size=site.shape)) for site in sites}

    def y(masks):
        return target_score(apply(params, image[None], rule=Masked(at, masks))[0], TARGET)

    def scores(thetas, total):
        positive, negative = (y(half) for half in split(thetas))
        return Scores(total, positive, negative, total - positive - negative)

    # Any total will do, and this one has a nuisance of that sign.
    base = scores(thetas, total)
    shifted = base.positive + base.negative + sign * abs(total)
    expected = jax.grad(lambda thetas: objective(scores(thetas, shifted), which))(thetas)

    branch = Branch(
        lambda masks: read(apply, params, image, TARGET, sites, rule=Masked(at, masks)),
        lambda masks: tap(apply, params, image, TARGET, sites, rule=Masked(at, masks)).gradients,
    )
    actual, seen = mask_gradient(branch, shifted, thetas, which)
    np.testing.assert_allclose(seen, scores(thetas, shifted), rtol=1e-10)
    for name, one in expected.items():
        np.testing.assert_allclose(actual[name], one, rtol=1e-8, atol=1e-12 * np.abs(one).max(), err_msg=name)


def test_at_the_kink_it_is_a_subgradient(masked_network, x64):
    apply, params, image, sites, at, _ = masked_network
    # Both branches are the same, so that the sum is exact.
    thetas = {site.name: jnp.zeros(site.shape) for site in sites}
    branch = Branch(
        lambda masks: read(apply, params, image, TARGET, sites, rule=Masked(at, masks)),
        lambda masks: tap(apply, params, image, TARGET, sites, rule=Masked(at, masks)).gradients,
    )
    _, scores = mask_gradient(branch, jnp.asarray(0.0), thetas, "all")
    kink = scores.positive + scores.negative
    here, at_kink = mask_gradient(branch, kink, thetas, "all")
    assert at_kink.nuisance == 0
    above, _ = mask_gradient(branch, kink + 1, thetas, "all")
    jax.tree.map(np.testing.assert_array_equal, here, above)
