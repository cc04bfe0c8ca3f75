"""The layers of the package's networks: an operation, its parameters and its site under one name; and their
names and shapes in a checkpoint."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Inexact

from dmbp_jax import ops
from dmbp_jax._checks import InputError
from dmbp_jax.typing import Params, Role, Rule, Window


class Layers(NamedTuple):
    """A network's parameters and the rule of the pass; each method is one layer at one site.

    A site bears torchvision's name of the module (`"layer1.0.conv1"`), which is also the path to its
    parameters, and the named scope of its operation.
    """

    params: Params
    rule: Rule

    def has(self, site: str) -> bool:
        """Whether the parameters have a layer of this name."""
        try:
            self._find(site)
        except KeyError:
            return False
        return True

    def conv(
        self,
        site: str,
        x: Inexact[Array, "n h w c"],
        *,
        stride: int = 1,
        padding: int = 0,
        role: Role = "filter",
    ) -> Inexact[Array, "n hh ww o"]:
        """A convolution with its bias."""
        layer = self._at(site)
        with jax.named_scope(site):
            z = ops.conv2d(x, layer["kernel"], layer["bias"], stride=stride, padding=padding)
        return self.rule.affine(site, z, role)

    def linear(self, site: str, x: Inexact[Array, "n i"], *, role: Role = "filter") -> Inexact[Array, "n o"]:
        """A fully connected layer with its bias."""
        layer = self._at(site)
        with jax.named_scope(site):
            z = ops.linear(x, layer["kernel"], layer["bias"])
        return self.rule.affine(site, z, role)

    def relu(self, site: str, z: Inexact[Array, "n *shape"]) -> Inexact[Array, "n *shape"]:
        """A ReLU."""
        with jax.named_scope(site):
            return self.rule.relu(site, z)

    def max_pool(
        self, site: str, h: Inexact[Array, "n h w c"], window: Window
    ) -> Inexact[Array, "n hh ww c"]:
        """A max-pool."""
        with jax.named_scope(site):
            return self.rule.max_pool(site, h, window)

    def _at(self, site: str) -> Mapping[str, Any]:
        try:
            return self._find(site)
        except (KeyError, TypeError) as error:
            raise InputError(f"the parameters are not this network's: they have no layer {site!r}") from error

    def _find(self, site: str) -> Mapping[str, Any]:
        node: Mapping[str, Any] = self.params
        for part in site.split("."):
            node = node[part]
        return node


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
    """The tree of parameters with leaves at these paths.

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
