"""Random piecewise linear programs under `gated`: they are drawn block by block, and computed in float64.

No example needs care for ties. Its numbers are random reals, so that two values are equal, or a corner is
hit, only where both sides are the same function nearby (after dead ReLUs, or of one value in two branches);
there every choice has the same gradient.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from jax import lax
from references.masked_backprop import MaskedBackward
from small import long_but
from zoo.case import user_settings

from dmbp_jax._gated import gated
from dmbp_jax.attribution._fullgrad import full_gradients
from dmbp_jax.rules import Masked, biases_at, find_sites, linearize

pytestmark = pytest.mark.usefixtures("x64")

CLASSES = 3
COUNT = 2
"""Images in a batch: of the same size as many other axes, so that these may be mistaken for each other."""


def examples(count):
    """The same examples every time. They are not shrunk: that takes long, and the blocks say enough."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


class Block(NamedTuple):
    """A part of a program, and choices of which it takes those that it needs."""

    kind: str
    wrapper: str
    activations: tuple[str, str]
    width: int
    size: int
    stride: int
    padding: str
    groups: int
    bias: bool
    channels_first: bool


class Spec(NamedTuple):
    """What a program is built of."""

    shape: tuple[int, ...]
    blocks: tuple[Block, ...]
    head: str
    names: str
    seed: int


ACTIVATIONS = {
    "nn.relu": jax.nn.relu,
    "maximum": lambda x: jnp.maximum(x, 0),
    "maximum of 0": lambda x: jnp.maximum(0, x),
    "where": lambda x: jnp.where(x > 0, x, 0),
    "where mirrored": lambda x: jnp.where(jnp.zeros_like(x) >= x, 0, x),
    "product": lambda x: x * (x > 0),
    "leaky_relu": jax.nn.leaky_relu,
    "leaky maximum": lambda x: jnp.maximum(0.2 * x, x),
    "abs": jnp.abs,
    "clip": lambda x: jnp.clip(x, -1.5, 2),
    "minimum": lambda x: jnp.minimum(x, 1),
    "hard_tanh": jax.nn.hard_tanh,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "relu6": lambda x: jax.nn.relu6(3 * x),
    "soft shrinkage": lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - 0.1, 0),
    "jump": lambda x: jnp.where(x > 0.2, 2 * x, -0.1),
    "both halves": lambda x: jnp.concatenate([jax.nn.relu(x), jax.nn.relu(-x)], axis=-1)[..., ::2],
    "batch last": lambda x: jnp.moveaxis(jax.nn.relu(jnp.moveaxis(x, 0, -1)), -1, 0),
    "batch merged": lambda x: jnp.abs(x.reshape(x.shape[0] * x.shape[1], -1) - 0.1).reshape(x.shape),
    "channels first": lambda x: jnp.moveaxis(jnp.maximum(jnp.moveaxis(x, -1, 1), 0), 1, -1),
}

SHIFTING = {"hard_sigmoid", "soft shrinkage", "batch merged"}
"""They begin with a constant shift: a bias that is no parameter."""

WRAPPERS = {
    "": lambda f: f,
    "jit": jax.jit,
    "jit in jit": lambda f: jax.jit(lambda p, h: 2 * jax.jit(f)(p, h)),
    "checkpoint": jax.checkpoint,
    "vmap": lambda f: lambda p, h: jax.vmap(lambda one: f(p, one[None])[0])(h),
    "vmap, batch last": lambda f: (
        lambda p, h: jnp.moveaxis(
            jax.vmap(lambda one: f(p, one[None])[0], in_axes=-1, out_axes=-1)(jnp.moveaxis(h, 0, -1)), -1, 0
        )
    ),
}

KINDS = (
    *("layer", "activated", "activation", "residual", "projection", "concatenation", "max_pool"),
    *("reshape_pool", "average", "maxout", "maxout of channels", "reused", "scan", "gate", "norm"),
)


@st.composite
def specs(draw, first=None):
    """`first`: the kind of the first block, so that none is left out."""
    few = st.integers(1, 3)
    image = st.tuples(st.integers(3, 8), st.integers(3, 8), few)
    block = st.builds(
        Block,
        kind=st.sampled_from(KINDS),
        wrapper=st.sampled_from(list(WRAPPERS)),
        activations=st.tuples(*[st.sampled_from(list(ACTIVATIONS))] * 2),
        width=st.integers(2, 5),
        size=few,
        stride=st.integers(1, 2),
        padding=st.sampled_from(["SAME", "VALID"]),
        groups=st.integers(1, 2),
        bias=st.booleans(),
        channels_first=st.booleans(),
    )
    blocks = draw(st.lists(block, min_size=2, max_size=3))
    if first is not None:
        blocks[0] = blocks[0]._replace(kind=first)
    return Spec(
        shape=draw(st.one_of(image, image, st.tuples(st.integers(2, 6)))),
        blocks=tuple(blocks),
        head=draw(st.sampled_from(["mean", "flatten", "max", "activated"])),
        names=draw(st.sampled_from(["own", "of sites, the other way round"])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


class Builder:
    """Parameters by layer; every vector that shifts is a leaf `bias`, and nothing else is."""

    def __init__(self, seed, largest):
        self.largest = largest
        self.random = np.random.default_rng(seed)
        self.params: dict[str, Any] = {}

    def new(self, kernel, fan_in, *bias, **more):
        """The name of a new layer with a kernel, and a bias if it has a shape."""
        name = f"layer{len(self.params)}"
        values = (2 / fan_in) ** 0.5 * self.random.standard_normal(kernel)
        layer = {"kernel": values} | ({"bias": 0.4 * self.random.standard_normal(bias)} if bias else {})
        self.params[name] = layer | more
        return name

    def layer(self, block, shape, width=None, keep=False):
        """A convolution of feature maps, or a dense layer. `keep`: of the same height and width."""
        width = width or block.width
        if len(shape) == 1 or (block.size == 1 and block.stride == 1):
            name = self.new((shape[-1], width), shape[-1], *[width] * block.bias)
            return lambda p, h: shifted(p[name], h @ p[name]["kernel"])
        groups = math.gcd(block.groups, shape[-1], width)
        stride, padding = (1, "SAME") if keep else (block.stride, block.padding)
        size = min(block.size, *shape[:2])
        kernel = (size, size, shape[-1] // groups, width)
        name = self.new(kernel, math.prod(kernel[:3]), *[width] * block.bias)

        def conv(p, h):
            kernel, numbers = p[name]["kernel"], ("NHWC", "HWIO", "NHWC")
            if block.channels_first:
                h, numbers = h.transpose(0, 3, 1, 2), ("NCHW", "HWIO", "NCHW")
            h = lax.conv_general_dilated(
                h, kernel, (stride,) * 2, padding, dimension_numbers=numbers, feature_group_count=groups
            )
            if not block.channels_first:
                return shifted(p[name], h)
            bias = p[name].get("bias")
            return (h if bias is None else h + bias.reshape(1, -1, 1, 1)).transpose(0, 2, 3, 1)

        return conv

    def block(self, block, shape):
        """A function of parameters and features, for features of one shape `(h, w, c)` or `(c,)`."""
        first, second = (ACTIVATIONS[name] for name in block.activations)
        kind, channels, is_map = block.kind, shape[-1], len(shape) == 3
        if kind == "layer":
            return self.layer(block, shape)
        if kind == "activation":
            return lambda p, h: first(h)
        if kind == "residual":
            inner, outer = (self.layer(block, shape, channels, keep=True) for _ in range(2))
            return lambda p, h: second(h + outer(p, first(inner(p, h))))
        if kind == "projection":
            inner, past = self.layer(block, shape), self.layer(block, shape)
            after = self.layer(block, self.after(inner, shape), keep=True)
            return lambda p, h: second(after(p, first(inner(p, h))) + past(p, h))
        if kind == "concatenation":
            one, other = self.layer(block, shape, keep=True), self.layer(block, shape, keep=True)
            return lambda p, h: jnp.concatenate([first(one(p, h)), h, second(other(p, h))], axis=-1)
        if kind == "max_pool" and is_map:
            return lambda p, h: pooled(h, block, lax.max, -jnp.inf)
        if kind == "reshape_pool" and is_map:
            return lambda p, h: self.largest(windows(h, block.size), (2, 4))
        if kind == "average" and is_map and block.groups == 1:
            return lambda p, h: windows(h, block.size).mean(axis=(2, 4))
        if kind == "average" and is_map:
            return lambda p, h: pooled(h, block, lax.add, 0.0) / pooled(jnp.ones_like(h), block, lax.add, 0.0)
        if kind == "maxout":
            one, other = self.layer(block, shape), self.layer(block, shape)
            return lambda p, h: jnp.maximum(one(p, h), first(other(p, h)))
        if kind == "maxout of channels":
            layer = self.layer(block, shape, 2 * block.width)
            return lambda p, h: self.largest((z := layer(p, h)).reshape(*z.shape[:-1], -1, 2), -1)
        if kind == "reused":
            layer = self.layer(block, shape, channels, keep=True)
            return lambda p, h: (a := first(layer(p, h))) + second(a) + layer(p, a)
        if kind == "scan":
            return self.scan(block, channels, first)
        if kind == "gate":
            one, other = self.layer(block, shape), self.layer(block, shape)
            return lambda p, h: jnp.where(one(p, h) > 0, other(p, h), 0)
        if kind == "norm":
            mean = self.new((channels,), 2, channels)
            beta = self.new((), 1, channels)
            return lambda p, h: first(
                (h - p[mean]["bias"]) * p[mean]["kernel"] / jnp.sqrt(2.0) + p[beta]["bias"]
            )
        layer = self.layer(block, shape)
        return lambda p, h: first(layer(p, h))

    def scan(self, block, channels, activation):
        """Layers of one shape, one after the other; the end alone, or with all that led to it."""
        name = self.new((block.size, channels, channels), channels, block.size, channels)

        def step(h, layer):
            h = activation(shifted(layer, h @ layer["kernel"]))
            return h, h

        def scan(p, h):
            end, all_steps = lax.scan(step, h, p[name], reverse=block.channels_first)
            return end + all_steps.sum(axis=0) if block.bias else end

        return scan

    def head(self, spec, shape):
        if len(shape) == 3 and spec.head == "activated":
            name = self.new((shape[-1], CLASSES), shape[-1], CLASSES)
            return lambda p, h: jax.nn.relu(shifted(p[name], h @ p[name]["kernel"])).mean(axis=(1, 2))
        reduce = {
            "max": lambda h: self.largest(h, (1, 2)) if h.ndim == 4 else h,
            "mean": lambda h: h.mean(axis=(1, 2)) if h.ndim == 4 else h,
        }.get(spec.head, lambda h: h.reshape(h.shape[0], -1))
        width = jax.eval_shape(reduce, struct(shape)).shape[1]
        name = self.new((width, CLASSES), width, CLASSES)
        return lambda p, h: shifted(p[name], reduce(h) @ p[name]["kernel"])

    def after(self, function, shape):
        return jax.eval_shape(function, self.params, struct(shape)).shape[1:]


def struct(shape):
    return jax.ShapeDtypeStruct((COUNT, *shape), jnp.float64)


def shifted(layer, h):
    return h + layer["bias"] if "bias" in layer else h


def largest(h, axis):
    return h.max(axis)


def first_largest(h, axis):
    """`h.max(axis)`, with a gradient that is right under `jit`.

    JAX looks for the elements that are equal to the maximum. XLA may compute them anew, and round them
    otherwise: then none is, and the gradient is zero.
    """
    axes = (axis,) if isinstance(axis, int) else axis
    h = jnp.moveaxis(h, axes, range(len(axes)))
    h = h.reshape(-1, *h.shape[len(axes) :])
    return jnp.take_along_axis(h, h.argmax(axis=0)[None], axis=0)[0]


def windows(h, size):
    """`(n, h, size, w, size, c)`, of what can be divided so."""
    n, height, width, c = h.shape
    size = min(size + 1, height, width)
    rows, columns = height // size, width // size
    return h[:, : rows * size, : columns * size].reshape(n, rows, size, columns, size, c)


def pooled(h, block, function, start):
    """Over windows that need not be square, in either layout."""
    height, width = (min(side, length) for side, length in zip((block.size, 2), h.shape[1:3], strict=True))
    if block.groups == 1:
        height = width
    if block.channels_first:
        h = lax.reduce_window(
            h.transpose(0, 3, 1, 2),
            start,
            function,
            (1, 1, height, width),
            (1, 1, *[block.stride] * 2),
            block.padding,
        )
        return h.transpose(0, 2, 3, 1)
    sizes, strides = (1, height, width, 1), (1, block.stride, block.stride, 1)
    return lax.reduce_window(h, start, function, sizes, strides, block.padding)


def build(spec, largest=largest):
    """`(function, params)`, and a batch of images."""
    builder, shape, functions = Builder(spec.seed, largest), spec.shape, []
    for block in spec.blocks:
        function = WRAPPERS[block.wrapper](builder.block(block, shape))
        shape = builder.after(function, shape)
        functions.append(function)
    functions.append(builder.head(spec, shape))
    renamed = {name: name for name in builder.params}
    if spec.names != "own":
        numbers = [f"_{i + 1}" if i else "" for i in range(len(renamed))]
        renamed = {
            name: ("conv" if np.ndim(builder.params[name]["kernel"]) == 4 else "dense") + number
            for name, number in zip(renamed, reversed(numbers), strict=True)
        }
    params = {renamed[name]: jax.tree.map(jnp.asarray, layer) for name, layer in builder.params.items()}

    def network(params, h):
        own = {name: params[renamed[name]] for name in renamed}
        for function in functions:
            h = function(own, h)
        return h

    images = builder.random.standard_normal((COUNT, *spec.shape)) + builder.random.standard_normal()
    weights = builder.random.standard_normal(CLASSES)
    return (network, params), jnp.asarray(images), jnp.asarray(weights)


class ProbedMaskedBackward(MaskedBackward):
    """The reference of the paper's definition, with a zero wherever a bias enters."""

    def __init__(self, masks, zeros):
        super().__init__(masks)
        object.__setattr__(self, "zeros", zeros)
        object.__setattr__(self, "offsets", {})

    def affine(self, site, z, role):
        return self._tap(site, z + self.zeros[site][None])

    def piecewise(self, site, z, function, *, smooth=False):
        assert not smooth
        slope = jax.grad(lambda z: function(z).sum())(z)
        value = function(z)
        self.offsets[site] = (value - slope * z)[0]
        return self._tap(site, value + self.zeros[site][None])


def masked_backprop(apply, params, image, weights, masks, sites):
    """`y^s` from masked cotangents (Eq. 14), twice, and `dF^s/dx`.

    The biases are the leaves `bias` of the parameters, or what `biases_at` finds at the layers, and the
    constant parts of pieces, found here.
    """
    zeros = {site.name: jnp.zeros(site.shape) for site in sites if site.kind in ("affine", "piecewise")}
    biases = {name: layer["bias"] for name, layer in params.items() if "bias" in layer}

    def score(image, biases, zeros):
        rule = ProbedMaskedBackward(masks, zeros)
        given = {n: {**layer, **({"bias": biases[n]} if n in biases else {})} for n, layer in params.items()}
        return jnp.vdot(weights, apply(given, image[None], rule=rule)[0]), rule.offsets

    (_, offsets), (to_image, to_biases, to_zeros) = jax.value_and_grad(
        score, argnums=(0, 1, 2), has_aux=True
    )(image, biases, zeros)

    def total(*pairs):
        return sum(jnp.vdot(to, value) for to, value in pairs)

    shared = [(to_image, image), *((to_zeros[name], offsets[name]) for name in offsets)]
    found = biases_at(apply, params, image)
    at_layers = [(to_zeros[s.name], found[s.name]) for s in sites if s.kind == "affine"]
    own = [(to_biases[name], biases[name]) for name in biases]
    return total(*shared, *own), total(*shared, *at_layers), to_image


def random_masks(seed, sites):
    random = np.random.default_rng(seed)
    # Every site that can be masked at all, the class layer included.
    return {s.name: jnp.asarray(random.uniform(size=s.shape)) for s in sites if s.kind != "max_pool"}


def close(actual, expected, scale, rtol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * max(float(scale), 1e-3))


@pytest.mark.long
@examples(12)
@given(specs())
def test_logits_are_the_programs_own_and_images_are_independent(spec):
    with user_settings():
        network, images, _ = build(spec)
        expected = jax.jit(network[0])(network[1], images)
        apply, params = gated(network)
        eager, jitted = apply(params, images), jax.jit(apply)(params, images)
        scale = np.abs(expected).max()
        assert eager.shape == (COUNT, CLASSES)
        close(eager, expected, scale)
        close(jitted, expected, scale)
        for i in range(COUNT):
            close(jax.jit(apply)(params, images[i : i + 1])[0], expected[i], scale)


@pytest.mark.parametrize("kind", long_but(("concatenation",), KINDS))
@examples(2)
@given(data=st.data())
def test_gradient_completeness_duality_and_mask_gradients(kind, data):
    spec = data.draw(specs(kind))
    with user_settings():
        network, images, weights = build(spec)
        (reference, _), _, _ = build(spec, first_largest)
        apply, params = gated(network)
        image = images[0]
        sites = find_sites(apply, params, image)
        masks, direction = random_masks(spec.seed, sites), random_masks(spec.seed + 1, sites)
        step = 1e-5
        stacked = jax.tree.map(
            lambda m, d: jnp.stack([jnp.ones_like(m), m, m + step * d, m - step * d]), masks, direction
        )

        @jax.jit
        def quantities(params, image):
            def plain(image):
                return jnp.vdot(weights, reference(params, image[None])[0])

            def masked(masks, image, biases):
                return jnp.vdot(weights, apply(params, image[None], rule=Masked(at, masks))[0])

            logits, at = linearize(apply, params, image)
            return (
                jnp.vdot(weights, logits),
                jax.value_and_grad(plain)(image),
                jax.vmap(jax.value_and_grad(masked, argnums=(0, 1)), in_axes=(0, None, None))(
                    stacked, image, None
                ),
                masked_backprop(apply, params, image, weights, masks, sites),
                full_gradients(apply, params, image, weights),
            )

        recorded, (score, gradient), (y, (to_masks, to_image)), definition, full = quantities(params, image)
    by_parameters, by_layers, masked_gradient = definition
    slope = np.abs(gradient).max()
    terms = [full.input, *full.biases.values()]
    # What the score is made of may cancel: rounding goes by the terms.
    scale = sum(np.abs(term).sum() for term in terms)
    close(recorded, score, scale)
    # Completeness.
    close(full.score, score, scale)
    close(sum(term.sum() for term in terms), score, scale)
    close(full.input, gradient * image, slope)
    # Masks of ones.
    close(y[0], score, scale)
    close(to_image[0], gradient, slope)
    # Duality.
    if not any(SHIFTING & set(block.activations) for block in spec.blocks):
        close(y[1], by_parameters, scale)
    close(y[1], by_layers, scale)
    close(to_image[1], masked_gradient, slope)
    # Mask gradients along one direction, against the central difference.
    along = sum(jnp.vdot(to_masks[name][1], direction[name]) for name in masks)
    close(along, (y[2] - y[3]) / (2 * step), scale, rtol=1e-6)
    event(f"the gradient is zero: {slope == 0}")
