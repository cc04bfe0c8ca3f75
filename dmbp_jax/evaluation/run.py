"""An evaluation: every method on every image, every metric on every map, row by row into a store.

The samples are cut into chunks once and for all. One method on one chunk is a unit: computed together,
stored together, and after an interruption computed again as a whole, with the same arrays in the same places,
so that an interrupted run ends with the rows of an undisturbed one.

Several processes work in rounds: they meet, see what is left to do, and divide it among those that are alive.
One round does, unless one of them dies: then the others do in the next what it has left.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from dmbp_jax.batching import call
from dmbp_jax.batching.chunks import by_shape
from dmbp_jax.checks import InputError
from dmbp_jax.data import LoadedSample, Problem, Sample, read_ahead, read_sample
from dmbp_jax.evaluation import measures
from dmbp_jax.evaluation.contestants import Contestant
from dmbp_jax.evaluation.items import Item, label_indices
from dmbp_jax.evaluation.measures import MEASURES
from dmbp_jax.evaluation.plan import Evaluation, Plan, make_plan
from dmbp_jax.evaluation.processes import Alone, Processes
from dmbp_jax.evaluation.store import Picture, Row, Store, resume_store, storable
from dmbp_jax.evaluation.store_files import file_of, holds_run, settings_in
from dmbp_jax.pretrained import ModelSpec
from dmbp_jax.progress import RunProgress
from dmbp_jax.viz import thumbnail_map, thumbnail_photo


def evaluate(
    evaluation: Evaluation,
    folder: Path,
    progress: RunProgress | None = None,
    processes: Processes | None = None,
) -> Plan:
    """Run an evaluation, or what is left of it, into `folder`; with others, if they are in `processes`.

    Returns when every unit is done, whoever did it.

    Raises `InputError` as `make_plan` does, where `folder` holds a run of another configuration, where it
    cannot be written, and if another process has stopped with an error; what is finished by then is kept.
    """
    processes = processes or Alone()
    progress = progress or RunProgress()
    together = None
    if evaluation.batch_size == "auto" and holds_run(folder):
        # Chunks are what a run resumes by, also on a machine that would have chosen other ones.
        together = settings_in(file_of(folder, 0), "config").get("batch_size")
    plan = make_plan(evaluation, together=together)
    if processes.index > 0:
        # The first one makes the run's file.
        processes.meet()
    with resume_store(folder, plan.config, plan.about, process=processes.index) as store:
        if processes.index == 0:
            store.add_problems(plan.problems)
            processes.meet()
        before = list(range(processes.count))
        while True:
            # While nobody writes, all read the same.
            processes.meet()
            done = store.done()
            alive = processes.meet()
            for lost in sorted(set(before) - set(alive)):
                progress.note(f"process {lost} is gone; the others do what it has left")
            before = alive
            open_chunks = [
                number
                for number in range(len(plan.chunks))
                if any((number, one.name) not in done for one in plan.contestants)
            ]
            if not open_chunks:
                return plan
            mine = range(len(plan.chunks)) if processes.count == 1 else open_chunks
            run_chunks(plan, store, progress, mine[alive.index(processes.index) :: len(alive)], processes)


def run_chunks(
    plan: Plan, store: Store, progress: RunProgress, chunks: Sequence[int], processes: Processes
) -> None:
    """Compute the units of these chunks that `store` does not have.

    Raises `InputError` if a photograph of a chunk that was begun can no longer be read.
    """
    done = store.done()
    units = [(number, one.name) for number in chunks for one in plan.contestants]
    left = {unit: None for unit in units if unit not in done}
    open_chunks = list(dict.fromkeys(number for number, _ in left))

    def read(sample: Sample) -> LoadedSample:
        return read_sample(sample, plan.model.spec.preprocess)

    samples = [sample for number in open_chunks for sample in plan.chunks[number]]
    shape: tuple[int, ...] | None = None
    with progress.shown(total=len(units), left=[name for _, name in left]):
        loaded = read_ahead(samples, read)
        for number in open_chunks:
            begun = any((number, one.name) in done for one in plan.contestants)
            chunk = [next(loaded) for _ in plan.chunks[number]]
            items = [
                item
                for sample, one in _usable(chunk, store, progress, begun=begun)
                for item in _items(plan, sample, one)
            ]
            if items and shape not in (None, items[0].image.shape):
                # A dataset of hundreds of sizes would fill the memory with programs that are done with.
                call.forget_programs()
                measures.forget_programs()
            shape = items[0].image.shape if items else shape
            for contestant in plan.contestants:
                if (number, contestant.name) in left:
                    processes.check()
                    progress.begin(contestant.name, f"images {plan.span(number)}")
                    rows, pictures = _measure(plan, contestant, items)
                    store.add(number, contestant.name, rows, pictures)
                    progress.advance()


def _usable(
    chunk: Sequence[tuple[Sample, LoadedSample | InputError]],
    store: Store,
    progress: RunProgress,
    *,
    begun: bool,
) -> Iterator[tuple[Sample, LoadedSample]]:
    """The samples of a chunk that could be read; the others are noted, and reported once.

    All methods must see the same: a chunk that an earlier session has begun keeps that session's choice.
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


def _measure(plan: Plan, contestant: Contestant, items: Sequence[Item]) -> tuple[list[Row], list[Picture]]:
    rows: list[Row] = []
    pictures: list[Picture] = []
    for group in by_shape(items, lambda item: item.image.shape):
        start = time.perf_counter()
        targets = [item.target for item in group]
        heatmaps = plan.setting.heatmaps(contestant, group, targets, plan.model.params)
        seconds = (time.perf_counter() - start) / len(group)
        defined = {id(item): bool(np.isfinite(m).all()) for item, m in zip(group, heatmaps, strict=True)}
        for name in plan.metrics:
            for item, target, metric, value, curve in MEASURES[name](
                plan.setting, contestant, group, heatmaps
            ):
                known = np.isfinite(value) and defined[id(item)]
                rows.append(
                    Row(
                        item.name,
                        target,
                        contestant.name,
                        metric,
                        float(value) if known else None,
                        seconds,
                        tuple(v if np.isfinite(v) else None for v in curve) if curve and known else None,
                    )
                )
        for item, heatmap in zip(group, heatmaps, strict=True):
            if item.name in plan.gallery:
                if item.first:
                    pictures.append(Picture(item.name, -1, "", thumbnail_photo(item.rgb)))
                pictures.append(Picture(item.name, item.target, contestant.name, thumbnail_map(heatmap)))
    return rows, pictures


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
        )


def _is(label: str, target: int, spec: ModelSpec) -> bool:
    try:
        return spec.label_index(label) == target
    except InputError:
        # An object that is no class of the model, beside one that is.
        return False
