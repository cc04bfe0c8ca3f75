"""Disentangled Masked Backpropagation: masks, objective, optimisation, presets."""

from dmbp_jax.dmbp._config import PRESETS as PRESETS
from dmbp_jax.dmbp._config import DMBPConfig as DMBPConfig
from dmbp_jax.dmbp._config import SweepConfig as SweepConfig
from dmbp_jax.dmbp._config import configure as configure
from dmbp_jax.dmbp._method import dmbp as dmbp
from dmbp_jax.dmbp._method import masked_sites as masked_sites
from dmbp_jax.dmbp._optimization import objective as objective
