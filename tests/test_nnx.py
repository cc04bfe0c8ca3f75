"""`to_nnx`: a network of the package as a flax module, trained and explained as one."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small import CLASSES, TINY_LAYERS, draw_images, draw_params, long_but, small_network, tiny_apply

import dmbp_jax
from dmbp_jax import InputError, Model, gated, load_model, to_nnx
from dmbp_jax.evaluation._fingerprint import code_of
from dmbp_jax.models import ModelSpec, get_architecture
from dmbp_jax.rules import find_sites

IMAGES = draw_images(2, 8, 8, 3)
LABELS = jnp.asarray([1, 2])
KINDS = ("alexnet", "resnet18", "resnet50_caffe", "squeezenet1_1", "vgg11_bn")
"""A network for each kind of source code."""


def close(actual, expected, rtol=1e-5):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


def of(apply, params):
    return Model(apply, params, ModelSpec(architecture="own"))


@pytest.fixture
def model():
    return of(tiny_apply, draw_params(TINY_LAYERS))


@pytest.mark.parametrize("name", long_but(("resnet18", "squeezenet1_1"), KINDS))
def test_logits_are_the_networks(name):
    apply, params, images = small_network(name)
    network = to_nnx(of(apply, params))
    assert isinstance(network, nnx.Module)
    close(nnx.jit(lambda network, images: network(images))(network, images), jax.jit(apply)(params, images))
    state = nnx.state(network)
    assert jax.tree.map(jnp.shape, nnx.to_pure_dict(state)) == jax.tree.map(jnp.shape, params)
    assert all(isinstance(variable, nnx.Param) for _, variable in nnx.to_flat_state(state))


@pytest.mark.parametrize("name", long_but(("resnet18", "squeezenet1_1"), KINDS))
def test_gated_has_the_same_layers(name):
    apply, params, images = small_network(name)
    nets = (apply, params), gated(to_nnx(of(apply, params)))
    expected, found = (find_sites(*net, images[0]) for net in nets)
    assert [site[1:] for site in found] == [site[1:] for site in expected]
    assert [s.name for s in found if s.kind == "affine"] == [s.name for s in expected if s.kind == "affine"]


@pytest.mark.long
def test_gated_has_the_same_maps():
    """On the others it follows: the same layers, roles and shapes, and `test_gated.py` has their maps."""
    apply, params, images = small_network("resnet18")
    nets = (apply, params), gated(to_nnx(of(apply, params)))
    for method, options in (("dmbp", {"preset": "fast"}), ("grad_cam", {"site": "layer3.1.conv2"})):
        maps = [dmbp_jax.explain(*net, images, LABELS, method, **options).values for net in nets]
        assert np.abs(maps[0]).max() > 0
        close(maps[1], maps[0], 1e-4)


def loss_of(network):
    return optax.losses.softmax_cross_entropy_with_integer_labels(network(IMAGES), LABELS).mean()


def test_split_merge_and_gradients(model):
    network = to_nnx(model)
    structure, state = nnx.split(network)
    assert (structure, hash(structure)) == (nnx.split(to_nnx(model))[0], hash(nnx.split(to_nnx(model))[0]))
    close(nnx.merge(structure, state)(IMAGES), model.apply(model.params, IMAGES))
    found = nnx.to_pure_dict(nnx.jit(nnx.grad(loss_of))(network))
    expected = jax.jit(jax.grad(lambda params: loss_of(lambda images: model.apply(params, images))))(
        model.params
    )
    jax.tree.map(close, found, expected)


def test_it_is_trained_with_another_last_layer_and_explained_again(model):
    network = to_nnx(model)
    network.fc = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    before = gated(network)
    optimizer = nnx.Optimizer(network, optax.sgd(0.05), wrt=nnx.Param)

    @nnx.jit
    def step(network, optimizer):
        value, gradient = nnx.value_and_grad(loss_of)(network)
        optimizer.update(network, gradient)
        return value

    losses = [float(step(network, optimizer)) for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    after, trained = gated(network), nnx.to_pure_dict(nnx.state(network, nnx.Param))
    assert after.apply == before.apply
    nets = before, after, (model.apply, trained)
    maps = [dmbp_jax.explain(*net, IMAGES, LABELS, preset="fast").values for net in nets]
    # What was taken before the training has not been trained.
    assert np.abs(maps[1] - maps[0]).max() > 1e-3 * np.abs(maps[0]).max()
    close(maps[2], maps[1])
    # The model that it was made from is as it was.
    jax.tree.map(np.testing.assert_array_equal, model.params, draw_params(TINY_LAYERS))
    assert model.apply(model.params, IMAGES).shape == (2, CLASSES)


def test_the_embedded_network_takes_the_last_layer_of_the_documentation():
    network = to_nnx(load_model("squeezenet1_1"))
    network.classifier["1"] = nnx.Conv(512, 3, (1, 1), rngs=nnx.Rngs(0))
    assert nnx.eval_shape(lambda network: network(jnp.zeros((1, 64, 64, 3))), network).shape == (1, 3)


def test_runs_tell_networks_of_one_structure_from_others(model):
    codes = [
        code_of(gated(to_nnx(model._replace(apply=apply))).apply)
        for apply in (tiny_apply, tiny_apply, get_architecture("alexnet").apply)
    ]
    assert codes[0] == codes[1] != codes[2]
    assert {code.untold for code in codes} == {None}


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("squeezenet1_1", "to_nnx takes a Model, such as load_model gives; got a str"),
        (of(tiny_apply, [jnp.ones(2)]), "params that are arrays in nested dictionaries; got a list"),
        (of(tiny_apply, {"fc": {"bias": 1.0}}), "arrays in nested dictionaries; got a float"),
        (of(tiny_apply, {"fc": {"items": jnp.ones(2)}}), "cannot name a parameter 'items'"),
        (of(tiny_apply, {"train": jnp.ones(2)}), "cannot name a parameter 'train'"),
        (of(tiny_apply, {0: jnp.ones(2)}), "cannot name a parameter 0"),
    ],
    ids=["name", "list", "number", "method of a dictionary", "method of a module", "number as a name"],
)
def test_what_is_no_network_of_the_package_is_refused(network, words):
    with pytest.raises(InputError, match=words):
        to_nnx(network)


def test_without_flax_it_says_what_it_needs(model, monkeypatch):
    monkeypatch.delitem(sys.modules, "dmbp_jax.models._nnx", raising=False)
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(InputError, match=r"to_nnx needs flax: pip install 'flax>=0\.12\.7'"):
        to_nnx(model)
    # The rest of the package needs none.
    network = gated((lambda params, x: jax.nn.relu(x @ params), jnp.eye(3)))
    assert dmbp_jax.explain(*network, IMAGES[0, 0], LABELS[:1].repeat(8), "gradient").finite.all()
