"""Find a network's sites, and record the gates with which it is linear at an image."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int, Integer, Shaped

from dmbp_jax._checks import InputError, advise_on_dtype, check_first, kind_of, refuse_pair
from dmbp_jax.ops._pool import pick, pool_selected, select_max
from dmbp_jax.typing import (
    Apply,
    Deferred,
    Elementwise,
    Image,
    Results,
    Role,
    Values,
    ValuesOfOne,
    Window,
    is_gated,
)

ACTIVATIONS = ("relu", "piecewise")
"""The kinds of sites that are elementwise nonlinearities."""


class Site(NamedTuple):
    """A place in a network where a rule is applied."""

    name: str
    kind: Literal["relu", "piecewise", "max_pool", "affine"]
    shape: tuple[int, ...]
    """The shape of the site's output, without the batch axis."""
    role: Role | None = None
    """The role of an affine site."""


class Piece(NamedTuple):
    """The piece of an activation on which an image lies, `a = slope * z + offset`."""

    slope: ValuesOfOne
    offset: ValuesOfOne


class Linearization(NamedTuple):
    """The gates of a network at one image; with them frozen the network is an affine map.

    Arrays keep a batch axis of one, as the network sees them.
    """

    gates: dict[str, Bool[Array, "1 *shape"]]
    """ReLU sites: where the pre-activation is above zero, `g = 1[z > 0]`."""
    selections: dict[str, Integer[Array, "1 h w c"]]
    """Max-pool sites: the index of each window's first maximum."""
    pieces: dict[str, Piece]
    """Other piecewise linear activations."""
    tangents: dict[str, Piece]
    """Smooth activations: their tangents."""
    maxima: dict[str, Int[Array, "..."]]
    """Other maxima: the index of the first one."""
    decisions: dict[str, Shaped[Array, "..."]]
    """The results of comparisons."""
    points: dict[str, tuple[Array, ...]]
    """Smooth operations of several operands: these operands."""


def note_site(sites: dict[str, Site], site: Site) -> None:
    """Add a site to those of a network; `ValueError` for a name that it has already."""
    if site.name in sites:
        raise ValueError(f"the network uses the site name {site.name!r} twice; names must be unique")
    sites[site.name] = site


class _Recorder:
    """The plain rule, recording sites and gates."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}
        self.found = Linearization({}, {}, {}, {}, {}, {}, {})

    def relu(self, site: str, z: Values) -> Values:
        note_site(self.sites, Site(site, "relu", z.shape[1:]))
        self.found.gates[site] = z > 0
        return jax.nn.relu(z)

    def max_pool(
        self, site: str, h: Inexact[Array, "n h w c"], window: Window
    ) -> Inexact[Array, "n hh ww c"]:
        selection = select_max(h, window)
        note_site(self.sites, Site(site, "max_pool", selection.shape[1:]))
        self.found.selections[site] = selection
        return pool_selected(h, selection, window)

    def affine(self, site: str, z: Values, role: Role) -> Values:
        note_site(self.sites, Site(site, "affine", z.shape[1:], role))
        return z

    def piecewise(self, site: str, z: Values, function: Elementwise, *, smooth: bool = False) -> Values:
        note_site(self.sites, Site(site, "piecewise", z.shape[1:]))
        value, slope = jax.jvp(function, (z,), (jnp.ones_like(z),))
        (self.found.tangents if smooth else self.found.pieces)[site] = Piece(slope, value - slope * z)
        return value

    def maximum(self, site: str, elements: Inexact[Array, "m *shape"]) -> Inexact[Array, "*shape"]:
        self.found.maxima[site] = elements.argmax(axis=0)
        return pick(elements, self.found.maxima[site])

    def decide(self, site: str, decision: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
        self.found.decisions[site] = decision
        return decision

    def smooth(
        self, site: str, function: Callable[..., Sequence[Array]], *operands: Array
    ) -> Sequence[Array]:
        self.found.points[site] = operands
        return function(*operands)

    def custom_derivative(
        self, name: str, sites: frozenset[str], as_defined: Deferred, from_operations: Deferred
    ) -> Results:
        return from_operations()


class Recorded(NamedTuple):
    """The results of a recorded plain pass of one image."""

    logits: Inexact[Array, "k"]
    at: Linearization
    sites: tuple[Site, ...]
    """In the order of the forward pass."""


def record(apply: Apply, params: Any, image: Image) -> Recorded:
    """The logits of one image, the gates at which the network is linear there, and the network's sites."""
    recorder = _Recorder()
    logits = apply(params, image[None], rule=recorder)
    return Recorded(logits[0], recorder.found, tuple(recorder.sites.values()))


def linearize(apply: Apply, params: Any, image: Image) -> tuple[Inexact[Array, "k"], Linearization]:
    """The logits of one image, and the gates at which the network is linear there: arrays alone.

    >>> import jax.numpy as jnp
    >>> def apply(params, images, *, rule):
    ...     return rule.relu("relu", images.mean(axis=(1, 2)))
    >>> logits, at = linearize(apply, {}, jnp.ones((2, 2, 3)))
    >>> at.gates["relu"].tolist()
    [[True, True, True]]
    """
    recorded = record(apply, params, image)
    return recorded.logits, recorded.at


@check_first(refuse_pair)
def find_sites(
    apply: Apply, params: Any, image: Image | np.ndarray | jax.ShapeDtypeStruct
) -> tuple[Site, ...]:
    """Every site of a network, in the order of its forward pass; nothing is computed.

    `image` may be a `jax.ShapeDtypeStruct`: its values are not looked at.

    Raises `InputError` for an `apply` or `image` of the wrong type, and for a shape that the network does not
    accept.
    """
    _check(apply, image)
    found: list[Site] = []
    try:
        jax.eval_shape(lambda params, x: found.extend(record(apply, params, x).sites), params, image)
    except TypeError as error:
        advice = advise_on_dtype(params, image.dtype) if "dtypes" in str(error) else ""
        if "unexpected keyword argument 'rule'" in str(error):
            advice = (
                "it takes no rule=: make it a network that does, apply, params = gated((function, params))"
            )
        if advice:
            raise InputError(f"the network does not run: {advice}") from error
        raise
    return tuple(found)


def _check(apply: Any, image: Any) -> None:
    if not callable(apply):
        raise InputError(f"apply must be a function, got {kind_of(apply)}: find_sites(apply, params, image)")
    if not isinstance(image, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        raise InputError(f"image must be an array, of one image without batch axis, got {kind_of(image)}")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise InputError(f"image must be floating point, got {image.dtype}")
    if len(image.shape) != 3 and not is_gated(apply):
        hint = "; give images[0]" if len(image.shape) == 4 else ""
        raise InputError(f"image must have shape (h, w, c), without batch axis, got {image.shape}{hint}")
