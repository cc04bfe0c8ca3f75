"""The package's metrics: how each is measured, what it needs, and how its rows are shown."""

from dmbp_jax import metrics
from dmbp_jax.data import Dataset
from dmbp_jax.evaluation import measures
from dmbp_jax.evaluation.metric import Metric, Shown

_INSERTED = "Share of pixels inserted"
_PROBABILITY = "Probability of the target"
_DEPTH = "From the last layer alone drawn anew (0 %) to all layers"
_CORRELATION = "Rank correlation with the trained network's map"


def _lacks_classes(dataset: Dataset) -> str | None:
    if any(len(sample.labels) > 1 for sample in dataset.samples):
        return None
    return (
        "cim needs images with several classes, which this dataset has not: take voc2012:PATH, or "
        "composites, grid:PATH or pairs:PATH"
    )


def _lacks_boxes(dataset: Dataset) -> str | None:
    if any(sample.boxes for sample in dataset.samples):
        return None
    return "pointing needs bounding boxes, which this dataset has not: take voc2012:PATH"


def _lacks_grids(dataset: Dataset) -> str | None:
    if any(sample.grid > 1 for sample in dataset.samples):
        return None
    return "grid_pointing needs composites: take grid:PATH"


def _lacks_pairs(dataset: Dataset) -> str | None:
    if any(sample.pair for sample in dataset.samples):
        return None
    return "contrast needs two photographs side by side: take pairs:PATH"


PACKAGE: tuple[Metric, ...] = (
    Metric(
        "im",
        measures.along_a_curve("im", metrics.insertion),
        {
            "im": Shown(
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
        "cim",
        measures.along_a_curve("cim", metrics.complementary_insertion),
        {
            "cim": Shown(
                "Complementary insertion (cIM)",
                "cIM",
                True,
                "As insertion, lowest in the map first; area under the probability of the image's other "
                "classes.",
                (_INSERTED, "Probability of the other classes"),
            ),
        },
        lacks=_lacks_classes,
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
        lacks=_lacks_boxes,
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
        lacks=_lacks_grids,
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
        lacks=_lacks_pairs,
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
                "the target's log-probability. Above zero: they did speak against it.",
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
                "Rank correlation of the map with the one after the last layer is drawn anew at random.",
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
