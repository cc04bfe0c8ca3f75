"""Masked backpropagation as the paper defines it, slowly: plain forward pass, masked backward pass, Eq. 14.

Nothing here uses duality: `y^s` is the sum over input and biases of gradient times value, where every
cotangent that leaves a masked site has been multiplied by its mask.
"""

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from dmbp_jax.rules import Plain


@jax.custom_vjp
def _mask_cotangent(value, mask):
    return value


_mask_cotangent.defvjp(
    lambda value, mask: (value, mask),
    # The forward value does not depend on the mask, so its own cotangent is zero.
    lambda mask, cotangent: (mask * cotangent, jnp.zeros_like(mask)),
)


class MaskedBackward(Plain):
    """Plain values; the cotangents at the sites of `masks` are multiplied by them."""

    def __init__(self, masks):
        object.__setattr__(self, "masks", masks)

    def _tap(self, site, value):
        return _mask_cotangent(value, self.masks[site][None]) if site in self.masks else value

    def relu(self, site, z):
        return self._tap(site, super().relu(site, z))

    def affine(self, site, z, role):
        return self._tap(site, z)


def eq14(apply, params, image, weights, masks):
    """`y^s` and `dF^s/dx` of one image under `masks`."""
    flat = flatten_dict(params)
    biases = {path: leaf for path, leaf in flat.items() if path[-1] == "bias"}

    def score(image, biases):
        logits = apply(unflatten_dict(flat | biases), image[None], rule=MaskedBackward(masks))[0]
        return jnp.vdot(weights, logits)

    to_image, to_biases = jax.grad(score, argnums=(0, 1))(image, biases)
    y = jnp.vdot(to_image, image) + sum(jnp.vdot(to_biases[p], biases[p]) for p in biases)
    return y, to_image


class _TappedBackward(MaskedBackward):
    """As above, with a zero added to what a layer or a piecewise activation gives before its mask."""

    def __init__(self, masks, zeros):
        super().__init__(masks)
        object.__setattr__(self, "zeros", zeros)

    def affine(self, site, z, role):
        return self._tap(site, z + self.zeros[site][None])

    def piecewise(self, site, z, function, *, smooth=False):
        return self._tap(site, function(z) + self.zeros[site][None])


def eq14_at_sites(apply, params, image, weights, masks, biases):
    """`y^s` and `dF^s/dx` where the `biases` are given for each site, and not as parameters."""

    def score(image, zeros):
        return jnp.vdot(weights, apply(params, image[None], rule=_TappedBackward(masks, zeros))[0])

    zeros = jax.tree.map(jnp.zeros_like, biases)
    to_image, to_biases = jax.grad(score, argnums=(0, 1))(image, zeros)
    y = jnp.vdot(to_image, image) + sum(jnp.vdot(to_biases[site], biases[site]) for site in biases)
    return y, to_image
