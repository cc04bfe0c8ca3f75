"""Every method crossed with the properties that they share, on four kinds of network."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CLASSES, small_network, tiny_network

import dmbp_jax
from dmbp_jax.compile_time import count_compile_time
from dmbp_jax.methods import METHODS

# What each method does by default takes long for nothing here.
SHORT = {
    "dmbp": {"steps": 2},
    "integrated_gradients": {"n_steps": 3},
    "smoothgrad": {"n_samples": 3},
    "blur_integrated_gradients": {"n_steps": 3},
    "rise": {"n_masks": 6, "chunk_size": 4},
    "lpr": {"n_steps": 2},
}
EVERY = pytest.mark.parametrize("name", METHODS)
KEY = 7


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def run(network, name, images=None, targets=(1, 2, 3), **options):
    apply, params, given = network
    images = given if images is None else images
    options = {"key": jax.random.key(KEY), **SHORT.get(name, {}), **options}
    return dmbp_jax.explain(apply, params, images, jnp.asarray(targets), name, **options)


def assert_same(one, other, rtol=1e-4):
    def check(a, b):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), 1e-12))

    jax.tree.map(check, one, other)


@EVERY
def test_one_signature(name):
    parameters = list(inspect.signature(METHODS[name]).parameters.values())
    assert [p.name for p in parameters[:5]] == ["apply", "params", "image", "target", "key"]
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters[4:])
    assert METHODS[name].__name__ == name
    assert METHODS[name].__doc__


@EVERY
def test_one_finite_map_per_image_and_no_second_compilation(network, name):
    first = run(network, name)
    assert first.heatmap.shape == network[2].shape[:3]
    assert first.finite.shape == (3,)
    assert first.finite.all()
    assert np.isfinite(first.values).all()
    assert np.abs(first.values).max() > 0
    swapped = jnp.asarray(np.asarray(network[2])[::-1])
    targets, key = jnp.asarray((3, 2, 1)), jax.random.key(KEY)
    with count_compile_time() as compiled:
        run(network, name, images=swapped, targets=targets, key=key)
    assert compiled.programs == []
    assert_same(run(network, name), first, rtol=0)


@EVERY
def test_jit_equals_eager_and_vmap_equals_loop(network, name):
    apply, params, images = network
    batch = run(network, name)
    keys = jax.random.split(jax.random.key(KEY), 3)
    alone = METHODS[name](apply, params, images[1], jnp.asarray(2), key=keys[1], **SHORT.get(name, {}))
    assert_same(alone, jax.tree.map(lambda leaf: leaf[1], batch))


@EVERY
@pytest.mark.parametrize(
    "kind",
    [
        "resnet18",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("vgg11", "squeezenet1_1", "alexnet")),
    ],
)
def test_works_on_every_kind_of_network_and_odd_sizes(name, kind):
    apply, params, _ = small_network(kind)
    images = jax.random.normal(jax.random.key(4), (1, 67, 71, 3))
    weights = jax.random.normal(jax.random.key(5), (1, CLASSES))
    a = run((apply, params, images), name, targets=weights)
    assert a.heatmap.shape == (1, 67, 71)
    assert a.finite.all()


@EVERY
def test_every_step_is_reported_once_for_all_images_and_changes_nothing(network, name):
    """A loop that is walked from the host is the same loop, and takes nothing from its caller."""
    seen = []
    whole = run(network, name)
    with count_compile_time() as compiled:
        in_slices = run(network, name, on_step=lambda *step: seen.append(step))
        assert (len(compiled.programs) > 0) == (name in SHORT)
        compiled.programs.clear()
        again = run(network, name, on_step=lambda *step: None)
        assert compiled.programs == []
    steps = seen[-1][1]
    assert seen == [(step, steps) for step in range(1, steps + 1)]
    assert (steps > 1) == (name in SHORT)
    assert_same(in_slices, whole)
    assert_same(again, in_slices)


def test_compilations_are_counted():
    """Else every test that asks for none would pass."""
    with count_compile_time() as compiled:
        jax.jit(lambda x: 3 * x + 1)(jnp.ones(5))
    assert len(compiled.programs) >= 1
