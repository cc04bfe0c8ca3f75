"""How a checkpoint of an architecture is laid out: the names and shapes of its affine layers."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class LayerShape(NamedTuple):
    """One affine layer of an architecture, in PyTorch's terms."""

    name: str
    """torchvision's module name, which is also the site and the path of the parameters."""
    weight: tuple[int, ...]
    """`(out, in, kh, kw)` of a convolution, `(out, in)` of a linear layer."""
    bias: bool = True
    batch_norm: str | None = None
    """The module name of the batch-norm that follows, if one does."""
    grid: int | None = None
    """A linear layer that takes a flattened `(channels, grid, grid)` map: the side of that map."""


def nest(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """The tree of parameters whose leaves stand at these paths.

    >>> nest({("conv", "kernel"): 1, ("conv", "bias"): 2, ("fc", "bias"): 3})
    {'conv': {'kernel': 1, 'bias': 2}, 'fc': {'bias': 3}}
    """
    tree: dict[str, Any] = {}
    for (*outer, last), leaf in flat.items():
        node = tree
        for part in outer:
            node = node.setdefault(part, {})
        node[last] = leaf
    return tree
