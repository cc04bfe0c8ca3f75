"""Types for signatures: arrays, networks (`Apply`), rules, numbers in a range.

Images are NHWC, float, already normalised the way the network expects. Dimension names:
`n` images, `h` rows, `w` columns, `c` channels, `k` classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jaxtyping
import numpy as np
from jaxtyping import Array, Float, Inexact, Int, PRNGKeyArray, Shaped

from dmbp_jax._ranges import Finite, NonNegative, Positive

__all__ = [
    "Apply",
    "Finite",
    "Image",
    "Images",
    "Key",
    "Keys",
    "Logits",
    "NonNegative",
    "OnStep",
    "OutputActivation",
    "Params",
    "Positive",
    "Role",
    "Rule",
    "Target",
    "Values",
    "Window",
]

Image: TypeAlias = Float[Array, "*shape"]
"""One input of a network: `(h, w, c)`, or any shape for networks of other data."""
Images: TypeAlias = Float[Array, "n h w c"]
Logits: TypeAlias = Float[Array, "n k"]
Target: TypeAlias = Int[Array, ""] | Float[Array, "k"]
Numbers: TypeAlias = float | int | np.generic | np.ndarray | Array | Sequence[Any]
"""A number, an array, or a nested list of numbers, which NumPy converts to an array."""
Key: TypeAlias = PRNGKeyArray | Shaped[Array, "2"]
Keys: TypeAlias = Key | jaxtyping.Key[Array, "n"] | Shaped[Array, "n 2"]
"""One random key, or one for each image."""
Values: TypeAlias = Inexact[Array, "n *shape"]
"""What comes into a site, or out of it, for a batch."""
ValuesOfOne: TypeAlias = Inexact[Array, "1 *shape"]
Elementwise: TypeAlias = Callable[[Array], Array]
"""A function of each element by itself."""
Results: TypeAlias = Sequence[Array | None]
Deferred: TypeAlias = Callable[[], Results]
"""Computes its results when it is called."""
Params: TypeAlias = Any
"""A tree of arrays. Of the package's networks: nested dicts by torchvision's module names,
`params["layer1"]["0"]["conv1"]["kernel"]`."""

Role: TypeAlias = Literal["filter", "shortcut", "class", "shift"]
"""The role of an affine site: a hidden filter, the projection of a shortcut, the class layer, or only a shift
and scale of elements, as a batch-norm after an addition."""


class Window(NamedTuple):
    """A pooling window, in pixels, with PyTorch's meaning of every field."""

    size: int
    stride: int
    padding: int = 0
    ceil_mode: bool = False


@runtime_checkable
class Rule(Protocol):
    """The forward and backward computation at each site of a network; see `dmbp_jax.rules`.

    A network calls the rule once per site and pass, with the site's name. All arrays carry a batch axis.
    The networks of `dmbp_jax.models` call the first three methods; gated networks call all of them.
    """

    def relu(self, site: str, z: Values) -> Values:
        """The activation of the pre-activation `z`."""

    def max_pool(
        self, site: str, h: Inexact[Array, "n h w c"], window: Window
    ) -> Inexact[Array, "n hh ww c"]:
        """The maximum of `h` over each window."""

    def affine(self, site: str, z: Values, role: Role) -> Values:
        """The output `z` of an affine layer, returned unchanged unless the rule taps it."""

    def piecewise(self, site: str, z: Values, function: Elementwise, *, smooth: bool = False) -> Values:
        """Another activation, `function(z)` element by element: piecewise linear, or else `smooth`."""

    def maximum(self, site: str, elements: Inexact[Array, "m *shape"]) -> Inexact[Array, "*shape"]:
        """The largest of each `m` elements."""

    def decide(self, site: str, decision: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
        """The result of a comparison or another piecewise constant operation."""

    def smooth(
        self, site: str, function: Callable[..., Sequence[Array]], *operands: Array
    ) -> Sequence[Array]:
        """An operation `function(*operands)` that is not piecewise linear."""

    def custom_derivative(
        self, name: str, sites: frozenset[str], as_defined: Deferred, from_operations: Deferred
    ) -> Results:
        """The results of a function with a custom derivative, a `custom_vjp` or a `stop_gradient`:
        `as_defined()` with that derivative, or `from_operations()` with the derivative of its operations,
        which contain `sites`."""


@runtime_checkable
class Apply(Protocol):
    """A network as a pure function."""

    def __call__(self, params: Any, images: Array, /, *, rule: Rule = ...) -> Array:
        """Logits `(n, k)` of images `(n, h, w, c)`."""


def is_gated(apply: Apply) -> bool:
    """Whether a network is a result of `gated`, by its attribute `gated`: then its inputs need not be images,
    and its sites' names are not paths of parameters."""
    return bool(getattr(apply, "gated", False))


OnStep: TypeAlias = Callable[[int, int], None]
"""`on_step(done, total)`: called on the host with the numbers of finished steps and of all steps."""

OutputActivation: TypeAlias = Literal["softmax", "sigmoid"]
"""The output activation: from logits to probabilities."""
