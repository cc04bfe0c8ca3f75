"""How good is a heat map? What the network makes of pixels removed or added, localisation, sanity, class
sensitivity, robustness, sparseness.
"""

from dmbp_jax.metrics.class_sensitivity import LikelyClasses as LikelyClasses
from dmbp_jax.metrics.class_sensitivity import most_and_least_likely as most_and_least_likely
from dmbp_jax.metrics.complementary_insertion import complementary_insertion as complementary_insertion
from dmbp_jax.metrics.contrast_localization import ContrastLocalization as ContrastLocalization
from dmbp_jax.metrics.contrast_localization import contrast_localization as contrast_localization
from dmbp_jax.metrics.counter_evidence import CounterEvidence as CounterEvidence
from dmbp_jax.metrics.counter_evidence import counter_evidence as counter_evidence
from dmbp_jax.metrics.curve import Curve as Curve
from dmbp_jax.metrics.curve import Predict as Predict
from dmbp_jax.metrics.curve import area_under_curve as area_under_curve
from dmbp_jax.metrics.deletion import deletion as deletion
from dmbp_jax.metrics.grid_pointing_game import grid_pointing_game as grid_pointing_game
from dmbp_jax.metrics.imputation import noisy_linear_imputation as noisy_linear_imputation
from dmbp_jax.metrics.infidelity import Infidelity as Infidelity
from dmbp_jax.metrics.infidelity import infidelity as infidelity
from dmbp_jax.metrics.insertion import insertion as insertion
from dmbp_jax.metrics.max_sensitivity import max_sensitivity as max_sensitivity
from dmbp_jax.metrics.perturbation import Perturb as Perturb
from dmbp_jax.metrics.perturbation import Perturbation as Perturbation
from dmbp_jax.metrics.perturbation import noisy_baseline as noisy_baseline
from dmbp_jax.metrics.perturbation import remove_square as remove_square
from dmbp_jax.metrics.photograph import to_photograph as to_photograph
from dmbp_jax.metrics.pointing_game import pointing_game as pointing_game
from dmbp_jax.metrics.randomize import cascade as cascade
from dmbp_jax.metrics.randomize import randomize_layers as randomize_layers
from dmbp_jax.metrics.rank_correlation import RankCorrelation as RankCorrelation
from dmbp_jax.metrics.rank_correlation import rank_correlation as rank_correlation
from dmbp_jax.metrics.relevance_mass_accuracy import relevance_mass_accuracy as relevance_mass_accuracy
from dmbp_jax.metrics.relevance_rank_accuracy import relevance_rank_accuracy as relevance_rank_accuracy
from dmbp_jax.metrics.road import Road as Road
from dmbp_jax.metrics.road import RoadCurve as RoadCurve
from dmbp_jax.metrics.road import road as road
from dmbp_jax.metrics.sensitivity_n import SensitivityN as SensitivityN
from dmbp_jax.metrics.sensitivity_n import sensitivity_n as sensitivity_n
from dmbp_jax.metrics.sparseness import sparseness as sparseness
from dmbp_jax.metrics.substrate import Substrate as Substrate
from dmbp_jax.metrics.substrate import make_substrate as make_substrate
