"""Elementwise activations under `gated`: what they are taken for, by what they compute, however written."""

import functools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax
from small import long_but
from zoo import user_settings

import dmbp_jax
from dmbp_jax import ExplanationWarning
from dmbp_jax._methods import METHODS
from dmbp_jax.attribution import full_gradients
from dmbp_jax.rules import find_sites, tap
from dmbp_jax.rules._guided import DeconvNet, Guided
from dmbp_jax.rules._plain import IGNORE_CUSTOM_DERIVATIVES

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


@pytest.mark.parametrize("name", long_but(("relu6", "leaky"), OTHERS))
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


def clipped(low, high):
    return {
        "clip": lambda x: jnp.clip(x, low, high),
        "clamp": lambda x: lax.clamp(jnp.asarray(low, x.dtype), x, jnp.asarray(high, x.dtype)),
        "minimum of maximum": lambda x: jnp.minimum(jnp.maximum(x, low), high),
        "mirrored": lambda x: jnp.maximum(low, jnp.minimum(high, x)),
        "where": lambda x: jnp.where(x < low, low, jnp.where(x > high, high, x)),
        "where with equality": lambda x: jnp.where(x <= low, low, jnp.where(x >= high, high, x)),
        "select": lambda x: jnp.where((x > low) & (x < high), x, jnp.clip(x, low, high)),
    }


KINKS = {
    # Each function in all its spellings, and its slope where it has a kink.
    "relu": (RELUS, {0.0: 0}),
    "relu6": ({"relu6": jax.nn.relu6, **clipped(0.0, 6.0)}, {0.0: 0, 6.0: 0}),
    "hard tanh": ({"hard_tanh": jax.nn.hard_tanh, **clipped(-1.0, 1.0)}, {-1.0: 0, 1.0: 0}),
    "hard sigmoid": ({"hard_sigmoid": jax.nn.hard_sigmoid}, {-3.0: 0, 3.0: 0}),
    "abs": (
        {
            "abs": jnp.abs,
            "maximum": lambda x: jnp.maximum(x, -x),
            "maximum mirrored": lambda x: jnp.maximum(-x, x),
            "where": lambda x: jnp.where(x < 0, -x, x),
            "sign": lambda x: x * jnp.sign(x),
            "two relus": lambda x: jax.nn.relu(x) + jax.nn.relu(-x),
        },
        {0.0: 0},
    ),
    "leaky": (
        {
            "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.25),
            "maximum": lambda x: jnp.maximum(x, 0.25 * x),
            "maximum mirrored": lambda x: jnp.maximum(0.25 * x, x),
            "where >": lambda x: jnp.where(x > 0, x, 0.25 * x),
            "where >=": lambda x: jnp.where(x >= 0, x, 0.25 * x),
            "product": lambda x: x * jnp.where(x < 0, 0.25, 1.0),
        },
        {0.0: 0.25},
    ),
    "steep": (
        {"where": lambda x: jnp.where(x >= 0, x, 2 * x), "minimum": lambda x: jnp.minimum(x, 2 * x)},
        {0.0: 1},
    ),
    "soft shrinkage": (
        {"sign": lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 0.5, 0)},
        {-0.5: 0, 0.5: 0, 0.0: 0},
    ),
}


@pytest.mark.parametrize("name", long_but(("relu", "abs", "leaky"), KINKS))
def test_every_spelling_has_the_same_slope_at_a_kink(name):
    """The one of smaller magnitude, 0 where the signs differ; and beside it the function's own."""
    spellings, slopes = KINKS[name]
    at = jnp.asarray([[*slopes]])
    beside = jnp.concatenate([at - 0.125, at + 0.125], axis=1)
    ones = jnp.ones(())

    @jax.jit
    def computed(at, beside):
        found = {}
        for written, activation in spellings.items():
            apply, _ = dmbp_jax.gated((lambda p, x, f=activation: f(x * p), ones))
            ours = jax.grad(lambda x, f=apply: f(ones, x).sum())
            theirs = jax.grad(lambda x, f=activation: f(x).sum())
            pairs = (ours(beside), theirs(beside)), (apply(ones, at), activation(at))
            found[written] = ours(at)[0], pairs
        return found

    with user_settings():
        for written, (slope, pairs) in computed(at, beside).items():
            np.testing.assert_array_equal(slope, [*slopes.values()], err_msg=written)
            for actual, expected in pairs:
                np.testing.assert_array_equal(actual, expected, err_msg=written)


def test_a_jump_has_its_own_value_at_the_threshold():
    apply, _ = dmbp_jax.gated((lambda p, x: jnp.where(x > p, 2 * x, -0.5), jnp.ones(())))
    x = jnp.asarray([[0.5, 1.0, 1.5]])
    np.testing.assert_array_equal(apply(jnp.ones(()), x), [[-0.5, -0.5, 3.0]])


@pytest.mark.usefixtures("x64")
def test_a_parametric_relu_keeps_the_gradient_of_its_parameters():
    def network(slope, x):
        return jnp.where(x > 0, x, slope * x)

    x = jnp.asarray([[-1.5, 0.0, 2.0]])
    apply, slope = dmbp_jax.gated((network, jnp.asarray(0.3)))
    ours, theirs = (jax.grad(lambda p, f=f: (f(p, x) ** 2).sum())(slope) for f in (apply, network))
    np.testing.assert_allclose(ours, theirs)


@jax.custom_vjp
def reversed_gradient(x):
    return x


reversed_gradient.defvjp(lambda x: (x, None), lambda _, cotangent: (-3 * cotangent,))


@jax.custom_vjp
def clipped_gradient(x):
    return x


clipped_gradient.defvjp(lambda x: (x, None), lambda _, cotangent: (jnp.clip(cotangent, -0.1, 0.1),))


@jax.custom_jvp
def straight_through(x):
    return jnp.sign(x)


straight_through.defjvp(lambda primals, tangents: (jnp.sign(primals[0]), tangents[0]))


@jax.custom_vjp
def dense(x, kernel):
    return jax.nn.relu(x @ kernel)


dense.defvjp(
    lambda x, kernel: (dense(x, kernel), kernel),
    lambda kernel, cotangent: (10 * cotangent @ kernel.T, jnp.zeros_like(kernel)),
)


@jax.custom_gradient
def halved_gradient(x):
    return jnp.abs(x), lambda cotangent: 0.5 * cotangent


@jax.custom_jvp
def own_relu(x):
    return jnp.maximum(x, 0)


own_relu.defjvp(lambda primals, tangents: (own_relu(primals[0]), tangents[0] * (primals[0] > 0)))

OWN = {
    "reversed": reversed_gradient,
    "clipped": clipped_gradient,
    "straight through": straight_through,
    "in vmap": jax.vmap(straight_through),
    "in jit": jax.jit(reversed_gradient),
    "in remat": jax.checkpoint(clipped_gradient),
    "custom_gradient": halved_gradient,
    "layer": lambda x: dense(x, jnp.eye(7) + 0.5),
    "stop_gradient": lax.stop_gradient,
    "half stopped": lambda x: x + lax.stop_gradient(x),
    "straight through, stopped": lambda x: x + lax.stop_gradient(jnp.sign(x) - x),
    "a stopped ReLU": lambda x: x + lax.stop_gradient(jax.nn.relu(x) - x),
    "piecewise": lambda x: jnp.piecewise(x, [x > 0.1, x < -0.2], [lambda x: 2 * x, lambda x: -x, 0.5]),
}
"""Functions whose derivative is not that of their operations, and as others build them."""


def with_own(params, x, *, function):
    h = function(x @ params["first"] + params["bias"][None])
    return jax.nn.relu(h @ params["second"]) @ params["scores"]


@functools.cache
def gated_own(name):
    return dmbp_jax.gated((functools.partial(with_own, function=OWN[name]), draw()[0]))


@pytest.mark.parametrize("name", OWN)
def test_the_gradient_is_the_one_that_the_network_defines(name):
    (apply, params), images = gated_own(name), draw()[1]
    with user_settings():
        ours, theirs = (
            jax.grad(lambda x, f=f: f(params, x)[:, 1].sum())(images)
            for f in (apply, functools.partial(with_own, function=OWN[name]))
        )
        np.testing.assert_array_equal(apply(params, images), with_own(params, images, function=OWN[name]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def opened(name, rule):
    (apply, params), images = gated_own(name), draw()[1]
    with user_settings():
        return jax.grad(lambda x: apply(params, x, rule=rule)[:, 1].sum())(images)


@pytest.mark.parametrize(
    ("name", "function"),
    [("reversed", lambda x: x), ("custom_gradient", jnp.abs), ("a stopped ReLU", jax.nn.relu)],
)
def test_a_rule_that_opens_goes_by_what_is_computed_and_says_so(name, function):
    params, images = draw()
    with pytest.warns(ExplanationWarning, match=r"test_activations\.py:\d+.* defines a custom derivative"):
        ours = opened(name, IGNORE_CUSTOM_DERIVATIVES)
    theirs = jax.grad(lambda x: with_own(params, x, function=function)[:, 1].sum())(images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_dmbp_adds_up_through_a_function_with_its_own_derivative():
    apply, params = gated_own("straight through")
    image = draw()[1][0]
    with pytest.warns(ExplanationWarning, match="straight_through at"):
        full = full_gradients(apply, params, image, jnp.asarray(1))
    entries = full.input.sum() + sum(one.sum() for one in full.biases.values())
    np.testing.assert_allclose(entries, apply(params, image[None])[0, 1], rtol=1e-5)
    np.testing.assert_allclose(full.completeness_gap, 0, atol=1e-5)


def test_a_site_within_such_a_function_is_tapped_in_its_operations():
    apply, params = gated_own("layer")
    image = draw()[1][0]
    with user_settings():
        (site,) = [site for site in find_sites(apply, params, image) if site.shape == (7,)][-1:]
        with pytest.warns(ExplanationWarning, match="dense at"):
            tapped = tap(apply, params, image, jnp.asarray(1), [site])
    assert np.abs(tapped.gradients[site.name]).max() > 0


def test_a_function_that_defines_its_own_derivative_rightly_is_as_any_other():
    """No warning, and the sites and the program of a ReLU."""
    expected = program_and_sites(jax.nn.relu)
    assert program_and_sites(own_relu)[1] == expected[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(
            backpropagated(own_relu, Guided()), backpropagated(jax.nn.relu, Guided())
        )
