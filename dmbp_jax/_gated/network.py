"""`gated`: any JAX network as an `apply` that takes a rule; the parameters of its layers."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dmbp_jax._checks import InputError, check_choice, check_first
from dmbp_jax._gated.axes import follow_axes
from dmbp_jax._gated.libraries import network_function
from dmbp_jax._gated.plan import NetworkProgram, is_same, plan_steps, tracing
from dmbp_jax._gated.probes import open_faithful, recognise_relus
from dmbp_jax._gated.program import Flat, flatten
from dmbp_jax._gated.steps import Affine
from dmbp_jax.ops._programs import named_tensors
from dmbp_jax.rules import PLAIN, find_sites
from dmbp_jax.typing import Apply, Image, Params, Rule

# `gated`: any JAX network as a network of this package, without rewriting it.

Layout: TypeAlias = Literal["NHWC", "NCHW"]


class Gated(NamedTuple):
    """A network that applies a rule at its sites, and its parameters."""

    apply: Apply
    params: Any


def _refuse_two(name: str, *networks: Any) -> None:
    if len(networks) > 1:
        raise InputError(f"{name} takes one argument, the network: {name}((module, variables))")


@check_first(_refuse_two)
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
    parameters, with the following bias and batch-norm, is an affine site. Sites are named after the network's
    named scopes, which flax's linen modules have, otherwise after their operation, numbered.

    A ReLU is recognised by its values, however it is written. At a kink of an activation the slope is the
    smaller one of both sides, 0 for a ReLU at 0; of several equal maxima the first counts. A function with a
    custom derivative (`custom_vjp`, `stop_gradient`) keeps it in methods that are defined by the network's
    derivative; other methods differentiate its operations, with an `ExplanationWarning`.

    Args:
        network: in evaluation mode; `(function, params)` with `function(params, images) -> logits`, or what
            a library calls a network: a `flax.nnx.Module` or what `nnx.split` makes of it, `(module,
            variables)` of flax's linen, a `TrainState`, an `equinox.Module` for one example or `(module,
            state)`, `(transformed, params)` or `(transformed, (params, state))` of haiku, a Keras model on
            JAX, a Flax model of transformers.
        layout: the layout of images in the network's own calls. `explain` takes `(n, h, w, c)` for both, and
            other inputs `(n, ...)` unchanged.
        output: a function from the network's outputs to logits `(n, k)`, if it has several; by default the
            field `logits` of outputs that have it.
        linearize_smooth: take operations that are not piecewise linear (GELU, softmax, normalisation by the
            image's own statistics) by their tangent at the image, instead of refusing them. The tangents'
            constants are not biases: DMBP's result has their sum as `completeness_gap`.

    Returns:
        `(apply, params)`. Modules of one structure have equal `apply`s, so that `gated(model)` after every
        epoch of a training compiles nothing again. Reuse the result for a function: every new one is compiled
        again.

    Raises:
        InputError: not a network, or one on another backend than JAX. When it is first applied: parameters
            that are not the module's; a convolution over another axis than the channels; an operation that
            is not piecewise linear, named with its place in the source; side effects; control flow that
            depends on the images; one that mixes images; logits of another shape than `(n, k)`.

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


@dataclasses.dataclass(frozen=True)
class GatedApply:
    """The `apply` of a gated network: equal to another one of the same function and options."""

    gated = True
    """See `dmbp_jax.typing.is_gated`."""

    function: Callable[[Any, Array], Any]
    layout: str
    output: Callable[[Any], Array] | None
    linearize_smooth: bool

    def __call__(self, params: Any, images: Array, /, *, rule: Rule = PLAIN) -> Array:
        """Logits `(n, k)`."""
        leaves = jax.tree.leaves(params)
        flat, steps = self.program(params, jax.typeof(images))
        known = dict(flat.constants) | dict(zip(flat.params, leaves, strict=True)) | {flat.images: images}
        for step in steps:
            step.run(known, rule, len(images))
        return known[flat.outputs[0]]

    def program(self, params: Any, images: Any) -> NetworkProgram:
        """The program for `images` of that shape and dtype."""
        leaves, structure = jax.tree.flatten(params)
        kinds = tuple((kind.shape, kind.dtype) for kind in map(jax.typeof, leaves))
        return self._plan(structure, kinds, images.shape, jnp.dtype(images.dtype), _context())

    @functools.cached_property
    def _plan(self) -> Callable[..., NetworkProgram]:
        return functools.lru_cache(maxsize=64)(self._make_plan)

    def _make_plan(
        self,
        structure: Any,
        kinds: tuple[tuple[Any, Any], ...],
        shape: tuple[int, ...],
        dtype: Any,
        _context: tuple[Any, ...],
    ) -> NetworkProgram:
        params = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in kinds])
        count, *rest = shape

        def flatten_for(number: int) -> Flat:
            images = jax.ShapeDtypeStruct((number, *rest), dtype)
            return flatten(self._logits, params, images, linearize_smooth=self.linearize_smooth)

        with tracing():
            flat, others = flatten_for(count), flatten_for(count + 1)
            # One image may be a special case, for example where its neighbour is looked up.
            if count == 1 and not is_same(flat, others):
                more = flatten_for(count + 2)
                follow_axes(others, more if is_same(others, more) else None, frozenset())
            flat, others = (recognise_relus(open_faithful(one)) for one in (flat, others))
        return plan_steps(flat, others, linearize_smooth=self.linearize_smooth)

    def _logits(self, params: Any, images: Array) -> Array:
        if self.layout == "NCHW" and images.ndim == 4:
            images = images.transpose(0, 3, 1, 2)
        outputs = self.function(params, images)
        # Of transformers' outputs, the logits.
        outputs = getattr(outputs, "logits", outputs) if self.output is None else self.output(outputs)
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


def _context() -> tuple[Any, ...]:
    """JAX's settings on which a program depends besides its arguments; plans are cached by them."""
    config: Any = jax.config
    return (
        config.jax_default_matmul_precision,
        config.jax_enable_x64,
        jax.sharding.get_abstract_mesh(),
    )


# Which parameters the layers of a network read.


def layer_parameters(
    apply: Apply, params: Params, image: Image | np.ndarray | jax.ShapeDtypeStruct
) -> dict[str, tuple[str, ...]]:
    """The dotted paths of the tensors that each affine layer reads, by its site, in the order of the network.

    A layer is the product with its weights, the bias, and the following frozen batch-norm. The variances of a
    batch-norm are left out: they are not learned, and a random one could be negative. A network of the
    package, or one written for rules, has the tensors at the site's name as a path; those of a `gated`
    network are found in its program.

    Raises `InputError` where no layer reads any of `params`.

    >>> import jax.numpy as jnp
    >>> from dmbp_jax import gated
    >>> params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2), "unused": jnp.ones(1)}
    >>> apply, params = gated((lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["w"].T, params))
    >>> layer_parameters(apply, params, jnp.ones(3))
    {'dense': ('b', 'w'), 'dense_2': ('w',)}
    """
    paths = [path for path, _ in named_tensors(params)]
    if isinstance(apply, GatedApply):
        read = dict(_read(apply, params, image))
        found = {site: tuple(paths[number] for number in numbers) for site, numbers in read.items()}
    else:
        sites = [site.name for site in find_sites(apply, params, image) if site.kind == "affine"]
        found = {site: tuple(path for path in paths if path.startswith(f"{site}.")) for site in sites}
    found = {site: tensors for site, tensors in found.items() if tensors}
    if not found:
        raise InputError(
            "no layer of the network reads any of its params, so that none can be randomised: pass its "
            "weights as params, not inside the function"
        )
    return found


def _read(
    apply: GatedApply, params: Params, image: Image | np.ndarray | jax.ShapeDtypeStruct
) -> Iterator[tuple[str, tuple[int, ...]]]:
    _, steps = apply.program(params, jax.ShapeDtypeStruct((1, *image.shape), image.dtype))
    for step in steps:
        if isinstance(step, Affine):
            yield step.site, step.parameters
