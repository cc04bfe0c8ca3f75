"""The metrics of faithfulness and of regions in an evaluation: what the functions give."""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets import VocImage, VocObject, make_voc, save_photo, save_segmentation
from small import CLASSES, tiny_network
from tiny_evaluation import tiny_model

import dmbp_jax
from dmbp_jax import metrics
from dmbp_jax._checks import InputError
from dmbp_jax.evaluation._evaluate import Evaluation
from dmbp_jax.evaluation._package_metrics import DRAWS, SUBSETS
from dmbp_jax.evaluation._plan import make_plan
from dmbp_jax.images import VOC_CLASSES, ArraySample, Preprocess

SIZE = 16
NAMES = ["infidelity", "sensitivity_n", "road", "max_sensitivity", "sparseness"]
NAMES += ["relevance_mass_accuracy", "relevance_rank_accuracy"]


def samples():
    random = np.random.default_rng(0)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[3:9, 4:12] = True
    for number in range(2):
        image = random.normal(size=(SIZE, SIZE, 3)).astype(np.float32)
        yield ArraySample(image, number, name=f"image {number}", mask=mask if number else None)


def test_rows_are_what_the_functions_give():
    apply, params, _ = tiny_network()
    given = list(samples())
    run = dmbp_jax.evaluate(
        (apply, params), given, methods=["gradient_x_input"], metrics=NAMES, progress=False
    )
    rows = {(row.image, row.metric): row.value for row in run.rows()}
    for sample in given:
        target, image = sample.targets, jnp.asarray(sample.image)
        seed = zlib.crc32(f"{sample.name}\n{target}".encode())
        key = jax.random.fold_in(jax.random.key(0), seed)

        def explain(images, target=target):
            chosen = [target] * len(images)
            return dmbp_jax.explain(apply, params, images, chosen, "gradient_x_input").heatmap

        heatmap, target = explain(image[None])[0], jnp.asarray(target)

        def logits(images):
            return apply(params, images)

        def predict(images):
            return jax.nn.softmax(apply(params, images))

        both = metrics.road(predict, image, heatmap, target, key=key)
        expected = {
            "infidelity": metrics.infidelity(logits, image, heatmap, target, key=key).scaled,
            "sensitivity_n": np.nanmean(
                metrics.sensitivity_n(logits, image, heatmap, target, key=key, n_subsets=SUBSETS).correlation
            ),
            "max_sensitivity": metrics.max_sensitivity(explain, image, heatmap, key=key, n_samples=DRAWS),
            "sparseness": metrics.sparseness(heatmap),
            "road_morf": both.morf.probabilities.mean(),
            "road_morf_accuracy": both.morf.recognized.mean(),
            "road_lerf": both.lerf.probabilities.mean(),
            "road_lerf_accuracy": both.lerf.recognized.mean(),
        }
        if sample.mask is not None:
            expected["relevance_mass_accuracy"] = metrics.relevance_mass_accuracy(heatmap, sample.mask)
            expected["relevance_rank_accuracy"] = metrics.relevance_rank_accuracy(heatmap, sample.mask)
        found = {metric: value for (name, metric), value in rows.items() if name == sample.name}
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == pytest.approx(float(value), rel=2e-3, abs=1e-5), name


def test_a_segmentation_of_voc_is_read_and_void_does_not_count(tmp_path):
    """Of a map that is the same everywhere the object's share of the area, without that which is void."""

    def everywhere(apply, params, image, target, *, key=None):
        return dmbp_jax.Attribution(values=jnp.ones_like(image), finite=jnp.asarray(True))

    photo = save_photo(tmp_path / "photo.png", size=(16, 16))
    images = [VocImage(name, (VocObject("dog"),), photo=photo) for name in ("2008_000001", "2008_000002")]
    devkit = make_voc(tmp_path, images)
    numbers = np.zeros((16, 16), np.uint8)
    numbers[:4] = VOC_CLASSES.index("dog") + 1
    numbers[4:8] = 255
    save_segmentation(devkit / "VOC2012" / "SegmentationClass" / "2008_000001.png", numbers)
    model = tiny_model(Preprocess(resize=16, crop=16))
    names = tuple("dog" if number == 2 else f"class {number}" for number in range(len(model.spec.classes)))
    model = model._replace(spec=dataclasses.replace(model.spec, classes=names))
    run = dmbp_jax.evaluate(
        model,
        f"voc2012:{devkit}",
        methods=[everywhere],
        metrics=["relevance_mass_accuracy"],
        progress=False,
    )
    (row,) = run.rows()
    assert (row.image, row.target, row.value) == ("2008_000001", 2, pytest.approx(4 / 12))


def test_a_run_goes_on_where_the_dataset_lies_now(tmp_path):
    """Photographs and their segmentations are what they are wherever they are."""
    configs = []
    for place in ("here", "there", "without"):
        photo = save_photo(tmp_path / "photo.png", size=(16, 16))
        devkit = make_voc(tmp_path / place, [VocImage("2008_000001", (VocObject("dog"),), photo=photo)])
        if place != "without":
            mask = devkit / "VOC2012" / "SegmentationClass" / "2008_000001.png"
            save_segmentation(mask, np.zeros((16, 16), np.uint8))
        model = tiny_model(Preprocess(resize=16, crop=16))
        names = ("dog", *(f"class {number}" for number in range(1, len(model.spec.classes))))
        model = model._replace(spec=dataclasses.replace(model.spec, classes=names))
        evaluation = Evaluation(model, f"voc2012:{devkit}", methods=("gradient",), metrics=("insertion",))
        configs.append(make_plan(evaluation).config)
    assert configs[0] == configs[1] != configs[2]


def test_without_masks_is_one_clear_error():
    apply, params, _ = tiny_network()
    images = np.zeros((2, SIZE, SIZE, 3), np.float32)
    with pytest.raises(InputError, match="relevance_mass_accuracy needs segmentation masks"):
        dmbp_jax.evaluate((apply, params), (images, [0, 1 % CLASSES]), metrics=["relevance_mass_accuracy"])
