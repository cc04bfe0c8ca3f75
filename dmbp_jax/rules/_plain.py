"""The plain rule: every nonlinearity is itself, forward and backward."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence

import jax
from jaxtyping import Array, Inexact, Shaped

from dmbp_jax import ops
from dmbp_jax._checks import ExplanationWarning
from dmbp_jax.ops._pool import pick
from dmbp_jax.typing import Deferred, Elementwise, Results, Role, Values, Window


@dataclasses.dataclass(frozen=True)
class Plain:
    """ReLU with gradient 0 at 0, max-pool with its gradient to the first maximum, as PyTorch has them."""

    def relu(self, site: str, z: Values) -> Values:
        """`max(z, 0)`."""
        return jax.nn.relu(z)

    def max_pool(
        self, site: str, h: Inexact[Array, "n h w c"], window: Window
    ) -> Inexact[Array, "n hh ww c"]:
        """The maximum of each window."""
        return ops.max_pool(h, window)

    def affine(self, site: str, z: Values, role: Role) -> Values:
        """`z`."""
        return z

    def piecewise(self, site: str, z: Values, function: Elementwise, *, smooth: bool = False) -> Values:
        """`function(z)`."""
        return function(z)

    def maximum(self, site: str, elements: Inexact[Array, "m *shape"]) -> Inexact[Array, "*shape"]:
        """The first largest element."""
        return pick(elements, elements.argmax(axis=0))

    def decide(self, site: str, decision: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
        """`decision`."""
        return decision

    def smooth(
        self, site: str, function: Callable[..., Sequence[Array]], *operands: Array
    ) -> Sequence[Array]:
        """`function(*operands)`."""
        return function(*operands)

    def own_derivative(
        self, name: str, sites: frozenset[str], as_defined: Deferred, opened: Deferred
    ) -> Results:
        """The function with the derivative that it defines."""
        return as_defined()


PLAIN = Plain()


def say_opened(name: str) -> None:
    """Say that a function's own derivative is not used."""
    warnings.warn(
        f"{name} defines a derivative of its own, which this method does not use: it goes by what the "
        "function computes",
        ExplanationWarning,
        stacklevel=3,
    )


@dataclasses.dataclass(frozen=True)
class Opened(Plain):
    """The plain rule, also within functions that define their derivatives themselves."""

    def own_derivative(
        self, name: str, sites: frozenset[str], as_defined: Deferred, opened: Deferred
    ) -> Results:
        """The function by its operations; an `ExplanationWarning` says so."""
        say_opened(name)
        return opened()


OPENED = Opened()


@dataclasses.dataclass(frozen=True)
class Behind(Opened):
    """The plain rule, and something behind the layers and activations: a subclass says what, in `behind`."""

    def behind(self, site: str, a: Values) -> Values:
        """What goes on from `site`, whose output is `a`."""
        return a

    def relu(self, site: str, z: Values) -> Values:
        """`max(z, 0)`, and what is behind it."""
        return self.behind(site, super().relu(site, z))

    def affine(self, site: str, z: Values, role: Role) -> Values:
        """`z`, and what is behind it."""
        return self.behind(site, super().affine(site, z, role))

    def piecewise(self, site: str, z: Values, function: Elementwise, *, smooth: bool = False) -> Values:
        """`function(z)`, and what is behind it."""
        return self.behind(site, super().piecewise(site, z, function, smooth=smooth))
