"""`gated` takes what libraries call a network: logits and maps are those of the function written by hand."""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState
from zoo.case import draw, draw_inputs, user_settings

import dmbp_jax
from dmbp_jax import InputError
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax.rules import find_sites

CLASSES = 5
IMAGES = draw_inputs(2, (12, 12, 3))
FIRST = IMAGES.transpose(0, 3, 1, 2)


def check(network, by_hand, sites, **options):
    """The network as an object, and the function that its user would write, `(function, params)`, which takes
    images with their channels last."""
    with user_settings():
        made, written = dmbp_jax.gated(network, **options), dmbp_jax.gated(by_hand)
        expected = by_hand[0](by_hand[1], IMAGES)
        np.testing.assert_allclose(made.apply(made.params, IMAGES), expected, rtol=1e-5, atol=1e-6)
        for method, chosen in (("gradient_x_input", {}), ("dmbp", {"preset": "fast"})):
            a, b = (dmbp_jax.explain(*net, IMAGES, [1, 2], method, **chosen) for net in (made, written))
            assert a.finite.all()
            np.testing.assert_allclose(a.values, b.values, rtol=0, atol=1e-5 * np.abs(b.values).max())
        names = [site.name for site in find_sites(*made, IMAGES[0])]
    assert names == sites, names
    return made


# flax


class Normed(linen.Module):
    train: bool = False

    @linen.compact
    def __call__(self, x):
        x = linen.BatchNorm(use_running_average=not self.train)(linen.Conv(4, (3, 3))(x))
        return linen.Dense(CLASSES)(linen.relu(x).mean((1, 2)))


class Stateful(TrainState):
    batch_stats: dict


SITES_OF_NORMED = ["Normed.Conv_0", "Normed.relu", "Normed.Dense_0"]


@pytest.fixture(scope="module")
def variables():
    return draw(jax.eval_shape(Normed().init, jax.random.key(0), IMAGES))


def make_state(kind, variables, **more):
    import optax

    return kind.create(apply_fn=Normed().apply, tx=optax.sgd(0.1), **more)


@pytest.mark.parametrize("how", ["batch_stats", "all in params"])
def test_a_train_state(variables, how):
    if how == "batch_stats":
        state = make_state(Stateful, variables, **variables)
    else:
        state = make_state(TrainState, variables, params=variables)
    check(state, (Normed().apply, variables), SITES_OF_NORMED)


def test_a_train_state_of_a_function_of_ones_own():
    import optax

    def forward(variables, x):
        return jax.nn.relu(x.mean((1, 2)) @ variables["params"]["w"])

    state = TrainState.create(apply_fn=forward, params={"w": jnp.ones((3, CLASSES))}, tx=optax.sgd(0.1))
    check(state, (forward, {"params": state.params}), ["dense", "relu"])


def test_a_train_state_after_a_step_compiles_nothing(variables):
    state = make_state(Stateful, variables, **variables)
    before = dmbp_jax.gated(state)
    after = dmbp_jax.gated(state.replace(params=jax.tree.map(lambda x: 0.9 * x, state.params)))
    dmbp_jax.explain(*before, IMAGES, [1, 2], "gradient")
    with count_compile_time() as spent:
        dmbp_jax.explain(*after, IMAGES, [1, 2], "gradient")
    assert before.apply == after.apply
    assert spent.programs == []


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.norm = nnx.Conv(3, 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.head = nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))


@pytest.mark.parametrize("filters", [(), (nnx.Param, ...)])
def test_what_nnx_splits(filters):
    model = Nnx(nnx.Rngs(0))
    model.eval()
    structure, state = nnx.split(model)
    by_hand = (lambda state, x: nnx.merge(structure, state)(x), state)
    made = check(nnx.split(model, *filters), by_hand, ["conv", "relu", "dense"])
    assert made.apply == dmbp_jax.gated(model).apply


# equinox


class Equinox(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.conv, self.head = eqx.nn.Conv2d(3, 4, 3, key=keys[0]), eqx.nn.Linear(4, CLASSES, key=keys[1])
        self.norm, self.drop = eqx.nn.BatchNorm(4, "batch", mode="ema"), eqx.nn.Dropout(0.5)

    def __call__(self, x, state, *, key):
        h, state = self.norm(self.conv(x), state)
        h = self.drop(jax.nn.relu(h), key=jax.random.split(key)[0])
        return self.head(h.mean((1, 2))), state


def make_equinox(seed=0):
    model, state = eqx.nn.make_with_state(Equinox)(jax.random.key(seed))
    # Variances are above zero.
    random = np.random.default_rng(seed)
    drawn = jax.tree.map(lambda x: jnp.asarray(random.uniform(0.5, 1.5, x.shape), x.dtype), state)
    return eqx.nn.inference_mode(model), drawn


@pytest.mark.long
def test_an_equinox_module_with_a_state_and_a_key():
    model, state = make_equinox()

    def by_hand(model, x):
        one = jax.vmap(lambda image: model(image, state, key=jax.random.key(7))[0])
        return one(x.transpose(0, 3, 1, 2))

    arrays, rest = eqx.partition(model, eqx.is_array)
    check(
        (model, state),
        (lambda arrays, x: by_hand(eqx.combine(arrays, rest), x), arrays),
        ["eqx.nn.Conv", "relu", "eqx.nn.Linear"],
        layout="NCHW",
    )


def test_equal_equinox_modules_have_equal_functions():
    one, other = (dmbp_jax.gated(make_equinox(seed), layout="NCHW") for seed in (0, 1))
    assert one.apply == other.apply
    assert hash(one.apply) == hash(other.apply)


def test_an_equinox_state_that_changes_is_refused():
    class Counting(eqx.Module):
        count: eqx.nn.StateIndex
        head: eqx.nn.Linear

        def __init__(self):
            self.count, self.head = (
                eqx.nn.StateIndex(jnp.zeros(())),
                eqx.nn.Linear(3, 2, key=jax.random.key(0)),
            )

        def __call__(self, x, state):
            return self.head(x.mean((0, 1))), state.set(self.count, state.get(self.count) + 1)

    apply, params = dmbp_jax.gated(eqx.nn.make_with_state(Counting)())
    with pytest.raises(InputError, match="changes its own state"):
        apply(params, IMAGES)


def test_a_convolution_over_another_axis_than_the_channels_is_refused():
    """Images with their channels first would pass, and their map be summed over columns."""
    conv = eqx.nn.Conv2d(3, CLASSES, 3, key=jax.random.key(0))
    apply, params = dmbp_jax.gated(eqx.nn.Sequential([conv, eqx.nn.Lambda(lambda h: h.mean((1, 2)))]))
    with pytest.raises(InputError, match=r"another axis than the last of the images.*layout='NCHW'"):
        apply(params, FIRST)


# Other people's libraries, which the extra `networks` installs.


@pytest.mark.long
@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize("has_rng", [False, True])
def test_haiku(has_state, has_rng):
    import haiku as hk

    def forward(x, is_training=False):
        x = hk.Conv2D(4, 3, name="stem")(x)
        x = hk.BatchNorm(True, True, 0.9)(x, is_training) if has_state else x
        return hk.Linear(CLASSES, name="head")(jax.nn.relu(x).mean((1, 2)))

    made = (hk.transform_with_state if has_state else hk.transform)(forward)
    network = made if has_rng else hk.without_apply_rng(made)
    training = hk.transform_with_state(lambda x: forward(x, is_training=True))
    with user_settings():
        init = training.init if has_state else made.init
        drawn = draw(jax.eval_shape(init, jax.random.key(0), IMAGES))
    if has_state:
        params, state = drawn
        by_hand = (lambda params, x: made.apply(params, state, None, x)[0], params)
        params = (params, state)
    else:
        params = drawn
        by_hand = (lambda params, x: made.apply(params, None, x), params)
    check((network, params), by_hand, ["stem", "relu", "head"])
    with pytest.raises(InputError, match=r"give gated\(\(transformed, params\)\)"):
        dmbp_jax.gated(network)
    if has_state:
        with pytest.raises(InputError, match="changes its own state"):
            dmbp_jax.gated((training, params)).apply(params, IMAGES)


def run_keras(program, backend):
    """Keras chooses its backend once in a process."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    return subprocess.run(
        [sys.executable, *program], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.long
def test_keras():
    done = run_keras([Path(__file__).with_name("keras_networks.py")], "jax")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_keras_on_another_backend_is_refused():
    program = (
        "import keras, dmbp_jax\n"
        "model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
        "try: dmbp_jax.gated(model)\n"
        "except dmbp_jax.InputError as error: print(error)\n"
    )
    done = run_keras(["-c", program], "numpy")
    assert done.stdout == (
        "Keras runs on numpy here, and not on JAX: set the environment variable KERAS_BACKEND=jax before "
        "keras is imported\n"
    ), done.stderr


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_transformers():
    import transformers

    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    with user_settings():
        model = transformers.FlaxResNetForImageClassification(config, input_shape=(1, 12, 12, 3))
    model.params = draw(jax.eval_shape(lambda: model.params))
    by_hand = (
        lambda params, x: model.module.apply(params, x, deterministic=True).logits,
        model.params,
    )
    with user_settings():
        sites = [site.name for site in find_sites(*dmbp_jax.gated((model.module, model.params)), IMAGES[0])]
    made = check(model, by_hand, sites, layout="NCHW")
    assert sites[0] == "FlaxResNetForImageClassificationModule.resnet.embedder.embedder.convolution"
    with user_settings():
        logits = model(FIRST).logits
    np.testing.assert_allclose(made.apply(made.params, IMAGES), logits, rtol=1e-5, atol=1e-5)
    with user_settings(), pytest.raises(InputError, match=r"give gated\(\.\.\., layout='NCHW'\)"):
        dmbp_jax.explain(*dmbp_jax.gated(model), IMAGES, [1, 2], "gradient")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_equimo():
    from equimo.vision.models import ConvNeXt

    images = draw_inputs(2, (32, 32, 3))
    model = ConvNeXt(depths=[1, 1], dims=[4, 8], num_classes=CLASSES, key=jax.random.key(0))
    made = dmbp_jax.gated(model, layout="NCHW", linearize_smooth=True)
    with user_settings():
        expected = jax.vmap(lambda x: model(x, key=jax.random.key(0), inference=True))
        logits = expected(images.transpose(0, 3, 1, 2))
        np.testing.assert_allclose(made.apply(made.params, images), logits, rtol=1e-4, atol=1e-5)
        a = dmbp_jax.explain(*made, images, [1, 2], "gradient_x_input")
        gradient = jax.grad(
            lambda x: expected(x.transpose(0, 3, 1, 2))[jnp.arange(2), jnp.asarray([1, 2])].sum()
        )
        values = gradient(images) * images
    np.testing.assert_allclose(a.values, values, rtol=0, atol=1e-5 * np.abs(values).max())
