"""Every mistake gets one sentence that names the thing and the remedy; the network's own errors stay."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import APPLY, IMAGES, MISTAKES, PARAMS, TARGETS
from small import CLASSES

import dmbp_jax
from dmbp_jax import InputError


@pytest.fixture(scope="module")
def outcomes():
    program = Path(__file__).with_name("mistakes.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(outcomes, name):
    kind, said = outcomes[name]
    assert kind == "InputError", said
    words = ".*".join(re.escape(part) for part in MISTAKES[name].sentence.split(" ... "))
    assert re.search(words, said), said
    assert "\n" not in said
    assert len(said) < 500


def test_an_error_of_the_network_is_its_own():
    """Its kind and its traceback are what the author of the network needs; a note says what it was given."""

    def broken(params, x):
        return jnp.ones(3) @ params["no such thing"]

    with pytest.raises(KeyError, match="no such thing") as caught:
        dmbp_jax.explain(*dmbp_jax.gated((broken, {})), IMAGES, TARGETS, "gradient")
    assert caught.traceback[-1].name == "broken"
    assert "This is the network's own error, on images (3, 8, 8, 3) of float32." in caught.value.__notes__


def test_a_call_without_an_argument_inside_the_network_is_its_own_error():
    def layer(x, width):
        return x

    def broken(params, x):
        return layer(x)

    with pytest.raises(TypeError, match="missing 1 required") as caught:
        dmbp_jax.explain(*dmbp_jax.gated((broken, {})), IMAGES, TARGETS, "gradient")
    assert not isinstance(caught.value, InputError)


def test_a_sentence_does_not_hide_the_error_behind_it():
    with pytest.raises(InputError, match="channels come last") as caught:
        dmbp_jax.explain(APPLY, PARAMS, IMAGES.transpose(0, 3, 1, 2), TARGETS, "gradient")
    assert "the layer takes 3 channels" in str(caught.value.__cause__)


def test_keys_of_both_kinds_draw_the_same():
    options = {"n_samples": 2}
    new, old = (
        dmbp_jax.explain(APPLY, PARAMS, IMAGES, TARGETS, "smoothgrad", key=key, **options)
        for key in (jax.random.key(3), jax.random.PRNGKey(3))
    )
    np.testing.assert_array_equal(new.values, old.values)


@pytest.mark.parametrize("make", [jax.random.key, pytest.param(jax.random.PRNGKey, marks=pytest.mark.long)])
def test_a_key_for_each_image_makes_its_map_its_own(make):
    """Whatever its place in the batch and the chunk, also for several classes."""

    def explain(chosen, function=dmbp_jax.explain, **options):
        keys = jnp.stack([make(7 + i) for i in chosen])
        of = jnp.asarray(chosen)
        return np.asarray(
            function(
                *(APPLY, PARAMS, IMAGES[of], np.asarray(TARGETS)[chosen], "smoothgrad"),
                key=keys,
                n_samples=2,
                **options,
            ).values
        )

    expected = explain([0, 1, 2])
    for found in (explain([0, 1, 2], batch_size=2), explain([2, 1, 0])[::-1]):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(explain([2]), expected[2:], rtol=1e-5, atol=1e-6)
    one = dmbp_jax.explain(
        APPLY, PARAMS, IMAGES[:1], TARGETS[:1], "smoothgrad", key=make(7)[None], n_samples=2
    )
    np.testing.assert_allclose(one.values, expected[:1], rtol=1e-5, atol=1e-6)
    several = dmbp_jax.explain_classes(
        *(APPLY, PARAMS, IMAGES[1:], np.asarray(TARGETS)[1:, None], "smoothgrad"),
        key=jnp.stack([make(8), make(9)]),
        n_samples=2,
    )
    np.testing.assert_allclose(several.values[:, 0], expected[1:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["dmbp", "smoothgrad"])
def test_the_shapes_of_an_explanation_without_computing_it(method):
    def of(params, images, targets, key):
        return dmbp_jax.explain(APPLY, params, images, targets, method, key=key)

    arguments = (PARAMS, IMAGES, jnp.asarray(TARGETS), jax.random.key(0))
    shapes = jax.eval_shape(of, *arguments)
    assert shapes.values.shape == IMAGES.shape
    assert shapes.finite.shape == (3,)
    from_shapes = jax.eval_shape(
        of, *jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arguments)
    )
    assert vars(jax.tree.map(lambda x: x.shape, from_shapes)) == vars(jax.tree.map(lambda x: x.shape, shapes))


def test_what_is_no_mistake():
    """A list of images, weights that are one-hot."""
    as_list = dmbp_jax.explain(
        APPLY,
        PARAMS,
        [np.asarray(x) for x in IMAGES],
        np.asarray(TARGETS),
        "gradient",
        batch_size=2,
    )
    one_hot = np.eye(10)[:3].tolist()
    weighted = dmbp_jax.explain(APPLY, PARAMS, IMAGES, one_hot, "gradient")
    assert weighted.finite.tolist() == [True] * 3
    np.testing.assert_allclose(as_list.values, weighted.values, rtol=1e-5, atol=1e-7)


def squeeze_and_excite(params, x):
    h = jax.nn.relu(x @ params["first"])
    gates = jax.nn.hard_sigmoid(h.mean((1, 2)) @ params["gates"])
    return (h * gates[:, None, None]).mean((1, 2)) @ params["last"]


def hard_silu(params, x):
    return jax.nn.hard_silu(x @ params["first"]).mean((1, 2)) @ params["last"]


@pytest.mark.parametrize(
    ("network", "what"), [(squeeze_and_excite, "mul, a product"), (hard_silu, r"hard_silu \(mul, a product")]
)
def test_a_product_of_two_piecewise_linear_values_is_refused_as_what_it_is(network, what):
    shapes = {"first": (3, 4), "gates": (4, 4), "last": (4, CLASSES)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    with jax.numpy_rank_promotion("allow"):
        with pytest.raises(
            InputError, match=f"{what} of two values that both depend on the image, and so quad"
        ):
            dmbp_jax.explain(*dmbp_jax.gated((network, params)), IMAGES, TARGETS)
        made = dmbp_jax.gated((network, params), linearize_smooth=True)
        a = dmbp_jax.explain(*made, IMAGES, TARGETS, "gradient")
        gradient = jax.grad(lambda x: network(params, x)[jnp.arange(3), jnp.asarray(TARGETS)].sum())(IMAGES)
    np.testing.assert_allclose(a.values, gradient, rtol=1e-5, atol=1e-6)
