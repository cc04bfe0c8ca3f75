"""The package's metrics as an evaluation measures them: on a batch of explained items, one row per item."""

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmbp_jax import metrics, targets
from dmbp_jax.evaluation._items import Item, Measure, Measurement, Setting
from dmbp_jax.evaluation._methods import EvaluatedMethod
from dmbp_jax.metrics._counter_evidence import SHARES
from dmbp_jax.metrics._localization import to_photograph
from dmbp_jax.metrics._randomization import most_and_least_likely
from dmbp_jax.ops._programs import kept_jit
from dmbp_jax.typing import Apply, Images, Params


@kept_jit
def _curve(
    params: Params,
    image: Array,
    heatmap: Array,
    classes: Array,
    *,
    metric: Callable[..., metrics.Curve],
    apply: Apply,
    output: Callable[[Array], Array],
) -> metrics.Curve:
    def predict(images: Images) -> Array:
        return output(apply(params, images))

    return metric(predict, image, heatmap, classes)


def along_a_curve(name: str, metric: Callable[..., metrics.Curve]) -> Measure:
    """Insertion, complementary insertion and deletion."""

    def measure(
        setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
    ) -> Iterator[Measurement]:
        model = setting.model
        for item, heatmap in zip(items, heatmaps, strict=True):
            others = [label for label in item.labels if label != item.target]
            classes: Array = jnp.asarray(item.target)
            if name == "complementary_insertion":
                if not others:
                    continue
                classes = jnp.zeros(len(model.spec.classes)).at[jnp.asarray(others)].set(1.0)
            auc, probabilities = _curve(
                model.params,
                jnp.asarray(item.image),
                jnp.asarray(heatmap),
                classes,
                metric=metric,
                apply=model.apply,
                output=model.spec.probabilities,
            )
            yield Measurement(item, item.target, name, float(auc), tuple(np.asarray(probabilities).tolist()))

    return measure


def pointing(
    setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
) -> Iterator[Measurement]:
    """Whether the maximum lies in a box of the target."""
    for item, heatmap in zip(items, heatmaps, strict=True):
        if item.boxes:
            at_photograph = to_photograph(heatmap, size=item.size, region=item.region)
            boxes = [(box.left, box.top, box.right, box.bottom) for box in item.boxes]
            hit = metrics.pointing_game(at_photograph, boxes)
            yield Measurement(item, item.target, "pointing", float(hit))


def grid_pointing(
    setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
) -> Iterator[Measurement]:
    """The share of the positive values in the target's cell of a composite."""
    for item, heatmap in zip(items, heatmaps, strict=True):
        if item.grid > 1 and item.target in item.labels:
            value = metrics.grid_pointing_game(heatmap, grid=item.grid, cell=item.labels.index(item.target))
            yield Measurement(item, item.target, "grid_pointing", value)


def sanity(
    setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
) -> Iterator[Measurement]:
    """Rank correlation with the maps after the class layer is randomised."""
    top = setting.layers(items[0])[0]
    params = metrics.randomize_layers(setting.key, setting.model.params, [top])
    changed = setting.heatmaps(method, items, [item.target for item in items], params)
    for item, before, after in zip(items, heatmaps, changed, strict=True):
        signed, absolute = metrics.rank_correlation(before, after)
        yield Measurement(item, item.target, "sanity", signed)
        yield Measurement(item, item.target, "sanity_abs", absolute)


def cascade(
    setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
) -> Iterator[Measurement]:
    """The same after each further layer is randomised, from the top."""
    correlations = []
    targets = [item.target for item in items]
    for _, params in metrics.cascade(setting.key, setting.model.params, setting.layers(items[0])):
        changed = setting.heatmaps(method, items, targets, params)
        correlations.append([metrics.rank_correlation(*pair) for pair in zip(heatmaps, changed, strict=True)])
    by_item = np.asarray(correlations).transpose(1, 2, 0)
    for item, (signed, absolute) in zip(items, by_item, strict=True):
        for name, curve in (("cascade", signed), ("cascade_abs", absolute)):
            defined = curve[np.isfinite(curve)]
            value = float(defined.mean()) if defined.size else float("nan")
            yield Measurement(item, item.target, name, value, tuple(curve.tolist()))


def class_sensitivity(
    setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
) -> Iterator[Measurement]:
    """Rank correlation of the maps for the most and the least likely class."""
    items = [item for item in items if item.first]
    if not items:
        return
    images = np.stack([item.image for item in items])
    logits = jax.jit(setting.model.apply)(setting.model.params, images)
    most, least = (np.asarray(one).tolist() for one in jax.vmap(most_and_least_likely)(logits))
    for_most = setting.heatmaps(method, items, most, setting.model.params)
    for_least = setting.heatmaps(method, items, least, setting.model.params)
    for item, target, one, other in zip(items, most, for_most, for_least, strict=True):
        signed, absolute = metrics.rank_correlation(one, other)
        yield Measurement(item, int(target), "class_sensitivity", signed)
        yield Measurement(item, int(target), "class_sensitivity_abs", absolute)


def contrast(
    setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
) -> Iterator[Measurement]:
    """For a pair and one class minus the other: the positive share on the one, the negative share on the
    other."""
    items = [item for item in items if item.pair and item.target in item.labels]
    if not items:
        return
    classes = len(setting.model.spec.classes)
    others = [next(label for label in item.labels if label != item.target) for item in items]
    weights = [
        np.asarray(targets.contrast(item.target, other, classes=classes))
        for item, other in zip(items, others, strict=True)
    ]
    for item, heatmap in zip(
        items, setting.heatmaps(method, items, np.stack(weights), setting.model.params), strict=True
    ):
        left = np.broadcast_to(np.arange(heatmap.shape[1]) < heatmap.shape[1] // 2, heatmap.shape)
        target_region = left if item.labels.index(item.target) == 0 else ~left
        red, blue = metrics.contrast_localization(heatmap, target_region, ~target_region)
        yield Measurement(item, item.target, "contrast_red", red)
        yield Measurement(item, item.target, "contrast_blue", blue)


@kept_jit
def _gain(
    params: Params,
    image: Array,
    heatmap: Array,
    target: Array,
    *,
    apply: Apply,
    log_probability: Callable[[Array], Array],
) -> metrics.CounterEvidence:
    return metrics.counter_evidence(
        lambda images: apply(params, images), image, heatmap, target, log_probability=log_probability
    )


def counter_evidence(
    setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
) -> Iterator[Measurement]:
    """The effect on the target of blurring the pixels with the lowest values."""
    model = setting.model
    for item, heatmap in zip(items, heatmaps, strict=True):
        gain = _gain(
            model.params,
            jnp.asarray(item.image),
            jnp.asarray(heatmap),
            jnp.asarray(item.target),
            apply=model.apply,
            log_probability=model.spec.log_probabilities,
        )
        for name, changes in (
            ("counter_evidence", gain.log_probability),
            ("counter_evidence_logit", gain.logit),
        ):
            curve = tuple(np.asarray(changes).tolist())
            yield Measurement(item, item.target, name, curve[_AT_2_PERCENT], (0.0, *curve))


_AT_2_PERCENT = SHARES.index(0.02)
