"""Disentangled Masked Backpropagation, and the methods it is compared with, in JAX.

>>> import dmbp_jax as dmbp
>>> model = dmbp.load_model("squeezenet1_1")
>>> x = model.spec.preprocess(dmbp.example_photo())
>>> a = dmbp.explain(model.apply, model.params, x[None], [281], preset="fast")
>>> a.heatmap.shape
(1, 224, 224)
"""

from importlib.metadata import version as _version

from dmbp_jax._checks import ExplanationWarning, InputError, InputWarning
from dmbp_jax._explain import explain, explain_batches, explain_classes
from dmbp_jax._gated import gated, layer_parameters
from dmbp_jax._methods import METHODS, list_methods, register_method
from dmbp_jax.dmbp import PRESETS, DMBPConfig, SweepConfig
from dmbp_jax.evaluation._evaluate import EvaluationResult, evaluate
from dmbp_jax.evaluation._registry import register_metric
from dmbp_jax.images import example_photo, register_dataset
from dmbp_jax.models import Model, load_model, register_network, to_nnx
from dmbp_jax.result import Attribution, Scores
from dmbp_jax.targets import contrast

__version__ = _version("dmbp_jax")

__all__ = [
    "METHODS",
    "PRESETS",
    "Attribution",
    "DMBPConfig",
    "EvaluationResult",
    "ExplanationWarning",
    "InputError",
    "InputWarning",
    "Model",
    "Scores",
    "SweepConfig",
    "contrast",
    "evaluate",
    "example_photo",
    "explain",
    "explain_batches",
    "explain_classes",
    "gated",
    "layer_parameters",
    "list_methods",
    "load_model",
    "register_dataset",
    "register_method",
    "register_metric",
    "register_network",
    "to_nnx",
]
