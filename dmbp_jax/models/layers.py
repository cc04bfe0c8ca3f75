"""The layers that networks are written with: an operation, its parameters and its site under one name."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Inexact

from dmbp_jax import ops
from dmbp_jax.typing import Params, Role, Rule, Window


class Layers(NamedTuple):
    """A network's parameters and the rule of the pass; each method is one layer at one site.

    A site bears torchvision's name of the module (`"layer1.0.conv1"`), which is also the path to its
    parameters.
    """

    params: Params
    rule: Rule

    def has(self, site: str) -> bool:
        """Whether the parameters have a layer of this name."""
        try:
            self._at(site)
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
        z = ops.conv2d(x, layer["kernel"], layer["bias"], stride=stride, padding=padding)
        return self.rule.affine(site, z, role)

    def linear(self, site: str, x: Inexact[Array, "n i"], *, role: Role = "filter") -> Inexact[Array, "n o"]:
        """A fully connected layer with its bias."""
        layer = self._at(site)
        return self.rule.affine(site, ops.linear(x, layer["kernel"], layer["bias"]), role)

    def relu(self, site: str, z: Inexact[Array, "n *shape"]) -> Inexact[Array, "n *shape"]:
        """A ReLU."""
        return self.rule.relu(site, z)

    def max_pool(
        self, site: str, h: Inexact[Array, "n h w c"], window: Window
    ) -> Inexact[Array, "n hh ww c"]:
        """A max-pool."""
        return self.rule.max_pool(site, h, window)

    def _at(self, site: str) -> Mapping[str, Any]:
        node: Mapping[str, Any] = self.params
        for part in site.split("."):
            node = node[part]
        return node
