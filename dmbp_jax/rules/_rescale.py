"""DeepLIFT's rescale rule, on a pass of two images: the image first, its baseline second.

Backward, each nonlinearity multiplies the first image's cotangent by `(a - a0) / (z - z0)`, its slope between
baseline and image, instead of its slope at the image. The second image's cotangent is zero.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from dmbp_jax.ops._derivatives import stop_first_gradient
from dmbp_jax.ops._pool import UNROLLED, pool_windows, window_element
from dmbp_jax.rules._plain import IgnoreCustomDerivatives
from dmbp_jax.typing import Elementwise, Values, Window


def _slope(z: Array) -> Array:
    """ReLU's slope from the second row of `z` to its first, `(1, ...)`; the gradient where the rows are
    equal."""
    image, baseline = z[:1], z[1:]
    difference = image - baseline
    # Also false for a padding of minus infinity in both rows.
    differs = jnp.abs(difference) > 0
    rise = jax.nn.relu(image) - jax.nn.relu(baseline)
    return jnp.where(differs, rise / jnp.where(differs, difference, 1), (image > 0).astype(z.dtype))


@jax.custom_vjp
def rescale_relu(z: Inexact[Array, "2 *shape"]) -> Inexact[Array, "2 *shape"]:
    """`max(z, 0)` with the rescale rule."""
    return jax.nn.relu(z)


def _relu_forward(z: Array) -> tuple[Array, Array]:
    return jax.nn.relu(z), _slope(z)


def _relu_backward(slope: Array, cotangent: Array) -> tuple[Array]:
    to_image = slope * cotangent[:1]
    return (jnp.concatenate([to_image, jnp.zeros_like(to_image)]),)


rescale_relu.defvjp(_relu_forward, _relu_backward)


@jax.custom_vjp
def rescale_maximum(
    one: Inexact[Array, "2 *shape"], other: Inexact[Array, "2 *shape"]
) -> Inexact[Array, "2 *shape"]:
    """`max(one, other) = other + relu(one - other)` with the rescale rule on its ReLU.

    The cotangent is divided by a convex combination, so that the contributions add up to the difference of
    the maxima.
    """
    return jnp.maximum(one, other)


def _maximum_forward(one: Array, other: Array) -> tuple[Array, Array]:
    return jnp.maximum(one, other), _slope(one - other)


def _maximum_backward(slope: Array, cotangent: Array) -> tuple[Array, Array]:
    to_one, to_other = slope * cotangent[:1], (1 - slope) * cotangent[:1]
    zeros = jnp.zeros_like(to_one)
    return jnp.concatenate([to_one, zeros]), jnp.concatenate([to_other, zeros])


rescale_maximum.defvjp(_maximum_forward, _maximum_backward)


@dataclasses.dataclass(frozen=True)
class Rescale(IgnoreCustomDerivatives):
    """Plain values of two images; the gradient of the first one's score is DeepLIFT's multiplier."""

    def relu(self, site: str, z: Values) -> Values:
        """`max(z, 0)` with the rescale rule."""
        return rescale_relu(z)

    def max_pool(
        self, site: str, h: Inexact[Array, "n h w c"], window: Window
    ) -> Inexact[Array, "n hh ww c"]:
        """The maximum of each window, as a chain of maxima of two, row by row."""
        lowest = float("-inf")
        if window.size**2 <= UNROLLED:
            return functools.reduce(rescale_maximum, pool_windows(h, window, fill=lowest))
        element = window_element(h, window, fill=lowest)
        largest, _ = jax.lax.scan(
            lambda so_far, number: (rescale_maximum(so_far, element(number)), None),
            element(jnp.asarray(0)),
            jnp.arange(1, window.size**2),
        )
        return largest

    def piecewise(
        self, site: str, z: Inexact[Array, "2 *shape"], function: Elementwise, *, smooth: bool = False
    ) -> Inexact[Array, "2 *shape"]:
        """`function(z)` with the slope between the two images."""
        value, derivative = jax.jvp(function, (z,), (jnp.ones_like(z),))
        difference = z[:1] - z[1:]
        differs = jnp.abs(difference) > 0
        between = (value[:1] - value[1:]) / jnp.where(differs, difference, 1)
        slope = stop_first_gradient(jnp.where(differs, between, derivative[:1]))
        straight = slope * (z[:1] - stop_first_gradient(z[:1]))
        return stop_first_gradient(value) + jnp.concatenate([straight, jnp.zeros_like(straight)])

    def smooth(
        self, site: str, function: Callable[..., Sequence[Array]], *operands: Array
    ) -> Sequence[Array]:
        """`function(*operands)` with the mean of its slopes at the two images.

        This is exact for a product, `a b - a' b' = (a - a') (b + b') / 2 + (b - b') (a + a') / 2`. The error
        for a quotient is in the method's `convergence_delta`.
        """
        points = stop_first_gradient(operands)
        apart = [
            jnp.concatenate([z[:1] - p[:1], jnp.zeros_like(p[1:])])
            for z, p in zip(operands, points, strict=True)
        ]
        value, at_images = jax.jvp(function, points, tuple(apart))
        _, at_others = jax.jvp(function, tuple(p[::-1] for p in points), tuple(apart))
        return [
            v + jnp.concatenate([(one[:1] + other[:1]) / 2, jnp.zeros_like(v[1:])])
            for v, one, other in zip(value, at_images, at_others, strict=True)
        ]

    def maximum(self, site: str, elements: Inexact[Array, "m *shape"]) -> Inexact[Array, "*shape"]:
        """The largest, as a tree of maxima of two."""
        while len(elements) > 1:
            half = len(elements) // 2
            larger = jax.vmap(rescale_maximum)(elements[:half], elements[half : 2 * half])
            elements = jnp.concatenate([larger, elements[2 * half :]])
        return elements[0]


RESCALE = Rescale()
