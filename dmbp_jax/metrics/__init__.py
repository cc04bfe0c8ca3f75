"""Metrics of heat maps: insertion and deletion curves, faithfulness, localisation, randomisation tests, class
sensitivity, robustness, sparseness."""

from dmbp_jax.metrics._counter_evidence import CounterEvidence, counter_evidence
from dmbp_jax.metrics._curves import (
    Curve,
    Predict,
    area_under_curve,
    complementary_insertion,
    deletion,
    insertion,
)
from dmbp_jax.metrics._faithfulness import (
    Infidelity,
    Perturb,
    Perturbation,
    SensitivityN,
    infidelity,
    max_sensitivity,
    noisy_baseline,
    remove_square,
    sensitivity_n,
)
from dmbp_jax.metrics._localization import (
    ContrastLocalization,
    contrast_localization,
    grid_pointing_game,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    to_photograph,
)
from dmbp_jax.metrics._randomization import RankCorrelation, cascade, randomize_layers, rank_correlation
from dmbp_jax.metrics._road import Road, RoadCurve, noisy_linear_imputation, road
from dmbp_jax.metrics._sparseness import sparseness

__all__ = [
    "ContrastLocalization",
    "CounterEvidence",
    "Curve",
    "Infidelity",
    "Perturb",
    "Perturbation",
    "Predict",
    "RankCorrelation",
    "Road",
    "RoadCurve",
    "SensitivityN",
    "area_under_curve",
    "cascade",
    "complementary_insertion",
    "contrast_localization",
    "counter_evidence",
    "deletion",
    "grid_pointing_game",
    "infidelity",
    "insertion",
    "max_sensitivity",
    "noisy_baseline",
    "noisy_linear_imputation",
    "pointing_game",
    "randomize_layers",
    "rank_correlation",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "remove_square",
    "road",
    "sensitivity_n",
    "sparseness",
    "to_photograph",
]
