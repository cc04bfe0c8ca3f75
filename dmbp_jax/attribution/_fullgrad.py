"""FullGrad: Srinivas and Fleuret, "Full-Gradient Representation for Neural Network Visualization", NeurIPS
2019."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax._checks import InputError, check_is_image
from dmbp_jax.ops import upsample
from dmbp_jax.ops._programs import named_tensors
from dmbp_jax.ops._resample import min_max
from dmbp_jax.result import Attribution
from dmbp_jax.result._attribution import attribution
from dmbp_jax.rules import biases_at, find_sites, tap
from dmbp_jax.rules._plain import IGNORE_CUSTOM_DERIVATIVES
from dmbp_jax.typing import Apply, Image, Key, Params, Target, is_gated


class FullGradients(NamedTuple):
    """The raw decomposition: all its entries together, and the gap, sum to the score (Prop. 1)."""

    score: Float[Array, ""]
    input: Image
    """Input gradient times input."""
    biases: dict[str, Float[Array, "..."]]
    """At every affine site, bias times gradient at each position, in the shape of the site."""
    completeness_gap: Float[Array, ""]
    """The score minus the sum of all entries: rounding, unless the network has smooth operations, whose
    tangents have constants that are not counted as biases."""


def full_gradients(apply: Apply, params: Params, image: Image, target: Target) -> FullGradients:
    """`y = <dy/dx, x> + sum_l <dy/db_l, b_l>`, every product at its position.

    Batch-norms are folded into these biases. A network that was written for rules has them in its parameters,
    at the site's name as a path. In a gated network a layer's bias is its output for zeros, and the constant
    part of a piecewise linear activation is one more bias.
    """
    sites = [site for site in find_sites(apply, params, image) if site.kind in ("affine", "piecewise")]
    tapped = tap(apply, params, image, target, sites, rule=IGNORE_CUSTOM_DERIVATIVES)
    if is_gated(apply):
        at = biases_at(apply, params, image)
    else:
        # A network that was written for rules has its biases in the parameters, which saves a pass.
        at = {site.name: jnp.broadcast_to(_bias(params, site.name), site.shape) for site in sites}
    biases = {name: to_z * at[name] for name, to_z in tapped.gradients.items()}
    of_input = tapped.to_image * image
    entries = [entry.astype(tapped.score.dtype).sum() for entry in (of_input, *biases.values())]
    return FullGradients(tapped.score, of_input, biases, tapped.score - jnp.stack(entries).sum())


def fullgrad(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None
) -> Attribution:
    """`psi(dy/dx * x) + sum_l psi(dy/db_l * b_l)`, `psi` = upsample of min-max of magnitude: `(h, w, 1)`.

    As the authors' code: min-max over a whole site, the sum over channels, and sites without a map (linear
    layers) are left out of the map, while `full_gradients` has them. Unlike it: upsampling has half-pixel
    centres (theirs aligns the corners), and a batch-norm is folded into its convolution, so that the two have
    one bias and one map (theirs has one for each). `key` is not used.
    """
    check_is_image(image.shape, "fullgrad")
    full = full_gradients(apply, params, image, target)
    size = (image.shape[0], image.shape[1])
    maps = [full.input, *(bias for bias in full.biases.values() if bias.ndim == 3)]
    psi = [upsample(min_max(jnp.abs(m)).sum(axis=-1, keepdims=True), size) for m in maps]
    return attribution(jnp.stack(psi).sum(axis=0))


def _bias(params: Params, site: str) -> Array:
    bias: Array | None = dict(named_tensors(params)).get(f"{site}.bias")
    if bias is None:
        raise InputError(f"fullgrad needs the bias of site {site!r} at that path of the parameters")
    return bias
