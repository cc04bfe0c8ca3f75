"""FullGrad: Srinivas and Fleuret, "Full-Gradient Representation for Neural Network Visualization", NeurIPS
2019."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dmbp_jax.attribution.result import attribution
from dmbp_jax.checks import check_is_image
from dmbp_jax.ops import min_max, upsample
from dmbp_jax.rules import biases_at, find_sites, tap
from dmbp_jax.typing import Apply, Attribution, Image, Key, Params, Target


class FullGradients(NamedTuple):
    """The raw decomposition: all its entries together sum to the score (Prop. 1)."""

    score: Float[Array, ""]
    input: Image
    """Input gradient times input."""
    biases: dict[str, Float[Array, "..."]]
    """At every affine site, bias times gradient at each position, in the shape of the site."""


def full_gradients(apply: Apply, params: Params, image: Image, target: Target) -> FullGradients:
    """`y = <dy/dx, x> + sum_l <dy/db_l, b_l>`, every product at its position.

    A layer's bias is what it makes of zeros, batch-norm behind it included, and the constant part of a
    piecewise linear activation is one more.
    """
    sites = [site for site in find_sites(apply, params, image) if site.kind in ("affine", "piecewise")]
    tapped = tap(apply, params, image, target, sites)
    at = biases_at(apply, params, image)
    biases = {name: to_z * at[name] for name, to_z in tapped.gradients.items()}
    return FullGradients(tapped.score, tapped.to_image * image, biases)


def fullgrad(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None
) -> Attribution:
    """`psi(dy/dx * x) + sum_l psi(dy/db_l * b_l)`, `psi` = upsample of min-max of magnitude: `(h, w, 1)`.

    As the authors' code: min-max over a whole site, the sum over channels, and sites without a map (linear
    layers) left out of the picture, while `full_gradients` has them. Unlike it: upsampling has half-pixel
    centres (theirs aligns the corners), and a batch-norm is folded into its convolution, so that the two have
    one bias and one map (theirs has one for each). `key` is not used.
    """
    check_is_image(image.shape, "fullgrad")
    full = full_gradients(apply, params, image, target)
    size = (image.shape[0], image.shape[1])
    maps = [full.input, *(bias for bias in full.biases.values() if bias.ndim == 3)]
    psi = [upsample(min_max(jnp.abs(m)).sum(axis=-1, keepdims=True), size) for m in maps]
    return attribution(jnp.stack(psi).sum(axis=0))
