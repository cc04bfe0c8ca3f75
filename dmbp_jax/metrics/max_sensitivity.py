"""Max-sensitivity: Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of
Explanations", NeurIPS 2019.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmbp_jax.checks import InputError
from dmbp_jax.typing import Images, Key


def max_sensitivity(
    explain: Callable[[Images], Float[Array | np.ndarray, "..."]],
    image: Float[Array | np.ndarray, "h w c"],
    values: Float[Array | np.ndarray, "..."],
    *,
    key: Key,
    radius: float | int = 0.1,
    n_samples: int = 50,
) -> Float[Array, ""]:
    """How much the explanation can change under noise that is too small to matter.

    `max_e ||V(x + e) - V(x)|| / ||V(x)||` over `n_samples` draws of noise `e`, every number of it uniform in
    `[-r, r]` (Definition 3.1, by Monte-Carlo; the division is in the authors' program `infid_sen_utils.py`,
    in Captum and in Quantus, not in the definition). Norms are Euclidean. Lower is better; 0 for an
    explanation that does not look at the image, so that it says nothing by itself: the paper reports it
    beside infidelity. It grows with `n_samples`; compare only what was drawn alike.

    Quantus' `MaxSensitivity` is the same with `lower_bound=r` in the image's own unit (0.2, 200 draws); so is
    Captum's `sensitivity_max` (0.02, 10 draws), but for a map of zeros.

    Args:
        explain: the explanations `(n_samples, ...)` of that many images `(n_samples, h, w, c)`, for the
            target that `values` are of. It is called once, and may walk its images in batches; see
            `dmbp_jax.explain`. Random keys of a method are its own affair, and so is what their noise adds.
        image: `(h, w, c)`, as the network takes it.
        values: what `explain` says of the image itself, `(h, w)` or `(h, w, c)`.
        key: a random key.
        radius: `r` as a share of the image's own range `max - min`. The authors' is 0.1 of images in [0, 1]
            for contributions, such as gradient x input, and 0.2 for slopes.
        n_samples: how many draws; 50 in the paper.

    Returns:
        The largest change, relative to the explanation itself; NaN if that is zero throughout, or any
        explanation is not finite.

    Raises:
        InputError: option out of range, `explain` returns another shape than `(n_samples, *values.shape)`.

    Nothing is compiled here but what `explain` compiles. It may be traced, too:

    >>> noisy = lambda x: x.sum(axis=-1)
    >>> image = jnp.asarray([[[0.0], [1.0]]])
    >>> jax.jit(lambda key: max_sensitivity(noisy, image, image[..., 0], key=key) < 0.15)(jax.random.key(0))
    Array(True, dtype=bool)
    """
    if n_samples < 1:
        raise InputError(f"n_samples must be at least 1, got {n_samples}")
    if not radius >= 0:
        raise InputError(f"radius must not be negative, got {radius}")
    image, values = jnp.asarray(image), jnp.asarray(values)
    noise = jax.random.uniform(key, (n_samples, *image.shape), image.dtype, -1, 1)
    found = jnp.asarray(explain(image[None] + radius * (image.max() - image.min()) * noise))
    if found.shape != (n_samples, *values.shape):
        raise InputError(
            f"explain must return explanations of shape {(n_samples, *values.shape)}, got {found.shape}"
        )
    # Relative to the largest number, no square overflows or vanishes.
    largest = jnp.abs(values).max()
    changes = ((found - values[None]) / largest).reshape(n_samples, -1)
    most = jnp.linalg.norm(changes, axis=1).max() / jnp.linalg.norm((values / largest).ravel())
    return jnp.where(jnp.isfinite(most), most, jnp.nan)
