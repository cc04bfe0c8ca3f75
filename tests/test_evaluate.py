"""Evaluations with a tiny network: rows, targets, interruptions, problems, configurations."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import VocImage, VocObject, make_voc, save_photo, write_csv
from small_images import png
from tiny_evaluation import CUT, NAMES, tiny_model

import dmbp_jax
from dmbp_jax import metrics
from dmbp_jax._checks import InputError
from dmbp_jax.evaluation import _plan as plan_module
from dmbp_jax.evaluation._evaluate import Evaluation
from dmbp_jax.evaluation._registry import METRICS
from dmbp_jax.evaluation._run import run_evaluation
from dmbp_jax.evaluation._store import Store, open_store
from dmbp_jax.evaluation._summary import registered_titles
from dmbp_jax.images import Preprocess, from_arrays, read_sample


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setattr(plan_module, "load_model", lambda name, weights: tiny_model())
    return tiny_model()


@pytest.fixture
def photos(tmp_path):
    """Eleven photographs of the ten classes."""
    folder = tmp_path / "photos"
    names = [f"{number}.png" for number in range(11)]
    for name in names:
        save_photo(folder / name)
    write_csv(folder / "labels.csv", ("file", "class_index"), *[(n, i % 10) for i, n in enumerate(names)])
    return folder


def setting(photos, **options):
    given = {
        "network": "squeezenet1_1",
        "samples": f"folder:{photos}",
        "methods": ("gradient_x_input",),
        "metrics": ("insertion",),
        "batch_size": 4,
    }
    return Evaluation(**given | options)


@pytest.mark.parametrize("data", ["folder", "grid", "pairs"])
def test_photographs_are_read_with_the_depth_of_the_run(tmp_path, monkeypatch, data):
    depths = []

    def choose_all(photographs, model, *, depth, **_):
        depths.append(depth)
        return photographs

    monkeypatch.setattr(plan_module, "choose_recognized", choose_all)
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(png(np.full((9, 9), 2048), 16))
    write_csv(
        tmp_path / "labels.csv", ("file", "class_index"), *[(f"{n}.png", i) for i, n in enumerate("abcd")]
    )
    plan = plan_module.make_plan(setting(tmp_path, samples=f"{data}:{tmp_path}", depth=12))
    loaded = plan.read(plan.chunks[0][0])
    assert set(loaded.rgb.ravel().tolist()) == {128}
    assert depths == [12] * (data == "pairs")
    assert plan.config["depth"] == 12


def test_a_depth_of_arrays_and_one_that_cannot_be_are_refused(photos):
    arrays = from_arrays((np.zeros((2, 16, 16, 3), np.float32), [0, 1]))
    with pytest.raises(InputError, match="depth is of photographs in files: these samples are arrays"):
        plan_module.make_plan(setting(photos, samples=arrays, depth=12))
    with pytest.raises(InputError, match="depth must be from 8 to 32 bits, got 99"):
        setting(photos, depth=99)


def run(evaluation, folder):
    run_evaluation(dataclasses.replace(evaluation, folder=folder))
    with open_store(folder) as store:
        return list(store.rows())


def without_seconds(rows):
    return sorted(row._replace(seconds=0.0) for row in rows)


def test_rows_are_what_explain_and_the_metrics_give(photos, tmp_path, model):
    rows = run(
        setting(photos, methods=("gradient_x_input", "dmbp"), metrics=("insertion", "deletion")),
        tmp_path / "run",
    )
    assert len(rows) == 11 * 2 * 2
    for row in rows:
        if row.image not in ("3.png", "10.png"):
            continue
        x = jnp.asarray(model.spec.preprocess(photos / row.image))
        options = {"preset": "fast"} if row.method == "dmbp" else {}
        a = dmbp_jax.explain(model.apply, model.params, x[None], [row.target], row.method, **options)

        def predict(images):
            return jax.nn.softmax(model.apply(model.params, images))

        metric = {"insertion": metrics.insertion, "deletion": metrics.deletion}[row.metric]
        curve = metric(predict, x, a.heatmap[0], jnp.asarray(row.target))
        np.testing.assert_allclose(row.value, curve.auc, rtol=1e-4)
        np.testing.assert_allclose(row.curve, curve.probabilities, rtol=1e-4)
        assert row.target == int(row.image.removesuffix(".png")) % 10
        assert row.seconds > 0


def test_rows_of_composites_are_what_the_metrics_give(photos, tmp_path, model):
    """Each metric put together anew, from `explain` and `dmbp_jax.metrics`."""
    names = ("complementary_insertion", "grid_pointing", "sanity", "cascade", "class_sensitivity")
    evaluation = setting(photos, samples=f"grid:{photos}", metrics=names, seed=3)
    rows = run(evaluation, tmp_path / "run")
    (sample, *_), *_ = plan_module.make_plan(evaluation).chunks
    x = jnp.asarray(read_sample(sample, CUT).image)
    labels = [int(label) for label in sample.labels]

    def heatmap(target, params=model.params):
        return dmbp_jax.explain(model.apply, params, x[None], [target], "gradient_x_input").heatmap[0]

    def predict(images):
        return jax.nn.softmax(model.apply(model.params, images))

    def value(metric, target):
        (found,) = (r for r in rows if (r.image, r.target, r.metric) == (sample.name, target, metric))
        return found

    def correlations(target, params):
        return metrics.rank_correlation(heatmap(target), heatmap(target, params))

    key, layers = jax.random.key(3), ["fc", "conv2", "conv1"]
    for cell, target in enumerate(labels):
        others = jnp.zeros(10).at[jnp.asarray([other for other in labels if other != target])].set(1.0)
        cim = metrics.complementary_insertion(predict, x, heatmap(target), others).auc
        assert value("complementary_insertion", target).value == pytest.approx(float(cim), rel=1e-4)
        share = metrics.grid_pointing_game(heatmap(target), grid=2, cell=cell)
        assert value("grid_pointing", target).value == pytest.approx(share, rel=1e-4)
        drawn = [metrics.randomize_layers(key, model.params, layers[: n + 1]) for n in range(3)]
        alike = [correlations(target, params) for params in drawn]
        for name, sign in (("sanity", "signed"), ("sanity_abs", "absolute")):
            assert value(name, target).value == pytest.approx(getattr(alike[0], sign), abs=1e-3)
        for name, sign in (("cascade", "signed"), ("cascade_abs", "absolute")):
            curve = [getattr(one, sign) for one in alike]
            np.testing.assert_allclose(value(name, target).curve, curve, atol=1e-3)
            assert value(name, target).value == pytest.approx(np.mean(curve), abs=1e-3)
    logits = model.apply(model.params, x[None])[0]
    most, least = int(logits.argmax()), int(logits.argmin())
    expected = metrics.rank_correlation(heatmap(most), heatmap(least))
    assert value("class_sensitivity", most).value == pytest.approx(expected.signed, abs=1e-3)
    assert value("class_sensitivity_abs", most).value == pytest.approx(expected.absolute, abs=1e-3)


ON_COMPOSITES = (
    "insertion",
    "complementary_insertion",
    "deletion",
    "grid_pointing",
    "sanity",
    "cascade",
    "class_sensitivity",
)


def test_every_metric_gives_one_row_for_what_it_is_defined_on(photos, tmp_path):
    rows = run(setting(f"{photos}", samples=f"grid:{photos}", metrics=ON_COMPOSITES), tmp_path / "run")
    count = {name: sum(row.metric == name for row in rows) for name in {row.metric for row in rows}}
    # Two composites of four classes; the classes that are compared for sensitivity are the network's choice.
    eight = {
        "insertion",
        "complementary_insertion",
        "deletion",
        "grid_pointing",
        "sanity",
        "sanity_abs",
        "cascade",
        "cascade_abs",
    }
    two = {"class_sensitivity", "class_sensitivity_abs"}
    assert count == dict.fromkeys(eight, 8) | dict.fromkeys(two, 2)
    assert all(row.value is not None and np.isfinite(row.value) for row in rows)
    curves = {row.metric: len(row.curve) for row in rows if row.curve}
    # 256 pixels, 10 a step; three layers.
    assert curves == {
        "insertion": 27,
        "complementary_insertion": 27,
        "deletion": 27,
        "cascade": 3,
        "cascade_abs": 3,
    }


def test_every_metric_describes_the_rows_that_it_gives(photos, tmp_path):
    for data, names in (
        (f"grid:{photos}", ON_COMPOSITES),
        (f"folder:{photos}", ("counter_evidence",)),
    ):
        folder = tmp_path / names[0]
        rows = run(setting(photos, samples=data, metrics=names, methods=("random",), limit=1), folder)
        described = {row for name in names for row in METRICS[name].shown}
        assert {row.metric for row in rows} == described
    assert [row for metric in METRICS.values() for row in metric.shown] == list(registered_titles().metrics)


@pytest.fixture
def recognized(tmp_path, model, monkeypatch):
    """Twelve photographs, eight of them labelled with what the network takes them for; and that network."""
    folder = tmp_path / "recognized"
    names = [f"{number}.png" for number in range(12)]
    images = jnp.stack([jnp.asarray(model.spec.preprocess(save_photo(folder / name))) for name in names])
    logits = model.apply(model.params, images)
    # As it is drawn, the network takes all of them for one class.
    head = model.params["fc"] | {"bias": model.params["fc"]["bias"] - logits.mean(axis=0)}
    model = model._replace(params=model.params | {"fc": head})
    monkeypatch.setattr(plan_module, "load_model", lambda name, weights: model)
    found = model.apply(model.params, images).argmax(axis=1).tolist()
    assert len(set(found[:8])) > 1
    labels = [one if number < 8 else (one + 1) % 10 for number, one in enumerate(found)]
    write_csv(folder / "labels.csv", ("file", "class_index"), *zip(names, labels, strict=True))
    return folder, model


def test_rows_of_pairs_are_what_explain_and_the_metrics_give(recognized, tmp_path):
    folder, model = recognized
    evaluation = setting(
        folder,
        samples=f"pairs:{folder}",
        metrics=("contrast", "counter_evidence", "complementary_insertion"),
        gallery=0,
    )
    rows = run(evaluation, tmp_path / "run")
    plan = plan_module.make_plan(evaluation)
    samples = [sample for chunk in plan.chunks for sample in chunk]
    assert sorted(sample.name.partition("|")[0] for sample in samples) == sorted(f"{i}.png" for i in range(8))
    left_out = {problem.name for problem in plan.problems}
    assert left_out == {f"{i}.png" for i in range(8, 12)}
    assert all("not used in a pair: the network takes it for" in problem.message for problem in plan.problems)
    # Both classes of each pair in turn, and five rows for each.
    assert len(rows) == 8 * 2 * 5
    for sample in samples[:3]:
        x = jnp.asarray(read_sample(sample, CUT).image)
        assert x.shape == (16, 32, 3)
        np.testing.assert_array_equal(x[:, :16], model.spec.preprocess(sample.paths[0]))
        np.testing.assert_array_equal(x[:, 16:], model.spec.preprocess(sample.paths[1]))
        left = np.broadcast_to(np.arange(32) < 16, (16, 32))
        labels = [int(label) for label in sample.labels]
        for target, other, here in ((*labels, left), (*labels[::-1], ~left)):
            value = {r.metric: r.value for r in rows if (r.image, r.target) == (sample.name, target)}
            weights = dmbp_jax.contrast(target, other, classes=10)

            def heatmap(which, x=x):
                a = dmbp_jax.explain(model.apply, model.params, x[None], which[None], "gradient_x_input")
                return a.heatmap[0]

            red, blue = metrics.contrast_localization(heatmap(weights), here, ~here)
            assert value["contrast_red"] == pytest.approx(red, rel=1e-3)
            assert value["contrast_blue"] == pytest.approx(blue, rel=1e-3)
            gain = metrics.counter_evidence(
                lambda images: model.apply(model.params, images),
                x,
                heatmap(jnp.asarray(target)),
                jnp.asarray(target),
            )
            assert value["counter_evidence"] == pytest.approx(float(gain.log_probability[1]), abs=1e-4)
            assert value["counter_evidence_logit"] == pytest.approx(float(gain.logit[1]), abs=1e-4)


def test_pairs_of_a_limit_are_as_many_and_always_the_same(recognized):
    folder, _ = recognized
    limited = [
        plan_module.make_plan(setting(folder, samples=f"pairs:{folder}", metrics=("contrast",), limit=5))
        for _ in range(2)
    ]
    first, second = ([sample for chunk in plan.chunks for sample in chunk] for plan in limited)
    assert first == second
    assert len(first) == 5


def test_a_map_of_one_sign_has_no_share_of_the_other(recognized, tmp_path):
    folder, _ = recognized
    evaluation = setting(
        folder,
        samples=f"pairs:{folder}",
        methods=("grad_cam",),
        metrics=("contrast", "counter_evidence"),
    )
    rows = run(evaluation, tmp_path / "run")
    assert {row.value for row in rows if row.metric in ("contrast_blue", "counter_evidence")} == {None}


def test_voc_explains_each_class_and_points_at_its_boxes(tmp_path):
    whole = (1, 1, 40, 30)
    corner = (40, 30, 40, 30)
    devkit = make_voc(
        tmp_path,
        [
            VocImage("a", (VocObject("dog", whole), VocObject("cat", corner), VocObject("zebra", whole))),
            VocImage("b", (VocObject("boat", whole),)),
        ],
    )
    unknown = Evaluation("squeezenet1_1", f"voc2012:{devkit}", methods=("gradient_x_input",))
    with pytest.raises(InputError, match=r"a: the label 'zebra' is no class of tiny\.test"):
        run(unknown, tmp_path / "unknown")
    assert not (tmp_path / "unknown").exists()

    make_voc(
        tmp_path,
        [
            VocImage("a", (VocObject("dog", whole), VocObject("cat", corner))),
            VocImage("b", (VocObject("boat", whole),)),
        ],
    )
    rows = run(
        dataclasses.replace(unknown, metrics=("insertion", "complementary_insertion", "pointing")),
        tmp_path / "run",
    )
    pointing = {(row.image, NAMES[row.target]): row.value for row in rows if row.metric == "pointing"}
    assert pointing.keys() == {("a", "dog"), ("a", "cat"), ("b", "boat")}
    assert pointing["a", "dog"] == pointing["b", "boat"] == 1
    # An image of one class has no other class.
    assert {row.image for row in rows if row.metric == "complementary_insertion"} == {"a"}
    assert sum(row.metric == "insertion" for row in rows) == 3


def test_voc_with_a_sigmoid_and_photographs_of_many_sizes(tmp_path, monkeypatch, capsys):
    """As the paper's VOC networks: no crop, classes that do not exclude each other, several sizes."""
    voc = tiny_model(Preprocess(resize=16, crop=None))
    voc = voc._replace(spec=dataclasses.replace(voc.spec, output="sigmoid"))
    monkeypatch.setattr(plan_module, "load_model", lambda name, weights: voc)
    whole = (1, 1, 16, 16)
    images = [
        VocImage("a", (VocObject("dog", whole), VocObject("cat", whole), VocObject("sofa", whole))),
        VocImage("b", (VocObject("boat", whole), VocObject("dog", whole, difficult=1))),
        VocImage("c", (VocObject("cow", whole, difficult=1),)),
        VocImage("d", (VocObject("car", whole), VocObject("bus", whole))),
    ]
    devkit = make_voc(tmp_path, images)
    photos = devkit / "VOC2012" / "JPEGImages"
    for name, size in (("a", (16, 24)), ("b", (24, 16)), ("d", (16, 24))):
        save_photo(photos / f"{name}.jpg", size=size)
    evaluation = Evaluation(
        "squeezenet1_1",
        f"voc2012:{devkit}",
        methods=("gradient_x_input",),
        metrics=("insertion", "complementary_insertion", "insertion"),
        batch_size=4,
    )
    rows = run(evaluation, tmp_path / "run")
    assert sorted((row.image, NAMES[row.target]) for row in rows if row.metric == "insertion") == [
        ("a", "cat"),
        ("a", "dog"),
        ("a", "sofa"),
        ("b", "boat"),
        ("d", "bus"),
        ("d", "car"),
    ]
    # Four targets at once: the three of a, alone, then the two of d, of the same size, and b's.
    plan = plan_module.make_plan(evaluation)
    assert [[sample.name for sample in chunk] for chunk in plan.chunks] == [["a"], ["d"], ["b"]]
    assert {row.image for row in rows if row.metric == "complementary_insertion"} == {"a", "d"}
    with open_store(tmp_path / "run") as store:
        assert [problem.name for problem in store.problems()] == ["c"]

    x = jnp.asarray(voc.spec.preprocess(photos / "d.jpg"))
    assert x.shape == (24, 16, 3)
    car, bus = NAMES.index("car"), NAMES.index("bus")
    a = dmbp_jax.explain(voc.apply, voc.params, x[None], [car], "gradient_x_input")

    def predict(images):
        return jax.nn.sigmoid(voc.apply(voc.params, images))

    others = jnp.zeros(10).at[bus].set(1.0)
    expected = metrics.complementary_insertion(predict, x, a.heatmap[0], others).auc
    (row,) = (r for r in rows if (r.image, r.target, r.metric) == ("d", car, "complementary_insertion"))
    assert row.value == pytest.approx(float(expected), rel=1e-4)


def test_photographs_of_many_sizes_are_compiled_once_for_each(tmp_path, monkeypatch):
    whole = Preprocess(resize=16, crop=None)
    monkeypatch.setattr(plan_module, "load_model", lambda name, weights: tiny_model(whole))
    folder = tmp_path / "photos"
    sizes = [(16, 16), (24, 16), (16, 16), (16, 24), (24, 16)]
    for number, size in enumerate(sizes):
        save_photo(folder / f"{number}.png", size=size)
    write_csv(folder / "labels.csv", ("file", "class_index"), *[(f"{i}.png", i) for i in range(5)])
    rows = run(setting(folder, batch_size=2), tmp_path / "run")
    assert sorted(row.image for row in rows) == [f"{i}.png" for i in range(5)]
    assert len({(row.image, row.seconds) for row in rows}) == 5
    plan = plan_module.make_plan(setting(folder, batch_size=2))
    shapes = [[int(sample.name[0]) for sample in chunk] for chunk in plan.chunks]
    assert shapes == [[0, 2], [1, 4], [3]]


def test_predicted_targets(photos, tmp_path, model):
    rows = run(setting(photos, target="predicted"), tmp_path / "run")
    assert len(rows) == 11
    for row in rows:
        logits = model.apply(model.params, jnp.asarray(model.spec.preprocess(photos / row.image))[None])
        assert row.target == int(logits[0].argmax())


class Stop(Exception):
    """What a test raises in the middle of a run."""


def stop_after(units, evaluation, folder, monkeypatch):
    """A run that stops when so many units are stored."""
    add, count = Store.add, iter(range(100))

    def stopping_add(store, *unit, **beside):
        if next(count) == units:
            raise Stop
        add(store, *unit, **beside)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", stopping_add)
        with pytest.raises(Stop):
            run(evaluation, folder)


@pytest.mark.parametrize(
    "stop_at", [1, 5, *(pytest.param(number, marks=pytest.mark.long) for number in (0, 4))]
)
def test_a_run_that_stopped_goes_on_with_the_same_rows(photos, tmp_path, monkeypatch, stop_at):
    evaluation = setting(photos, methods=("random", "dmbp"), metrics=("insertion", "sanity"))
    undisturbed = run(evaluation, tmp_path / "undisturbed")
    stop_after(stop_at, evaluation, tmp_path / "stopped", monkeypatch)
    with open_store(tmp_path / "stopped") as store:
        assert len(store.done()) == 2 * stop_at  # of each method and batch, both metrics
    assert without_seconds(run(evaluation, tmp_path / "stopped")) == without_seconds(undisturbed)
    # A run that is complete is not computed again.
    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", None)
        assert without_seconds(run(evaluation, tmp_path / "stopped")) == without_seconds(undisturbed)


def test_methods_that_draw_depend_on_the_seed_alone(photos, tmp_path):
    evaluation = setting(photos, methods=("random",))
    first, again, other = (
        without_seconds(run(dataclasses.replace(evaluation, seed=seed), tmp_path / name))
        for name, seed in (("first", 0), ("again", 0), ("other", 1))
    )
    assert first == again
    assert first != other
    assert len({row.value for row in first}) == len(first)


def test_an_unreadable_photograph_is_counted_and_costs_no_other_row(photos, tmp_path, capsys):
    before = without_seconds(run(setting(photos), tmp_path / "before"))
    (photos / "5.png").write_bytes((photos / "5.png").read_bytes()[:100])
    after = without_seconds(run(setting(photos), tmp_path / "after"))
    assert [row for row in before if row.image != "5.png"] == after
    with open_store(tmp_path / "after") as store:
        ((name, message),) = store.problems()
    assert name == "5.png"
    assert "5.png is damaged or truncated" in message
    assert "left out: " in capsys.readouterr().err


def test_methods_see_the_same_photographs_though_one_was_mended_between(photos, tmp_path, monkeypatch):
    evaluation = setting(photos, methods=("random", "gradient_x_input"))
    content = (photos / "1.png").read_bytes()
    (photos / "1.png").write_bytes(content[:100])
    undisturbed = without_seconds(run(evaluation, tmp_path / "undisturbed"))
    stop_after(1, evaluation, tmp_path / "run", monkeypatch)
    (photos / "1.png").write_bytes(content)
    assert without_seconds(run(evaluation, tmp_path / "run")) == undisturbed


def test_a_photograph_that_some_methods_have_explained_must_stay(photos, tmp_path, monkeypatch):
    evaluation = setting(photos, methods=("random", "gradient_x_input"))
    undisturbed = without_seconds(run(evaluation, tmp_path / "undisturbed"))
    stop_after(1, evaluation, tmp_path / "run", monkeypatch)
    content = (photos / "1.png").read_bytes()
    (photos / "1.png").write_bytes(content[:100])
    with pytest.raises(InputError, match=r"1\.png is damaged.*put it back, then run the same command again"):
        run(evaluation, tmp_path / "run")
    (photos / "1.png").write_bytes(content)
    assert without_seconds(run(evaluation, tmp_path / "run")) == undisturbed


def test_a_photograph_whose_size_is_not_known_any_more_is_another_dataset(photos, tmp_path, monkeypatch):
    """It would be in another chunk, and chunks are what a run resumes by."""
    whole = tiny_model(Preprocess(resize=16, crop=None))
    monkeypatch.setattr(plan_module, "load_model", lambda name, weights: whole)
    stop_after(1, setting(photos), tmp_path / "run", monkeypatch)
    (photos / "3.png").write_bytes(b"")
    with pytest.raises(InputError, match="other photographs, labels, boxes or sizes than there"):
        run(setting(photos), tmp_path / "run")


def test_a_name_that_is_not_utf_8_is_evaluated_too(tmp_path):
    folder = tmp_path / "val"
    save_photo(folder / "cat" / "a.png")
    (folder / "cat" / "a.png").rename(folder / "cat" / os.fsdecode(b"caf\xe9.png"))
    save_photo(folder / "dog" / "b.png")
    (folder / "dog" / os.fsdecode(b"\xff.png")).write_bytes(b"no picture")
    evaluation = Evaluation("squeezenet1_1", f"imagenet:{folder}", methods=("gradient_x_input",))
    rows = run(evaluation, tmp_path / "run")
    assert sorted(row.image for row in rows) == ["cat/caf\\udce9.png", "dog/b.png"]
    with open_store(tmp_path / "run") as store:
        assert [problem.name for problem in store.problems()] == ["dog/\\udcff.png"]


def test_a_photograph_that_was_mended_is_evaluated_by_a_new_run_only(photos, tmp_path):
    content = (photos / "5.png").read_bytes()
    (photos / "5.png").write_bytes(b"")
    run(setting(photos), tmp_path / "run")
    (photos / "5.png").write_bytes(content)
    assert len(run(setting(photos), tmp_path / "run")) == 10
    assert len(run(setting(photos), tmp_path / "new")) == 11


def test_maps_that_are_not_numbers_have_no_value(photos, tmp_path, monkeypatch):
    broken = tiny_model()
    params = jax.tree.map(jnp.copy, broken.params)
    params["conv2"]["kernel"] = params["conv2"]["kernel"].at[0].set(jnp.nan)
    monkeypatch.setattr(plan_module, "load_model", lambda name, weights: broken._replace(params=params))
    rows = run(setting(photos, limit=2, metrics=("insertion", "sanity")), tmp_path / "run")
    assert [row.value for row in rows] == [None] * 6
    assert all(row.curve is None for row in rows)


def test_the_gallery_keeps_a_random_subset(photos, tmp_path):
    run(setting(photos, gallery=3, methods=("random", "gradient_x_input")), tmp_path / "run")
    with open_store(tmp_path / "run") as store:
        pictures = list(store.pictures())
    images = {picture.image for picture in pictures}
    assert len(images) == 3
    assert {(p.image, p.method) for p in pictures} == {
        (image, method) for image in images for method in ("", "random", "gradient_x_input")
    }
    assert all(picture.png.startswith(b"\x89PNG") for picture in pictures)


@pytest.mark.parametrize(
    ("metric", "needs"),
    [
        ("complementary_insertion", "several classes"),
        ("pointing", "bounding boxes"),
        ("grid_pointing", "composites"),
        ("contrast", "side by side"),
    ],
)
def test_a_metric_that_the_data_do_not_allow_is_refused_at_once(photos, tmp_path, metric, needs):
    with pytest.raises(InputError, match=f"{metric} needs .*{needs}"):
        run(setting(photos, metrics=("insertion", metric)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ("auc",)}, "unknown metric 'auc'"),
        ({"metrics": ("im",)}, r"unknown metric 'im': Insertion \(IM\) is 'insertion'"),
        ({"preset": "papr"}, "did you mean 'paper'"),
        ({"target": "true"}, "unknown target 'true'"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"grid": 1}, "grid must be at least 2"),
        ({"methods": ("dbmp",)}, "did you mean 'dmbp'"),
    ],
)
def test_bad_options_are_named(photos, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(setting(photos, **options), tmp_path / "run")


def test_a_run_of_another_configuration_is_refused(photos, tmp_path):
    rows = run(setting(photos), tmp_path / "run")
    with pytest.raises(InputError) as refusal:
        run(setting(photos, methods=("gradient_x_input", "random"), seed=3), tmp_path / "run")
    assert "seed: there 0, now 3" in str(refusal.value)
    # Another photograph in the folder is another dataset, another path to it is not.
    moved = photos.rename(tmp_path / "elsewhere")
    assert run(setting(moved), tmp_path / "run") == rows
    save_photo(moved / "more.png")
    with (moved / "labels.csv").open("a") as file:
        file.write("more.png,2\n")
    with pytest.raises(InputError, match="samples: there 11, now 12"):
        run(setting(moved), tmp_path / "run")


def test_the_papers_protocol_fills_in_what_was_not_said(tmp_path):
    folder = tmp_path / "val"
    for name in ("tench", "cat"):
        for number in range(7):
            save_photo(folder / name / f"{name}{number}.JPEG")
    paper = Evaluation("squeezenet1_1", f"imagenet:{folder}", methods="table2", preset="paper")
    plan = plan_module.make_plan(paper)
    config = plan.config
    assert config["per_class"] == 5
    assert config["samples"] == 10
    assert [metric.name for metric in plan.metrics] == ["insertion"]
    assert config["target"] == "truth"
    assert len(config["methods"]) == 12
    assert config["methods"]["dmbp"]["options"]["steps"] == 200
    assert config["methods"]["dmbp"]["options"]["learning_rate"] == 0.01
    assert config["methods"]["rise"]["options"]["n_masks"] == 4000
    assert plan_module.make_plan(dataclasses.replace(paper, per_class=2)).config["samples"] == 4

    devkit = make_voc(tmp_path, [VocImage("a", (VocObject("dog"), VocObject("cat")))])
    voc = plan_module.make_plan(Evaluation("squeezenet1_1", f"voc2012:{devkit}", preset="paper"))
    assert [metric.name for metric in voc.metrics] == ["insertion", "complementary_insertion"]
    assert voc.config["per_class"] is None
