"""A ready network of a public package (jax-resnet, flax linen) under gated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo.case import draw, draw_inputs, user_settings

import dmbp_jax
from dmbp_jax.dmbp import masked_sites
from dmbp_jax.rules import find_sites


@pytest.mark.long
def test_a_resnet_of_jax_resnet():
    from jax_resnet import ResNet, ResNetBlock

    with user_settings():
        module = ResNet(block_cls=ResNetBlock, stage_sizes=[1, 1], n_classes=5, hidden_sizes=(4, 8))
        images = draw_inputs(2, (33, 32, 3))
        variables = draw(jax.eval_shape(module.init, jax.random.key(0), images))
        apply, params = dmbp_jax.gated((module, variables))
        a = dmbp_jax.explain(apply, params, images, [1, 2], steps=2)
        logits = module.apply(variables, images)
        sites = find_sites(apply, params, images[0])
    np.testing.assert_allclose(a.scores.total, jnp.stack([logits[0, 1], logits[1, 2]]), rtol=1e-5)
    np.testing.assert_allclose(apply(params, images), logits, rtol=1e-5, atol=1e-5)
    assert a.finite.all()
    roles = [site.role for site in sites if site.kind == "affine"]
    assert roles.count("class") == 1
    # The stem, two convolutions in each of two blocks, and a projection in each.
    assert roles.count("shortcut") == 2
    assert len(masked_sites(sites, "filter")) == roles.count("filter") == 5
