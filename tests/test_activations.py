"""Elementwise activations under `gated`: what they are taken for, by what they compute, however written."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax
from zoo import user_settings

import dmbp_jax
from dmbp_jax import ExplanationWarning
from dmbp_jax.methods import METHODS
from dmbp_jax.rules import find_sites
from dmbp_jax.rules.deconvnet import DeconvNet
from dmbp_jax.rules.guided import Guided

RELUS = {
    "half of x + |x|": lambda x: (x + jnp.abs(x)) / 2,
    "x + relu(-x)": lambda x: x + jax.nn.relu(-x),
    "-min(-x, 0)": lambda x: -jnp.minimum(-x, 0),
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum of 0": lambda x: jnp.maximum(0, x),
    "clip": lambda x: jnp.clip(x, 0, jnp.inf),
    "clip from below": lambda x: jnp.clip(x, 0),
    "clamp": lambda x: lax.clamp(jnp.zeros((), x.dtype), x, jnp.asarray(jnp.inf, x.dtype)),
    "fmax": lambda x: jnp.fmax(x, 0),
    "max of a stack": lambda x: jnp.stack([x, jnp.zeros_like(x)]).max(axis=0),
    "max of a stack, last": lambda x: jnp.stack([jnp.zeros_like(x), x], axis=-1).max(axis=-1),
    "max of a concatenation": lambda x: jnp.concatenate([x[None], 0 * x[None]]).max(axis=0),
    "min of a stack": lambda x: -jnp.min(jnp.stack([jnp.zeros_like(x), -x]), axis=0),
    "select": lambda x: jnp.select([x > 0], [x], 0),
    "select of two": lambda x: jnp.select([x < 0, x >= 0], [jnp.zeros_like(x), x]),
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0),
    "product": lambda x: x * (x > 0),
    "product with a sign": lambda x: x * (jnp.sign(x) + 1) / 2,
    "heaviside": lambda x: x * jnp.heaviside(x, 0),
    "where >": lambda x: jnp.where(x > 0, x, 0),
    "where >=": lambda x: jnp.where(x >= 0, x, 0),
    "where mirrored": lambda x: jnp.where(jnp.zeros_like(x) >= x, 0, x),
    "vmap": jax.vmap(jax.vmap(lambda x: x * (x > 0))),
    "nan_to_num": lambda x: jnp.nan_to_num(jnp.maximum(x, 0)),
    "linen": linen.relu,
    "nnx": nnx.relu,
    "equinox": jax.vmap(eqx.nn.Lambda(jax.nn.relu)),
}
"""Functions that are `max(x, 0)`, beside `jax.nn.relu`."""

OTHERS = {
    "leaky": (lambda x: jnp.where(x > 0, x, 0.2 * x), lambda z: np.where(z > 0, 1, 0.2)),
    "relu6": (jax.nn.relu6, lambda z: (z > 0) & (z < 6)),
    "hard tanh": (jax.nn.hard_tanh, lambda z: np.abs(z) < 1),
    "abs": (jnp.abs, np.sign),
    "threshold": (lambda x: jnp.where(x > 1e-3, x, 0), lambda z: z > 1e-3),
    "capped": (lambda x: jnp.clip(x, 0, 1e30), lambda z: z > 0),
    "all but a ReLU": (lambda x: jnp.maximum(x, 1e-6 * x), lambda z: np.where(z > 0, 1, 1e-6)),
}
"""Piecewise linear functions that are no ReLU, and their slopes."""


def network(params, x, *, activation):
    h = activation(x @ params["first"] + params["bias"][None])
    return activation(h @ params["second"]) @ params["scores"]


def draw(dtype=jnp.float32):
    random = np.random.default_rng(0)
    shapes = {"first": (5, 7), "bias": (7,), "second": (7, 6), "scores": (6, 3)}
    params = {name: jnp.asarray(random.standard_normal(shape), dtype) for name, shape in shapes.items()}
    return params, jnp.asarray(random.standard_normal((2, 5)), dtype)


def gated(activation, dtype=jnp.float32):
    return dmbp_jax.gated((functools.partial(network, activation=activation), draw(dtype)[0]))


def maps(activation, method, **options):
    apply, params = gated(activation)
    with user_settings():
        return np.asarray(dmbp_jax.explain(apply, params, draw()[1], [1, 2], method, **options).values)


def backpropagated(activation, rule):
    apply, params = gated(activation)
    with user_settings():
        return jax.grad(lambda x: apply(params, x, rule=rule)[:, 1].sum())(draw()[1])


@functools.cache
def program_and_sites(activation):
    apply, params = gated(activation)
    with user_settings():
        return str(jax.make_jaxpr(apply)(params, draw()[1])), find_sites(apply, params, draw()[1][0])


@pytest.mark.parametrize("name", RELUS)
def test_a_relu_is_what_computes_one(name):
    """One program, and sites of one name: so the same maps to the bit, whatever the method."""
    assert program_and_sites(RELUS[name]) == program_and_sites(jax.nn.relu)


@pytest.mark.parametrize(
    ("method", "options"), [("guided_backprop", {}), ("deconvnet", {}), ("dmbp", {"preset": "fast"})]
)
def test_and_has_the_maps_of_one(method, options):
    same = maps(RELUS["half of x + |x|"], method, **options)
    np.testing.assert_array_equal(same, maps(jax.nn.relu, method, **options))
    assert np.abs(same - maps(jax.nn.relu, "gradient")).max() > 0.1


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("name", ["half of x + |x|", "product", "select"])
def test_a_relu_in_half_precision(name, dtype):
    with user_settings():
        sites = find_sites(*gated(RELUS[name], dtype), draw(dtype)[1][0])
    assert [site.kind for site in sites] == ["affine", "relu", "affine", "relu", "affine"]


@pytest.mark.parametrize("name", OTHERS)
def test_other_activations_pass_what_is_positive(name):
    """Guided: the slope times the positive part of what comes from above; DeconvNet: the positive part."""
    activation, slope = OTHERS[name]
    params, images = draw()
    with user_settings():
        kinds = [site.kind for site in find_sites(*gated(activation), images[0])]
    assert kinds == ["affine", "piecewise", "affine", "piecewise", "affine"]
    first, bias, second, scores = (np.asarray(params[name]) for name in ("first", "bias", "second", "scores"))
    below = np.asarray(images) @ first + bias
    above = np.asarray(activation(below)) @ second
    at_logit = scores[:, [1, 1]].T

    def backward(gate):
        hidden = gate(above) * np.maximum(at_logit, 0)
        return gate(below) * np.maximum(hidden @ second.T, 0) @ first.T

    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(backpropagated(activation, Guided()), backward(slope))
    close(backpropagated(activation, DeconvNet()), backward(np.ones_like))


def test_what_depends_on_parameters_is_no_relu():
    """A parametric ReLU whose slope happens to be 0, or a bound that is learned."""
    params, images = draw()
    for activation in (lambda p, x: jnp.where(x > 0, x, p * x), jnp.maximum):
        apply, held = dmbp_jax.gated(
            (lambda p, x, act=activation: act(p["at"], x @ p["net"]["first"]), {"net": params, "at": 0.0})
        )
        with user_settings():
            kinds = [site.kind for site in find_sites(apply, jax.tree.map(jnp.asarray, held), images[0])]
        assert kinds == ["affine", "piecewise"]


def test_a_value_beside_its_relu_stays():
    """`|x|` is used on its own as well: a site of its own, with its gradient."""

    def both(params, x):
        size = jnp.abs(z := x @ params["first"])
        return jnp.concatenate([(z + size) / 2, size], axis=1)

    params, images = draw()
    apply, params = dmbp_jax.gated((both, params))
    assert [site.kind for site in find_sites(apply, params, images[0])] == ["affine", "piecewise", "relu"]
    ours, theirs = (
        jax.grad(lambda x, f=f: (f(params, x)[:, 3:10] ** 2).sum())(images) for f in (apply, both)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
@pytest.mark.parametrize(
    "activation", [lambda x: x, lambda x: jnp.maximum(x[:, ::2][:, :3], x[:, 1::2][:, :3]), jax.nn.gelu]
)
def test_without_a_relu_the_user_is_told_that_it_is_the_gradient(activation, method):
    params, images = draw()
    apply, params = dmbp_jax.gated(
        (lambda params, x: activation(x @ params["first"]), params), linearize_smooth=True
    )
    with pytest.warns(ExplanationWarning, match="exactly its gradient"):
        values = METHODS[method](apply, params, images[0], jnp.asarray(1)).values
    gradient = jax.grad(lambda x: apply(params, x[None])[0, 1])(images[0])
    np.testing.assert_allclose(values, gradient, rtol=1e-6)
