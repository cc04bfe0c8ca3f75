"""Tiny networks as users of Flax, Equinox and plain JAX write them, and such as have no gated form.

Nothing is computed at import: `build` makes the network. Build, call and trace within `user_settings()`.
"""

from zoo import equinox_networks, linen_networks, nnx_networks, plain_networks
from zoo.case import Case, Refused, user_settings

CASES: list[Case] = [
    *nnx_networks.CASES,
    *linen_networks.CASES,
    *equinox_networks.CASES,
    *plain_networks.CASES,
]
REFUSED: list[Refused] = [
    *nnx_networks.REFUSED,
    *linen_networks.REFUSED,
    *equinox_networks.REFUSED,
    *plain_networks.REFUSED,
]

__all__ = ["CASES", "REFUSED", "Case", "Refused", "user_settings"]
