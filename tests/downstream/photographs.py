"""A user's program, type-checked as such: photographs, a model, its maps, what they are worth, and figures.

Uses every public name of `dmbp_jax.bench`, `.images`, `.metrics`, `.models` and `.plot`.
"""

import dataclasses
import tempfile
import warnings
from pathlib import Path
from typing import Literal, assert_type

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import numpy.typing as npt
import PIL.Image

import dmbp_jax as dmbp
from dmbp_jax.bench import Memory, count_memory
from dmbp_jax.images import (
    VOC_CLASSES,
    ArraySample,
    Box,
    Dataset,
    LoadedSample,
    Preprocess,
    Problem,
    Sample,
    Segmentation,
    decode,
    example_photo,
    find_photos,
    from_arrays,
    make_grids,
    make_pairs,
    open_dataset,
    read_folder,
    read_imagenet,
    read_sample,
    read_segmentation,
    read_voc,
    register_dataset,
)
from dmbp_jax.metrics import (
    ContrastLocalization,
    CounterEvidence,
    Curve,
    Infidelity,
    Perturb,
    Perturbation,
    Predict,
    RankCorrelation,
    Road,
    RoadCurve,
    SensitivityN,
    area_under_curve,
    cascade,
    complementary_insertion,
    contrast_localization,
    counter_evidence,
    deletion,
    grid_pointing_game,
    infidelity,
    insertion,
    max_sensitivity,
    noisy_baseline,
    noisy_linear_imputation,
    pointing_game,
    randomize_layers,
    rank_correlation,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    remove_square,
    road,
    sensitivity_n,
    sparseness,
    to_photograph,
)
from dmbp_jax.models import (
    ARCHITECTURES,
    Architecture,
    Manifest,
    Model,
    ModelSpec,
    WeightsEntry,
    cache_folder,
    fetch,
    get_architecture,
    init,
    load_model,
    port_checkpoint,
    read_manifest,
    register_network,
    to_nnx,
)
from dmbp_jax.plot import (
    Row,
    Style,
    blend,
    color_heatmap,
    draw_comparison,
    draw_explanation,
    draw_explanations,
    smooth_heatmap,
    symmetric_limit,
)
from dmbp_jax.typing import Apply, Image, Key, Params, Target

SIDE = 48


def write_photographs(folder: Path) -> Path:
    """Five photographs of five classes, with a CSV file of labels."""
    photo: PIL.Image.Image = decode(example_photo())
    for number in range(5):
        photo.resize((60 + number, 50)).save(folder / f"{number}.png")
    lines = ["file,class_index", *(f"{number}.png,{number}" for number in range(5))]
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def read_photographs(folder: Path, preprocess: Preprocess) -> list[LoadedSample]:
    """Datasets of every kind, and their samples read ahead."""
    paths: list[Path] = find_photos([folder])
    assert len(paths) == 5
    dataset: Dataset = read_folder(folder)
    problems: tuple[Problem, ...] = dataset.problems
    assert not problems
    assert open_dataset(f"folder:{folder}") == dataset
    assert len(read_imagenet(folder).samples) == 5
    year: Literal["2012"] = "2012"
    try:
        read_voc(folder, year=year, split="val")
    except dmbp.InputError as error:
        print(error)
    composites: Dataset = make_grids(dataset, grid=2, seed=1)
    pairs: Dataset = make_pairs(dataset, seed=1)
    assert all(pair.pair for pair in pairs.samples)
    sample: Sample = composites.samples[0]
    read: list[LoadedSample] = [read_sample(one, preprocess) for one in (sample, *dataset.samples[:2])]
    boxes: tuple[Box, ...] = sample.boxes
    assert not boxes
    return read


def explain_photographs(model: dmbp.Model, read: list[LoadedSample]) -> npt.NDArray[np.floating]:
    """Heat maps of what was read, `(n, h, w)`, in host memory."""
    images: npt.NDArray[np.floating] = np.stack([one.image for one in read])
    targets: list[int] = [model.spec.class_index("tabby"), model.spec.label_index("n02123045"), 0]
    a = dmbp.explain(model.apply, model.params, images, targets, "gradient_x_input", batch_size=2)
    logits = model.apply(model.params, jnp.asarray(images))
    assert_type(logits, jax.Array)
    probabilities: jax.Array = model.spec.probabilities(logits)
    assert probabilities.shape == (3, 1000)
    maps: npt.NDArray[np.floating] = np.asarray(a.heatmap)
    return maps


def measure(model: Model, one: LoadedSample, heatmap: npt.NDArray[np.floating]) -> dict[str, float]:
    """Metrics of one heat map."""
    predict: Predict = lambda x: jax.nn.softmax(model.apply(model.params, x))  # noqa: E731
    target: jax.Array = jnp.asarray(281)
    others = jnp.zeros(1000).at[7].set(1.0)
    inserted: Curve = insertion(predict, one.image, heatmap, target, n_steps=3, baseline="gaussian")
    removed: Curve = deletion(predict, one.image, jnp.asarray(heatmap), target, n_steps=3)
    entering = complementary_insertion(predict, one.image, heatmap, others, n_steps=3, baseline="zero")
    assert_type(entering.auc, jax.Array)
    area: jax.Array = area_under_curve(inserted.probabilities)
    wide: npt.NDArray[np.floating] = to_photograph(heatmap, one.region, one.size)
    box = Box("cat", 0.0, 0.0, 60.0, 50.0)
    correlation: RankCorrelation = rank_correlation(heatmap, -heatmap)
    hit: bool = pointing_game(wide, [box[1:5]], tolerance=2)
    left = np.arange(heatmap.shape[1]) < heatmap.shape[1] // 2
    here = np.broadcast_to(left, heatmap.shape)
    sides: ContrastLocalization = contrast_localization(heatmap, here, ~here)
    gain: CounterEvidence = counter_evidence(
        lambda x: model.apply(model.params, x), one.image, heatmap, target, shares=(0.02,)
    )
    return {
        "red": sides.red,
        "blue": sides.blue,
        "counter-evidence": float(gain.log_probability[0]),
        "insertion": float(inserted.auc),
        "area": float(area),
        "deletion": float(removed.auc),
        "complementary": float(entering.auc),
        "pointing": float(hit),
        "grid": grid_pointing_game(heatmap, grid=2, cell=0),
        "signed": correlation.signed,
        "absolute": correlation.absolute,
    }


def examine(
    model: Model, one: LoadedSample, heatmap: npt.NDArray[np.floating], folder: Path
) -> dict[str, float]:
    """Metrics that draw, explain again, or know where the object is."""
    key, target = jax.random.key(0), jnp.asarray(281)

    def logits(images: jax.Array) -> jax.Array:
        return model.apply(model.params, images)

    def remove_small(key: jax.Array, image: jax.Array) -> Perturbation:
        return remove_square(key, image, max_side=4)

    def explain(images: jax.Array) -> npt.NDArray[np.floating]:
        targets = [281] * len(images)
        found = dmbp.explain(model.apply, model.params, images, targets, "gradient_x_input", batch_size=2)
        return np.asarray(found.heatmap)

    perturb: Perturb = remove_small
    wrong: Infidelity = infidelity(logits, one.image, heatmap, target, key=key, perturb=perturb, n_samples=4)
    noisy: Perturbation = noisy_baseline(key, jnp.asarray(one.image), noise_level=0.1)
    assert noisy.removed.shape == one.image.shape
    right: SensitivityN = sensitivity_n(logits, one.image, heatmap, target, key=key, sizes=(9,), n_subsets=4)
    gone: Road = road(
        lambda x: jax.nn.softmax(logits(x)),
        one.image,
        heatmap,
        target,
        key=key,
        shares=(0.5,),
        perturbations_per_eval=1,
    )
    last: RoadCurve = gone.lerf
    filled: jax.Array = noisy_linear_imputation(one.image, heatmap > 0, key=key)
    assert filled.shape == one.image.shape
    moved: jax.Array = max_sensitivity(explain, one.image, heatmap, key=key, n_samples=2)
    numbers = np.full(one.size, VOC_CLASSES.index("cat") + 1, np.uint8)
    PIL.Image.fromarray(numbers).save(folder / "classes.png")
    sample = Sample("cat", (folder / "0.png",), ("cat",), segmentation=folder / "classes.png")
    seen: Segmentation | None = read_segmentation(sample, model.spec.preprocess, one.size)
    assert seen is not None
    return {
        "infidelity": float(wrong.scaled),
        "sensitivity-n": float(right.correlation[0]),
        "road": float(last.probabilities[0] - gone.morf.probabilities[0]),
        "max-sensitivity": float(moved),
        "mass": float(relevance_mass_accuracy(heatmap, seen.region("cat"), ignored=seen.void)),
        "rank": float(relevance_rank_accuracy(heatmap, seen.region("cat"))),
        "sparseness": float(sparseness(heatmap)),
    }


def forget(model: Model) -> list[str]:
    """Layers drawn anew, the class layer first."""
    key = jax.random.key(0)
    drawn = randomize_layers(key, model.params, ["classifier.1"])
    assert drawn["classifier"]["1"]["bias"].shape == (1000,)
    return [name for name, _ in cascade(key, model.params, ["classifier.1"])]


def draw(read: LoadedSample, heatmap: npt.NDArray[np.floating], folder: Path) -> list[Path]:
    """Figures and small pictures."""
    limit: float = symmetric_limit(heatmap)
    figure: matplotlib.figure.Figure = draw_explanation(read.rgb, heatmap, {"part": heatmap}, title="cat")
    figure.savefig(folder / "explanation.png")
    soft = Style(percentile=99.0, alpha=0.7, cmap="RdBu_r", smooth=2.0)
    two: list[Row] = [Row(read.rgb, heatmap), Row(None, smooth_heatmap(heatmap, 2.0), title="smooth")]
    draw_explanations(two, style=soft).savefig(folder / "two.png")
    a = dmbp.Attribution(values=jnp.asarray(heatmap)[..., None], finite=jnp.asarray(True))
    a.save(folder / "a.safetensors", photo=read.rgb, target=281)
    same: dmbp.Attribution = dmbp.Attribution.load(folder / "a.safetensors")
    again: matplotlib.figure.Figure = same.plot(read.rgb, titles="cat", smooth=2.0)
    again.savefig(folder / "again.png")
    draw_comparison(read.rgb, {"gradient": heatmap}).savefig(folder / "comparison.png")
    PIL.Image.fromarray(blend(read.rgb, heatmap, limit)).save(folder / "overlay.png")
    PIL.Image.fromarray(color_heatmap(heatmap)).save(folder / "map.png")
    return sorted(folder.glob("*.png"))


def know_weights(folder: Path) -> Model:
    """Architectures, the manifest, and weights in a file of one's own."""
    architecture: Architecture = get_architecture("squeezenet1_1")
    shapes = jax.eval_shape(lambda key: init(key, "squeezenet1_1", classes=10), jax.random.key(0))
    assert shapes["features"]["0"]["kernel"].shape == (3, 3, 3, 64)
    assert ARCHITECTURES["squeezenet1_1"] is architecture
    manifest: Manifest = read_manifest()
    entry: WeightsEntry = manifest.find("squeezenet1_1")
    assert not cache_folder().is_file()
    own = folder / "own.safetensors"
    port_checkpoint(fetch(entry), architecture.name, own)
    model: Model = load_model("squeezenet1_1", own)
    published: ModelSpec = dmbp.load_model("squeezenet1_1").spec
    logits: jax.Array = to_nnx(model)(jnp.zeros((1, SIDE, SIDE, 3)))
    again: jax.Array = dmbp.to_nnx(model).forward(model.params, jnp.zeros((1, SIDE, SIDE, 3)))
    assert logits.shape == again.shape == (1, 1000)
    spec = dataclasses.replace(published, preprocess=dataclasses.replace(published.preprocess, resize=SIDE))
    preprocess = dataclasses.replace(spec.preprocess, crop=SIDE)
    return model._replace(spec=dataclasses.replace(spec, preprocess=preprocess))


def evaluate_all(model: Model, read: LoadedSample, folder: Path) -> dmbp.EvaluationResult:
    """A method, a metric, a network and a kind of data of one's own, by name, in a run of a folder."""

    def brightness(
        apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None
    ) -> dmbp.Attribution:
        return dmbp.Attribution(values=image, finite=jnp.isfinite(image).all())

    def inside(
        predict: Predict,
        image: npt.NDArray[np.float32],
        heatmap: npt.NDArray[np.float32],
        target: jax.Array,
        *,
        mask: npt.NDArray[np.bool_],
    ) -> float:
        return float(heatmap[mask].sum())

    def one(path: str) -> list[ArraySample]:
        mask = np.ones(read.image.shape[:2], bool)
        return [
            ArraySample(
                read.image,
                [281, 285],
                name=path,
                mask=np.stack([mask, mask]),
                boxes=[Box("281", 4, 4, 24, 24)],
            )
        ]

    dmbp.register_method(brightness, title="Brightness")
    dmbp.register_metric(inside, higher_is_better=True)
    register_network(lambda: model, name="mine")
    register_dataset(one)
    assert dmbp.register_dataset is register_dataset
    assert dmbp.register_network is register_network
    run: dmbp.EvaluationResult = dmbp.evaluate(
        "mine",
        "one:cat",
        methods=["brightness", "gradient"],
        metrics=["inside"],
        folder=folder,
        progress=False,
    )
    data: Dataset = from_arrays(one("cat"))
    again = dmbp.evaluate(model, data, methods=[brightness], metrics=["inside", "pointing"], progress=False)
    assert [row.metric for row in again.rows()] == ["inside", "inside", "pointing"]
    return run


def main() -> None:
    """Run everything."""
    assert dmbp.example_photo() == example_photo()
    warnings.simplefilter("error", dmbp.InputWarning)
    with tempfile.TemporaryDirectory() as name:
        model = know_weights(Path(name))
        photographs = Path(name, "photographs")
        photographs.mkdir()
        read = read_photographs(write_photographs(photographs), model.spec.preprocess)
        maps = explain_photographs(model, read)
        for metric, value in measure(model, read[1], maps[1]).items():
            print(metric, value)
        assert examine(model, read[1], maps[1], photographs)["mass"] == 1
        assert forget(model) == ["classifier.1"]
        memory: Memory = count_memory(model.apply, model.params, (SIDE, SIDE, 3), preset="fast")
        assert memory.total > 0
        assert len(draw(read[1], maps[1], Path(name))) == 6
        assert len(evaluate_all(model, read[1], Path(name, "run")).summary()) == 2


if __name__ == "__main__":
    main()
