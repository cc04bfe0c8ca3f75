"""The metrics that ask whether a map accounts for what the network does, and where it lies, as an evaluation
measures them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmbp_jax import metrics
from dmbp_jax.evaluation.contestants import Contestant
from dmbp_jax.evaluation.items import Item, Measurement, Setting, item_key
from dmbp_jax.evaluation.metric import Metric, Shown
from dmbp_jax.evaluation.own_metric import metric_of
from dmbp_jax.ops import kept_jit
from dmbp_jax.typing import Apply, Key, Params

SUBSETS = 20
"""Of pixels, for each size, in `sensitivity_n`: two hundred looks at the network for each map."""
DRAWS = 10
"""Of noise in `max_sensitivity`: as many explanations more for each map."""


def infidelity(predict: Any, image: Any, heatmap: Any, target: Any, *, logits: Any, key: Key) -> Any:
    """By how much the map misses what the score falls by when a square is removed, squared, the map at the
    scale that suits best; mean over 200 squares."""
    return metrics.infidelity(logits, image, heatmap, target, key=key).scaled


def sensitivity_n(predict: Any, image: Any, heatmap: Any, target: Any, *, logits: Any, key: Key) -> Any:
    """Correlation of what the map holds in random pixels with the fall of the score without them; mean over
    ten numbers of pixels."""
    found = metrics.sensitivity_n(logits, image, heatmap, target, key=key, n_subsets=SUBSETS)
    return jnp.nanmean(found.correlation)


def max_sensitivity(predict: Any, image: Any, heatmap: Any, target: Any, *, explain: Any, key: Key) -> Any:
    """How far the map moves under noise of up to 0.1 of the image's range, relative to its size; the largest
    of ten draws."""
    return metrics.max_sensitivity(explain, image, heatmap, key=key, n_samples=DRAWS)


def relevance_mass_accuracy(
    predict: Any, image: Any, heatmap: Any, target: Any, *, mask: Any, void: Any = None
) -> Any:
    """The share of the red that lies on the segmented object."""
    return metrics.relevance_mass_accuracy(heatmap, mask, ignored=void)


def relevance_rank_accuracy(
    predict: Any, image: Any, heatmap: Any, target: Any, *, mask: Any, void: Any = None
) -> Any:
    """Of as many of the warmest pixels as the segmented object has, the share that lies on it."""
    return metrics.relevance_rank_accuracy(heatmap, mask, ignored=void)


def sparseness(predict: Any, image: Any, heatmap: Any, target: Any) -> Any:
    """The Gini index of the map's magnitudes: 0 if all are equal, nearly 1 if one pixel holds all."""
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
    setting: Setting, contestant: Contestant, items: Sequence[Item], heatmaps: np.ndarray
) -> Iterator[Measurement]:
    """Removed and made up from the neighbours, in both orders."""
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


def forget_programs() -> None:
    """Let go of the compiled programs."""
    program: Any = _road
    program.clear_cache()


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
                "Pixels are removed and made up from their neighbours, highest in the map first; mean of the "
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
