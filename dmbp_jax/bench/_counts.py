"""Operations of a network and of a step of DMBP, counted from the program before it is compiled.

XLA's own count (`compiled.cost_analysis()`) counts the body of a loop once, whatever its length, and depends
on how a backend rewrites convolutions.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax

from dmbp_jax._explain import explain
from dmbp_jax.dmbp import masked_sites
from dmbp_jax.ops._equations import branches_of, convolution_of, inner_programs, product_axes, scan_of
from dmbp_jax.rules import find_sites
from dmbp_jax.typing import Apply, Image, Params


class NetworkCounts(NamedTuple):
    """The size of a network at one image, and of a step of DMBP on it."""

    forward_flops: int
    """Operations of one forward pass: two for each multiply-add of every convolution and product."""
    first_flops: int
    """Operations of its first layer, whose output does not change while masks are learned."""
    weights: int
    """Parameters, biases included."""
    activations: int
    """Outputs of all convolutions and linear layers."""
    gates: int
    """Outputs of all ReLUs."""
    masks: int
    """Elements of all masks (`mask_sites="filter"`)."""

    @property
    def step_flops(self) -> int:
        """Operations of a step of DMBP: two masked forward passes and one backward, without the first layer.

        Eq. 10 needs the backward pass of one branch only (see `mask_gradient`). It is of data only, hence as
        much arithmetic as a forward pass. Masks, gates, pools and the optimiser are left out: they are
        limited by memory, not arithmetic.
        """
        return 3 * (self.forward_flops - self.first_flops)


def count_network(
    apply: Apply, params: Params, image: Image | jax.ShapeDtypeStruct, *, masked: bool = True
) -> NetworkCounts:
    """Count a network at one image `(h, w, c)`, an array or a `jax.ShapeDtypeStruct`; nothing is computed.

    `masked=False` leaves out the masks, so that a network without a site to mask can be counted.

    >>> from dmbp_jax.models import get_architecture, init
    >>> params = jax.eval_shape(lambda: init(jax.random.key(0), "vgg16"))
    >>> image = jax.ShapeDtypeStruct((224, 224, 3), jax.numpy.float32)
    >>> counts = count_network(get_architecture("vgg16").apply, params, image)
    >>> f"{counts.forward_flops / 1e9:.1f} GFLOP, a step {counts.step_flops / 1e9:.1f}"
    '30.9 GFLOP, a step 92.3'
    """
    sites = find_sites(apply, params, image)
    batch = jax.ShapeDtypeStruct((1, *image.shape), image.dtype)
    products = list(_products(jax.make_jaxpr(apply)(params, batch).jaxpr))
    return NetworkCounts(
        forward_flops=sum(products),
        first_flops=products[0] if products else 0,
        weights=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)),
        activations=sum(math.prod(site.shape) for site in sites if site.kind == "affine"),
        gates=sum(math.prod(site.shape) for site in sites if site.kind == "relu"),
        masks=sum(math.prod(site.shape) for site in masked_sites(sites, "filter")) if masked else 0,
    )


class CompiledCosts(NamedTuple):
    """XLA's count of one step, elementwise operations included."""

    flops: float
    bytes: float
    """Bytes read and written by all its kernels, as this backend fuses them."""


def compiled_step(apply: Apply, params: Params, image: Image | jax.ShapeDtypeStruct) -> CompiledCosts:
    """The cost of one step of DMBP in the compiled program, by XLA's own analysis; this compiles twice.

    The analysis counts a loop's body once, so that a step is the difference of a program with a loop and one
    without. Masks do not start at 0, where both branches would be equal and computed once.
    """

    def cost(steps: int) -> dict[str, float]:
        def call(params: Params, image: Image) -> Any:
            return explain(apply, params, image[None], jax.numpy.asarray([0]), steps=steps, start=0.5)

        return jax.jit(call).lower(params, image).compile().cost_analysis() or {}

    loop, none = cost(2), cost(0)
    return CompiledCosts(loop["flops"] - none["flops"], loop["bytes accessed"] - none["bytes accessed"])


def count_flops(function: Callable[..., object], *args: object) -> int:
    """The floating-point operations of every convolution and matrix product in `function(*args)`.

    Two for each multiplication and addition, padding included, as papers count; a `scan` counts with its
    length, a `while` once, a `cond` with its longest branch. `args` may be `jax.ShapeDtypeStruct`s.

    >>> count_flops(lambda a, b: jax.nn.relu(a @ b), jax.numpy.ones((2, 3)), jax.numpy.ones((3, 5)))
    60
    """
    return sum(_products(jax.make_jaxpr(function)(*args).jaxpr))


def _products(jaxpr: Any) -> Iterator[int]:
    """The operations of each product of a program, in its order."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            yield _convolution(equation)
        elif name == "dot_general":
            yield _product(equation)
        elif (scan := scan_of(equation)) is not None:
            yield scan.length * sum(_products(scan.body.jaxpr))
        elif branches := branches_of(equation):
            yield max(sum(_products(branch.jaxpr)) for branch in branches)
        else:
            for inner in inner_programs(equation):
                yield from _products(inner.jaxpr)


def _convolution(equation: Any) -> int:
    output = math.prod(equation.outvars[0].aval.shape)
    kernel, kind = equation.invars[1].aval.shape, convolution_of(equation.params)
    # In the gradient of a strided convolution most factors are the zeros between its input's elements.
    useful = math.prod(kind.lhs_dilation)
    return 2 * output * math.prod(kernel) // kernel[kind.output_channel_axis] // useful


def _product(equation: Any) -> int:
    shape, (contracted, _) = equation.invars[0].aval.shape, product_axes(equation.params)[0]
    return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
