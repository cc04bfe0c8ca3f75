"""Disentangled Masked Backpropagation, and the methods it is compared with, in JAX.

>>> import dmbp_jax as dmbp
>>> model = dmbp.load_model("squeezenet1_1")
>>> x = model.spec.preprocess(dmbp.example_photo())
>>> a = dmbp.explain(model.apply, model.params, x[None], [281], preset="fast")
>>> a.heatmap.shape
(1, 224, 224)
"""

from importlib.metadata import version as _version

from dmbp_jax._checks import ExplanationWarning as ExplanationWarning
from dmbp_jax._checks import InputError as InputError
from dmbp_jax._checks import InputWarning as InputWarning
from dmbp_jax._explain import explain as explain
from dmbp_jax._explain import explain_classes as explain_classes
from dmbp_jax._gated import gated as gated
from dmbp_jax._methods import METHODS as METHODS
from dmbp_jax._methods import list_methods as list_methods
from dmbp_jax._methods import register_method as register_method
from dmbp_jax.dmbp import PRESETS as PRESETS
from dmbp_jax.dmbp import DMBPConfig as DMBPConfig
from dmbp_jax.dmbp import SweepConfig as SweepConfig
from dmbp_jax.evaluation._evaluate import Evaluated as Evaluated
from dmbp_jax.evaluation._evaluate import evaluate as evaluate
from dmbp_jax.evaluation._registry import register_metric as register_metric
from dmbp_jax.images import example_photo as example_photo
from dmbp_jax.images import register_dataset as register_dataset
from dmbp_jax.models import Model as Model
from dmbp_jax.models import load_model as load_model
from dmbp_jax.models import register_network as register_network
from dmbp_jax.result import Attribution as Attribution
from dmbp_jax.result import Scores as Scores
from dmbp_jax.targets import contrast as contrast

__version__ = _version("dmbp_jax")
