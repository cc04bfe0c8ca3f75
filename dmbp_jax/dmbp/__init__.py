"""Disentangled Masked Backpropagation: masks, objective, optimisation, presets."""

from dmbp_jax.dmbp.config import PRESETS as PRESETS
from dmbp_jax.dmbp.config import DMBPConfig as DMBPConfig
from dmbp_jax.dmbp.config import SweepConfig as SweepConfig
from dmbp_jax.dmbp.config import configure as configure
from dmbp_jax.dmbp.mask_sites import masked_sites as masked_sites
from dmbp_jax.dmbp.method import dmbp as dmbp
from dmbp_jax.dmbp.objective import objective as objective
