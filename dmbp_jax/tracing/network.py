"""`gated`: any JAX network as a network of this package, without rewriting it."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.rules import PLAIN
from dmbp_jax.tracing.flatten import flatten
from dmbp_jax.tracing.libraries import network_function
from dmbp_jax.tracing.plan import NetworkProgram, plan_steps
from dmbp_jax.tracing.refuse import tracing
from dmbp_jax.typing import Apply, Rule

Layout: TypeAlias = Literal["NHWC", "NCHW"]


class Gated(NamedTuple):
    """A network that asks a rule at its sites, and its parameters."""

    apply: Apply
    params: Any


def gated(
    network: Any,
    *,
    layout: str = "NHWC",
    output: Callable[[Any], Array] | None = None,
    linearize_smooth: bool = False,
) -> Gated:
    """Any JAX network as `apply(params, images, *, rule) -> logits`, without rewriting it.

    The network is traced, and its program evaluated under the rule: ReLU, leaky and parametric ReLU, ReLU6,
    `clip`, hard tanh, `abs`, `maximum`, `where` on comparisons; max-pools and maxima over axes; through
    `jit`, `vmap`, `remat`, `custom_jvp`, `custom_vjp` and `scan`. A convolution or matrix product with
    parameters, with the bias and batch-norm behind it, is an affine site. Sites bear the names of the
    network's named scopes, which flax's linen modules have, or else of their operation and its number.

    At a corner the slope is that of the paper and of PyTorch, 0 for a ReLU at 0 and the first of several
    maxima, where JAX's own gradient of `jnp.maximum` divides evenly.

    Args:
        network: a `flax.nnx.Module`, `(module, variables)` of flax's linen, an `equinox.Module` for one
            example, or `(function, params)` with `function(params, images) -> logits`; in evaluation mode.
        layout: how the network wants images. `explain` takes `(n, h, w, c)` for both, and other inputs
            `(n, ...)` as they are.
        output: what makes logits `(n, k)` of the network's outputs, if it has several.
        linearize_smooth: take operations that are not piecewise linear (GELU, softmax, normalisation by the
            image's own statistics) by their tangent at the image, instead of refusing them. The tangents'
            constants belong to no bias: DMBP's result has their sum as `completeness_gap`.

    Returns:
        `(apply, params)`; keep the one `apply`, since each is compiled for itself.

    Raises:
        InputError: not a network. When it is first applied: an operation that is not piecewise linear, named
            with its place in the source; side effects; control flow that depends on the images; logits of
            another shape than `(n, k)`.

    >>> def mlp(params, x):
    ...     return jnp.maximum(x @ params["first"], 0) @ params["second"]
    >>> apply, params = gated((mlp, {"first": jnp.ones((4, 3)), "second": jnp.ones((3, 2))}))
    >>> from dmbp_jax.rules import find_sites
    >>> [site.name for site in find_sites(apply, params, jnp.ones(4))]
    ['dense', 'relu', 'dense_2']
    """
    check_choice("layout", layout, get_args(Layout))
    function, params = network_function(network)
    return Gated(GatedApply(function, layout, output, linearize_smooth), params)


class GatedApply:
    """The `apply` of a gated network; one plan for each shape of its arguments."""

    traced = True
    """See `dmbp_jax.typing.is_traced`."""

    def __init__(
        self,
        function: Callable[[Any, Array], Any],
        layout: str,
        output: Callable[[Any], Array] | None,
        linearize_smooth: bool,
    ) -> None:
        self._function = function
        self._layout = layout
        self._output = output
        self._linearize_smooth = linearize_smooth
        self._plan = functools.lru_cache(maxsize=64)(self._make_plan)

    def __call__(self, params: Any, images: Array, /, *, rule: Rule = PLAIN) -> Array:
        """Logits `(n, k)`."""
        leaves, structure = jax.tree.flatten(params)
        kinds = tuple((kind.shape, kind.dtype) for kind in map(jax.typeof, leaves))
        flat, steps = self._plan(structure, kinds, images.shape, jnp.dtype(images.dtype))
        known = dict(flat.constants) | dict(zip(flat.params, leaves, strict=True)) | {flat.images: images}
        for step in steps:
            step.run(known, rule, len(images))
        return known[flat.outputs[0]]

    def _make_plan(
        self, structure: Any, kinds: tuple[tuple[Any, Any], ...], shape: tuple[int, ...], dtype: Any
    ) -> NetworkProgram:
        params = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
        images = jax.ShapeDtypeStruct(shape, dtype)
        with tracing():
            flat = flatten(self._logits, params, images)
        return plan_steps(flat, linearize_smooth=self._linearize_smooth)

    def _logits(self, params: Any, images: Array) -> Array:
        if self._layout == "NCHW" and images.ndim == 4:
            images = images.transpose(0, 3, 1, 2)
        outputs = self._function(params, images)
        if self._output is not None:
            outputs = self._output(outputs)
        if not isinstance(outputs, jax.Array):
            shapes = jax.tree.map(jnp.shape, outputs)
            raise InputError(
                f"the network has several outputs, {shapes}: say which are the logits, for example "
                "gated(network, output=lambda outputs: outputs[0])"
            )
        if outputs.ndim != 2 or outputs.shape[0] != images.shape[0]:
            raise InputError(
                f"the network must return logits of shape ({images.shape[0]}, classes), got {outputs.shape}; "
                "make them with gated(network, output=...)"
            )
        return outputs
