"""Plain functions of parameters and images."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import io_callback

from zoo.case import CLASSES, NOTHING, Case, Refused, draw

NCHW = {"layout": "NCHW"}


def dense(layer, x):
    return x @ layer["kernel"] + jnp.expand_dims(layer["bias"], range(x.ndim - 1))


def conv(layer, x, stride=1, padding="SAME"):
    x = lax.conv_general_dilated(
        x, layer["kernel"], (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return x + layer["bias"].reshape(1, 1, 1, -1)


def tabular_mlp(params, x):
    x = (x - params["mean"][None]) / jnp.sqrt(params["var"][None])
    x = jax.nn.relu(dense(params["hidden1"], x))
    x = jnp.maximum(dense(params["hidden2"], x), 0)
    return dense(params["head"], x)


def channels_first(params, x):
    """NCHW throughout, with kernels as in PyTorch; the max-pool is a window of `lax.max`."""

    def unit(layer, x, stride):
        x = lax.conv_general_dilated(
            x,
            layer["kernel"],
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        )
        return jax.nn.relu(x + layer["bias"].reshape(1, -1, 1, 1))

    x = unit(params["conv1"], x, 1)
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), "VALID")
    x = unit(params["conv2"], x, 2)
    x = x.reshape(x.shape[0], -1)
    return jnp.einsum("ni,oi->no", x, params["head"]["kernel"]) + params["head"]["bias"][None]


def reshape_pool(params, x):
    """Max-pools by `reshape` and `max`, an average pool by `reshape` and `mean`, a global max-pool."""

    def windows(x):
        n, h, w, c = x.shape
        return x.reshape(n, h // 2, 2, w // 2, 2, c)

    x = windows(jax.nn.relu(conv(params["conv1"], x))).max(axis=(2, 4))
    x = windows(jax.nn.relu(conv(params["conv2"], x))).mean(axis=(2, 4))
    return dense(params["head"], jnp.max(x, axis=(1, 2)))


def maxout(params, x):
    """The maximum of two linear pieces, once as `jnp.maximum` and once along an axis."""
    x = jnp.maximum(conv(params["conv1a"], x, 2), conv(params["conv1b"], x, 2))
    x = conv(params["conv2"], x, 2)
    x = x.reshape(*x.shape[:3], 4, 2).max(axis=-1)
    return dense(params["head"], x.mean(axis=(1, 2)))


def absolute(params, x):
    """Piecewise linear functions other than ReLU."""
    x = jnp.abs(conv(params["conv1"], x, 2))
    x = jax.nn.hard_tanh(conv(params["conv2"], x, 2))
    x = jnp.clip(dense(params["hidden"], x.reshape(x.shape[0], -1)), -0.5, 2.0)
    return dense(params["head"], x)


def where_leaky(params, x):
    x = conv(params["conv1"], x, 2)
    x = jnp.where(x > 0, x, 0.1 * x)
    x = conv(params["conv2"], x, 2)
    x = jnp.where(x < 0, 0, x)
    return dense(params["head"], x.mean(axis=(1, 2)))


@jax.jit
def jitted_block(layer, x):
    return jax.nn.relu(conv(layer, x, 2))


@jax.jit
def jitted_body(params, x):
    return jitted_block(params["conv2"], jitted_block(params["conv1"], x))


@jax.jit
def nested_jit(params, x):
    return dense(params["head"], jitted_body(params, x).mean(axis=(1, 2)))


def inner_vmap(params, x):
    """A function of one image, mapped; within it one of a column of pixels, mapped over the columns."""

    def one(image):
        h = jax.nn.relu(conv(params["conv1"], image[None], 2)[0])
        h = jax.vmap(lambda column: jax.nn.relu(dense(params["hidden"], column)), in_axes=1, out_axes=1)(h)
        return dense(params["head"], h.mean(axis=(0, 1)))

    return jax.vmap(one)(x)


@jax.custom_jvp
def custom_relu(x):
    return jnp.maximum(x, 0)


@custom_relu.defjvp
def custom_relu_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return custom_relu(x), jnp.where(x > 0, tangent, 0)


@jax.custom_vjp
def custom_leaky(x):
    return jnp.maximum(x, 0.2 * x)


def custom_leaky_forward(x):
    return custom_leaky(x), x


def custom_leaky_backward(x, cotangent):
    return (jnp.where(x > 0, cotangent, 0.2 * cotangent),)


custom_leaky.defvjp(custom_leaky_forward, custom_leaky_backward)


def custom_derivatives(params, x):
    x = custom_relu(conv(params["conv1"], x, 2))
    x = custom_leaky(conv(params["conv2"], x, 2))
    return dense(params["head"], x.mean(axis=(1, 2)))


def signal(params, x):
    """Convolutions along a signal, dilated the second time, with a max-pool between them."""

    def unit(layer, x, dilation):
        x = lax.conv_general_dilated(
            x,
            layer["kernel"],
            (1,),
            "SAME",
            rhs_dilation=(dilation,),
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        return jax.nn.relu(x + layer["bias"].reshape(1, 1, -1))

    x = unit(params["conv1"], x, 1)
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 1), (1, 2, 1), "SAME")
    x = unit(params["conv2"], x, 2)
    return dense(params["head"], x.mean(axis=1))


def many_outputs(params, x):
    features = jax.nn.relu(conv(params["conv1"], x, 2))
    hidden = jax.nn.relu(dense(params["hidden"], features.mean(axis=(1, 2))))
    logits = dense(params["head"], hidden)
    # The probabilities have no gated form, and are not asked for.
    return {"features": features, "logits": logits, "probabilities": jax.nn.softmax(logits)}


def logits_of(outputs):
    return outputs["logits"]


# What follows has no gated form. `small` takes the function between a convolution and the head.


def small(between):
    def network(params, x):
        return dense(params["head"], between(conv(params["conv1"], x, 2)).mean(axis=(1, 2)))

    return network


def python_if(x):
    return jax.nn.relu(x) if x.sum() > 0 else x


def data_while(x):
    return lax.while_loop(lambda h: jnp.sum(h) < 100, lambda h: h + 1, x)


def data_cond(x):
    return lax.cond(jnp.sum(x) > 0, jax.nn.relu, lambda h: 2 * h, x)


def printing(x):
    jax.debug.print("mean {}", x.mean())
    return jax.nn.relu(x)


def calling_back(x):
    io_callback(lambda _: None, None, x)
    return jax.nn.relu(x)


def self_attention(x):
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])
    scores = jnp.einsum("nic,njc->nij", tokens, tokens)
    return jnp.einsum("nij,njc->nic", jax.nn.relu(scores), tokens).reshape(x.shape)


def squeezed(params, x):
    return small(jax.nn.relu)(params, x)[:, 0]


def feature_maps(params, x):
    return jax.nn.relu(conv(params["conv1"], x, 2))


def pair(params, x):
    features = feature_maps(params, x)
    return dense(params["head"], features.mean(axis=(1, 2))), features


def layer(*kernel, outputs_first=False):
    """The shapes of a kernel and of its bias."""
    struct = jax.ShapeDtypeStruct
    width = kernel[0] if outputs_first else kernel[-1]
    return {"kernel": struct(kernel, jnp.float32), "bias": struct((width,), jnp.float32)}


def builder(function, layers, out_axis=-1):
    def build(dtype=jnp.float32, seed=0):
        return function, draw(layers, dtype, seed, out_axis=out_axis)

    return build


def forward(network, images):
    function, params = network
    return function(params, images)


def forward_channels_first(network, images):
    function, params = network
    return function(params, jnp.transpose(images, (0, 3, 1, 2)))


def forward_logits(network, images):
    function, params = network
    return function(params, images)["logits"]


TABULAR = {
    "mean": jax.ShapeDtypeStruct((7,), jnp.float32),
    "var": jax.ShapeDtypeStruct((7,), jnp.float32),
    "hidden1": layer(7, 8),
    "hidden2": layer(8, 8),
    "head": layer(8, CLASSES),
}
SIGNAL = {"conv1": layer(5, 3, 4), "conv2": layer(3, 4, 6), "head": layer(6, CLASSES)}
TWO_CONVS = {"conv1": layer(3, 3, 3, 4), "conv2": layer(3, 3, 4, 6), "head": layer(6, CLASSES)}
HIDDEN = {"conv1": layer(3, 3, 3, 4), "hidden": layer(4, 6), "head": layer(6, CLASSES)}
ABSOLUTE = {**TWO_CONVS, "hidden": layer(54, 6)}
MAXOUT = {
    "conv1a": layer(3, 3, 3, 4),
    "conv1b": layer(3, 3, 3, 4),
    "conv2": layer(3, 3, 4, 8),
    "head": layer(4, CLASSES),
}
CHANNELS_FIRST = {
    "conv1": layer(4, 3, 3, 3, outputs_first=True),
    "conv2": layer(6, 4, 3, 3, outputs_first=True),
    "head": layer(CLASSES, 54, outputs_first=True),
}
SMALL = {"conv1": layer(3, 3, 3, 4), "head": layer(4, CLASSES)}


def case(name, function, layers, *image_shape, out_axis=-1, forward=forward, options=NOTHING):
    build = builder(function, layers, out_axis)
    return Case(name, "plain", build, forward, image_shape or (12, 12, 3), options=options)


def refused(name, function, *words):
    return Refused(name, "plain", builder(function, SMALL), (12, 12, 3), words)


HERE = "plain_networks.py"

CASES = [
    case("plain tabular mlp", tabular_mlp, TABULAR, 7),
    case(
        "plain channels first",
        channels_first,
        CHANNELS_FIRST,
        *(12, 12, 3),
        out_axis=0,
        forward=forward_channels_first,
        options=NCHW,
    ),
    case("plain reshape and max", reshape_pool, TWO_CONVS),
    case("plain maxout", maxout, MAXOUT),
    case("plain abs, hard tanh, clip", absolute, ABSOLUTE),
    case("plain where", where_leaky, TWO_CONVS),
    case("plain nested jit", nested_jit, TWO_CONVS),
    case("plain inner vmap", inner_vmap, HIDDEN),
    case("plain custom derivatives", custom_derivatives, TWO_CONVS),
    case("plain signal", signal, SIGNAL, 24, 3),
    case("plain many outputs", many_outputs, HIDDEN, forward=forward_logits, options={"output": logits_of}),
]

REFUSED = [
    refused("plain gelu", small(jax.nn.gelu), HERE),
    refused("plain exact gelu", small(lambda x: jax.nn.gelu(x, approximate=False)), "erf", HERE),
    refused("plain silu", small(jax.nn.silu), "logistic", HERE),
    refused("plain softmax", small(jax.nn.softmax), "softmax", HERE),
    refused("plain tanh", small(jnp.tanh), "tanh", HERE),
    refused("plain square", small(lambda x: x * x), "mul", HERE),
    refused("plain self-attention", small(self_attention), "dot_general", HERE),
    refused("plain while loop on data", small(data_while), "while", HERE),
    refused("plain cond on data", small(data_cond), "cond", HERE),
    refused("plain python if on data", small(python_if), "jnp.where", "plain_networks.py"),
    refused("plain debug print", small(printing), "debug", HERE),
    refused("plain io_callback", small(calling_back), "io_callback", HERE),
    refused("plain one number an image", squeezed, "logits"),
    refused("plain feature maps", feature_maps, "logits"),
    refused("plain pair of outputs", pair, "output="),
]
