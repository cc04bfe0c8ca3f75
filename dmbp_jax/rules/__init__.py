"""Rules: what each nonlinearity does in a forward and a backward pass, independent of the network."""

from dmbp_jax.rules._masked import Masked, biases_at, masked_gate
from dmbp_jax.rules._plain import PLAIN, Plain
from dmbp_jax.rules._record import ACTIVATIONS, Linearization, Site, find_sites, linearize
from dmbp_jax.rules._tap import lay_out, tap

__all__ = [
    "ACTIVATIONS",
    "PLAIN",
    "Linearization",
    "Masked",
    "Plain",
    "Site",
    "biases_at",
    "find_sites",
    "lay_out",
    "linearize",
    "masked_gate",
    "tap",
]
