"""`evaluate`: metrics of the maps of several methods, for any network and images; `EvaluationResult`."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar, no_type_check

from dmbp_jax._checks import InputError, as_number, check_choice, kind_of, several
from dmbp_jax._progress import RunProgress
from dmbp_jax._ranges import Count, CountFromZero, Whole, check_fields
from dmbp_jax.dmbp import PRESETS
from dmbp_jax.evaluation._methods import CHEAP
from dmbp_jax.evaluation._own_metrics import MetricFunction
from dmbp_jax.evaluation._registry import choose_metrics
from dmbp_jax.evaluation._store import Row, Store, open_store
from dmbp_jax.evaluation._summary import Key, Summary, collect, summarize, titles_of
from dmbp_jax.images import Dataset, Preprocess, Problem, from_arrays
from dmbp_jax.images._depth import Depth
from dmbp_jax.images._samples import Arrays
from dmbp_jax.models import Model
from dmbp_jax.models._load import as_model
from dmbp_jax.ops._derivatives import check_output
from dmbp_jax.result import Method
from dmbp_jax.typing import OutputActivation

if TYPE_CHECKING:
    from dmbp_jax.evaluation._processes import Processes

P = ParamSpec("P")
T = TypeVar("T")

TARGETS = ("truth", "predicted")


# What users pass is checked in `__post_init__`, with a message for each option.
@no_type_check
@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `evaluate` is told: each option with its type, range and default; `evaluate` says what they mean.

    The command `dmbp-jax evaluate` takes its options from here, and what they mean from there.

    Raises `InputError` for a value outside its range.
    """

    network: Model | tuple[Any, Any] | str
    samples: Arrays | Dataset | str
    _: dataclasses.KW_ONLY
    methods: str | Method | Sequence[str | Method] = CHEAP
    metrics: str | MetricFunction | Sequence[str | MetricFunction] | None = None
    folder: str | Path | None = None
    keep_maps: bool = False
    name: str = "your network"
    classes: Sequence[str] | None = None
    output: OutputActivation | None = None
    preprocess: Preprocess | None = None
    weights: str | None = None
    split: str | None = None
    preset: str = "fast"
    steps: CountFromZero | None = None
    target: str = "truth"
    limit: Count | None = None
    per_class: Count | None = None
    seed: Annotated[int, Whole()] = 0
    depth: Depth | None = None
    batch_size: Count | Literal["auto"] = "auto"
    grid: Annotated[int, Whole(2)] = 2
    gallery: CountFromZero = 32
    progress: bool | RunProgress = True
    processes: "Processes | None" = None

    def __post_init__(self) -> None:
        if self.weights is not None and not isinstance(self.network, str):
            raise InputError("weights are of a network by name: this one brings its own")
        if self.split is not None and not isinstance(self.samples, str):
            raise InputError(
                f"these samples have no splits, got split {self.split!r}; only voc2007 and voc2012 have"
            )
        if not isinstance(self.folder, str | Path | None):
            raise InputError(f"folder must be a path or None, got {kind_of(self.folder)}")
        if not isinstance(self.preprocess, Preprocess | None):
            raise InputError(
                f"preprocess must be a dmbp_jax.images.Preprocess, got {kind_of(self.preprocess)}"
            )
        # What is walked only once, such as a generator, is walked here.
        for name in ("methods", "metrics"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None and name == "metrics" else several(given))
        for name in self._determining:
            object.__setattr__(self, name, as_number(getattr(self, name)))
        check_choice("preset", self.preset, PRESETS)
        check_choice("target", self.target, TARGETS)
        check_output(self.output)
        check_fields(self)
        choose_metrics(self.given_metrics or ())
        if self.metrics is not None and not self.given_metrics:
            raise InputError("no metric given: name one or several, or leave metrics out")

    @property
    def given_methods(self) -> tuple[str | Method, ...]:
        """The methods, also where it is one."""
        return several(self.methods)

    @property
    def given_metrics(self) -> tuple[str | MetricFunction, ...] | None:
        """The metrics, also where it is one."""
        return None if self.metrics is None else several(self.metrics)

    def dataset(self) -> Dataset | str:
        """The samples as a dataset, or the name of one."""
        return self.samples if isinstance(self.samples, str | Dataset) else from_arrays(self.samples)

    def model(self) -> Model | str:
        """The network as a model, or the name of one."""
        classes = None if self.classes is None else tuple(self.classes)
        told = {"classes": classes, "preprocess": self.preprocess}
        given: dict[str, Any] = {what: value for what, value in told.items() if value is not None}
        if isinstance(self.network, str | Model):
            if given:
                raise InputError(
                    f"{' and '.join(given)}: a Model says so itself, in its spec; these are for "
                    "(apply, params)"
                )
            return self.network
        model = as_model(self.network, self.name)
        return model._replace(spec=dataclasses.replace(model.spec, **given))

    def determining(self) -> dict[str, Any]:
        """The options that determine the rows of a run: it is continued only with the same.

        Metrics may be added to a run, and the same samples may be in another place. Of the network, the
        methods and the samples more is recorded than their names.
        """
        return {name: getattr(self, name) for name in self._determining}

    @property
    def _determining(self) -> list[str]:
        beside = {"network", "samples", "methods", "metrics", "folder", "name", "classes", "preprocess"}
        beside |= {"progress", "processes"}
        return [field.name for field in dataclasses.fields(self) if field.name not in beside]


def _takes(kind: Callable[P, Any]) -> Callable[[Callable[..., T]], Callable[P, T]]:
    """A decorator for a function whose options are those of a dataclass, which thereby has its signature."""

    def decorate(function: Callable[..., T]) -> Callable[P, T]:
        signature = inspect.signature(kind)
        known = list(signature.parameters)

        @functools.wraps(function)
        def taking(*args: P.args, **kwargs: P.kwargs) -> T:
            for name in kwargs:
                check_choice(f"option of {function.__name__}", name, known)
            return function(*args, **kwargs)

        returns = inspect.signature(function).return_annotation
        taking.__signature__ = signature.replace(return_annotation=returns)  # type: ignore[attr-defined]
        return taking

    return decorate


@_takes(Evaluation)
def evaluate(network: Any, samples: Any, **options: Any) -> "EvaluationResult":
    """Measure how good the maps of several methods are; an interrupted run in a folder is resumed.

    Args:
        network: a `Model` of `load_model`, a name as `load_model` takes it, or `(apply, params)`, such as
            `gated` gives of any JAX network.
        samples: `(images, targets)`, images `(n, h, w, c)` normalised as the network takes them, a class
            index for each or several; or an `dmbp_jax.images.ArraySample` for each image, which may have a
            name, boxes, a mask; or photographs as the command names them, such as `"folder:PATH"`, a kind of
            `register_dataset`, or a `dmbp_jax.images.Dataset`.
        methods: one or several: names (`METHODS`, `"table1"`, `"table2"`, `"table3"`, `"all"`, `"random"`),
            functions with the methods' signature, and `"maps:FOLDER"`: maps `(h, w)` of another program,
            `NAME.npy` for each sample, or `NAME.TARGET.npy` for each of several targets. By default cheap
            ones, a few backward passes for each map; a line names them before the run starts.
        metrics: one or several: names (`"insertion"`, `"deletion"`, ...), and functions
            `metric(predict, image, heatmap, target) -> float`; see `register_metric` for more. None:
            `"insertion"`, and `"complementary_insertion"` where images have several classes.
        folder: of the run: after an interruption at any moment the same call resumes it, with the rows of an
            uninterrupted run; with more methods or metrics than before, it measures those. A method, a metric
            or a network that has become another function, or closes over something else, is refused: see
            *One's own functions in a folder* in the documentation. None: in memory, and nothing is left
            behind.
        keep_maps: keep every map in the folder, so that a metric that is added later explains nothing anew;
            in half precision, about 90 KB for 224 x 224 pixels. Metrics measure the maps as they are kept:
            pixels that differ by less than their eleven bits are equal, which a fixed random order settles.
        name: of a network that is `(apply, params)`, for the report.
        classes: the names of its classes; by default "class 0" and so on.
        output: what makes probabilities of its logits, `"softmax"` or `"sigmoid"`; None: what the network's
            spec says, and else a sigmoid of a single logit and a softmax of several.
        preprocess: from photographs to its inputs, where samples are photographs.
        weights: a tag of `dmbp-jax weights list`, or a .safetensors file, where the network is a name.
        split: of VOC's lists of images, by default val.
        preset: `"fast"`: DMBP in one backward pass by our own rule, RISE with 1000 masks. `"paper"`: 200
            steps of DMBP, RISE's own number of masks, five random images of each class of ImageNet.
        steps: DMBP's steps in place of the 200 of preset `"paper"`.
        target: `"truth"`: each true class in turn is explained. `"predicted"`: the most likely class.
        limit: evaluate a random subset of so many images.
        per_class: evaluate so many random images of each class.
        seed: of everything that is drawn.
        depth: bits of the photographs' values where a file does not say so, such as 12 that lie in 16.
        batch_size: targets that are explained at once, and as many images as have them are stored together.
            `"auto"` stores together what the devices explain at once at most, and explains at once as many of
            them as the free memory holds; a run that is continued keeps its number.
        grid: the composites of `"grid:PATH"` have so many photographs on each side.
        gallery: so many images keep small pictures of their maps for the report.
        progress: whether progress shows: a bar on a terminal, lines elsewhere, on standard error; or what
            shows it.
        processes: others that share the run (`evaluation/_processes.py`).

    Returns:
        An `EvaluationResult`: rows, a summary, a pandas data frame, the report.

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
    from dmbp_jax.evaluation._run import run_evaluation

    evaluation = Evaluation(network, samples, **options)
    return EvaluationResult(evaluation.folder, run_evaluation(evaluation))


class EvaluationResult:
    """The results of an evaluation, from `evaluate`, or by `EvaluationResult(folder)` of an existing run."""

    def __init__(self, folder: str | Path | None, store: Store | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        """Of the run; None in memory."""
        self._store = store

    def rows(self) -> list[Row]:
        """Every measurement, with its curve where there is one."""
        with self._open() as store:
            return list(store.rows())

    def problems(self) -> list[Problem]:
        """The samples that could not be evaluated, and why."""
        with self._open() as store:
            return store.problems()

    def summary(self) -> dict[Key, Summary]:
        """By metric and method: the mean, its 95 % interval over images, counts, seconds per target."""
        with self._open() as store:
            return summarize(collect(store.rows(), titles_of(store)))

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`, without curves.

        Raises `InputError` where pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise InputError("to_pandas needs pandas: pip install pandas, or use rows()") from None
        columns = Row._fields[:6]
        return pandas.DataFrame([row[:6] for row in self.rows()], columns=list(columns))

    def write_report(self, path: str | Path | None = None) -> Path:
        """Write the page with tables, curves and a gallery, and return where it is.

        `path` None writes `report.html` into the run's folder. Raises `InputError` where there is none, or
        the page cannot be written.
        """
        from dmbp_jax.evaluation._report import NAME, write_page

        if path is None and self.folder is None:
            raise InputError("this run is in memory: give a path, write_report('report.html')")
        with self._open() as store:
            return write_page(store, Path(path) if path is not None else Path(self.folder or ".") / NAME)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Store]:
        if self._store is not None:
            yield self._store
        elif self.folder is not None:
            with open_store(self.folder) as store:
                yield store
