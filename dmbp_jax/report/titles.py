"""What metrics and methods are called on a page, and which way each metric is good."""

from typing import NamedTuple

from dmbp_jax.checks import check_choice


class Metric(NamedTuple):
    """How a metric is shown and read."""

    title: str
    """For headings and running text."""
    short: str
    """For table heads."""
    higher_is_better: bool
    explanation: str
    """One sentence."""
    curve: tuple[str, str] | None = None
    """The labels of the two axes of its curve; None where no curve is drawn."""
    of_image: bool = False
    """Whether it is measured once per image, for a target of its own."""


_INSERTED = "Share of pixels inserted"
_PROBABILITY = "Probability of the target"
_DEPTH = "From the last layer alone drawn anew (0 %) to all layers"
_CORRELATION = "Rank correlation with the trained network's map"

METRICS: dict[str, Metric] = {
    "im": Metric(
        "Insertion (IM)",
        "IM",
        True,
        "Pixels return to a blurred image, highest in the map first; area under the target's probability.",
        (_INSERTED, _PROBABILITY),
    ),
    "cim": Metric(
        "Complementary insertion (cIM)",
        "cIM",
        True,
        "As insertion, lowest in the map first; area under the probability of the image's other classes.",
        (_INSERTED, "Probability of the other classes"),
    ),
    "deletion": Metric(
        "Deletion",
        "Deletion",
        False,
        "Pixels are removed, highest in the map first; area under the target's probability.",
        ("Share of pixels removed", _PROBABILITY),
    ),
    "pointing": Metric(
        "Pointing game",
        "Pointing",
        True,
        "Share of targets whose map is greatest on, or within 15 pixels of, an object of the class.",
    ),
    "grid_pointing": Metric(
        "Grid pointing game",
        "Grid",
        True,
        "Among several images in a grid, the share of the positive attribution in the target's cell.",
    ),
    "contrast_red": Metric(
        "Contrast localisation, red",
        "Red",
        True,
        "Two photographs side by side, one class minus the other: the share of the red on the one.",
    ),
    "contrast_blue": Metric(
        "Contrast localisation, blue",
        "Blue",
        True,
        "As before: the share of the blue on the other photograph. Chance is 0.5 for both.",
    ),
    "counter_evidence": Metric(
        "Counter-evidence",
        "Counter",
        True,
        "The 2 % of the pixels that are lowest in the map, and below zero, are blurred; change of the "
        "target's log-probability. Above zero: they did speak against it.",
    ),
    "counter_evidence_logit": Metric(
        "Counter-evidence, logit",
        "Counter, logit",
        True,
        "As counter-evidence: change of the target's logit.",
    ),
    "sanity": Metric(
        "Sanity check",
        "Sanity",
        False,
        "Rank correlation of the map with the one after the last layer is drawn anew at random.",
    ),
    "sanity_abs": Metric(
        "Sanity check of magnitudes",
        "Sanity, abs.",
        False,
        "As the sanity check, of the maps' magnitudes: whether a pixel matters, not for or against what.",
    ),
    "cascade": Metric(
        "Cascading randomisation",
        "Cascade",
        False,
        "Rank correlation of the map with those after more and more layers, from the last, are drawn anew.",
        (_DEPTH, _CORRELATION),
    ),
    "cascade_abs": Metric(
        "Cascading randomisation of magnitudes",
        "Cascade, abs.",
        False,
        "As cascading randomisation, of the maps' magnitudes.",
        (_DEPTH, _CORRELATION),
    ),
    "class_sensitivity": Metric(
        "Class sensitivity",
        "Class",
        False,
        "Rank correlation of the maps for the image's most and least likely class.",
        of_image=True,
    ),
    "class_sensitivity_abs": Metric(
        "Class sensitivity of magnitudes",
        "Class, abs.",
        False,
        "As class sensitivity, of the maps' magnitudes.",
        of_image=True,
    ),
}
"""By the name in the store, in the order of the page."""

METHOD_TITLES: dict[str, str] = {
    "dmbp": "DMBP",
    "dmbp_positive": "DMBP, y⁺ only",
    "dmbp_posneg": "DMBP, y⁻ \u2212 y⁺",
    "random": "Random map",
    "gradient": "Gradient",
    "gradient_x_input": "Gradient \u00d7 input (ND)",
    "integrated_gradients": "Integrated gradients",
    "smoothgrad": "SmoothGrad",
    "blur_integrated_gradients": "Blur integrated gradients",
    "deeplift": "DeepLIFT",
    "guided_backprop": "Guided backprop",
    "deconvnet": "DeconvNet",
    "guided_grad_cam": "Guided Grad-CAM",
    "grad_cam": "Grad-CAM",
    "fullgrad": "FullGrad",
    "rise": "RISE",
    "lpr": "LPR",
    "norm_grad": "NormGrad",
    "selective_norm_grad": "Selective NormGrad",
}


def get_metric(name: str) -> Metric:
    """How a metric is shown; `InputError` for an unknown one, whose good direction cannot be guessed.

    >>> get_metric("deletion").higher_is_better
    False
    """
    check_choice("metric", name, METRICS)
    return METRICS[name]


def method_title(name: str) -> str:
    """A method's name for people; one given by the user is shown as it is, without underscores.

    >>> method_title("grad_cam"), method_title("my_method")
    ('Grad-CAM', 'my method')
    """
    return METHOD_TITLES.get(name, name.replace("_", " "))
