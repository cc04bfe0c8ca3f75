"""What DMBP keeps in memory for each image: masks, their optimiser's state, and everything together."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dmbp_jax.batching.chunk_size import program_bytes
from dmbp_jax.dmbp import DMBPConfig, configure
from dmbp_jax.dmbp.mask_sites import masked_sites
from dmbp_jax.explain import explain
from dmbp_jax.rules import find_sites
from dmbp_jax.typing import Apply, Params


class Memory(NamedTuple):
    """What one image more in a chunk costs, in bytes where nothing else is said."""

    masked: int
    """Activations that have a mask: how many."""
    masks: int
    """Their `theta`, float32."""
    optimiser: int
    """RMSProp's running mean of squares, float32; the preset `fast` has none."""
    total: int
    """Everything that XLA keeps at its peak: the two above, their gradients and both branches' masks, gates,
    activations, the image and the results."""
    parameters: int
    """The network's, once for all images."""


def count_memory(
    apply: Apply, params: Params, size: tuple[int, int, int], *, preset: str = "paper", **options: Any
) -> Memory:
    """Count the memory that DMBP takes for an image of `size` `(h, w, c)`; nothing is computed.

    Compiles the program for one image and for two: what the second adds is what each further one adds.
    `params` may be `jax.ShapeDtypeStruct`s.

    >>> from dmbp_jax.rules import PLAIN
    >>> def apply(params, images, *, rule=PLAIN):
    ...     z = rule.affine("scale", images * params["scale"], "filter")
    ...     return rule.relu("relu", z).mean(axis=(1, 2))
    >>> memory = count_memory(apply, {"scale": jnp.ones(())}, (8, 8, 3), preset="fast")
    >>> memory.masked, memory.masks, memory.optimiser, memory.parameters
    (192, 768, 0, 4)
    >>> memory.total > memory.masks + memory.optimiser
    True
    """
    config = configure(preset, **options)
    image = jax.ShapeDtypeStruct(size, jnp.float32)
    sites = masked_sites(find_sites(apply, params, image), config.mask_sites)
    masked = sum(math.prod(site.shape) for site in sites)
    parameters = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))

    def explain_all(params: Params, images: jax.Array, targets: jax.Array) -> Any:
        return explain(apply, params, images, targets, preset=preset, **options)

    def needed(chunk: int) -> int:
        images = jax.ShapeDtypeStruct((chunk, *size), jnp.float32)
        targets = jax.ShapeDtypeStruct((chunk,), jnp.int32)
        return sum(program_bytes(jax.jit(explain_all).lower(params, images, targets).compile()))

    each = needed(2) - needed(1)
    optimiser = 4 * masked if isinstance(config, DMBPConfig) else 0
    return Memory(masked, 4 * masked, optimiser, each, parameters)
