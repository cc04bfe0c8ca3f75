"""`dmbp_jax.evaluate`: one's own network, arrays, methods and metrics, in memory and in a folder."""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registered import forgetting
from small import CLASSES, tiny_network
from tiny_evaluation import tiny_model

import dmbp_jax
from dmbp_jax import metrics
from dmbp_jax._checks import InputError
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax.images import ArraySample, Box
from dmbp_jax.metrics._randomization import most_and_least_likely
from dmbp_jax.models import Model, ModelSpec
from dmbp_jax.models._load import as_model
from dmbp_jax.rules import PLAIN

SIZE, COUNT = 16, 6
QUIET = {"progress": False, "batch_size": 4}


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(COUNT, SIZE, SIZE, 3)).astype(np.float32)


@pytest.fixture
def targets():
    return np.arange(COUNT) % CLASSES


@pytest.fixture
def network():
    """`(apply, params)` of one's own, of which the package knows nothing."""
    return tiny_network()[:2]


def brightness(apply, params, image, target, *, key=None):
    """A method of one's own: the image itself."""
    return dmbp_jax.Attribution(values=image, finite=jnp.isfinite(image).all())


def half_mass(predict, image, heatmap, target):
    """The share of the pixels that hold half of the magnitude. In NumPy."""
    mass = np.sort(np.abs(heatmap).ravel())[::-1].cumsum()
    return float((np.searchsorted(mass, mass[-1] / 2) + 1) / mass.size)


def without_seconds(run):
    return sorted(row._replace(seconds=0.0) for row in run.rows())


def test_the_default_methods_are_cheap_and_are_named_before_the_run(network, images, targets, capsys):
    samples = (images[:1], targets[:1])
    run = dmbp_jax.evaluate(network, samples, metrics=half_mass)
    cheap = ["gradient_x_input", "guided_backprop", "grad_cam", "dmbp"]
    assert [row.method for row in run.rows()] == cheap
    first, *others = capsys.readouterr().err.splitlines()
    assert first.startswith(f"methods, by default cheap ones: {', '.join(cheap)};")
    assert "methods, by default" not in "".join(others)
    dmbp_jax.evaluate(network, samples, metrics=half_mass, methods="gradient")
    assert "by default" not in capsys.readouterr().err
    dmbp_jax.evaluate(network, samples, metrics=half_mass, progress=False)
    assert capsys.readouterr().err == ""


def test_rows_are_what_explain_and_the_metrics_give(network, images, targets):
    apply, params = network
    run = dmbp_jax.evaluate(
        network,
        (images, targets),
        methods=["gradient_x_input", brightness],
        metrics=["insertion", half_mass],
        **QUIET,
    )
    rows = run.rows()
    assert len(rows) == COUNT * 2 * 2
    assert run.problems() == []
    for row in rows:
        number = int(row.image)
        assert row.target == targets[number]
        method = brightness if row.method == "brightness" else row.method
        a = dmbp_jax.explain(apply, params, images[number][None], [row.target], method)
        heatmap = np.asarray(a.heatmap[0])
        if row.metric == "half_mass":
            expected = half_mass(None, None, heatmap, None)
        else:

            def predict(x):
                return jax.nn.softmax(apply(params, x))

            curve = metrics.insertion(predict, images[number], heatmap, jnp.asarray(row.target))
            expected = curve.auc
            np.testing.assert_allclose(row.curve, curve.probabilities, rtol=1e-4)
        np.testing.assert_allclose(row.value, expected, rtol=1e-4)


def test_two_values_of_a_number_share_a_program(network, images, targets):
    smoothgrad = dmbp_jax.METHODS["smoothgrad"]
    values = []

    def magnitude(predict, image, heatmap, target):
        return float(np.abs(heatmap).sum())

    with forgetting():
        for level in (0.5, 2.0):
            name = f"noise_{level}"
            dmbp_jax.register_method(smoothgrad, name=name, n_samples=2, noise_level=level)
            with count_compile_time() as compiled:
                run = dmbp_jax.evaluate(
                    network, (images[:2], targets[:2]), methods=[name], metrics=[magnitude], **QUIET
                )
            values.append([row.value for row in run.rows()])
    assert compiled.programs == []
    assert values[0] != values[1]


@pytest.mark.long
def test_what_is_drawn_belongs_to_an_image_a_target_and_a_method(network, images, targets):
    """And not to the chunk that they are explained in, nor to what else is evaluated."""
    images, targets = images[:3, :8, :8], targets[:3]
    noisy = dmbp_jax.attribution.noise_tunnel(dmbp_jax.METHODS["gradient"], n_samples=2, noise_level=1.0)
    drawing = dmbp_jax.attribution.meta_saliency(noisy, step_size=0.01)

    def moves(predict, image, heatmap, target, *, explain):
        """The image itself, explained again, draws what it drew; also beside others, and for their sake."""
        again = explain(np.stack([image, -image, image]))
        return float(np.abs(again[[0, 2]] - heatmap).max() / np.abs(heatmap).max())

    options = {
        "methods": ["some_noise", "some_masks", "random", drawing],
        "metrics": ["insertion", "sanity", "class_sensitivity", "max_sensitivity", moves],
        "progress": False,
    }
    with forgetting():
        dmbp_jax.register_method(
            dmbp_jax.METHODS["smoothgrad"], name="some_noise", n_samples=2, noise_level=1.0
        )
        dmbp_jax.register_method(dmbp_jax.METHODS["rise"], name="some_masks", n_masks=6)
        found = [
            {
                row[:4]: row.value
                for row in dmbp_jax.evaluate(network, (images, targets), batch_size=size, **options).rows()
            }
            for size in (1, 2)
        ]
        last = ArraySample(images[2], int(targets[2]), name="2")
        alone = dmbp_jax.evaluate(network, [last], batch_size=1, **options).rows()
    one, two = found
    # Each of three images has a row of five metrics; two of these have two.
    assert len(one) == 3 * 4 * (5 + 2)
    assert two.keys() == one.keys()
    np.testing.assert_allclose([two[row] for row in one], [*one.values()], rtol=1e-3, atol=2e-3)
    for row in alone:
        np.testing.assert_allclose(row.value, one[row[:4]], rtol=1e-3, atol=2e-3)
    for (_, _, method, metric), value in one.items():
        if metric == "moves":
            assert value < 1e-3, method
        if method == "random":
            # It looks at neither network, class nor image: two maps of an image differ in draws alone.
            expected = {"sanity": 1, "class_sensitivity": 1, "max_sensitivity": 0}
            assert value == pytest.approx(expected.get(metric, value), abs=1e-6)
    # Others draw otherwise.
    assert len({value for row, value in one.items() if row[2:] == ("random", "insertion")}) == 3


def test_samples_one_by_one_are_the_arrays_with_names(network, images, targets, tmp_path):
    options = {"methods": ["random"], "metrics": ["insertion"], **QUIET}
    arrays = dmbp_jax.evaluate(network, (images, targets), **options)
    one_by_one = (ArraySample(image, int(target)) for image, target in zip(images, targets, strict=True))
    assert without_seconds(dmbp_jax.evaluate(network, one_by_one, **options)) == without_seconds(arrays)
    named = [ArraySample(image, 1, name=f"image-{number}") for number, image in enumerate(images)]
    run = dmbp_jax.evaluate(network, named, **options)
    assert sorted({row.image for row in run.rows()}) == [f"image-{number}" for number in range(COUNT)]


def test_several_targets_are_explained_in_turn_and_the_others_known(network, images):
    run = dmbp_jax.evaluate(
        network,
        (images, [(number, number + 1) for number in range(COUNT)]),
        methods=["gradient"],
        metrics=None,
        **QUIET,
    )
    rows = run.rows()
    assert {row.metric for row in rows} == {"insertion", "complementary_insertion"}
    assert {(row.image, row.target) for row in rows} == {
        (str(number), number + step) for number in range(COUNT) for step in (0, 1)
    }


def test_weights_that_a_metric_asks_to_explain_arrive_as_they_are(network, images, targets):
    apply, params = network
    weights = np.zeros((1, CLASSES), np.float32)
    weights[0, :3] = 0.5, -0.5, 0.25

    def of_weights(predict, image, heatmap, target, *, explain):
        found = explain(image[None], targets=weights)
        listed = explain(image[None], targets=weights.tolist())
        one = dmbp_jax.explain(apply, params, image[None], weights, "gradient").heatmap
        np.testing.assert_allclose(found, one, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(listed, found)
        return float(np.abs(found).max())

    run = dmbp_jax.evaluate(
        network, (images[:1], targets[:1]), methods=["gradient"], metrics=[of_weights], **QUIET
    )
    assert run.rows()[0].value > 0


def test_a_partial_is_a_method_and_a_metric_like_any_other(network, images, targets):
    apply, params = network
    smooth = functools.partial(dmbp_jax.METHODS["integrated_gradients"], n_steps=3)

    def above(predict, image, heatmap, target, *, level=0.0):
        return float((heatmap > level).mean())

    run = dmbp_jax.evaluate(
        *(network, (images, targets)),
        methods=[functools.partial(brightness)],
        metrics=[functools.partial(above, level=0.5)],
        **QUIET,
    )
    expected = [float((image.sum(axis=-1) > 0.5).mean()) for image in images]
    assert [row[2:4] for row in run.rows()] == [("brightness", "above")] * COUNT
    np.testing.assert_allclose([row.value for row in run.rows()], expected, rtol=1e-6)
    few, same = (
        dmbp_jax.explain(apply, params, images, targets, smooth, **options).values
        for options in ({}, {"n_steps": 3})
    )
    np.testing.assert_array_equal(few, same)
    of_classes = dmbp_jax.explain_classes(apply, params, images, [1], functools.partial(brightness))
    np.testing.assert_array_equal(of_classes.values[:, 0], images)
    with pytest.raises(InputError, match="unknown option of integrated_gradients 'steps'"):
        dmbp_jax.explain(apply, params, images, targets, smooth, steps=3)


def test_images_of_several_sizes_and_channels(images):
    """Of one channel, and of two sizes."""

    def apply(params, x, *, rule=None):
        return jax.nn.relu(x).mean(axis=(1, 2)) @ params

    grey = [image[..., :1] for image in images] + [images[0][:8, :, :1]]
    run = dmbp_jax.evaluate(
        (apply, jnp.ones((1, 3))),
        [ArraySample(image, 0) for image in grey],
        methods=["gradient_x_input"],
        metrics=["deletion"],
        **QUIET,
    )
    assert len(run.rows()) == COUNT + 1


def test_what_a_metric_asks_for_it_gets(network, images):
    """Every name, checked inside the metric."""
    apply, params = network
    mask = np.zeros((2, SIZE, SIZE), bool)
    mask[0, :8], mask[1, 8:] = True, True
    seen = []

    def curious(predict, image, heatmap, target, *, logits, labels, mask, key, explain, boxes=(), scale=2.0):
        np.testing.assert_allclose(
            predict(image[None]), jax.nn.softmax(apply(params, jnp.asarray(image[None]))), rtol=1e-5
        )
        np.testing.assert_allclose(logits(image[None]), apply(params, jnp.asarray(image[None])), rtol=1e-5)
        again = explain(np.stack([image, image]))
        np.testing.assert_allclose(again, np.stack([heatmap, heatmap]), rtol=1e-4, atol=1e-7)
        other = explain(image[None], [labels[1 - labels.index(int(target))]])
        assert not np.allclose(other[0], heatmap)
        assert labels == (1, 2)
        assert mask.sum() == SIZE * 8
        assert mask[0, 0] == (int(target) == 1)
        assert boxes == (((0.0, 0.0, 4.0, 8.0),) if int(target) == 1 else ())
        seen.append(jax.random.key_data(key).tolist())
        return scale

    samples = [
        ArraySample(image, (1, 2), mask=mask, boxes=[Box("1", -3, 0, 4, 8), Box("5", 0, 0, 2, 2)])
        for image in images[:2]
    ]

    def needy(predict, image, heatmap, target, *, boxes):
        return float(len(boxes))

    run = dmbp_jax.evaluate(network, samples, methods=["gradient"], metrics=[curious, needy], **QUIET)
    assert [row.value for row in run.rows() if row.metric == "curious"] == [2.0] * 4
    assert len({tuple(key) for key in seen}) == 4
    # Where it needs boxes and the target has none, there is no row.
    assert [(row.target, row.value) for row in run.rows() if row.metric == "needy"] == [(1, 1.0)] * 2


def test_a_compiled_metric_gives_what_the_plain_one_gives(network, images, targets):
    def drop(predict, image, heatmap, target, *, key, labels):
        noise = 0.1 * jax.random.normal(key, image.shape, image.dtype)
        here, there = predict(image[None])[0, target], predict(image[None] + noise[None])[0, target]
        return here - there, jnp.stack([here, there])

    def compiled(predict, image, heatmap, target, *, key, labels):
        return drop(predict, image, heatmap, target, key=key, labels=labels)

    with forgetting():
        dmbp_jax.register_metric(compiled, jit=True, curve=("step", "probability"))
        run = dmbp_jax.evaluate(
            network, (images, targets), methods=["gradient"], metrics=[drop, compiled], **QUIET
        )
    by_metric = {name: [row for row in run.rows() if row.metric == name] for name in ("drop", "compiled")}
    for one, other in zip(by_metric["drop"], by_metric["compiled"], strict=True):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(one.curve, other.curve, rtol=1e-4)


def test_an_undefined_value_has_no_number(network, images, targets):
    def nothing(predict, image, heatmap, target):
        return float("nan")

    run = dmbp_jax.evaluate(network, (images, targets), methods=["gradient"], metrics=[nothing], **QUIET)
    assert [row.value for row in run.rows()] == [None] * COUNT
    assert run.summary()["nothing", "gradient"].undefined == COUNT


def test_a_model_in_memory_is_the_same_as_by_its_name(images, targets):
    model = tiny_model()
    options = {"methods": ["gradient_x_input", "rise"], "metrics": ["insertion"], **QUIET}
    with forgetting():
        dmbp_jax.register_network(lambda: model, name="tiny_of_this_test")
        by_name = dmbp_jax.evaluate("tiny_of_this_test", (images, targets), **options)
    assert without_seconds(dmbp_jax.evaluate(model, (images, targets), **options)) == without_seconds(by_name)
    bare = dmbp_jax.evaluate(
        (model.apply, model.params), (images, targets), classes=model.spec.classes, **options
    )
    assert without_seconds(bare) == without_seconds(by_name)


def test_labels_may_be_the_names_of_classes(network, images):
    names = [f"kind {number}" for number in range(CLASSES)]
    options = {"methods": ["gradient"], "metrics": ["insertion"], **QUIET}
    run = dmbp_jax.evaluate(network, (images[:2], ["kind 3", "kind 0"]), classes=names, **options)
    assert [row.target for row in run.rows()] == [3, 0]
    with pytest.raises(InputError, match="the label 'kind 11' is no class"):
        dmbp_jax.evaluate(network, (images[:1], ["kind 11"]), classes=names, **options)


def test_sigmoid_probabilities(network, images, targets):
    def probability(predict, image, heatmap, target):
        return predict(image[None])[0, target]

    options = {"methods": ["gradient"], "metrics": [probability], **QUIET}
    apply, params = network
    run = dmbp_jax.evaluate(network, (images, targets), output="sigmoid", **options)
    expected = jax.nn.sigmoid(apply(params, jnp.asarray(images)))[np.arange(COUNT), targets]
    np.testing.assert_allclose([row.value for row in run.rows()], expected, rtol=1e-5)


# One logit.


def one_logit(params, x, *, rule=PLAIN):
    return tiny_network()[0](params, x, rule=rule)[:, :1]


def one_of_two(params, x, *, rule=PLAIN):
    """The same network for two classes: `softmax((z, 0))` is `sigmoid(z)`."""
    z = one_logit(params, x, rule=rule)
    return jnp.concatenate([z, jnp.zeros_like(z)], axis=1)


@pytest.fixture(scope="module")
def of_one_logit():
    """Rows of the two networks."""
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    measured = ["insertion", "deletion", "road", "counter_evidence"]
    options = {"methods": ["gradient_x_input", "rise"], "metrics": measured, **QUIET}
    return [
        dmbp_jax.evaluate((apply, tiny_network()[1]), (images, [0, 0]), **options).rows()
        for apply in (one_logit, one_of_two)
    ]


def test_one_logit_is_one_class_against_its_opposite(of_one_logit):
    one, two = of_one_logit
    assert [row[:4] for row in one] == [row[:4] for row in two]
    for row, other in zip(one, two, strict=True):
        # RISE's map has no negative pixels, hence no counter-evidence.
        values = np.asarray([row.value, other.value], float)
        np.testing.assert_allclose(values[0], values[1], rtol=1e-4, atol=1e-5, err_msg=row.metric)
    assert all(0 < row.value < 0.999 for row in one if row.metric in ("insertion", "deletion", "road_morf"))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("rise", {"n_masks": 8, "key": jax.random.key(0)}),
        pytest.param("lpr", {"n_steps": 3}, marks=pytest.mark.long),
        (dmbp_jax.attribution.meta_saliency(dmbp_jax.attribution.gradient, step_size=0.5), {}),
    ],
    ids=["rise", "lpr", "meta_saliency"],
)
def test_methods_that_ask_for_a_probability_take_one_logit(method, options):
    _, params, images = tiny_network()
    one, two = (
        dmbp_jax.explain(apply, params, images[:1], [0], method, **options)
        for apply in (one_logit, one_of_two)
    )
    np.testing.assert_allclose(one.values, two.values, rtol=1e-4, atol=1e-6)


def test_a_softmax_of_one_logit_is_refused_and_so_is_what_needs_two_classes():
    _, params, images = tiny_network()
    model = as_model((one_logit, params), "one")
    logits = one_logit(params, images)
    np.testing.assert_allclose(model.spec.probabilities(logits), jax.nn.sigmoid(logits), rtol=1e-6)
    network, samples = (one_logit, params), (np.asarray(images[:1]), [0])
    options = {"methods": "gradient", **QUIET}
    refused = "softmax of one logit is always 1"
    heatmap, target = images[0].sum(axis=-1), jnp.asarray(0)
    for call, message in (
        (lambda: model.with_output("softmax").spec.probabilities(logits), refused),
        (lambda: dmbp_jax.evaluate(network, samples, output="softmax", **options), refused),
        (lambda: dmbp_jax.explain(*network, images, [0, 0, 0], "lpr", output="softmax", n_steps=1), refused),
        (
            lambda: metrics.counter_evidence(
                lambda x: one_logit(params, x), images[0], heatmap, target, log_probability=jax.nn.log_softmax
            ),
            refused,
        ),
        (lambda: most_and_least_likely(logits), "needs a network of at least 2 classes, got 1"),
        (
            lambda: dmbp_jax.evaluate(network, samples, metrics="class_sensitivity", **options),
            "class_sensitivity needs a network of at least 2 classes, and this one has 1",
        ),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_a_models_own_output_gives_way_and_a_run_knows_which_it_had(images, targets, tmp_path):
    options = {"methods": ["gradient"], "metrics": ["insertion"], "folder": tmp_path / "run", **QUIET}
    with_softmax = dmbp_jax.evaluate(tiny_model(), (images[:1], targets[:1]), **options).rows()
    with pytest.raises(InputError, match="output"):
        dmbp_jax.evaluate(tiny_model(), (images[:1], targets[:1]), output="sigmoid", **options)
    options["folder"] = None
    other = dmbp_jax.evaluate(tiny_model(), (images[:1], targets[:1]), output="sigmoid", **options).rows()
    assert other[0].value != with_softmax[0].value


# The result.


def test_in_memory_nothing_is_left_behind(network, images, targets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = dmbp_jax.evaluate(network, (images, targets), methods=["gradient"], metrics=["insertion"], **QUIET)
    assert run.folder is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="give a path, write_report"):
        run.write_report()
    assert run.write_report("page.html").read_text("utf-8").startswith("<!doctype html>")


def test_a_folder_holds_the_same_run_and_is_opened_again(network, images, targets, tmp_path):
    options = {"methods": ["gradient", "random"], "metrics": ["insertion", half_mass], **QUIET}
    memory = dmbp_jax.evaluate(network, (images, targets), **options)
    run = dmbp_jax.evaluate(network, (images, targets), folder=tmp_path / "run", **options)
    assert without_seconds(run) == without_seconds(memory)
    again = dmbp_jax.EvaluationResult(tmp_path / "run")
    assert again.rows() == run.rows()
    assert again.write_report() == tmp_path / "run" / "report.html"
    assert "arrays in memory" in again.write_report().read_text("utf-8")
    other = images + np.float32(0.5)
    with pytest.raises(InputError, match="other photographs, labels, boxes or sizes"):
        dmbp_jax.evaluate(network, (other, targets), folder=tmp_path / "run", **options)
    apply, params = network
    changed = (apply, jax.tree.map(lambda leaf: leaf * 2, params))
    with pytest.raises(InputError, match="other weights than there"):
        dmbp_jax.evaluate(changed, (images, targets), folder=tmp_path / "run", **options)


def test_numbers_of_numpy_and_generators_are_options_too(network, images, targets, tmp_path):
    numbers = {"limit": 2, "seed": 1, "gallery": 0}
    names = {"methods": ["gradient"], "metrics": ["sparseness"]}
    samples, folder = (images, targets), tmp_path / "run"
    given = {name: np.int64(value) for name, value in numbers.items()}
    given |= {name: iter(value) for name, value in names.items()}
    run = dmbp_jax.evaluate(network, samples, folder=folder, **given, **QUIET)
    assert len(run.rows()) == 2
    again = dmbp_jax.evaluate(network, samples, folder=folder, **numbers, **names, **QUIET)
    assert again.rows() == run.rows()


def test_the_summary_and_the_report_know_the_directions(network, images, targets, tmp_path):
    def down(predict, image, heatmap, target):
        return float(np.abs(heatmap).max())

    with forgetting():
        dmbp_jax.register_metric(
            down, title="Peak", short="Pk", higher_is_better=False, explanation="How high."
        )
        run = dmbp_jax.evaluate(
            network,
            (images, targets),
            methods=["gradient", "gradient_x_input", "dmbp"],
            metrics=["down", half_mass],
            folder=tmp_path / "run",
            **QUIET,
        )
    # Written when nobody knows the metric any more.
    page = run.write_report().read_text("utf-8")
    assert "Peak, lower is better. How high." in page
    assert "Half mass, direction not given. The share of the pixels that hold half of the magnitude." in page
    assert run.summary()["down", "gradient"].targets == COUNT


def test_a_frame_needs_pandas(network, images, targets, monkeypatch):
    run = dmbp_jax.evaluate(network, (images, targets), methods=["gradient"], metrics=["insertion"], **QUIET)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="pip install pandas"):
        run.to_pandas()


def test_a_frame_has_a_line_for_each_row(network, images, targets):
    run = dmbp_jax.evaluate(network, (images, targets), methods=["gradient"], metrics=["insertion"], **QUIET)
    frame = run.to_pandas()
    assert list(frame.columns) == ["image", "target", "method", "metric", "value", "seconds"]
    assert frame["value"].tolist() == [row.value for row in run.rows()]


# Bad input.


def wrong(images, **change):
    return {"samples": (images, [0] * COUNT), "methods": ["gradient"], "metrics": ["insertion"]} | change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": (np.zeros((2, 8, 8, 3), np.float32), [0])}, "with a target for each"),
        ({"samples": (np.zeros((2, 8, 8), np.float32), [0, 1])}, r"images must be \(n, h, w, c\)"),
        ({"samples": (np.zeros((1, 8, 8, 3), np.uint8), [0])}, "floats, normalised for the network"),
        (
            {"samples": (np.full((1, 8, 8, 3), np.nan, np.float32), [0])},
            "sample '0' holds values that are NaN",
        ),
        (
            {"samples": (np.zeros((1, 8, 8, 3), np.float32), [0.5])},
            "the index, a whole number, or the name of a class",
        ),
        ({"samples": (np.zeros((1, 8, 8, 3), np.float32), [()])}, "has no target"),
        (
            {"samples": (np.zeros((1, 8, 8, 3), np.float32), [12])},
            "the label '12' is no class of your network",
        ),
        ({"samples": []}, "no sample given"),
        ({"samples": [np.zeros((8, 8, 3))]}, "give dmbp_jax.images.ArraySample"),
        ({"samples": "folder"}, "write KIND:PATH"),
        ({"samples": "folder:nowhere"}, "nowhere"),
        ({"network": "resnet"}, "unknown model 'resnet'"),
        ({"network": (1, {})}, r"a network is a Model, or \(apply, params\)"),
        ({"network": tiny_model(), "classes": ["a"]}, "a Model says so itself"),
        ({"methods": ["grad"]}, "unknown method 'grad'"),
        ({"methods": [lambda *a, key=None: None]}, "has no name to be shown by"),
        ({"metrics": ["auc"]}, "unknown metric 'auc'"),
        ({"metrics": [lambda heatmap: 0.0]}, "has no name"),
        ({"metrics": ["pointing"]}, "needs bounding boxes"),
        ({"split": "val"}, "these samples have no splits, got split 'val'"),
        ({"weights": "caffe"}, "this one brings its own"),
    ],
)
def test_bad_input_is_named(network, images, change, message):
    given = {"network": network} | wrong(images) | change
    with pytest.raises(InputError, match=message):
        dmbp_jax.evaluate(given.pop("network"), given.pop("samples"), **given, **QUIET)


def test_one_method_and_one_metric_need_no_list(network, images):
    run = dmbp_jax.evaluate(network, (images, [0] * COUNT), methods="gradient", metrics="insertion", **QUIET)
    listed = dmbp_jax.evaluate(
        network, (images, [0] * COUNT), methods=["gradient"], metrics=["insertion"], **QUIET
    )
    assert [row[:5] for row in run.rows()] == [row[:5] for row in listed.rows()]


def test_the_page_of_a_network_of_ones_own_has_no_published_numbers(network, images, tmp_path):
    where = {"folder": tmp_path / "run", **QUIET}
    run = dmbp_jax.evaluate(network, (images, [0] * COUNT), methods="gradient", metrics="insertion", **where)
    assert "Beside the paper" not in run.write_report().read_text("utf-8")


def test_functions_that_cannot_be_told_apart_or_called_are_refused(network, images, targets):
    def insertion(predict, image, heatmap, target):
        return 0.0

    def gradient(apply, params, image, target, *, key=None):
        return brightness(apply, params, image, target)

    def short(heatmap):
        return 0.0

    def table1(apply, params, image, target, *, key=None):
        return brightness(apply, params, image, target)

    def fast(predict, image, heatmap, target):
        return 0.0

    def greedy(predict, image, heatmap, target, *, photograph):
        return 0.0

    def words(predict, image, heatmap, target):
        return "good"

    def shows(predict, image, heatmap, target, *, mask):
        return 0.0

    samples = (images, targets)
    for chosen, message in (
        ({"metrics": [insertion]}, "there is a metric 'insertion' in the package"),
        ({"methods": [gradient]}, "there is another method 'gradient' in the package"),
        ({"methods": [table1]}, "a method cannot be called 'table1', which means something else"),
        ({"metrics": [fast]}, "a metric cannot be called 'fast', which means something else"),
        ({"metrics": [short]}, r"must take \(predict, image, heatmap, target\)"),
        ({"metrics": [greedy]}, "asks for 'photograph'"),
        ({"metrics": [words]}, "must return a number"),
        ({"metrics": [shows]}, "needs segmentation masks"),
    ):
        with pytest.raises(InputError, match=message):
            dmbp_jax.evaluate(
                network, samples, **({"methods": ["gradient"], "metrics": ["deletion"]} | chosen), **QUIET
            )


def test_photographs_need_a_preprocessing(network, tmp_path):
    from datasets import make_folder

    photos = make_folder(tmp_path, 2)
    options = {"methods": ["gradient"], "metrics": ["insertion"], **QUIET}
    with pytest.raises(InputError, match="since it has no preprocessing"):
        dmbp_jax.evaluate(network, f"folder:{photos}", **options)
    prepared = dmbp_jax.evaluate(
        network, f"folder:{photos}", preprocess=tiny_model().spec.preprocess, **options
    )
    assert without_seconds(prepared) == without_seconds(
        dmbp_jax.evaluate(tiny_model(), f"folder:{photos}", **options)
    )


def test_a_spec_needs_no_more_than_a_name(network, images, targets):
    model = Model(*network, ModelSpec(architecture="mine"))
    run = dmbp_jax.evaluate(model, (images, targets), methods=["gradient"], metrics=["insertion"], **QUIET)
    assert len(run.rows()) == COUNT
    spec = dataclasses.replace(model.spec, classes=("only one",))
    with pytest.raises(InputError, match="10 logits and 1 names of classes: give a name for each"):
        dmbp_jax.evaluate(Model(*network, spec), (images, targets), methods=["gradient"], **QUIET)
