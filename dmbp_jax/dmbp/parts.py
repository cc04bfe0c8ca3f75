"""The two parts of the map kept apart, and the unit in which both are told; ours.

Masks are above zero: they weigh paths and turn no sign. At every masked activation of the positive branch
what speaks for the target has been made strong, but between the first of them and the pixels nothing is
masked, and there one filter that speaks for the target has a bright side and a dark one: `a+` carries both
signs, where the evidence *for* lies, and so does `a-`, where the evidence *against* lies. The sum of Eq. 7
then shows the wrong sign of the stronger branch louder than the right sign of the weaker one.

So the image gets a mask too, which needs no learning: of `a+` the mask that makes `y+` greatest is 1 where
`a+ > 0` and 0 elsewhere, and of `a-` the one that makes `y-` least is 1 where `a- < 0`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

CELLS = 7
"""Along the shorter side of an image: the last map of most networks at the size that they were trained on."""


def keep_apart(
    positive: Float[Array, "*shape"], negative: Float[Array, "*shape"], plain: Float[Array, "*shape"]
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`max(a+, 0)` and `min(a-, 0)`, each in the unit of the logit.

    Masks above 1 let a branch grow by orders of magnitude, and only its shape means something. The unit comes
    from gradient times input, which is `plain`: summed over cells, since what cancels between neighbours is
    evidence for nothing, its positive cells give what `max(a+, 0)` sums up to, its negative ones what
    `min(a-, 0)` does. Both together are the whole share of the pixels in the logit, and the rest of it, `y~`,
    is the biases', unless a branch has nothing to keep. If the logits are scaled, so are the parts.

    Args:
        positive: `a+ = (dF+/dx) * x`, in any unit: `(h, w, c)`, or of any other shape with channels last.
        negative: `a-`.
        plain: gradient times input.

    >>> a = jnp.asarray([[6.0, -2.0]]).T, jnp.asarray([[1.0, -3.0]]).T, jnp.asarray([[3.0, -1.0]]).T
    >>> [part.ravel().tolist() for part in keep_apart(*a)]
    [[3.0, 0.0], [0.0, -1.0]]
    """
    dtype = np.promote_types(plain.dtype, np.float32)
    cells = cell_sums(plain.astype(dtype))
    red = _density(jnp.maximum(positive.astype(dtype), 0))
    blue = _density(jnp.minimum(negative.astype(dtype), 0))
    return red * jnp.maximum(cells, 0).sum(), blue * jnp.minimum(cells, 0).sum()


def cell_sums(values: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sums over channels and over square cells, `CELLS` along the shorter side; the last may be narrower.

    Values without channels have no neighbours, and each is a cell.

    >>> cell_sums(jnp.ones((14, 21, 3))).shape, cell_sums(jnp.ones((5, 6, 3))).shape
    ((7, 11), (5, 6))
    """
    if values.ndim < 2:
        return values
    heatmap = values.sum(axis=-1)
    side = max(1, min(heatmap.shape) // CELLS)
    counts = [math.ceil(length / side) for length in heatmap.shape]
    padding = [(0, count * side - length) for count, length in zip(counts, heatmap.shape, strict=True)]
    split = jnp.pad(heatmap, padding).reshape([one for count in counts for one in (count, side)])
    return split.sum(axis=tuple(range(1, split.ndim, 2)))


def _density(values: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Values of one sign, divided by their sum; zeros stay what they are."""
    # Relative to the largest first, so that the sum does not overflow; the quotient does not depend on it.
    largest = jax.lax.stop_gradient(jnp.abs(values).max())
    values = values / jnp.where(largest > 0, largest, 1)
    return values / jnp.where(largest > 0, values.sum(), 1)
