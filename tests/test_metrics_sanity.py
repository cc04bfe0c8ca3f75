"""Rank correlation, layers that forget, and the classes of class sensitivity."""

import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import metrics as reference

import dmbp_jax
from dmbp_jax import InputError
from dmbp_jax.metrics import cascade, randomize_layers, rank_correlation
from dmbp_jax.metrics._randomization import most_and_least_likely
from dmbp_jax.rules import find_sites

KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def params():
    """The parameters of something with nested layers, class layer last; one bias is zero."""
    keys = iter(jax.random.split(jax.random.key(0), 20))

    def layer():
        return {"kernel": jax.random.normal(next(keys), (3, 4)), "bias": jax.random.normal(next(keys), (4,))}

    blocks = {
        block: {number: {"conv1": layer(), "conv2": layer()} for number in ("0", "1")}
        for block in ("layer1", "layer2")
    }
    return {"conv1": {**layer(), "bias": jnp.zeros(4)}, **blocks, "fc": layer()}


def leaves(params, prefix=""):
    """Tensors by their dotted names."""
    for name, child in params.items():
        if isinstance(child, dict):
            yield from leaves(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def changed(before, after):
    """The names of the tensors that differ; structure, shapes and types must not."""
    assert jax.tree.structure(before) == jax.tree.structure(after)
    names, others = set(), dict(leaves(after))
    for name, one in leaves(before):
        assert (one.shape, one.dtype) == (others[name].shape, others[name].dtype)
        if not np.array_equal(one, others[name]):
            names.add(name)
    return names


# Rank correlation.


def test_a_map_is_like_itself_and_unlike_its_opposite():
    rng = np.random.default_rng(0)
    heatmap = rng.normal(size=(13, 17)).astype(np.float32)
    assert rank_correlation(heatmap, heatmap) == pytest.approx((1, 1))
    assert rank_correlation(heatmap, -heatmap) == pytest.approx((-1, 1))
    # Increasing in the value, and so decreasing in the magnitude of what is below zero.
    positive = np.abs(heatmap)
    assert rank_correlation(positive, 1 / (1 + positive)) == pytest.approx((-1, -1))
    assert rank_correlation(positive, np.exp(positive)) == pytest.approx((1, 1))
    other = rng.normal(size=(100, 100))
    independent = rank_correlation(other, rng.normal(size=(100, 100)))
    assert np.abs(independent).max() < 0.04


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_correlation_is_the_loops(decimals):
    rng = np.random.default_rng(decimals)
    a = np.round(rng.normal(size=(9, 11)), decimals)
    b = np.round(a + rng.normal(size=(9, 11)), decimals)
    ours = rank_correlation(a, b)
    assert ours.signed == pytest.approx(reference.spearman(a, b), abs=1e-12)
    assert ours.absolute == pytest.approx(reference.spearman(np.abs(a), np.abs(b)), abs=1e-12)
    assert 0.2 < ours.signed < 1
    assert rank_correlation(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)) == pytest.approx(ours)


def test_only_the_order_of_the_values_matters():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 13, 17))
    before = rank_correlation(a, b)
    for monotone in (lambda x: 3 * x - 7, np.exp, np.arctan):
        assert rank_correlation(monotone(a), b).signed == before.signed
    # Of magnitudes, where zero stays zero.
    assert rank_correlation(np.arctan(a), 5 * b) == before


def test_what_has_no_order_is_nan():
    heatmap = np.random.default_rng(0).normal(size=(3, 4))
    for other in (np.zeros((3, 4)), np.full((3, 4), 2.5), np.where(heatmap > 1, np.nan, heatmap)):
        assert np.isnan(rank_correlation(heatmap, other)).all()
        assert np.isnan(rank_correlation(other, heatmap)).all()
    signs = rank_correlation(heatmap, np.sign(heatmap))
    assert signs.signed > 0.5
    assert np.isnan(signs.absolute)
    assert np.isnan(rank_correlation(np.ones((1, 1)), np.ones((1, 1)))).all()
    assert rank_correlation(np.asarray([1.0, 2.0]), np.asarray([5.0, 3.0])).signed == pytest.approx(-1)
    infinite = np.where(heatmap == heatmap.max(), np.inf, heatmap)
    assert rank_correlation(heatmap, infinite).signed == pytest.approx(1)


def test_maps_of_two_sizes_are_one_clear_error():
    with pytest.raises(InputError, match=r"same shape, got \(2, 3\) and \(3, 2\)"):
        rank_correlation(np.ones((2, 3)), np.ones((3, 2)))


# Layers that forget.


def test_only_the_named_layers_change(params):
    before = jax.tree.map(jnp.copy, params)
    after = randomize_layers(KEY, params, ["layer1.0.conv1", "fc"])
    assert changed(params, after) == {
        f"{layer}.{tensor}" for layer in ("layer1.0.conv1", "fc") for tensor in ("kernel", "bias")
    }
    assert changed(params, before) == set()
    assert randomize_layers(KEY, params, []) is params


def test_a_module_stands_for_its_layers(params):
    whole = randomize_layers(KEY, params, ["layer2"])
    tensors = {name for name, _ in leaves(params) if name.startswith("layer2.")}
    assert len(tensors) == 8
    assert changed(params, whole) == tensors
    parts = randomize_layers(KEY, params, {name.rpartition(".")[0] for name in tensors})
    assert changed(whole, parts) == set()


def test_a_key_and_a_name_decide_the_draw(params):
    one = randomize_layers(KEY, params, ["fc"])
    again = randomize_layers(KEY, params, ["layer1.0.conv1", "fc", "fc"])
    other = randomize_layers(jax.random.key(6), params, ["fc"])
    np.testing.assert_array_equal(one["fc"]["kernel"], again["fc"]["kernel"])
    assert (one["fc"]["kernel"] != other["fc"]["kernel"]).all()
    # Layers of one shape are drawn independently of each other, and a kernel of its bias.
    twins = {name: {"kernel": jnp.arange(500.0), "bias": jnp.arange(500.0)} for name in ("a", "b")}
    twins = dict(leaves(randomize_layers(KEY, twins, ["a", "b"])))
    correlations = np.corrcoef(np.stack(list(twins.values())))
    assert np.abs(correlations - np.eye(4)).max() < 0.2


def test_a_draw_is_the_same_in_every_process():
    """Python's own hash of a string is not."""
    program = (
        "import jax, jax.numpy as jnp; from dmbp_jax.metrics import randomize_layers as r;"
        "print(r(jax.random.key(5), {'fc': {'bias': jnp.arange(3.0)}}, ['fc'])['fc']['bias'].tolist())"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    ours = randomize_layers(KEY, {"fc": {"bias": jnp.arange(3.0)}}, ["fc"])["fc"]["bias"]
    assert printed.stdout.strip() == str(ours.tolist())


def test_draws_are_normal_at_the_trained_scale():
    trained = 3 + 0.2 * jax.random.uniform(jax.random.key(0), (100, 200))
    params = {
        "fc": {"kernel": trained, "bias": jnp.full(20_000, -0.3)},
        "empty": {"kernel": jnp.zeros(5), "bias": jnp.asarray([0.7])},
    }
    drawn = randomize_layers(KEY, params, ["fc", "empty"])
    kernel, bias = drawn["fc"]["kernel"], drawn["fc"]["bias"]
    assert float(kernel.std()) == pytest.approx(float(trained.std()), rel=0.02)
    assert abs(float(kernel.mean())) < 0.03 * float(trained.std())
    standard = np.asarray(kernel / trained.std())
    # Shares within one and two standard deviations, and the fourth moment.
    assert (np.abs(standard) < 1).mean() == pytest.approx(0.6827, abs=0.01)
    assert (np.abs(standard) < 2).mean() == pytest.approx(0.9545, abs=0.01)
    assert (standard**4).mean() == pytest.approx(3, abs=0.2)
    # What is one number everywhere has no spread: its magnitude is the scale.
    assert float(bias.std()) == pytest.approx(0.3, rel=0.02)
    assert abs(float(bias.mean())) < 0.01
    assert 0 < abs(float(drawn["empty"]["bias"][0])) < 4 * 0.7
    assert not drawn["empty"]["kernel"].any()


def test_precision_does_not_change_the_draw(x64):
    params = {"fc": {"kernel": jnp.arange(6, dtype=jnp.float32)}}
    single = randomize_layers(KEY, params, ["fc"])["fc"]["kernel"]
    for dtype, tolerance in ((jnp.float64, 1e-6), (jnp.bfloat16, 2e-2)):
        wide = randomize_layers(KEY, {"fc": {"kernel": jnp.arange(6, dtype=dtype)}}, ["fc"])["fc"]["kernel"]
        assert wide.dtype == dtype
        np.testing.assert_allclose(wide.astype(jnp.float32), single, rtol=tolerance)


def test_randomisation_runs_inside_jit(params):
    jitted = jax.jit(lambda key, params: randomize_layers(key, params, ["fc"]))(KEY, params)
    eager = randomize_layers(KEY, params, ["fc"])
    np.testing.assert_allclose(jitted["fc"]["kernel"], eager["fc"]["kernel"], rtol=1e-5)


def test_a_cascade_changes_one_layer_more_at_each_step(params):
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in leaves(params)))[::-1]
    assert (len(layers), layers[0], layers[-1]) == (10, "fc", "conv1")
    steps = list(cascade(KEY, params, layers))
    assert [name for name, _ in steps] == layers
    for depth, (_, randomized) in enumerate(steps, start=1):
        top = {f"{layer}.{tensor}" for layer in layers[:depth] for tensor in ("kernel", "bias")}
        # Zeros have nothing to forget.
        assert changed(params, randomized) == top - {"conv1.bias"}
        assert changed(randomized, randomize_layers(KEY, params, layers[:depth])) == set()


def test_an_unknown_layer_is_one_clear_error(params):
    for randomize in (randomize_layers, cascade):
        for name, hint in (
            ("layer22", "did you mean 'layer2'"),
            ("layer1.0.conv7", "'layer1.0.conv"),
            ("", "Known: "),
        ):
            with pytest.raises(InputError, match=f"unknown layer '{name}'.*{hint}"):
                randomize(KEY, params, ["conv1", name])
        with pytest.raises(InputError, match=r"unknown layer 'fc\.weight'.*fc\.kernel"):
            randomize(KEY, params, [("fc.bias", "fc.weight")])


def test_a_layer_may_be_named_by_its_tensors(params):
    drawn = randomize_layers(KEY, params, [("fc.kernel", "conv1.kernel")])
    assert changed(params, drawn) == {"fc.kernel", "conv1.kernel"}
    whole = randomize_layers(KEY, params, ["fc"])
    assert np.array_equal(drawn["fc"]["kernel"], whole["fc"]["kernel"])


def test_the_embedded_network_forgets():
    model = dmbp_jax.load_model("squeezenet1_1")
    image = jnp.asarray(model.spec.preprocess(dmbp_jax.example_photo()))[None, ::4, ::4]
    sites = find_sites(model.apply, model.params, image[0])
    layers = [site.name for site in sites if site.kind == "affine"][::-1]
    (name, drawn), (_, deeper) = itertools.islice(cascade(KEY, model.params, layers), 2)
    assert name == "classifier.1"
    assert changed(model.params, drawn) == {"classifier.1.kernel", "classifier.1.bias"}
    assert len(changed(model.params, deeper)) == 4
    forward = jax.jit(model.apply)
    logits, forgotten = (np.asarray(forward(params, image)[0]) for params in (model.params, drawn))
    assert np.isfinite(forgotten).all()
    assert abs(rank_correlation(logits, forgotten).signed) < 0.3


# The classes of class sensitivity.


def test_the_most_and_the_least_likely_class():
    logits = jnp.asarray([[0.0, 3.0, -1.0, 3.0], [5.0, -2.0, -2.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    most, least = most_and_least_likely(logits)
    assert most.tolist() == [1, 0, 0]
    assert least.tolist() == [2, 1, 0]
    for one, expected in zip(logits, zip(most, least, strict=True), strict=True):
        assert most_and_least_likely(one) == expected
        assert most_and_least_likely(np.asarray(one)) == expected
        assert jax.jit(most_and_least_likely)(one) == expected
    # Probabilities rank the classes alike.
    assert most_and_least_likely(jax.nn.softmax(logits))[0].tolist() == [1, 0, 0]
