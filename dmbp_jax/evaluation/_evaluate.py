"""`evaluate`: how good are the maps of several methods, of any network, on any images?"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dmbp_jax._checks import InputError, kind_of
from dmbp_jax._progress import RunProgress
from dmbp_jax.evaluation._own_metrics import MetricFunction
from dmbp_jax.evaluation._store import Row, Store, open_store
from dmbp_jax.evaluation._summary import Key, Summary, collect, summarize, titles_of
from dmbp_jax.images import Dataset, Preprocess, Problem, from_arrays
from dmbp_jax.images._samples import Arrays
from dmbp_jax.models import Model
from dmbp_jax.models._load import as_model
from dmbp_jax.result import Method
from dmbp_jax.typing import OutputActivation

if TYPE_CHECKING:
    from dmbp_jax.evaluation._processes import Processes

T = TypeVar("T")


def evaluate(
    network: Model | tuple[Any, Any] | str,
    samples: Arrays | Dataset | str,
    *,
    methods: str | Method | Sequence[str | Method] = ("table2",),
    metrics: str | MetricFunction | Sequence[str | MetricFunction] | None = None,
    folder: str | Path | None = None,
    keep_maps: bool = False,
    name: str = "your network",
    classes: Sequence[str] | None = None,
    output: OutputActivation | None = None,
    preprocess: Preprocess | None = None,
    weights: str | None = None,
    split: str | None = None,
    preset: str = "fast",
    steps: int | None = None,
    target: str = "truth",
    limit: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
    depth: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    grid: int = 2,
    gallery: int = 32,
    progress: bool | RunProgress = True,
    processes: "Processes | None" = None,
) -> "Evaluated":
    """Measure how good the maps of several methods are; a run in a folder that was stopped goes on.

    Args:
        network: a `Model` of `load_model`, a name as `load_model` takes it, or `(apply, params)`, such as
            `gated` gives of any JAX network.
        samples: `(images, targets)`, images `(n, h, w, c)` normalised as the network takes them, a class
            index for each or several; or an `dmbp_jax.images.ArraySample` for each image, which may have a
            name, boxes, a mask; or photographs as the command names them, such as `"folder:PATH"`, a kind of
            `register_dataset`, or a `dmbp_jax.images.Dataset`.
        methods: one or several: names (`METHODS`, `"table1"`, `"table2"`, `"table3"`, `"all"`, `"random"`),
            functions with the methods' signature, and `"maps:FOLDER"`: maps `(h, w)` that somebody else has
            made, `NAME.npy` for each sample, or `NAME.TARGET.npy` for each of several targets.
        metrics: one or several: names (`"insertion"`, `"deletion"`, ...), and functions
            `metric(predict, image, heatmap, target) -> float`; see `register_metric` for more. None:
            `"insertion"`, and `"complementary_insertion"` where images have several classes.
        folder: of the run: killed at any moment, the same call goes on where it was, with the rows of an
            undisturbed run; with more methods or metrics than before, it measures those. A method, a metric
            or a network that has become another function, or closes over something else, is refused: see
            *One's own functions in a folder* in the documentation. None: in memory, and nothing is left
            behind.
        keep_maps: keep every map in the folder, half precision, about 90 KB for 224 x 224 pixels; then a
            metric that is added later explains nothing anew. Metrics measure the maps as they are kept:
            pixels that differ by less than their eleven bits are equal, which a fixed random order settles.
        name: of a network that is `(apply, params)`, for the report.
        classes: the names of its classes; by default "class 0" and so on.
        output: what makes probabilities of its logits, `"softmax"` or `"sigmoid"`; None: what the network's
            spec says, and else a sigmoid of a single logit and a softmax of several.
        preprocess: from photographs to its inputs, where samples are photographs.
        weights: of a name, as `load_model` takes them.
        split: VOC's list of images, by default `"val"`.
        preset: `"fast"`: a quick look. `"paper"`: 200 steps of DMBP, RISE's own number of masks, five random
            images of each class of ImageNet.
        steps: DMBP's steps in place of the 200 of preset `"paper"`.
        target: what is explained: `"truth"`, each true class in turn, or `"predicted"`, the most likely one.
        limit: evaluate a random subset of so many images.
        per_class: evaluate so many random images of each class.
        seed: of everything that is drawn.
        depth: bits of the photographs' values where their files do not say so, as `dmbp_jax.images.decode`
            takes it.
        batch_size: targets that are explained at once, and stored together.
        grid: `"grid:PATH"` makes composites of `grid * grid` photographs.
        gallery: so many images keep small pictures of their maps for the report.
        progress: whether progress shows: a bar on a terminal, lines elsewhere, on standard error; or what
            shows it.
        processes: others that share the run (`evaluation/_processes.py`).

    Returns:
        An `Evaluated`: rows, a summary, a pandas frame, the report.

    Raises:
        InputError: whatever cannot be done, before the work begins: an unknown name, a label that the network
            does not know, a metric that needs what the samples have not, maps that are missing, a folder with
            a run of another configuration; a photograph that has become unreadable since the run began.

    >>> import jax.numpy as jnp
    >>> import dmbp_jax
    >>> apply, params = dmbp_jax.gated((lambda w, x: jnp.maximum(x, 0).mean(axis=(1, 2)) @ w, jnp.eye(3)))
    >>> images = jnp.linspace(-1, 1, 4 * 8 * 8 * 3).reshape(4, 8, 8, 3)
    >>> def share(predict, image, heatmap, target):
    ...     return float((heatmap > 0).mean())
    >>> chosen = {"methods": ["gradient_x_input", "dmbp"], "metrics": [share]}
    >>> run = evaluate((apply, params), (images, [0, 1, 2, 0]), **chosen, progress=False)
    >>> run.rows()[0][:5], round(run.summary()["share", "dmbp"].mean, 3)
    (('0', 0, 'gradient_x_input', 'share', 0.0), 0.5)
    """
    from dmbp_jax.evaluation._plan import Evaluation
    from dmbp_jax.evaluation._run import run_evaluation

    if weights is not None and not isinstance(network, str):
        raise InputError("weights are of a network by name: this one brings its own")
    if split is not None and not isinstance(samples, str):
        raise InputError(f"these samples have no splits, got split {split!r}; only voc2007 and voc2012 have")
    if not isinstance(folder, str | Path | None):
        raise InputError(f"folder must be a path or None, got {kind_of(folder)}")
    if not isinstance(preprocess, Preprocess | None):
        raise InputError(f"preprocess must be a dmbp_jax.images.Preprocess, got {kind_of(preprocess)}")
    evaluation = Evaluation(
        data=samples if isinstance(samples, str | Dataset) else from_arrays(samples),
        model=_network(network, name, classes, preprocess),
        methods=_several(methods),
        metrics=None if metrics is None else _several(metrics),
        weights=weights,
        output=output,
        split=split,
        preset=preset,
        steps=steps,
        target=target,
        limit=limit,
        per_class=per_class,
        seed=seed,
        depth=depth,
        batch_size=batch_size,
        grid=grid,
        gallery=gallery,
        keep_maps=keep_maps,
    )
    where = None if folder is None else Path(folder)
    shown = progress if isinstance(progress, RunProgress) else RunProgress(silent=not progress)
    store = run_evaluation(evaluation, where, shown, processes)
    return Evaluated(where, store)


def _several(given: T | Sequence[T]) -> tuple[T, ...]:
    """One name or function, or several."""
    return tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)


def _network(
    network: Model | tuple[Any, Any] | str,
    name: str,
    classes: Sequence[str] | None,
    preprocess: Preprocess | None,
) -> Model | str:
    told = {"classes": None if classes is None else tuple(classes), "preprocess": preprocess}
    given: dict[str, Any] = {what: value for what, value in told.items() if value is not None}
    if isinstance(network, str | Model):
        if given:
            raise InputError(
                f"{' and '.join(given)}: a Model says so itself, in its spec; these are for (apply, params)"
            )
        return network
    model = as_model(network, name)
    return model._replace(spec=dataclasses.replace(model.spec, **given))


class Evaluated:
    """What an evaluation found; made by `evaluate`, or `Evaluated(folder)` of a run that is there."""

    def __init__(self, folder: str | Path | None, store: Store | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        """Of the run; None in memory."""
        self._store = store

    def rows(self) -> list[Row]:
        """Every measurement, with its curve where there is one."""
        with self._open() as store:
            return list(store.rows())

    def problems(self) -> list[Problem]:
        """What could not be evaluated, and why."""
        with self._open() as store:
            return store.problems()

    def summary(self) -> dict[Key, Summary]:
        """By metric and method: the mean, its 95 % interval over images, counts, seconds per target."""
        with self._open() as store:
            return summarize(collect(store.rows(), titles_of(store)))

    def frame(self) -> Any:
        """The rows as a `pandas.DataFrame`, without curves.

        Raises `InputError` where pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise InputError("a frame needs pandas: pip install pandas, or take rows()") from None
        columns = Row._fields[:6]
        return pandas.DataFrame([row[:6] for row in self.rows()], columns=list(columns))

    def write_report(self, path: str | Path | None = None) -> Path:
        """Write the page with tables, curves and a gallery, and return where it is.

        `path` None writes `report.html` into the run's folder. Raises `InputError` where there is none, or
        the page cannot be written.
        """
        from dmbp_jax.evaluation._report import NAME, write_page

        if path is None and self.folder is None:
            raise InputError("this run is in memory: say where the report goes, write_report('report.html')")
        with self._open() as store:
            return write_page(store, Path(path) if path is not None else Path(self.folder or ".") / NAME)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Store]:
        if self._store is not None:
            yield self._store
        elif self.folder is not None:
            with open_store(self.folder) as store:
                yield store
