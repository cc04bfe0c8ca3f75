"""The page of a run: `dmbp-jax report RUN/`."""

import importlib.metadata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmbp_jax._checks import InputError
from dmbp_jax.dmbp import DMBPConfig
from dmbp_jax.evaluation._page import Chart, DrawnCurve, Example, Report, Section, render_report
from dmbp_jax.evaluation._store import Picture, Store, Unit, open_store
from dmbp_jax.evaluation._summary import (
    REFERENCE,
    Measurements,
    Titles,
    collect,
    compare,
    summarize,
    titles_of,
)
from dmbp_jax.evaluation._tables import Setup, metric_table, overview_table, paper_table, published_setup
from dmbp_jax.images._files import atomic_path
from dmbp_jax.models import ARCHITECTURES

NAME = "report.html"
PAPER_STEPS = DMBPConfig.steps
FOOTER = (
    "Means go over explained targets. Intervals are the bootstrap's 95 % percentile intervals, for which "
    "whole images are drawn, since the targets of one image are not independent. Published figures: A. Ruiz, "
    "A. Agudo, F. Moreno-Noguer, Generating Attribution Maps with Disentangled Masked Backpropagation, "
    "ICCV 2021."
)
COMPARISON_TEXT = (
    "Undefined values, such as the correlation with a constant map, are not part of the means. Better, "
    "worse: the share of targets for which a method is better or worse than DMBP; the rest are ties. "
    "Wilcoxon p: two-sided signed-rank test on the images' mean differences, not corrected for the number "
    "of comparisons."
)
_SETTINGS = (
    *("dataset", "model", "weights", "preset", "target", "methods", "chunks", "samples"),
    *("split", "limit", "per_class"),
)
_ABOUT = ("data", "classes")


def write_report(run: Path, output: Path | None = None) -> Path:
    """Write the page of the run in the folder `run`, finished or not, and return where it is.

    `output` None writes `report.html` into the folder. Raises `InputError` where `run` holds no run, or
    `output` cannot be written.
    """
    with open_store(run) as store:
        return write_page(store, run / NAME if output is None else output)


def write_page(store: Store, output: Path) -> Path:
    """Write the page of a run, and return where it is; raises `InputError` where it cannot be written."""
    page = render_report(make_report(store))
    with atomic_path(output) as temporary:
        # Bytes of file names that are not valid text become question marks.
        temporary.write_bytes(page.encode("utf-8", "replace"))
    return output


def make_report(store: Store) -> Report:
    """The contents of the page; raises `InputError` for a metric that this version does not know."""
    config, about, problems = store.config(), store.about(), store.problems()
    lacking = [name for name in _SETTINGS if name not in config] + [n for n in _ABOUT if n not in about]
    if lacking:
        raise InputError(
            f"{store.path or 'the run'} is damaged, or of another version: it does not say {lacking[0]}"
        )
    titles = titles_of(store)
    measurements = collect(store.rows(), titles)
    summaries = summarize(measurements)
    methods = _methods(config, measurements)
    metrics = {metric: titles.metric(metric).title for metric, _ in measurements.series}
    comparisons = compare(measurements, REFERENCE, titles=titles)
    setup = Setup(config["dataset"], config["model"])
    # The paper's numbers are not comparable with those of a user's own network.
    numbers = (1, 2, 3) if config["model"] in ARCHITECTURES else ()
    tables = [paper_table(number, summaries, methods, setup, titles) for number in numbers]
    found = [table for table in tables if table]
    each = [metric_table(metric, summaries, comparisons, REFERENCE, titles) for metric in metrics]
    sections = [
        Section(
            "metrics",
            "All metrics",
            "",
            [overview_table(summaries, methods, titles, compiling=store.compiling())] if summaries else [],
        ),
        Section("each", "Each metric", COMPARISON_TEXT if comparisons else "", each),
    ]
    pictures = list(store.pictures())
    examples = _examples(measurements, pictures, about["classes"], methods, titles)
    return Report(
        title=f"Attribution methods compared on {config['model']}",
        lead=_lead(config, about["data"], measurements, methods, titles),
        notices=_notices(config, methods, list(store.metrics()), store.done()),
        problems=problems,
        methods={name: titles.method(name) for name in methods},
        metrics=metrics,
        reference=REFERENCE,
        paper=[Section("paper", "Beside the paper", _paper_text(config, setup), found)] if found else [],
        charts=_charts(measurements, metrics, methods, titles),
        sections=sections if summaries else [],
        gallery_note=_gallery_note(examples, measurements),
        examples=examples,
        facts={"Configuration": config, "Versions and machine": _without(about, "classes")},
        footer=f"Written by dmbp_jax {importlib.metadata.version('dmbp_jax')}. {FOOTER}",
    )


def _methods(config: Mapping[str, Any], measurements: Measurements) -> list[str]:
    """The methods of the configuration in its order, then others that have rows."""
    return list(dict.fromkeys([*config["methods"], *measurements.seconds]))


def _images(measurements: Measurements) -> int:
    return int(measurements.image.max(initial=-1)) + 1


def _targets(measurements: Measurements, titles: Titles) -> int:
    """How many targets are explained, without those that only a metric of whole images has."""
    explained = np.zeros(len(measurements.pairs), dtype=bool)
    for (metric, _), series in measurements.series.items():
        if not titles.metric(metric).of_image:
            explained |= series.measured
    return int(explained.sum()) or len(measurements.pairs)


def _lead(
    config: Mapping[str, Any],
    data: str,
    measurements: Measurements,
    methods: Sequence[str],
    titles: Titles,
) -> str:
    if not measurements.pairs:
        return "There are no measurements yet."
    targets = "most likely classes" if config["target"] == "predicted" else "true classes"
    metrics = [titles.metric(name).title for name in dict.fromkeys(name for name, _ in measurements.series)]
    return (
        f"{_count(len(methods), 'method')} explained {_count(_images(measurements), 'image')} "
        f"({data}) for {_count(_targets(measurements, titles), 'target')}, their {targets}, "
        f"as {config['model']} (weights {config['weights']}) classifies them. "
        f"The maps are measured by {_listed([title[0].lower() + title[1:] for title in metrics])}. "
        f"The preset was {config['preset']}."
    )


def _notices(
    config: Mapping[str, Any], methods: Sequence[str], metrics: Sequence[str], done: set[Unit]
) -> list[str]:
    """Whether the run is unfinished."""
    total = config["chunks"] * len(methods)
    measured = Counter((unit.chunk, unit.method) for unit in done if unit.metric in metrics)
    complete = sum(count == len(metrics) for count in measured.values())
    if complete >= total:
        return []
    return [
        f"This run is not finished: {complete:,} of {total:,} batches are done, counted for each method. "
        "The numbers below are preliminary."
    ]


def _paper_text(config: Mapping[str, Any], setup: Setup) -> str:
    """The introduction of the tables, with the differences of this run from the paper's protocol."""
    differences = []
    if published_setup(setup.dataset, setup.architecture) is None:
        differences.append(
            "the paper has no figures for this network on this data, so what it publishes for others is "
            "context, not a target"
        )
    steps = config["methods"].get(REFERENCE, {}).get("options", {}).get("steps", PAPER_STEPS)
    if config["preset"] != "paper":
        differences.append(
            f"this run used the preset {config['preset']}, not the paper's 200 steps and numbers of masks"
        )
    elif steps != PAPER_STEPS:
        differences.append(f"DMBP took {steps} steps, in the paper {PAPER_STEPS}")
    if config["target"] != "truth":
        differences.append("the paper explains the true classes, this run the most likely ones")
    if setup.dataset == "imagenet" and config["samples"] < 5000:
        differences.append(f"the paper took 5,000 images, this run {config['samples']:,}")
    if setup.dataset.startswith("voc"):
        if config["split"] not in (None, "val"):
            differences.append(f"the paper took the split val, this run {config['split']}")
        if config["limit"] is not None or config["per_class"] is not None:
            differences.append(f"the paper took the whole split, this run {config['samples']:,} images of it")
    text = "This run's means in the layout of the paper's tables, with the figures that it publishes."
    return text + (f" Note: {'; '.join(differences)}." if differences else "")


def _charts(
    measurements: Measurements, metrics: Mapping[str, str], methods: Sequence[str], titles: Titles
) -> list[Chart]:
    charts = []
    for metric, title in metrics.items():
        shown = titles.metric(metric)
        curves = [
            DrawnCurve(method, [round(v, 4) if np.isfinite(v) else None for v in series.curve.tolist()])
            for method in methods
            if (series := measurements.series.get((metric, method))) and series.curve is not None
        ]
        if shown.curve and curves:
            note = f"{shown.direction.capitalize()}."
            charts.append(Chart(title, note, *shown.curve, curves))
    return charts


def _examples(
    measurements: Measurements,
    pictures: Iterable[Picture],
    classes: Mapping[str, str],
    methods: Sequence[str],
    titles: Titles,
) -> list[Example]:
    """The targets that have pictures, with their values; the others are in the tables only."""
    photos: dict[str, bytes] = {}
    maps: dict[tuple[str, int], dict[str, bytes]] = {}
    for picture in pictures:
        if picture.method:
            maps.setdefault((picture.image, picture.target), {})[picture.method] = picture.png
        else:
            photos[picture.image] = picture.png
    number = {pair: index for index, pair in enumerate(measurements.pairs)}
    of_image: dict[str, list[int]] = {}
    for (image, _), index in number.items():
        of_image.setdefault(image, []).append(index)
    examples = []
    for (image, target), by_method in maps.items():
        values: dict[str, dict[str, float | None]] = {}
        for (metric, method), series in measurements.series.items():
            pair = number.get((image, target))
            if titles.metric(metric).of_image:
                pair = next((p for p in of_image.get(image, []) if series.measured[p]), None)
            if method in methods and pair is not None and series.measured[pair]:
                value = float(series.values[pair])
                values.setdefault(metric, {})[method] = value if np.isfinite(value) else None
        name = classes.get(str(target), f"class {target}")
        examples.append(Example(image, name, photos.get(image), by_method, values))
    return examples


def _gallery_note(examples: Sequence[Example], measurements: Measurements) -> str:
    if not examples:
        return "This run kept no pictures."
    images = len({example.image for example in examples})
    kept = f"{images:,} of {_images(measurements):,}" if images < _images(measurements) else "all"
    return (
        f"Pictures were kept of {kept} images. Red is evidence for the class, blue against it, white "
        "neither; each map has its own scale. Below each map is its value of the metric chosen here."
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"


def _without(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != name}
