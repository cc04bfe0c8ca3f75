"""The rules by themselves: mask gradients, the trap of the missing mask gradient, ties, recording."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dmbp_jax.rules import PLAIN, Masked, find_sites, linearize, masked_gate
from dmbp_jax.typing import Window


def random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape, jnp.result_type(float))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("gated", [True, False])
def test_masked_gate_agrees_with_finite_differences(gated):
    z, mask, out = random(0, 1, 5, 5, 2), jax.nn.sigmoid(random(1, 1, 5, 5, 2)), random(2, 1, 5, 5, 2)
    gate = z > 0 if gated else None

    def f(z, mask):
        return jnp.vdot(out, masked_gate(jnp.asarray(z), gate, jnp.asarray(mask)) ** 2)

    check_grads(f, (z, mask), order=1, modes=["rev"], eps=1e-5)


@pytest.mark.usefixtures("x64")
def test_mask_gradient_when_the_masked_pass_is_used_again_in_the_loss():
    """A rule that hands back a zero cotangent for its mask passes every test but this one."""
    z, mask = random(0, 1, 4), jax.nn.sigmoid(random(1, 1, 4))

    def loss(mask):
        once = masked_gate(z, z > 0, jnp.asarray(mask))
        return (masked_gate(once * z, None, jnp.asarray(mask)) * once).sum()

    check_grads(loss, (mask,), order=1, modes=["rev"], eps=1e-5)
    assert np.abs(jax.grad(loss)(mask)).max() > 0


def test_masked_gate_keeps_the_dtypes_of_both():
    z, mask = jnp.ones((1, 3), jnp.bfloat16), jnp.full((1, 3), 0.25)
    value, back = jax.vjp(lambda z, m: masked_gate(z, z > 0, m), z, mask)
    to_z, to_mask = back(value)
    assert (value.dtype, to_z.dtype, to_mask.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)


def two_layers(params, images, *, rule=PLAIN):
    h = rule.relu("relu1", rule.affine("one", images @ params["one"], "filter"))
    return rule.affine("two", h.mean(axis=(1, 2)) @ params["two"], "class")


def test_find_sites_computes_nothing_and_keeps_the_order():
    params = {"one": jnp.ones((3, 4)), "two": jnp.ones((4, 2))}
    sites = find_sites(two_layers, params, jax.ShapeDtypeStruct((5, 6, 3), jnp.float32))
    assert [(s.name, s.kind, s.shape, s.role) for s in sites] == [
        ("one", "affine", (5, 6, 4), "filter"),
        ("relu1", "relu", (5, 6, 4), None),
        ("two", "affine", (2,), "class"),
    ]


def test_linearize_gives_the_plain_logits_and_no_tracer_escapes():
    params = {"one": random(0, 3, 4), "two": random(1, 4, 2)}
    image = random(2, 5, 6, 3)
    logits, at = jax.jit(lambda p, x: linearize(two_layers, p, x))(params, image)
    np.testing.assert_allclose(logits, two_layers(params, image[None])[0], rtol=1e-5)
    np.testing.assert_array_equal(at.gates["relu1"], image[None] @ params["one"] > 0)


def test_a_site_name_used_twice_is_refused():
    def apply(params, images, *, rule):
        return rule.relu("same", rule.relu("same", images)).mean(axis=(1, 2))

    with pytest.raises(ValueError, match="'same' twice"):
        linearize(apply, {}, jnp.ones((2, 2, 1)))


def test_relu_gate_is_closed_at_zero():
    assert jax.grad(lambda z: PLAIN.relu("r", z[None])[0])(jnp.asarray(0.0)) == 0
    _, at = linearize(lambda p, x, *, rule: rule.relu("r", x).mean((1, 2)), {}, jnp.zeros((1, 1, 1)))
    assert not at.gates["r"].any()


def test_masked_pool_reads_the_elements_that_were_maxima_at_the_image():
    window = Window(2, 2)

    def apply(params, images, *, rule):
        return rule.max_pool("pool", images, window).mean(axis=(1, 2))

    image = jnp.asarray([[1.0, 4.0], [3.0, 2.0]])[..., None]
    _, at = linearize(apply, {}, image)
    other = jnp.asarray([[10.0, 20.0], [30.0, 40.0]])[..., None]
    assert apply({}, other[None], rule=Masked(at, {}))[0, 0] == 20
