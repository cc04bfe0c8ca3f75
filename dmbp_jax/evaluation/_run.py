"""A run: maps and metrics of one part after the other, into the store."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from dmbp_jax._calls.chunks import by_shape
from dmbp_jax._checks import InputError, kind_of
from dmbp_jax._compile_time import stopwatch
from dmbp_jax._progress import RunProgress
from dmbp_jax.evaluation._evaluate import Evaluation
from dmbp_jax.evaluation._fingerprint import code_of
from dmbp_jax.evaluation._items import Item, Metric, label_indices
from dmbp_jax.evaluation._methods import CHEAP, EvaluatedMethod
from dmbp_jax.evaluation._plan import Plan, make_plan
from dmbp_jax.evaluation._processes import Alone, Processes
from dmbp_jax.evaluation._store import (
    KeptMap,
    Picture,
    Row,
    Store,
    Unit,
    keep_map,
    make_store,
    resume_store,
    storable,
)
from dmbp_jax.evaluation._store_files import file_of, holds_run, settings_in
from dmbp_jax.images import LoadedSample, Problem, Sample
from dmbp_jax.images._samples import read_ahead
from dmbp_jax.models import ModelSpec
from dmbp_jax.ops._programs import forget_programs
from dmbp_jax.plot._heatmap import thumbnail_map, thumbnail_photo

# The maps of a chunk by one method: explained now, kept from before, or read from a folder.


class Mapped(NamedTuple):
    """An item with its map."""

    item: Item
    heatmap: Float[np.ndarray, "h w"]
    seconds: float | None
    """Seconds: its share of its batch's time, without compiling; None for a map from a folder."""
    compiling: float = 0.0
    """Its share of the seconds of compiling."""
    kept: KeptMap | None = None
    """The map to be kept, if any."""


def get_maps(plan: Plan, store: Store, method: EvaluatedMethod, items: Sequence[Item]) -> list[Mapped]:
    """The map of every item, in the order of the items.

    Kept maps are used if all of a chunk's are available; otherwise the whole chunk is explained.

    Raises `InputError` for a file of a folder of maps that is not there, or no map of the item's image.
    """
    if method.maps is not None:
        return [
            Mapped(
                item,
                method.maps.read(item.name, item.target, item.image.shape[:2], alone=item.alone),
                None,
            )
            for item in items
        ]
    if plan.keep_maps:
        kept = [store.kept_map(item.name, item.target, method.name) for item in items]
        there = [one for one in kept if one is not None]
        if len(there) == len(items):
            for item, one in zip(items, there, strict=True):
                if (one.height, one.width) != item.image.shape[:2]:
                    raise InputError(
                        f"the kept map of {item.name} by {method.name} is damaged: it is {one.height} x "
                        f"{one.width}, and the network's image {item.image.shape[:2]}; take another folder"
                    )
            return [Mapped(item, one.heatmap(), one.seconds) for item, one in zip(items, there, strict=True)]
    return _explain(plan, method, items)


def _explain(plan: Plan, method: EvaluatedMethod, items: Sequence[Item]) -> list[Mapped]:
    found: dict[int, Mapped] = {}
    for group in by_shape(items, lambda item: item.image.shape):
        with stopwatch() as watch:
            heatmaps = plan.setting.heatmaps(
                method, group, [item.target for item in group], plan.model.params
            )
        seconds, compiling = watch.working / len(group), watch.compiling / len(group)
        for item, heatmap in zip(group, heatmaps, strict=True):
            one = Mapped(item, heatmap, seconds, compiling)
            if plan.keep_maps:
                kept = keep_map(item.name, item.target, method.name, seconds, heatmap)
                # What is measured is what is kept: a metric that is added later has the same maps.
                one = one._replace(heatmap=kept.heatmap(), kept=kept)
            found[id(item)] = one
    return [found[id(item)] for item in items]


# An evaluation: every method on every image, every metric on every map, row by row into a store.
#
# The samples are cut into chunks once and for all. One method on one chunk is explained as a whole, measured
# by every metric that is missing, and stored together: after an interruption it is computed again with the
# same arrays in the same places, so that an interrupted run ends with the rows of an undisturbed one. Where
# maps are kept, a metric that is added later reads them.
#
# Several processes work in rounds: after a barrier they divide the remaining units among the live processes.
# # One round is enough, unless a process dies: then the others compute its units in the next round.


def run_evaluation(evaluation: Evaluation) -> Store | None:
    """Run an evaluation, or what is left of it, into its folder; with others, if it has `processes`.

    Returns when every unit is done, by any process. Without a folder it runs in memory, and returns the
    store.

    Raises `InputError` as `make_plan` does, where the folder holds a run of another configuration, where it
    cannot be written, and if another process has stopped with an error; what is finished by then is kept.
    """
    if not isinstance(evaluation.processes, Processes | None):
        raise InputError(f"processes must be of join_processes, or None, got {kind_of(evaluation.processes)}")
    processes = evaluation.processes or Alone()
    shown = evaluation.progress
    progress = shown if isinstance(shown, RunProgress) else RunProgress(silent=not shown)
    folder = None if evaluation.folder is None else Path(evaluation.folder)
    together = None
    if folder is not None and evaluation.batch_size == "auto" and holds_run(folder):
        # A resumed run keeps its chunks, also on a machine that would choose others.
        together = settings_in(file_of(folder, 0), "config").get("batch_size")
    plan = make_plan(evaluation, together=together)
    if evaluation.methods is CHEAP and shown and processes.index == 0:
        progress.note(
            f"methods, by default cheap ones: {', '.join(CHEAP)}; table2 names the paper's, all every one"
        )
    if folder is None:
        store = make_store(plan.config, plan.about)
        _take_part(plan, store, progress, processes)
        return store
    _check_told(evaluation, plan)
    if processes.index > 0:
        # The first process creates the run's file.
        processes.meet()
    with resume_store(folder, plan.config, plan.about, process=processes.index) as store:
        _take_part(plan, store, progress, processes)
    return None


def _check_told(evaluation: Evaluation, plan: Plan) -> None:
    """Raise `InputError` for a function of which a later run in the folder cannot tell whether it is the
    same."""
    for method in plan.methods:
        method.check_told()
    for metric in plan.metrics:
        metric.check_told()
    untold = None if isinstance(evaluation.network, str) else code_of(plan.model.apply).untold
    if untold is not None:
        raise InputError(
            f"the network uses {untold}, of which a later run in this folder cannot tell whether it is the "
            "same: give it a name that stands for it, register_network(..., name=...)"
        )


def _take_part(plan: Plan, store: Store, progress: RunProgress, processes: Processes) -> None:
    """Compute this process's share of the remaining units, round by round."""
    store.add_metrics(plan.metrics)
    if processes.index == 0:
        store.add_problems(plan.problems)
        processes.meet()
    before = list(range(processes.count))
    while True:
        # Between barriers without writing, all processes read the same.
        processes.meet()
        done = store.done()
        alive = processes.meet()
        for lost in sorted(set(before) - set(alive)):
            progress.note(f"process {lost} is lost; the others compute its remaining units")
        before = alive
        open_chunks = [number for number in range(len(plan.chunks)) if _missing(plan, done, number)]
        if not open_chunks:
            return
        mine = range(len(plan.chunks)) if processes.count == 1 else open_chunks
        run_chunks(plan, store, progress, mine[alive.index(processes.index) :: len(alive)], processes)


def _missing(plan: Plan, done: set[Unit], number: int) -> dict[str, tuple[EvaluatedMethod, list[Metric]]]:
    """The metrics that a chunk lacks, of each method that lacks any."""
    each = (
        (one, [metric for metric in plan.metrics if Unit(number, one.name, metric.name) not in done])
        for one in plan.methods
    )
    return {one.name: (one, metrics) for one, metrics in each if metrics}


def run_chunks(
    plan: Plan, store: Store, progress: RunProgress, chunks: Sequence[int], processes: Processes
) -> None:
    """Compute the units of these chunks that `store` does not have.

    Raises `InputError` if a photograph of a chunk that was begun can no longer be read.
    """
    done = store.done()
    begun = {unit.chunk for unit in done}
    left = {number: missing for number in chunks if (missing := _missing(plan, done, number))}
    samples = [sample for number in left for sample in plan.chunks[number]]
    shape: tuple[int, ...] | None = None
    names = [name for missing in left.values() for name in missing]
    with progress.shown(total=len(chunks) * len(plan.methods), left=names):
        loaded = read_ahead(samples, plan.read)
        for number, missing in left.items():
            chunk = [next(loaded) for _ in plan.chunks[number]]
            items = [
                item
                for sample, one in _usable(chunk, store, progress, begun=number in begun)
                for item in _items(plan, sample, one)
            ]
            if items and shape not in (None, items[0].image.shape):
                # A dataset of hundreds of image sizes would fill the memory with unused programs.
                forget_programs()
            shape = items[0].image.shape if items else shape
            for method, metrics in missing.values():
                processes.check()
                progress.begin(method.name, f"images {plan.span(number)}")
                maps = get_maps(plan, store, method, items)
                rows = _measure(plan, method, metrics, maps)
                pictures = _pictures(plan, method, maps)
                kept = [one.kept for one in maps if one.kept is not None] if plan.keep_maps else []
                compiling = sum((one.compiling for one in maps), 0.0)
                store.add(number, method.name, rows, pictures, maps=kept, compiling=compiling)
                progress.advance()


def _usable(
    chunk: Sequence[tuple[Sample, LoadedSample | InputError]],
    store: Store,
    progress: RunProgress,
    *,
    begun: bool,
) -> Iterator[tuple[Sample, LoadedSample]]:
    """The samples of a chunk that could be read; the others are reported once.

    All methods must have the same samples: a chunk that an earlier session has begun keeps that session's
    choice.
    """
    left_out = {problem.name for problem in store.problems()} if begun else set()
    for sample, one in chunk:
        if storable(sample.name) in left_out:
            continue
        if not isinstance(one, InputError):
            yield sample, one
        elif begun:
            raise InputError(
                f"{one}; it could be read when this run began, and some methods have explained it: put it "
                "back, then run the same command again"
            )
        else:
            store.add_problems([Problem(sample.name, str(one))])
            progress.note(f"left out: {one}")


def _measure(
    plan: Plan, method: EvaluatedMethod, metrics: Sequence[Metric], maps: Sequence[Mapped]
) -> dict[str, list[Row]]:
    """The rows of each metric, for maps of one chunk."""
    rows: dict[str, list[Row]] = {metric.name: [] for metric in metrics}
    for group in by_shape(maps, lambda one: one.item.image.shape):
        items, heatmaps = [one.item for one in group], np.stack([one.heatmap for one in group])
        mapped = {id(one.item): one for one in group}
        for metric in metrics:
            for item, target, name, value, curve in metric.measure(plan.setting, method, items, heatmaps):
                one = mapped[id(item)]
                known = np.isfinite(value) and bool(np.isfinite(one.heatmap).all())
                rows[metric.name].append(
                    Row(
                        item.name,
                        target,
                        method.name,
                        name,
                        float(value) if known else None,
                        one.seconds,
                        tuple(v if np.isfinite(v) else None for v in curve) if curve and known else None,
                    )
                )
    return rows


def _pictures(plan: Plan, method: EvaluatedMethod, maps: Sequence[Mapped]) -> Iterator[Picture]:
    for item, heatmap, *_ in maps:
        if item.name in plan.gallery:
            if item.first:
                yield Picture(item.name, -1, "", thumbnail_photo(item.rgb))
            yield Picture(item.name, item.target, method.name, thumbnail_map(heatmap))


def _items(plan: Plan, sample: Sample, loaded: LoadedSample) -> Iterator[Item]:
    spec = plan.model.spec
    labels = label_indices(sample, spec)
    targets = labels
    if plan.target == "predicted":
        logits = jax.jit(plan.model.apply)(plan.model.params, loaded.image[None])
        targets = (int(np.argmax(logits[0])),)
    for number, target in enumerate(targets):
        yield Item(
            name=sample.name,
            rgb=loaded.rgb,
            image=loaded.image,
            target=target,
            labels=labels,
            boxes=tuple(box for box in sample.boxes if _is(box.label, target, spec)),
            size=loaded.size,
            region=loaded.region,
            grid=sample.grid,
            pair=sample.pair,
            first=number == 0,
            alone=len(targets) == 1,
            mask=None if loaded.masks is None or target not in labels else loaded.masks[labels.index(target)],
            void=loaded.void,
        )


def _is(label: str, target: int, spec: ModelSpec) -> bool:
    try:
        return spec.label_index(label) == target
    except InputError:
        # An object whose label is no class of the model.
        return False
