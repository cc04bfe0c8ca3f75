"""The package's metrics by name: their titles, better directions and requirements."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmbp_jax import metrics
from dmbp_jax.evaluation import _measures as measures
from dmbp_jax.evaluation._items import Item, Measurement, Metric, Setting, Shown, item_key
from dmbp_jax.evaluation._methods import EvaluatedMethod
from dmbp_jax.evaluation._own_metrics import metric_of
from dmbp_jax.ops._programs import kept_jit
from dmbp_jax.typing import Apply, Key, Params

# Faithfulness, robustness and localization in an evaluation.

SUBSETS = 20
"""Subsets of each size in `sensitivity_n`: 200 forward passes for each map."""
DRAWS = 10
"""Draws of noise in `max_sensitivity`, with an explanation each, for each map."""


def infidelity(predict: Any, image: Any, heatmap: Any, target: Any, *, logits: Any, key: Key) -> Any:
    """The squared error of the fall of the score that the map predicts when a square is removed, for the best
    scale of the map; mean over 200 squares."""
    return metrics.infidelity(logits, image, heatmap, target, key=key).scaled


def sensitivity_n(predict: Any, image: Any, heatmap: Any, target: Any, *, logits: Any, key: Key) -> Any:
    """Correlation of the map's sum over random pixels with the fall of the score without them; mean over ten
    numbers of pixels."""
    found = metrics.sensitivity_n(logits, image, heatmap, target, key=key, n_subsets=SUBSETS)
    return jnp.nanmean(found.correlation)


def max_sensitivity(predict: Any, image: Any, heatmap: Any, target: Any, *, explain: Any, key: Key) -> Any:
    """The relative change of the map under noise of up to 0.1 of the image's range; the largest of ten
    draws."""
    return metrics.max_sensitivity(explain, image, heatmap, key=key, n_samples=DRAWS)


def relevance_mass_accuracy(
    predict: Any, image: Any, heatmap: Any, target: Any, *, mask: Any, void: Any = None
) -> Any:
    """The share of the positive values that lies on the segmented object."""
    return metrics.relevance_mass_accuracy(heatmap, mask, ignored=void)


def relevance_rank_accuracy(
    predict: Any, image: Any, heatmap: Any, target: Any, *, mask: Any, void: Any = None
) -> Any:
    """The share of the highest pixels, as many as the segmented object has, that lies on it."""
    return metrics.relevance_rank_accuracy(heatmap, mask, ignored=void)


def sparseness(predict: Any, image: Any, heatmap: Any, target: Any) -> Any:
    """The Gini index of the map's magnitudes: 0 if all are equal, near 1 if one pixel has all."""
    return metrics.sparseness(heatmap)


@kept_jit
def _road(
    params: Params,
    image: Array,
    heatmap: Array,
    target: Array,
    key: Key,
    *,
    apply: Apply,
    output: Callable[[Array], Array],
) -> metrics.Road:
    return metrics.road(lambda images: output(apply(params, images)), image, heatmap, target, key=key)


def road(
    setting: Setting, method: EvaluatedMethod, items: Sequence[Item], heatmaps: np.ndarray
) -> Iterator[Measurement]:
    """ROAD in both orders."""
    for item, heatmap in zip(items, heatmaps, strict=True):
        both = _road(
            setting.model.params,
            jnp.asarray(item.image),
            jnp.asarray(heatmap),
            jnp.asarray(item.target),
            item_key(setting.key, item.name, item.target),
            apply=setting.model.apply,
            output=setting.model.spec.probabilities,
        )
        for name, points in (
            ("road_morf", both.morf.probabilities),
            ("road_morf_accuracy", both.morf.recognized),
            ("road_lerf", both.lerf.probabilities),
            ("road_lerf_accuracy", both.lerf.recognized),
        ):
            curve = tuple(np.asarray(points).tolist())
            yield Measurement(item, item.target, name, float(np.mean(curve)), curve)


FAITHFULNESS: tuple[Metric, ...] = (
    metric_of(infidelity, higher_is_better=False, jit=True),
    metric_of(sensitivity_n, title="Sensitivity-n", short="Sens.-n", higher_is_better=True, jit=True),
    Metric(
        "road",
        road,
        {
            "road_morf": Shown(
                "ROAD, most relevant first",
                "ROAD, MoRF",
                False,
                "Pixels are removed and imputed from their neighbours, highest in the map first; mean of the "
                "target's probability at 10 to 90 %.",
            ),
            "road_morf_accuracy": Shown(
                "ROAD, most relevant first, accuracy",
                "MoRF, acc.",
                False,
                "As before: how often the target is still the most likely class.",
            ),
            "road_lerf": Shown(
                "ROAD, least relevant first",
                "ROAD, LeRF",
                True,
                "As ROAD, lowest in the map first.",
            ),
            "road_lerf_accuracy": Shown(
                "ROAD, least relevant first, accuracy",
                "LeRF, acc.",
                True,
                "As before: how often the target is still the most likely class.",
            ),
        },
    ),
    metric_of(max_sensitivity, title="Max-sensitivity", short="Max-sens.", higher_is_better=False),
    metric_of(relevance_mass_accuracy, short="Mass", higher_is_better=True),
    metric_of(relevance_rank_accuracy, short="Rank", higher_is_better=True),
    metric_of(sparseness, higher_is_better=True),
)
"""In the order of the page."""


# The package's metrics: measurement, requirements, and display of the rows.

_INSERTED = "Share of pixels inserted"
_PROBABILITY = "Probability of the target"
_DEPTH = "Randomised layers, from the last one only (0 %) to all"
_CORRELATION = "Rank correlation with the trained network's map"


PACKAGE: tuple[Metric, ...] = (
    Metric(
        "insertion",
        measures.along_a_curve("insertion", metrics.insertion),
        {
            "insertion": Shown(
                "Insertion (IM)",
                "IM",
                True,
                "Pixels return to a blurred image, highest in the map first; area under the target's "
                "probability.",
                (_INSERTED, _PROBABILITY),
            ),
        },
    ),
    Metric(
        "complementary_insertion",
        measures.along_a_curve("complementary_insertion", metrics.complementary_insertion),
        {
            "complementary_insertion": Shown(
                "Complementary insertion (cIM)",
                "cIM",
                True,
                "As insertion, lowest in the map first; area under the probability of the image's other "
                "classes.",
                (_INSERTED, "Probability of the other classes"),
            ),
        },
        needs=("classes",),
    ),
    Metric(
        "deletion",
        measures.along_a_curve("deletion", metrics.deletion),
        {
            "deletion": Shown(
                "Deletion",
                "Deletion",
                False,
                "Pixels are removed, highest in the map first; area under the target's probability.",
                ("Share of pixels removed", _PROBABILITY),
            ),
        },
    ),
    Metric(
        "pointing",
        measures.pointing,
        {
            "pointing": Shown(
                "Pointing game",
                "Pointing",
                True,
                "Share of targets whose map is greatest on, or within 15 pixels of, an object of the class.",
            ),
        },
        needs=("boxes",),
    ),
    Metric(
        "grid_pointing",
        measures.grid_pointing,
        {
            "grid_pointing": Shown(
                "Grid pointing game",
                "Grid",
                True,
                "Among several images in a grid, the share of the positive attribution in the target's cell.",
            ),
        },
        needs=("composites",),
    ),
    Metric(
        "contrast",
        measures.contrast,
        {
            "contrast_red": Shown(
                "Contrast localisation, red",
                "Red",
                True,
                "Two photographs side by side, one class minus the other: the share of the red on the one.",
            ),
            "contrast_blue": Shown(
                "Contrast localisation, blue",
                "Blue",
                True,
                "As before: the share of the blue on the other photograph. Chance is 0.5 for both.",
            ),
        },
        needs=("pairs",),
        explains=True,
    ),
    Metric(
        "counter_evidence",
        measures.counter_evidence,
        {
            "counter_evidence": Shown(
                "Counter-evidence",
                "Counter",
                True,
                "The 2 % of the pixels that are lowest in the map, and below zero, are blurred; change of "
                "the target's log-probability. Above zero: they were evidence against it.",
            ),
            "counter_evidence_logit": Shown(
                "Counter-evidence, logit",
                "Counter, logit",
                True,
                "As counter-evidence: change of the target's logit.",
            ),
        },
    ),
    Metric(
        "sanity",
        measures.sanity,
        {
            "sanity": Shown(
                "Sanity check",
                "Sanity",
                False,
                "Rank correlation of the map with the one after the last layer is randomised.",
            ),
            "sanity_abs": Shown(
                "Sanity check of magnitudes",
                "Sanity, abs.",
                False,
                "As the sanity check, of the maps' magnitudes: whether a pixel matters, not for or against "
                "what.",
            ),
        },
        explains=True,
    ),
    Metric(
        "cascade",
        measures.cascade,
        {
            "cascade": Shown(
                "Cascading randomisation",
                "Cascade",
                False,
                "Rank correlation of the map with those after more and more layers, from the last, are drawn "
                "anew.",
                (_DEPTH, _CORRELATION),
            ),
            "cascade_abs": Shown(
                "Cascading randomisation of magnitudes",
                "Cascade, abs.",
                False,
                "As cascading randomisation, of the maps' magnitudes.",
                (_DEPTH, _CORRELATION),
            ),
        },
        explains=True,
    ),
    Metric(
        "class_sensitivity",
        measures.class_sensitivity,
        {
            "class_sensitivity": Shown(
                "Class sensitivity",
                "Class",
                False,
                "Rank correlation of the maps for the image's most and least likely class.",
                of_image=True,
            ),
            "class_sensitivity_abs": Shown(
                "Class sensitivity of magnitudes",
                "Class, abs.",
                False,
                "As class sensitivity, of the maps' magnitudes.",
                of_image=True,
            ),
        },
        explains=True,
        classes=2,
    ),
)
"""In the order of the page. For a metric that is a function of one map, `metric_of` makes the entry."""
