"""Where the masks sit: three readings of the paper, which differ on residual networks only."""

from collections.abc import Sequence

from dmbp_jax.checks import InputError
from dmbp_jax.dmbp.config import MaskSites
from dmbp_jax.rules import ACTIVATIONS, Site


def masked_sites(sites: Sequence[Site], where: MaskSites) -> tuple[Site, ...]:
    """The sites of a network that get a mask.

    A mask after an affine layer commutes with the gate of the ReLU behind it, so that `"filter"` means layer
    and ReLU together. The class layer is never masked. Raises `InputError` if nothing is left to mask.
    """
    if where == "relu":
        chosen = tuple(site for site in sites if site.kind in ACTIVATIONS)
    else:
        roles = ("filter",) if where == "filter" else ("filter", "shortcut")
        chosen = tuple(site for site in sites if site.kind == "affine" and site.role in roles)
    if not chosen:
        raise InputError(f"the network has no site to mask with mask_sites={where!r}")
    return chosen
