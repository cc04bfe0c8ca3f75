"""Taps: read the activation and the gradient at a site."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Inexact, Shaped

from dmbp_jax import ops
from dmbp_jax._checks import InputError, check_choice
from dmbp_jax.ops._resample import full_along
from dmbp_jax.rules._plain import PLAIN, warn_custom_derivative_ignored
from dmbp_jax.rules._record import ACTIVATIONS, Site
from dmbp_jax.typing import Apply, Deferred, Elementwise, Image, Results, Role, Rule, Target, Values, Window


class Tapped(NamedTuple):
    """The readings of one forward and one backward pass of one image."""

    score: Float[Array, ""]
    to_image: Image
    """The gradient of the score at the image."""
    activations: dict[str, Inexact[Array, "..."]]
    """The output of each tapped site, without batch axis."""
    gradients: dict[str, Inexact[Array, "..."]]
    """The gradient of the score at the output of each tapped site."""


class _Taps:
    """A rule with a zero added at each tapped site; the gradient at that zero is the gradient at the site."""

    def __init__(self, rule: Rule, zeros: dict[str, Array]) -> None:
        self.rule = rule
        self.zeros = zeros
        self.activations: dict[str, Array] = {}

    def relu(self, site: str, z: Values) -> Values:
        return self._tap(site, self.rule.relu(site, z))

    def max_pool(
        self, site: str, h: Inexact[Array, "n h w c"], window: Window
    ) -> Inexact[Array, "n hh ww c"]:
        return self._tap(site, self.rule.max_pool(site, h, window))

    def affine(self, site: str, z: Values, role: Role) -> Values:
        return self._tap(site, self.rule.affine(site, z, role))

    def piecewise(self, site: str, z: Values, function: Elementwise, *, smooth: bool = False) -> Values:
        return self._tap(site, self.rule.piecewise(site, z, function, smooth=smooth))

    def maximum(self, site: str, elements: Inexact[Array, "m *shape"]) -> Inexact[Array, "*shape"]:
        return self.rule.maximum(site, elements)

    def decide(self, site: str, decision: Shaped[Array, "*shape"]) -> Shaped[Array, "*shape"]:
        return self.rule.decide(site, decision)

    def smooth(
        self, site: str, function: Callable[..., Sequence[Array]], *operands: Array
    ) -> Sequence[Array]:
        return self.rule.smooth(site, function, *operands)

    def custom_derivative(
        self, name: str, sites: frozenset[str], as_defined: Deferred, from_operations: Deferred
    ) -> Results:
        if sites.isdisjoint(self.zeros):
            return self.rule.custom_derivative(name, sites, as_defined, from_operations)
        warn_custom_derivative_ignored(name)
        return from_operations()

    def _tap(self, site: str, value: Array) -> Array:
        if site not in self.zeros:
            return value
        self.activations[site] = value[0]
        return value + self.zeros[site][None]


def read(
    apply: Apply,
    params: Any,
    image: Image,
    target: Target,
    sites: Sequence[Site],
    *,
    rule: Rule = PLAIN,
) -> tuple[Float[Array, ""], dict[str, Inexact[Array, "..."]]]:
    """The score and the outputs of `sites`, without batch axis, under `rule`: a forward pass."""
    zeros = {site.name: full_along(image, site.shape, 0, image.dtype) for site in sites}
    return _forward(apply, params, target, rule)(image, zeros)


def tap(
    apply: Apply,
    params: Any,
    image: Image,
    target: Target,
    sites: Sequence[Site],
    *,
    rule: Rule = PLAIN,
) -> Tapped:
    """Activations and gradients at `sites`, and the gradient at the image, under `rule`."""
    zeros = {site.name: full_along(image, site.shape, 0, image.dtype) for site in sites}
    (value, activations), (to_image, gradients) = jax.value_and_grad(
        _forward(apply, params, target, rule), argnums=(0, 1), has_aux=True
    )(image, zeros)
    return Tapped(value, to_image, activations, gradients)


def _forward(
    apply: Apply, params: Any, target: Target, rule: Rule
) -> Callable[..., tuple[Array, dict[str, Array]]]:
    def forward(image: Image, zeros: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        taps = _Taps(rule, zeros)
        logits = apply(params, image[None], rule=taps)[0]
        # Half precision is for the passes only; scores are compared and added.
        logits = logits.astype(np.promote_types(logits.dtype, np.float32))
        return ops.target_score(logits, target), taps.activations

    return forward


def choose_site(sites: Sequence[Site], name: str) -> Site:
    """The site of that name; `InputError` names the known ones."""
    known = {site.name: site for site in sites}
    check_choice("site", name, known)
    return known[name]


def choose_map(
    sites: Sequence[Site], name: str | None = None, token_grid: tuple[int, int] | None = None
) -> Site:
    """The site of that name, whose output must be a map, `(h, w, c)`; by default the last activation's.

    With a `token_grid` it must be named, and its output be tokens, `(t, c)`; see `lay_out`. Raises
    `InputError` for an unknown name, a site without a map, and a network without activation maps.
    """
    if token_grid is not None:
        rows, columns = token_grid
        if name is None:
            raise InputError(
                "token_grid needs the name of one site, whose output is tokens (t, c): see find_sites"
            )
        chosen = choose_site(sites, name)
        if len(chosen.shape) != 2 or min(rows, columns) < 1 or chosen.shape[0] < rows * columns:
            raise InputError(
                f"site {name!r} has no {rows} x {columns} tokens: its output has shape {chosen.shape}"
            )
        return chosen
    if name is None:
        maps = [site for site in sites if site.kind in ACTIVATIONS and len(site.shape) == 3]
        if not maps:
            raise InputError("the network has no activation whose output is a map; name another site")
        return maps[-1]
    chosen = choose_site(sites, name)
    if len(chosen.shape) != 3:
        raise InputError(f"site {name!r} has no map: its output has shape {chosen.shape}")
    return chosen


def lay_out(output: Inexact[Array, "*shape"], token_grid: tuple[int, int] | None) -> Inexact[Array, "h w c"]:
    """A site's output as a map: the last `rows * columns` tokens of a transformer, row by row.

    Tokens before them (class token, registers) have no position in the image and are left out. None returns a
    map unchanged.

    >>> import jax.numpy as jnp
    >>> lay_out(jnp.zeros((1 + 6, 8)), (2, 3)).shape
    (2, 3, 8)
    """
    if token_grid is None:
        return output
    rows, columns = token_grid
    return output[-rows * columns :].reshape(rows, columns, -1)
