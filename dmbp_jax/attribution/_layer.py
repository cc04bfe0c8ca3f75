"""A named layer's activation, the gradient of a score there, and their product, which attributes the score to
the layer's outputs instead of the image's pixels.

A layer is a *site*, a place at which a network asks its rule: `find_sites(apply, params, image)` lists them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from dmbp_jax._checks import check_images
from dmbp_jax.ops._programs import kept_jit
from dmbp_jax.result import Attribution
from dmbp_jax.result._attribution import attribution
from dmbp_jax.rules import Site, find_sites, tap
from dmbp_jax.rules._tap import choose_site, read
from dmbp_jax.typing import Apply, Image, Key, Params, Target, is_gated


def layer_activation(
    apply: Apply, params: Params, images: Inexact[Array | np.ndarray, "n *shape"], site: str
) -> Inexact[Array, "n *site"]:
    """The output of `site` for each of `images`, `(n, *its shape)`; works inside `jit` and `vmap`.

    Captum's `LayerActivation`. Raises `InputError` for an unknown site, naming the known ones, and for bad
    images.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", x * params).mean(axis=(1, 2))
    >>> layer_activation(apply, jnp.asarray(-2.0), jnp.ones((1, 2, 2, 3)), "relu").shape
    (1, 2, 2, 3)
    """
    check_images(images, any_rank=is_gated(apply))
    one = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    return _activations(params, images, apply=apply, at=choose_site(find_sites(apply, params, one), site))


def layer_gradient(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None, site: str
) -> Attribution:
    """`dy/dA`, the gradient of the target's score at the output `A` of `site`, in the site's shape.

    A method like others: `explain(..., method=layer_gradient, site="relu1")` explains a batch. `key` is not
    used. Raises `InputError` for an unknown site, naming the known ones.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", x * params).sum(axis=(0, 1, 2))[None]
    >>> arguments = apply, jnp.asarray(2.0), jnp.ones((1, 1, 2)), jnp.asarray(1)
    >>> layer_gradient(*arguments, site="relu").values.tolist()
    [[[0.0, 1.0]]]
    """
    return attribution(tap_layer(apply, params, image, target, _find(apply, params, image, site)).gradient)


def layer_gradient_x_activation(
    apply: Apply, params: Params, image: Image, target: Target, *, key: Key | None = None, site: str
) -> Attribution:
    """`dy/dA * A` at the output `A` of `site`, in the site's shape: the contribution of each of its outputs.

    If the network is linear after the site and has no biases there, the values sum to the score. Captum's
    `LayerGradientXActivation`; gradient x input at the network's input. `key` is not used. Raises
    `InputError` for an unknown site, naming the known ones.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, x, *, rule=PLAIN):
    ...     return rule.relu("relu", x * params).sum(axis=(0, 1, 2))[None]
    >>> arguments = apply, jnp.asarray(2.0), jnp.ones((1, 1, 2)), jnp.asarray(1)
    >>> layer_gradient_x_activation(*arguments, site="relu").values.tolist()
    [[[0.0, 2.0]]]
    """
    layer = tap_layer(apply, params, image, target, _find(apply, params, image, site))
    return attribution(layer.gradient * layer.activation)


class TappedLayer(NamedTuple):
    """The activation of a layer and the gradient there, without batch axis."""

    activation: Inexact[Array, "..."]
    gradient: Inexact[Array, "..."]


def tap_layer(apply: Apply, params: Params, image: Image, target: Target, at: Site) -> TappedLayer:
    """The output of a site and the gradient of the target's score there, of one image."""
    tapped = tap(apply, params, image, target, [at])
    return TappedLayer(tapped.activations[at.name], tapped.gradients[at.name])


def _find(apply: Apply, params: Params, image: Image, site: str) -> Site:
    return choose_site(find_sites(apply, params, image), site)


@kept_jit
def _activations(params: Params, images: Array, *, apply: Apply, at: Site) -> Array:
    def of(image: Image) -> Array:
        # The score is not used, so the compiler leaves out all that only it needs.
        _, outputs = read(apply, params, image, jnp.asarray(0), [at])
        return outputs[at.name]

    return jax.vmap(of)(images)
