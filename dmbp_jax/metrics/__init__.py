"""How good is a heat map? What the network makes of pixels removed or added, localisation, sanity, class
sensitivity, robustness, sparseness.
"""

from dmbp_jax.metrics._counter_evidence import CounterEvidence as CounterEvidence
from dmbp_jax.metrics._counter_evidence import counter_evidence as counter_evidence
from dmbp_jax.metrics._curves import Curve as Curve
from dmbp_jax.metrics._curves import Predict as Predict
from dmbp_jax.metrics._curves import Substrate as Substrate
from dmbp_jax.metrics._curves import area_under_curve as area_under_curve
from dmbp_jax.metrics._curves import complementary_insertion as complementary_insertion
from dmbp_jax.metrics._curves import deletion as deletion
from dmbp_jax.metrics._curves import insertion as insertion
from dmbp_jax.metrics._curves import make_substrate as make_substrate
from dmbp_jax.metrics._faithfulness import Infidelity as Infidelity
from dmbp_jax.metrics._faithfulness import Perturb as Perturb
from dmbp_jax.metrics._faithfulness import Perturbation as Perturbation
from dmbp_jax.metrics._faithfulness import SensitivityN as SensitivityN
from dmbp_jax.metrics._faithfulness import infidelity as infidelity
from dmbp_jax.metrics._faithfulness import max_sensitivity as max_sensitivity
from dmbp_jax.metrics._faithfulness import noisy_baseline as noisy_baseline
from dmbp_jax.metrics._faithfulness import remove_square as remove_square
from dmbp_jax.metrics._faithfulness import sensitivity_n as sensitivity_n
from dmbp_jax.metrics._localization import ContrastLocalization as ContrastLocalization
from dmbp_jax.metrics._localization import contrast_localization as contrast_localization
from dmbp_jax.metrics._localization import grid_pointing_game as grid_pointing_game
from dmbp_jax.metrics._localization import pointing_game as pointing_game
from dmbp_jax.metrics._localization import relevance_mass_accuracy as relevance_mass_accuracy
from dmbp_jax.metrics._localization import relevance_rank_accuracy as relevance_rank_accuracy
from dmbp_jax.metrics._localization import to_photograph as to_photograph
from dmbp_jax.metrics._randomization import LikelyClasses as LikelyClasses
from dmbp_jax.metrics._randomization import RankCorrelation as RankCorrelation
from dmbp_jax.metrics._randomization import cascade as cascade
from dmbp_jax.metrics._randomization import most_and_least_likely as most_and_least_likely
from dmbp_jax.metrics._randomization import randomize_layers as randomize_layers
from dmbp_jax.metrics._randomization import rank_correlation as rank_correlation
from dmbp_jax.metrics._road import Road as Road
from dmbp_jax.metrics._road import RoadCurve as RoadCurve
from dmbp_jax.metrics._road import noisy_linear_imputation as noisy_linear_imputation
from dmbp_jax.metrics._road import road as road
from dmbp_jax.metrics._sparseness import sparseness as sparseness
