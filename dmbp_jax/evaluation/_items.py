"""Items, an image with a target, which are explained and measured; and metrics."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh
from jaxtyping import Float

from dmbp_jax._checks import InputError, check_classes_once
from dmbp_jax._explain import explain
from dmbp_jax._gated import layer_parameters
from dmbp_jax.evaluation._methods import EvaluatedMethod
from dmbp_jax.images import Box, Dataset, Problem, Sample, read_sample
from dmbp_jax.images._samples import draw, read_ahead
from dmbp_jax.models import Model, ModelSpec
from dmbp_jax.ops._programs import fold_in_name
from dmbp_jax.typing import Key, Keys, Params

# Items, which metrics are given, and measurements, which they return.


class Item(NamedTuple):
    """One image to be explained for one target."""

    name: str
    rgb: np.ndarray
    """The cropped image, uint8 `(h, w, 3)`."""
    image: np.ndarray
    """The same, normalised: float32 `(h, w, c)`."""
    target: int
    labels: tuple[int, ...]
    """All true classes of the image."""
    boxes: tuple[Box, ...]
    """The boxes of the target's class, in pixels of the photograph."""
    size: tuple[int, int]
    """Height and width of the photograph."""
    region: tuple[float, float, float, float]
    """Left, top, right, bottom of the part of the photograph that the network sees."""
    grid: int
    pair: bool
    """Whether the image is two photographs side by side, of the classes in `labels`."""
    first: bool
    """Whether it is the first item of its image, on which metrics of whole images are measured."""
    alone: bool = True
    """Whether it is the only item of its image."""
    mask: np.ndarray | None = None
    """The target's mask, bool `(h, w)` in pixels of the image; None without a segmentation."""
    void: np.ndarray | None = None
    """Void pixels, likewise; None without any."""


class Setting(NamedTuple):
    """The objects shared by all measurements of a run."""

    model: Model
    key: Key
    batch_size: int | Literal["auto"]
    mesh: Mesh | None
    replicated: Params
    """The model's parameters on every device of the mesh."""

    def heatmaps(
        self,
        method: EvaluatedMethod,
        items: Sequence[Item],
        targets: Sequence[int] | Float[np.ndarray, "n k"],
        params: Params,
    ) -> Float[np.ndarray, "n h w"]:
        """The maps of a method for those targets, classes or weights; NaN where not finite."""
        return self.explain(method, items, np.stack([item.image for item in items]), targets, params)

    def explain(
        self,
        method: EvaluatedMethod,
        items: Sequence[Item],
        images: Float[np.ndarray, "n h w c"],
        targets: npt.ArrayLike,
        params: Params | None = None,
    ) -> Float[np.ndarray, "n h w"]:
        """The maps of any images, each belonging to an item, with the item's random key.

        So no map depends on the other images of the batch, and two maps of an item have the same random
        numbers.
        """
        # Metrics that explain are refused for maps from a folder before the run begins.
        assert method.function is not None
        attribution = explain(
            self.model.apply,
            self.replicated if params is None or params is self.model.params else params,
            images,
            targets,
            method.function,
            key=item_keys(self.key, ((item.name, item.target) for item in items), method.name),
            batch_size=self.batch_size,
            mesh=self.mesh,
            progress=False,
            **method.options,
        )
        finite = np.asarray(attribution.finite)[:, None, None]
        return np.where(finite, np.asarray(attribution.heatmap), np.float32(np.nan))

    def layers(self, item: Item) -> list[tuple[str, ...]]:
        """The tensors of each of the network's layers, the class layer first."""
        image = jax.ShapeDtypeStruct(item.image.shape, item.image.dtype)
        return list(layer_parameters(self.model.apply, self.model.params, image).values())[::-1]


def item_key(key: Key, name: str, target: int, method: str | None = None) -> Key:
    """A random key of an image and a target, independent of others: for a metric, the same for all methods,
    or for a method.

    >>> keys = [item_key(jax.random.key(0), "cat.png", 281, method) for method in (None, "rise", "random")]
    >>> len({tuple(jax.random.key_data(one).tolist()) for one in keys})
    3
    """
    own = fold_in_name(key, f"{name}\n{target}")
    return own if method is None else fold_in_name(own, method)


def item_keys(key: Key, items: Iterable[tuple[str, int]], method: str) -> Keys:
    """The keys of images and targets for a method, as `explain` takes them.

    >>> item_keys(jax.random.key(0), [("cat.png", 281), ("dog.png", 235)], "rise").shape
    (2,)
    """
    return jnp.stack([item_key(key, name, target, method) for name, target in items])


class Measurement(NamedTuple):
    """One metric of one item."""

    item: Item
    target: int
    metric: str
    value: float
    curve: tuple[float, ...] | None = None


Measure: TypeAlias = Callable[[Setting, EvaluatedMethod, Sequence[Item], np.ndarray], Iterator[Measurement]]
"""`measure(setting, method, items, heatmaps)` for items of one size and their maps `(n, h, w)`."""


def label_indices(sample: Sample, spec: ModelSpec) -> tuple[int, ...]:
    """The classes of a sample; raises `InputError` that names a sample with an unknown label, or with a class
    twice."""
    try:
        found = tuple(spec.label_index(label) for label in sample.labels)
    except InputError as error:
        raise InputError(f"{sample.name}: {error}") from None
    check_classes_once(f"the image {sample.name!r}", found)
    return found


# Photographs that a network classifies correctly, of which pairs are made.


def choose_recognized(
    dataset: Dataset, model: Model, *, limit: int | None = None, seed: int = 0, depth: int | None = None
) -> Dataset:
    """The samples without those of a single class that the network misclassifies.

    They are tried in the random order of `seed` until there are `limit`; None tries all. The dataset's order
    is kept. Misclassified and unreadable samples become problems.

    Raises `InputError` for a label that the model does not know.
    """
    predict = jax.jit(lambda params, image: model.apply(params, image[None])[0].argmax())
    recognized: set[str] = set()
    problems: list[Problem] = []
    lots = sorted(
        (sample for sample in dataset.samples if len(sample.labels) == 1),
        key=lambda sample: draw(seed, sample.name),
    )
    preprocess = model.spec.preprocess
    for sample, loaded in read_ahead(lots, lambda sample: read_sample(sample, preprocess, depth=depth)):
        if len(recognized) == limit:
            break
        if isinstance(loaded, InputError):
            problems.append(Problem(sample.name, str(loaded)))
            continue
        found = int(predict(model.params, loaded.image))
        if (found,) == label_indices(sample, model.spec):
            recognized.add(sample.name)
        else:
            taken = model.spec.classes[found]
            problems.append(Problem(sample.name, f"not used in a pair: the network takes it for {taken!r}"))
    return dataset._replace(
        samples=tuple(
            sample for sample in dataset.samples if len(sample.labels) != 1 or sample.name in recognized
        ),
        problems=dataset.problems + tuple(problems),
    )


# A metric in an evaluation: its measurement, its requirements, and the display of its rows.


class Shown(NamedTuple):
    """The display of the rows of one name."""

    title: str
    """For headings and running text."""
    short: str
    """For table heads."""
    higher_is_better: bool | None
    """None: unknown, so that no method is called better."""
    explanation: str
    """One sentence."""
    curve: tuple[str, str] | None = None
    """The labels of the two axes of its curve; None where no curve is drawn."""
    of_image: bool = False
    """Whether it is measured once per image, for a target of its own."""

    @property
    def direction(self) -> str:
        """The better direction, in words."""
        if self.higher_is_better is None:
            return "direction not given"
        return "higher is better" if self.higher_is_better else "lower is better"


class Need(NamedTuple):
    """What a metric measures by, beside a map and its target."""

    has: Callable[[Dataset], bool]
    """Whether any sample of a dataset has it."""
    text: str
    """What it is, as it follows "needs" in a message, with the remedy."""


NEEDS = {
    "classes": Need(
        lambda dataset: any(len(sample.labels) > 1 for sample in dataset.samples),
        "images with several classes, which this dataset has not: take voc2012:PATH, or composites, "
        "grid:PATH or pairs:PATH",
    ),
    "boxes": Need(
        lambda dataset: any(sample.boxes for sample in dataset.samples),
        "bounding boxes, which this dataset has not: take voc2012:PATH",
    ),
    "mask": Need(
        lambda dataset: (
            any(sample.segmentation is not None for sample in dataset.samples)
            or any(one.masks is not None for one in (dataset.arrays or {}).values())
        ),
        "segmentation masks, which these samples have not: take voc2012:PATH with its SegmentationClass, or "
        "give ArraySample a mask",
    ),
    "composites": Need(
        lambda dataset: any(sample.grid > 1 for sample in dataset.samples), "composites: take grid:PATH"
    ),
    "pairs": Need(
        lambda dataset: any(sample.pair for sample in dataset.samples),
        "two photographs side by side: take pairs:PATH",
    ),
}
"""By name; `boxes` and `mask` are the parameters of a metric of one's own that asks for them."""


class Metric(NamedTuple):
    """A metric by name."""

    name: str
    """The name by which it is chosen."""
    measure: Measure
    shown: Mapping[str, Shown]
    """Its rows' names and display, in the order of tables; most metrics have rows of their own name only."""
    needs: tuple[str, ...] = ()
    """Of `NEEDS`: samples that lack it are not measured."""
    classes: int = 1
    """The least number of classes of the network."""
    explains: bool = False
    """Whether it computes further explanations, which is impossible for maps from a folder."""
    regions: bool = False
    """Whether it needs the target's mask."""
    function: Callable[..., Any] | None = None
    """Its function, if it is one of a single map."""
    code: str = ""
    """The fingerprint of a user's metric; a changed one is another metric."""
    untold: str | None = None
    """An object that it uses and that a later run could not compare, unless it is registered by name."""

    def check_told(self) -> None:
        """Raise `InputError` for a function of which a later run cannot tell whether it is the same."""
        if self.untold is not None:
            raise InputError(
                f"the metric {self.name} uses {self.untold}, of which a later run in this folder cannot tell "
                "whether it is the same: give it a name that stands for it, register_metric(..., name=...)"
            )
