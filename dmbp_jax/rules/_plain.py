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

    def custom_derivative(
        self, name: str, sites: frozenset[str], as_defined: Deferred, from_operations: Deferred
    ) -> Results:
        """The function with the derivative that it defines."""
        return as_defined()


PLAIN = Plain()


def warn_custom_derivative_ignored(name: str) -> None:
    """Warn that a function's custom derivative is not used."""
    warnings.warn(
        f"{name} defines a custom derivative, which this method ignores: it differentiates the function's "
        "operations instead",
        ExplanationWarning,
        stacklevel=3,
    )


@dataclasses.dataclass(frozen=True)
class IgnoreCustomDerivatives(Plain):
    """The plain rule, also within functions that define their derivatives themselves."""

    def custom_derivative(
        self, name: str, sites: frozenset[str], as_defined: Deferred, from_operations: Deferred
    ) -> Results:
        """The function by its operations; an `ExplanationWarning` says so."""
        warn_custom_derivative_ignored(name)
        return from_operations()


IGNORE_CUSTOM_DERIVATIVES = IgnoreCustomDerivatives()


@dataclasses.dataclass(frozen=True)
class OutputRule(IgnoreCustomDerivatives):
    """The plain rule with a function applied to the outputs of layers and activations: `output` of a
    subclass."""

    def output(self, site: str, a: Values) -> Values:
        """The replacement of the output `a` of `site`."""
        return a

    def relu(self, site: str, z: Values) -> Values:
        """`output` of `max(z, 0)`."""
        return self.output(site, super().relu(site, z))

    def affine(self, site: str, z: Values, role: Role) -> Values:
        """`output` of `z`."""
        return self.output(site, super().affine(site, z, role))

    def piecewise(self, site: str, z: Values, function: Elementwise, *, smooth: bool = False) -> Values:
        """`output` of `function(z)`."""
        return self.output(site, super().piecewise(site, z, function, smooth=smooth))
