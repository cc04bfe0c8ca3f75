"""Disentangled Masked Backpropagation: masks, objective, optimisation, presets."""

from dmbp_jax.dmbp._config import PRESETS, DMBPConfig, SweepConfig
from dmbp_jax.dmbp._method import dmbp, masked_sites
from dmbp_jax.dmbp._optimization import objective

__all__ = [
    "PRESETS",
    "DMBPConfig",
    "SweepConfig",
    "dmbp",
    "masked_sites",
    "objective",
]
