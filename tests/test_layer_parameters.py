"""Which tensors a layer reads, in networks of every library; and that it is those that are drawn anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import long_but, tiny_network
from zoo import CASES, user_settings

import dmbp_jax
from dmbp_jax._checks import InputError
from dmbp_jax._gated import layer_parameters
from dmbp_jax.metrics import cascade, randomize_layers
from dmbp_jax.rules import find_sites

KEY = jax.random.key(3)
NAMES = ("nnx resnet", "linen bottleneck resnet", "equinox cnn", "plain channels first")


def tensors(params):
    """Tensors by their dotted paths."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


@pytest.fixture(params=long_but(("equinox cnn", "plain channels first"), NAMES))
def network(request):
    case = next(case for case in CASES if case.name == request.param)
    with user_settings():
        apply, params = dmbp_jax.gated(case.build(), **case.options)
        image = case.images(1)[0]
        yield apply, params, image, layer_parameters(apply, params, image)


def test_every_layer_has_its_own_tensors_and_all_have_all(network):
    apply, params, image, found = network
    layers = [site for site in find_sites(apply, params, image) if site.kind == "affine"]
    assert set(found) <= {site.name for site in layers}
    assert all(site.name in found for site in layers if site.role != "shift")
    together = [path for paths in found.values() for path in paths]
    assert len(together) == len(set(together))
    left_out = set(tensors(params)) - set(together)
    # Statistics, and the slopes of activations that are no layers.
    assert all("var" in path or "slope" in path or "alpha" in path for path in left_out), left_out


def test_a_layer_reads_its_tensors_and_no_others(network):
    """Against what a change of each tensor changes first: the output of its layer, and of none before."""
    apply, params, image, found = network
    names = list(found)

    class Noting(dmbp_jax.rules.Plain):
        def affine(self, site, z, role):
            outputs[site] = z
            return z

    def run(params):
        outputs.clear()
        apply(params, image[None], rule=Noting())
        return {name: np.asarray(outputs[name]) for name in names}

    outputs = {}
    before = run(params)
    for name in (names[0], names[len(names) // 2], names[-1]):
        after = run(randomize_layers(KEY, params, [found[name]]))
        changed = [other for other in names if np.abs(after[other] - before[other]).max() > 0]
        assert changed[0] == name


def test_the_layers_of_a_cascade_forget_from_the_top(network):
    apply, params, image, found = network
    layers = list(found.values())[::-1][:3]
    before = tensors(params)
    for depth, (_, drawn) in enumerate(cascade(KEY, params, layers), start=1):
        after = tensors(drawn)
        changed = {path for path in before if not np.array_equal(before[path], after[path])}
        assert changed == {path for layer in layers[:depth] for path in layer}
        assert np.isfinite(apply(drawn, image[None])).all()


def test_a_network_written_for_rules_has_them_by_the_names_of_its_sites():
    apply, params, images = tiny_network()
    found = layer_parameters(apply, params, images[0])
    assert all(path.startswith(f"{site}.") for site, paths in found.items() for path in paths)
    assert {path for paths in found.values() for path in paths} == set(tensors(params))


def test_weights_within_the_function_are_one_clear_error():
    weights = jnp.ones((3, 2))
    apply, params = dmbp_jax.gated((lambda params, x: jax.nn.relu(x.mean((1, 2)) @ weights), {}))
    with pytest.raises(InputError, match="pass its weights as params"):
        layer_parameters(apply, params, jnp.ones((4, 4, 3)))
