"""The method registry and what is built on it."""

from dmbp_jax.experiments.explain import explain as explain
from dmbp_jax.experiments.methods import METHODS as METHODS
