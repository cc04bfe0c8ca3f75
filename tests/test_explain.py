"""`explain`: chunks, tracing, targets, options, and what it refuses."""

import dataclasses
import re
import subprocess
import sys
import weakref

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from small import CLASSES, tiny_network

import dmbp_jax
from dmbp_jax import InputError
from dmbp_jax.attribution import meta_saliency
from dmbp_jax.attribution._gradients import gradient
from dmbp_jax.dmbp import PRESETS, DMBPConfig
from dmbp_jax.dmbp._config import configure
from dmbp_jax.rules import PLAIN

FEW = {"steps": 2, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def assert_same(one, other):
    """Equal up to rounding, which differs between batch sizes."""

    def check(a, b):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())

    jax.tree.map(check, one, other)


def test_chunks_give_what_the_whole_batch_gives(network):
    apply, params, images = network
    whole = dmbp_jax.explain(apply, params, images, [1, 2, 3], return_history=True, **FEW)
    chunked = dmbp_jax.explain(apply, params, images, [1, 2, 3], batch_size=2, return_history=True, **FEW)
    assert chunked.values.shape == images.shape
    assert_same(chunked, whole)


@pytest.mark.parametrize("batch_size", [None, 2, "auto"])
def test_results_are_where_the_images_are(network, batch_size):
    apply, params, images = network
    there = jax.device_put(images, jax.devices()[0])
    for given, kind, committed in (
        (np.asarray(images), np.ndarray, None),
        (images, jax.Array, False),
        (there, jax.Array, True),
    ):
        a = dmbp_jax.explain(apply, params, given, [1, 2, 3], preset="fast", batch_size=batch_size)
        for leaf in jax.tree.leaves(a):
            assert isinstance(leaf, kind)
            assert leaf.flags.writeable if kind is np.ndarray else leaf.committed == committed


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"on_step": lambda *_: None}])
def test_what_is_not_to_be_kept_is_not_there(network, options):
    apply, params, images = network
    options = {**FEW, "return_masks": True, **options}
    whole = dmbp_jax.explain(apply, params, images, [1, 2, 3], **options)

    def keeping(keep):
        a = dmbp_jax.explain(apply, params, images, [1, 2, 3], keep=keep, **options)
        # What is not of an image's size, and what was asked for, is there whatever is kept.
        assert_same(
            (a.scores, a.finite, a.masks, a.heatmap), (whole.scores, whole.finite, whole.masks, whole.heatmap)
        )
        return a

    maps, parts = keeping("heatmap"), keeping(("heatmap", "parts"))
    assert maps.values.shape == parts.values.shape == (3, 8, 8, 1)
    assert maps.positive is maps.negative is None
    assert_same(parts.positive, whole.positive.sum(axis=-1, keepdims=True))
    assert_same(parts.negative, whole.negative.sum(axis=-1, keepdims=True))
    values = keeping("values")
    assert_same(values.values, whole.values)
    assert values.positive is values.negative is None
    assert_same(keeping(["values", "parts"]), whole)


def test_heat_maps_alone_are_an_explanation_like_others(network, tmp_path):
    apply, params, images = network

    @jax.jit
    def inside(images):
        return dmbp_jax.explain(
            apply, params, images, jnp.arange(3), preset="fast", keep=("heatmap", "parts")
        )

    a = inside(images)
    assert a.values.shape == (3, 8, 8, 1)
    a.save(tmp_path / "maps.safetensors")
    assert_same(dmbp_jax.Attribution.load(tmp_path / "maps.safetensors"), a)
    assert len(a.plot(titles="parts").subfigs) == 3
    few = dmbp_jax.explain_classes(apply, params, images, [1, 2], preset="fast", keep="heatmap")
    every = dmbp_jax.explain_classes(apply, params, images, [1, 2], preset="fast")
    assert few.values.shape == (3, 2, 8, 8, 1)
    assert few.positive is None
    assert_same(few.heatmap, every.heatmap)


def test_inputs_without_channels_are_their_own_heat_maps():
    apply, params = dmbp_jax.gated((lambda w, x: jax.nn.relu(x) @ w, jnp.eye(4)[:, :3]))
    inputs = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    a = dmbp_jax.explain(apply, params, inputs, [0, 1], "gradient_x_input", keep="heatmap")
    np.testing.assert_array_equal(
        a.values, dmbp_jax.explain(apply, params, inputs, [0, 1], "gradient_x_input").values
    )


def test_batches_one_after_the_other_are_what_all_are_at_once(network):
    """With the random numbers of each image; one program serves the last batch, which is smaller."""
    apply, params, images = network
    images = np.asarray(jnp.concatenate([images, images[:2] + 0.5]))
    targets, options = np.arange(5), {"n_samples": 2, "keep": "heatmap"}
    whole = dmbp_jax.explain(apply, params, images, targets, "smoothgrad", key=jax.random.key(4), **options)
    read, programs = [], set()

    def batches():
        for at in (0, 2, 4):
            read.append(at)
            yield images[at : at + 2], targets[at : at + 2]

    def counted(params, images, *, rule=PLAIN):
        programs.add(images.shape)
        return apply(params, images, rule=rule)

    explained = dmbp_jax.explain_batches(
        counted, params, batches(), "smoothgrad", key=jax.random.key(4), **options
    )
    assert read == []
    first = next(explained)
    assert read == [0]
    gone = weakref.ref(first)
    maps = [first.heatmap]
    del first
    maps += [a.heatmap for a in explained]
    assert gone() is None
    assert [len(one) for one in maps] == [2, 2, 1]
    assert_same(np.concatenate(maps), whole.heatmap)
    # The images of a batch as they are checked, and one by one as they are explained.
    assert programs == {(2, 8, 8, 3), (1, 8, 8, 3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": np.ones((2, 8, 8, 3), np.float32)}, r"pairs \(images, targets\).*ndarray"),
        ({"batches": [np.ones((2, 8, 8, 3), np.float32)]}, r"each batch must be a pair \(images, targets\)"),
        ({"batches": [(np.ones((2, 8, 8, 3), np.float32), [1])]}, "2 images but 1 targets"),
        ({"batches": [(np.float32(1), [1])]}, r"\(n, h, w, c\)"),
        ({"batch_size": "auto"}, "must be a number or None"),
        ({"key": jax.random.split(jax.random.key(0))}, "one random key.*2 keys"),
        ({"keep": "heatmaps"}, "unknown keep 'heatmaps': did you mean 'heatmap'"),
        ({"keep": "parts"}, "either 'values' or 'heatmap'.*got 'parts'"),
        ({"keep": ("values", "heatmap")}, "either 'values' or 'heatmap'"),
        ({"keep": ()}, "either 'values' or 'heatmap'"),
        ({"keep": True}, "unknown keep True"),
    ],
)
def test_bad_batches_are_one_clear_error(network, change, message):
    apply, params, _ = network
    arguments = {"batches": [(np.ones((2, 8, 8, 3), np.float32), [1, 2])], **change}
    with pytest.raises((InputError, jaxtyping.TypeCheckError)) as raised:
        list(dmbp_jax.explain_batches(apply, params, method="gradient", **arguments))
    # Where annotations are checked, they refuse some of these before the function does.
    if isinstance(raised.value, InputError):
        assert re.search(message, str(raised.value))


def test_works_inside_jit_and_vmap_with_and_without_chunks(network):
    apply, params, images = network
    targets = jnp.asarray([1, 2, 3])
    whole = dmbp_jax.explain(apply, params, images, targets, **FEW)

    @jax.jit
    def inside(params, images, targets):
        return dmbp_jax.explain(apply, params, images, targets, batch_size=2, **FEW)

    assert_same(inside(params, images, targets), whole)
    nested = jax.vmap(lambda x, t: dmbp_jax.explain(apply, params, x, t, **FEW))
    assert_same(nested(images[:, None], targets[:, None]).values[:, 0], whole.values)


def test_an_index_and_its_one_hot_weights_explain_the_same(network):
    apply, params, images = network
    indexed = dmbp_jax.explain(apply, params, images, [1, 2, 3], **FEW)
    weighted = dmbp_jax.explain(apply, params, images, np.eye(CLASSES, dtype=np.float32)[1:4], **FEW)
    assert_same(weighted, indexed)


def test_a_contrast_explains_the_difference_of_two_logits(network):
    apply, params, images = network
    weights = jnp.stack([dmbp_jax.contrast(1, other, classes=CLASSES) for other in (2, 3, 4)])
    a = dmbp_jax.explain(apply, params, images, weights, **FEW)
    logits = np.asarray(apply(params, images))
    expected = logits[:, 1] - logits[np.arange(3), [2, 3, 4]]
    np.testing.assert_allclose(a.scores.total, expected, rtol=1e-4, atol=1e-5)
    parts = a.scores.positive + a.scores.negative + a.scores.nuisance
    np.testing.assert_allclose(parts, expected, rtol=1e-4, atol=1e-4)


def test_masks_and_history_come_only_on_request(network):
    apply, params, images = network
    plain = dmbp_jax.explain(apply, params, images, [1, 2, 3], **FEW)
    assert plain.masks is None
    assert plain.history is None
    full = dmbp_jax.explain(apply, params, images, [1, 2, 3], return_masks=True, return_history=True, **FEW)
    assert full.masks["conv1"].shape == (3, 8, 8, 4)
    assert 0 < full.masks["conv1"].min() < 0.5 < full.masks["conv1"].max() < 1
    np.testing.assert_array_equal(full.history.positive[:, -1], full.scores.positive)


def test_no_steps_leaves_the_masks_at_their_start(network):
    apply, params, images = network
    a = dmbp_jax.explain(apply, params, images, [1, 2, 3], steps=0, start=2.0, return_masks=True)
    np.testing.assert_allclose(a.masks["conv1"], 1 / (1 + np.exp(-2.0)), rtol=1e-6)


def test_steps_are_reported_while_they_are_taken(network):
    apply, params, images = network
    seen = []
    dmbp_jax.explain(apply, params, images, [1, 2, 3], on_step=lambda *step: seen.append(step), **FEW)
    assert seen == [(1, 2), (2, 2)]
    seen.clear()
    dmbp_jax.explain(
        apply, params, images, [1, 2, 3], batch_size=2, on_step=lambda *step: seen.append(step), **FEW
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_half_precision_computes_close_to_single(network):
    apply, params, images = network
    single = dmbp_jax.explain(apply, params, images, [1, 2, 3], return_masks=True, **FEW)
    half = dmbp_jax.explain(
        apply, params, images, [1, 2, 3], return_masks=True, compute_dtype="bfloat16", **FEW
    )
    assert half.values.dtype == single.values.dtype == jnp.float32
    assert half.masks["conv1"].dtype == jnp.float32
    assert np.corrcoef(np.ravel(half.heatmap), np.ravel(single.heatmap))[0, 1] > 0.9
    assert np.abs(half.values - single.values).max() > 0


def test_values_that_are_only_known_later_become_flags(network):
    apply, params, images = network
    broken = images.at[1, 0, 0, 0].set(jnp.nan)

    @jax.jit
    def traced(images, targets):
        return dmbp_jax.explain(apply, params, images, targets, **FEW).finite

    assert traced(broken, jnp.asarray([1, 2, 3])).tolist() == [True, False, True]
    assert traced(images, jnp.asarray([1, 2, CLASSES])).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.ones((8, 8, 3), np.float32)}, r"\(n, h, w, c\).*image\[None\]"),
        ({"images": np.ones((3, 8), np.float32)}, r"\(n, h, w, c\)"),
        ({"images": np.ones((0, 8, 8, 3), np.float32)}, "not be empty"),
        ({"images": np.ones((3, 8, 8, 3), np.uint8)}, "floating point.*uint8"),
        ({"images": np.full((3, 8, 8, 3), np.nan, np.float32)}, "image 0 holds.*NaN"),
        ({"targets": [1, 2]}, "3 images but 2 targets"),
        ({"targets": [1, 2, CLASSES]}, f"target {CLASSES} is out of range.*0 to {CLASSES - 1}"),
        ({"targets": [1, -1, 2]}, "target -1 is out of range"),
        ({"targets": [0.5, 1.0, 2.0]}, "class indices, which are whole numbers, or weights.*targets.astype"),
        ({"targets": np.ones((3, CLASSES + 1), np.float32)}, rf"\(3, {CLASSES}\)"),
        ({"targets": np.full((3, CLASSES), np.inf, np.float32)}, "target weights.*infinite"),
        ({"method": "dmpb"}, "unknown method 'dmpb': did you mean 'dmbp'"),
        ({"preset": "slow"}, "unknown preset 'slow'.*fast, paper"),
        ({"step": 3}, "unknown option of dmbp 'step': did you mean 'steps'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"start": [0.0]}, "option start must be a plain number"),
        (
            {"method": "deeplift", "base": "zero"},
            "unknown option of deeplift 'base': did you mean 'baseline'",
        ),
        (
            {"method": "deeplift", "baseline": np.zeros((2, 2, 3), np.float32)},
            "must be one number or have the image's shape",
        ),
        ({"method": "smoothgrad"}, "give key="),
        ({"method": "grad_cam", "site": "layer9"}, "unknown site 'layer9'"),
    ],
)
def test_bad_input_is_one_clear_error(network, change, message):
    apply, params, images = network
    arguments = {"images": images, "targets": [1, 2, 3], **change}
    with pytest.raises(InputError, match=message):
        dmbp_jax.explain(apply, params, **arguments)


BAD_OPTIONS = (
    ({"steps": -1}, "steps must be at least 0, got -1"),
    ({"steps": 1.5}, "steps must be a whole number, got 1.5"),
    ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
    ({"decay": 1.0}, "decay must be in [0, 1), got 1.0"),
    ({"eps": 0.0}, "eps must be above 0, got 0.0"),
    ({"start": float("inf")}, "start must be finite, got inf"),
    ({"learning_rate": "0.1"}, "learning_rate must be above 0, got '0.1'"),
    ({"learning_rate": float("inf")}, "learning_rate must be above 0, got inf"),
    ({"steps": True}, "steps must be a whole number, got True"),
    (
        {"mask_sites": "everywhere"},
        "unknown mask_sites 'everywhere': Known: filter, filter_and_shortcut, relu",
    ),
    ({"objective": "pos"}, "unknown objective 'pos': did you mean 'posneg'? Known: all, positive, posneg"),
    ({"compute_dtype": "float3"}, "unknown compute_dtype 'float3': did you mean 'float32'?"),
)


def test_options_out_of_range_are_one_clear_error_each():
    """In a process of its own, since here the annotations are checked first."""
    program = (
        "import sys, ast, dmbp_jax.dmbp._config as d\n"
        "for options in eval(sys.argv[1], {'inf': float('inf')}):\n"
        "    try: d.configure('paper', **options)\n"
        "    except ValueError as error: print(error)\n"
    )
    cases = repr([options for options, _ in BAD_OPTIONS])
    result = subprocess.run(
        [sys.executable, "-c", program, cases], capture_output=True, text=True, check=True
    )
    messages = result.stdout.splitlines()
    assert len(messages) == len(BAD_OPTIONS)
    for message, (_, expected) in zip(messages, BAD_OPTIONS, strict=True):
        assert message.startswith(expected)


def test_images_too_small_for_the_network_are_a_clear_error(network):
    apply, params, _ = network
    with pytest.raises(ValueError, match="too small for this network"):
        dmbp_jax.explain(apply, params, np.ones((1, 1, 1, 3), np.float32), [0])


def test_a_network_without_sites_or_without_classes_is_a_clear_error():
    images = np.ones((1, 4, 4, 3), np.float32)
    with pytest.raises(InputError, match="no site to mask"):
        dmbp_jax.explain(lambda p, x, *, rule=None: x.mean(axis=(1, 2)), {}, images, [0])
    with pytest.raises(InputError, match=r"logits of shape \(1, classes\)"):
        dmbp_jax.explain(lambda p, x, *, rule=None: x, {}, images, [0])


def test_presets():
    assert PRESETS["paper"] == DMBPConfig(
        steps=200,
        learning_rate=0.01,
        decay=0.99,
        eps=1e-8,
        start=0.0,
        mask_sites="filter",
        objective="all",
        compute_dtype=None,
    )
    assert configure("fast", strength=3.0) == dataclasses.replace(PRESETS["fast"], strength=3.0)
    for preset, name in (("fast", "steps"), ("fast", "parts_apart"), ("paper", "strength")):
        with pytest.raises(InputError, match=rf"{name} is an option of preset='.*'; preset='{preset}' has"):
            configure(preset, **{name: 3})
    with pytest.raises(InputError, match=r"strength must be above 0, got 0\.0"):
        configure("fast", strength=0.0)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_fast_does_not_depend_on_the_unit_of_the_logits(network, scale):
    apply, params, images = network
    scaled = {**params, "fc": jax.tree.map(lambda leaf: leaf * scale, params["fc"])}
    one, other = (
        dmbp_jax.explain(apply, p, images, [1, 2, 3], preset="fast", return_masks=True)
        for p in (params, scaled)
    )
    for name, mask in one.masks.items():
        np.testing.assert_allclose(other.masks[name], mask, atol=1e-4)
    size = np.abs(one.values).max()
    np.testing.assert_allclose(other.values / scale, one.values, atol=1e-4 * size)
    assert configure("paper", steps=20) == DMBPConfig(steps=20)


def test_an_option_is_checked_by_its_type_also_after_an_equal_one_was_compiled(network):
    apply, params, images = network
    dmbp_jax.explain(apply, params, images, [1, 2, 3], steps=1)
    for steps in (1.0, True):
        with pytest.raises((InputError, jaxtyping.TypeCheckError), match="steps"):
            dmbp_jax.explain(apply, params, images, [1, 2, 3], steps=steps)


def test_double_precision_needs_64_bit_jax(network):
    apply, params, images = network
    with pytest.raises(InputError, match="needs 64-bit JAX"):
        dmbp_jax.explain(apply, params, images, [1, 2, 3], compute_dtype="float64", **FEW)


def test_a_method_may_be_a_function(network):
    apply, params, images = network
    still = meta_saliency(gradient, step_size=0.0)
    named = dmbp_jax.explain(apply, params, images, [1, 2, 3], "gradient")
    assert_same(dmbp_jax.explain(apply, params, images, [1, 2, 3], still), named)
    moved = dmbp_jax.explain(apply, params, images, [1, 2, 3], meta_saliency(gradient, step_size=0.5))
    assert np.abs(moved.values - named.values).max() > 1e-3 * np.abs(named.values).max()


@pytest.mark.parametrize("method", ["grad_cam", "guided_grad_cam", "norm_grad"])
def test_a_site_without_a_map_is_named(network, method):
    apply, params, images = network
    with pytest.raises(InputError, match="site 'fc' has no map: its output has shape"):
        dmbp_jax.explain(apply, params, images, [1, 2, 3], method, site="fc")

    def flat(params, x, *, rule=PLAIN):
        return rule.relu("relu", x.reshape(len(x), -1))

    with pytest.raises(InputError, match="no activation whose output is a map"):
        dmbp_jax.explain(flat, params, images, [1, 2, 3], method)


# Numbers as users give them.


@pytest.mark.parametrize("number", [np.float32, jnp.float32, np.asarray, jnp.asarray])
def test_options_may_be_numbers_of_any_library(network, number):
    apply, params, images = network
    key = jax.random.key(0)
    for method, options, more in (
        ("dmbp", {"strength": 0.5}, {"preset": "fast"}),
        ("smoothgrad", {"noise_level": 0.5}, {"n_samples": 2, "key": key}),
        ("integrated_gradients", {"baseline": 0.5}, {"n_steps": 2}),
    ):
        given = {name: number(value) for name, value in options.items()}
        found, expected = (
            dmbp_jax.explain(apply, params, images, [1, 2, 3], method, **one, **more)
            for one in (given, options)
        )
        np.testing.assert_array_equal(found.values, expected.values)


def test_a_baseline_may_be_a_number_and_traced_beside_a_batch_size(network):
    apply, params, images = network
    options = {"n_steps": 2, "batch_size": 2}

    def explain(baseline):
        return dmbp_jax.explain(
            apply, params, images, [1, 2, 3], "integrated_gradients", baseline=baseline, **options
        )

    zero = explain("zero")
    assert_same(explain(0), zero)
    half = explain(jnp.full(images.shape[1:], 0.5))
    assert_same(explain(0.5), half)
    assert_same(jax.jit(explain)(jnp.full(images.shape[1:], 0.5)), half)
    assert_same(jax.jit(explain)(0.5), half)
    with pytest.raises(InputError, match="must be one number or have"):
        explain(np.ones(3, np.float32))
