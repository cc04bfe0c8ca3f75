"""Every method on `tiny_apply`, as a function to be compiled and not run."""

import jax
import jax.numpy as jnp
from small import CLASSES, TINY_LAYERS, tiny_apply

import dmbp_jax
from dmbp_jax._methods import METHODS
from dmbp_jax.models._architectures import init_layout
from dmbp_jax.models._layers import LayerShape

CASES = {name: (name, {}) for name in METHODS} | {"dmbp, fast": ("dmbp", {"preset": "fast"})}
"""With their own numbers of steps: a loop does not take longer to compile for being walked more often."""
TINY = 8, TINY_LAYERS
"""A side of the images, and the layers."""
WIDE = (
    32,
    (
        LayerShape("conv1", (320, 3, 3, 3)),
        LayerShape("conv2", (320, 320, 3, 3)),
        LayerShape("fc", (CLASSES, 320)),
    ),
)
"""The same where it pays to differentiate `conv2` by Winograd's algorithm, on a CPU."""


def explain_by(case):
    """`explain(params, images, targets)` of one of `CASES`."""
    method, options = CASES[case]

    def explain(params, images, targets):
        key = jax.random.key(7)
        return dmbp_jax.explain(tiny_apply, params, images, targets, method, key=key, **options)

    return explain


def shapes(network, count):
    """What goes into it: parameters, `count` images, targets; no numbers."""
    side, layers = network
    params = jax.eval_shape(lambda: init_layout(jax.random.key(0), layers))
    images = jax.ShapeDtypeStruct((count, side, side, 3), jnp.float32)
    return params, images, jax.ShapeDtypeStruct((count,), jnp.int32)
