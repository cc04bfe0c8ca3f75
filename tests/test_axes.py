"""Networks that keep images and channels elsewhere than `(n, h, w, c)`, under `gated`: the same maps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from small import long_but
from zoo import user_settings

import dmbp_jax
from dmbp_jax._checks import InputError
from dmbp_jax._methods import METHODS
from dmbp_jax.attribution import full_gradients
from dmbp_jax.rules import find_sites

CLASSES, SIDE = 5, 12
SHORT = {
    "dmbp": {"steps": 2, "learning_rate": 0.1},
    "integrated_gradients": {"n_steps": 3},
    "smoothgrad": {"n_samples": 3},
    "blur_integrated_gradients": {"n_steps": 3},
    "rise": {"n_masks": 6, "perturbations_per_eval": 4},
    "lpr": {"n_steps": 2},
}
EVERY = pytest.mark.parametrize("method", long_but(("gradient_x_input", "rise", "fast"), [*METHODS, "fast"]))


def draw_params(seed=0):
    random = np.random.default_rng(seed)

    def kernel(*shape):
        return jnp.asarray(random.standard_normal(shape) * (2 / np.prod(shape[:-1])) ** 0.5)

    def bias(count):
        return jnp.asarray(0.3 * random.standard_normal(count))

    return {
        "first": kernel(3, 3, 3, 4),
        "first_bias": bias(4),
        "second": kernel(3, 3, 4, 6),
        "second_bias": bias(6),
        "third": kernel(3, 3, 6, 6),
        "third_bias": bias(6),
        "scores": kernel(6, CLASSES),
        "scores_bias": bias(CLASSES),
    }


def network(params, x, *, layout):
    """Two stages, a max-pool, a shortcut, and an average; `x` is `(n, h, w, c)` or `(n, c, h, w)`."""
    first = layout == "NCHW"
    spec = (layout, "OIHW" if first else "HWIO", layout)

    def conv(x, name, stride=1):
        kernel, bias = params[name], params[f"{name}_bias"]
        kernel = kernel.transpose(3, 2, 0, 1) if first else kernel
        bias = bias[:, None, None] if first else bias
        return (
            jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=spec) + bias
        )

    h = jax.nn.relu(conv(x, "first"))
    window, strides = ((1, 1, 2, 2), (1, 1, 2, 2)) if first else ((1, 2, 2, 1), (1, 2, 2, 1))
    h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, window, strides, "VALID")
    h = jax.nn.relu(conv(h, "second"))
    h = jax.nn.relu(h + conv(h, "third"))
    pooled = h.mean(axis=(2, 3) if first else (1, 2))
    return pooled @ params["scores"] + params["scores_bias"]


def draw_images(count=2, seed=1):
    random = np.random.default_rng(seed)
    colour = random.standard_normal((count, 1, 1, 3))
    return jnp.asarray(colour + random.standard_normal((count, SIDE, SIDE, 3)))


@functools.cache
def explain(apply, method):
    options = {"preset": "fast"} if method == "fast" else SHORT.get(method, {})
    name = "dmbp" if method == "fast" else method

    @jax.jit
    def run(params, images):
        key = jax.random.key(0)
        return dmbp_jax.explain(apply, params, images, [1, 2], name, key=key, **options)

    return run


def same_maps(one, other, method, params):
    images = draw_images()
    expected, actual = (explain(apply, method)(params, images) for apply in (one, other))
    values, scale = np.asarray(expected.values), np.abs(expected.values).max()
    assert scale > 0
    np.testing.assert_allclose(actual.values, values, rtol=0, atol=1e-9 * scale)
    assert expected.finite.all()
    assert actual.finite.all()


@functools.cache
def gated_network(layout):
    apply, _ = dmbp_jax.gated((functools.partial(network, layout=layout), draw_params()), layout=layout)
    return apply


@EVERY
@pytest.mark.usefixtures("x64")
def test_channels_first_and_last_have_equal_maps(method):
    same_maps(gated_network("NHWC"), gated_network("NCHW"), method, draw_params())


@pytest.mark.usefixtures("x64")
def test_a_rule_sees_channels_last():
    params, image = draw_params(), draw_images()[0]
    last, first = (find_sites(gated_network(layout), params, image) for layout in ("NHWC", "NCHW"))
    assert [site[1:] for site in first] == [site[1:] for site in last]
    assert first[0].shape == (SIDE, SIDE, 4)


def several(params, x, *, count, arrangement):
    """Several activations of one input, side by side: on an axis of its own or with the images on one axis.

    `apart` has each by itself, and is what the others are to be equal to.
    """
    kernels = [jnp.roll(params["first"], shift, axis=3) for shift in range(count)]

    def conv(x, kernel):
        spec = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=spec)

    def largest(h):
        return jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    views = [conv(x, kernel) + params["first_bias"] for kernel in kernels]
    if arrangement == "before":
        pooled = jax.vmap(largest)(jax.nn.relu(jnp.stack(views)))
        h = sum(pooled[at] for at in range(count))
    elif arrangement == "behind each other":
        pooled = largest(jax.nn.relu(jnp.concatenate(views)))
        h = pooled.reshape(count, -1, *pooled.shape[1:]).sum(axis=0)
    elif arrangement == "within":
        stacked = jnp.stack(views, axis=1)
        merged = largest(jax.nn.relu(stacked.reshape(-1, *stacked.shape[2:])))
        h = merged.reshape(-1, count, *merged.shape[1:]).sum(axis=1)
    else:
        h = sum(largest(jax.nn.relu(view)) for view in views)
    # An axis of that length before the images', where the maximum is no pool.
    if arrangement == "before":
        h = jax.lax.reduce_max(jnp.stack([h, 0.5 * h]), (0,))
    else:
        h = jnp.maximum(h, 0.5 * h)
    return jax.nn.relu(h.mean(axis=(1, 2))) @ params["scores"][:4] + params["scores_bias"]


BY_SITE = (
    "grad_cam",
    "guided_grad_cam",
    "norm_grad",
    "selective_norm_grad",
    "fullgrad",
    "lpr",
    "dmbp",
    "fast",
)
"""What is one site decides their map, so that the network written apart has another one."""


@functools.cache
def several_network(count, arrangement):
    function = functools.partial(several, count=count, arrangement=arrangement)
    return dmbp_jax.gated((function, draw_params()))[0]


@pytest.mark.parametrize("arrangement", ["before", "behind each other", "within"])
@pytest.mark.parametrize(
    "method", long_but(("gradient_x_input",), [name for name in METHODS if name not in BY_SITE])
)
@pytest.mark.usefixtures("x64")
def test_an_axis_of_length_2_is_not_taken_for_the_images(method, arrangement):
    """Two images, or an image and its baseline, and an axis of their number before the images'."""
    same_maps(several_network(2, "apart"), several_network(2, arrangement), method, draw_params())


@pytest.mark.parametrize("count", long_but((2,), (2, 3)))
@pytest.mark.parametrize("method", long_but(("fullgrad", "fast"), ("fullgrad", "lpr", "dmbp", "fast")))
@pytest.mark.usefixtures("x64")
def test_nor_by_methods_that_look_at_sites(method, count):
    """An image has its own map, whichever image is beside it. `fast` runs three rows."""
    apply, params, images = several_network(count, "before"), draw_params(), draw_images(3)
    one, other = (explain(apply, method)(params, images[jnp.asarray(at)]) for at in ([0, 1], [0, 2]))
    scale = np.abs(one.values).max()
    assert scale > 0
    np.testing.assert_allclose(one.values[0], other.values[0], rtol=0, atol=1e-9 * scale)
    assert np.abs(one.values[1] - other.values[1]).max() > 1e-3 * scale


@pytest.mark.parametrize("method", BY_SITE[:4])
def test_what_has_five_axes_is_no_map(method):
    apply, params, images = several_network(2, "before"), draw_params(), draw_images()
    with pytest.raises(InputError, match="no activation whose output is a map"):
        explain(apply, method)(params, images)


def attention(params, x):
    tokens = jax.nn.relu(x.reshape(len(x), 9, -1) @ params["embed"])
    weights = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", *2 * [tokens.reshape(len(x), 9, 2, 4)]), axis=-1)
    return jnp.einsum("nhts,nsd->nd", weights, tokens) @ params["scores"]


@functools.cache
def gated_attention():
    random = np.random.default_rng(0)
    params = {"embed": random.standard_normal((48, 8)), "scores": random.standard_normal((8, CLASSES))}
    params = jax.tree.map(jnp.asarray, params)
    return dmbp_jax.gated((attention, params), linearize_smooth=True)


@pytest.mark.usefixtures("x64")
def test_the_weights_of_an_attention_are_no_map():
    """`(heads, tokens, tokens)` has as many axes as a map."""
    apply, params = gated_attention()
    image = draw_images(1)[0]
    assert all(len(site.shape) < 3 for site in find_sites(apply, params, image))
    with pytest.raises(InputError, match="no activation whose output is a map"):
        dmbp_jax.explain(apply, params, image[None], [1], "grad_cam")


@pytest.mark.usefixtures("x64")
def test_the_sites_of_one_image_are_those_of_several():
    """A product of matrices leaves out a single image's axis. `fast` finds its sites so, and runs three."""
    random = np.random.default_rng(0)
    shapes = {"embed": (48, 8), "three": (8, 24), "scores": (8, CLASSES)}
    params = {name: jnp.asarray(random.standard_normal(shape) / 4) for name, shape in shapes.items()}

    def network(params, x):
        tokens = jax.nn.relu(x.reshape(len(x), 9, -1) @ params["embed"])
        split = (tokens @ params["three"]).reshape(len(x), 9, 3, 2, 4).transpose(2, 0, 3, 1, 4)
        weights = jax.nn.softmax(split[0] @ split[1].swapaxes(-1, -2), axis=-1)
        mixed = (weights @ split[2]).transpose(0, 2, 1, 3).reshape(len(x), 9, 8)
        return (tokens + mixed).mean(axis=1) @ params["scores"]

    apply, params = dmbp_jax.gated((network, params), linearize_smooth=True)
    a = dmbp_jax.explain(apply, params, draw_images(), [1, 2], preset="fast")
    assert a.finite.all()
    assert np.abs(a.values).max() > 0
    # Neither the weights of the attention nor their softmax's sums are maps.
    assert all(len(site.shape) < 3 for site in find_sites(apply, params, draw_images(1)[0]))


@pytest.mark.parametrize("method", ["grad_cam", "norm_grad", "selective_norm_grad"])
@pytest.mark.usefixtures("x64")
def test_tokens_laid_out_are_a_map(method):
    """As a convolution that has the same numbers, one for each patch: one of the tokens is the class's."""
    params = {"embed": draw_params()["first"][:2, :2].reshape(12, 4), "scores": jnp.eye(4, CLASSES)}

    def patches(x):
        return x.reshape(len(x), 6, 2, 6, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(len(x), 6, 6, 12)

    def by_tokens(params, x):
        tokens = patches(x).reshape(len(x), 36, 12) @ params["embed"]
        first = jnp.broadcast_to(params["embed"].sum(axis=0), (len(x), 1, 4))
        hidden = jax.nn.relu(jnp.concatenate([first, tokens], axis=1))
        return hidden[:, 1:].mean(axis=1) @ params["scores"]

    def by_map(params, x):
        return jax.nn.relu(patches(x) @ params["embed"]).mean(axis=(1, 2)) @ params["scores"]

    tokens, rows = (dmbp_jax.gated((network, params))[0] for network in (by_tokens, by_map))
    where = {"site": "relu"}
    images = draw_images()
    expected = dmbp_jax.explain(rows, params, images, [1, 2], method, **where).values
    laid_out = dmbp_jax.explain(tokens, params, images, [1, 2], method, **where, token_grid=(6, 6)).values
    np.testing.assert_allclose(laid_out, expected, atol=1e-9 * np.abs(expected).max())
    assert np.abs(expected).max() > 0
    with pytest.raises(InputError, match=r"site 'relu' has no 7 x 6 tokens"):
        dmbp_jax.explain(tokens, params, images, [1, 2], method, **where, token_grid=(7, 6))
    with pytest.raises(InputError, match="token_grid needs the name of one site"):
        dmbp_jax.explain(tokens, params, images, [1, 2], method, token_grid=(6, 6))


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_full_gradients_say_what_tangents_account_for():
    """Products of an attention have constants that are no layer's bias."""
    apply, params = gated_attention()
    image = draw_images(1)[0]
    full = full_gradients(apply, params, image, jnp.asarray(1))
    entries = full.input.sum() + sum(one.sum() for one in full.biases.values())
    np.testing.assert_allclose(entries + full.completeness_gap, apply(params, image[None])[0, 1], rtol=1e-9)
    assert abs(full.completeness_gap) > 1e-2 * abs(full.score)


@pytest.mark.usefixtures("x64")
def test_constants_of_tangents_are_no_biases_of_the_layers_behind():
    """With layers behind the smooth operations, where the constants arrive: the gap is that of DMBP, and the
    entries are the shares of the image and of the parameters named `bias`."""
    random = np.random.default_rng(0)
    shapes = {"first": (48, 8), "first_bias": (8,), "second": (8, CLASSES), "second_bias": (CLASSES,)}
    params = {name: jnp.asarray(random.standard_normal(shape)) for name, shape in shapes.items()}
    image = draw_images(1)[0]

    def network(params, x):
        h = x.reshape(len(x), -1)[:, :48] @ params["first"] + params["first_bias"][None]
        h = jax.nn.gelu(h) * jax.nn.softmax(h, axis=-1)
        return h @ params["second"] + params["second_bias"][None]

    apply, params = dmbp_jax.gated((network, params), linearize_smooth=True)
    full = full_gradients(apply, params, image, jnp.asarray(1))
    a = dmbp_jax.explain(apply, params, image[None], [1], steps=1)
    np.testing.assert_allclose(full.completeness_gap, a.completeness_gap[0], rtol=1e-9)
    assert abs(full.completeness_gap) > 1e-2 * abs(full.score)

    to_params, to_image = jax.grad(lambda p, x: network(p, x[None])[0, 1], argnums=(0, 1))(params, image)
    shares = [jnp.vdot(to_params[name], params[name]) for name in ("first_bias", "second_bias")]
    entries = full.input.sum() + sum(one.sum() for one in full.biases.values())
    np.testing.assert_allclose(entries, jnp.vdot(to_image, image) + sum(shares), rtol=1e-9)


def mixing(mix):
    """A dense layer, and something between the images behind it."""

    def network(params, x):
        return mix(jax.nn.relu(x @ params)) @ jnp.ones((4, 2))

    return network


MIXED = {
    "mean": lambda h: h - h.mean(axis=0, keepdims=True),
    "batch statistics": lambda h: (h - h.mean(axis=0)[None]) / jnp.std(h, axis=0)[None],
    "maximum": lambda h: h - h.max(axis=0, keepdims=True),
    "any": lambda h: jnp.where((h > 1).any(axis=0)[None], h, 0),
    "argmax": lambda h: h + h.argmax(axis=0)[None],
    "softmax": lambda h: jax.nn.softmax(h, axis=0),
    "attention": lambda h: jax.nn.softmax(h @ h.T, axis=-1) @ h,
    "products": lambda h: (h @ h.T).sum(axis=1)[:, None] * jnp.ones((1, 4)),
    "differences": lambda h: jnp.abs(h[:, None] - h[None]).sum(axis=1),
    "norm": lambda h: h / jnp.sqrt((h * h).sum()),
    "first image": lambda h: h - h[:1],
    "last image": lambda h: h - h[-1][None],
    "neighbour": lambda h: h - jnp.roll(h, 1, axis=0),
    "reversed": lambda h: h - h[::-1],
    "flip": lambda h: jnp.flip(h, axis=0),
    "cumulative sum": lambda h: jnp.cumsum(h, axis=0),
    "cumulative maximum": lambda h: lax.cummax(h, axis=0),
    "sorted": lambda h: jnp.sort(h, axis=0),
    "window": lambda h: lax.reduce_window(h, 0.0, lax.add, (3, 1), (1, 1), "SAME"),
    "transposed": lambda h: h.T.sum(axis=1)[None] * jnp.ones((len(h), 1)),
    "images as rows": lambda h: lax.conv_general_dilated(
        h[None, :, :], jnp.ones((3, 4, 4)), (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )[0],
    "summed by a matrix": lambda h: jnp.tri(len(h)) @ h,
    "frequencies": lambda h: jnp.fft.fft(h, axis=0).real,
    "transposed and laid out": lambda h: h.T.reshape(h.shape),
    "laid out by columns": lambda h: jnp.ravel(h, order="F").reshape(h.shape),
    "twice, cut between": lambda h: jnp.concatenate([h, -h])[1 : len(h) + 1],
    "twice, every other one": lambda h: jnp.concatenate([h, -h])[::2],
    "twice, cut where a run tells": lambda h: lax.dynamic_slice(jnp.concatenate([h, h]), (1, 0), h.shape),
    "twice, halved elsewhere": lambda h: jnp.tile(h, (2, 1)).reshape(len(h), 2, -1).sum(axis=1),
    "twice, in two orders": lambda h: (jnp.tile(h, (2, 1)) + jnp.repeat(h, 2, axis=0))[: len(h)],
    "each twice, cut": lambda h: jnp.stack([h, h], axis=1).reshape(-1, 4)[: len(h)],
    "pushed along by a row": lambda h: jnp.pad(h, ((1, 0), (0, 0)))[: len(h)],
    "a row in front": lambda h: jnp.concatenate([jnp.zeros((1, 4)), h])[: len(h)],
    "sum behind padding": lambda h: h + jnp.pad(h, ((0, 1), (0, 0))).sum(),
    "within lax.map": lambda h: lax.map(lambda one: one - h.mean(axis=0), h),
    "carried": lambda h: lax.scan(lambda c, one: (c + one, c + one), jnp.zeros(4), h)[1],
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("count", [1, 2])
def test_images_that_are_mixed_are_refused(name, count):
    """In the same sentence for one image, of which a mean over the images would be itself."""
    with user_settings():
        apply, params = dmbp_jax.gated((mixing(MIXED[name]), jnp.ones((3, 4))), linearize_smooth=True)
        with pytest.raises(InputError, match="each is explained on its own") as caught:
            jax.eval_shape(apply, params, jnp.ones((count, 3)))
    assert "\n" not in str(caught.value)


TOGETHER = {
    "twice": lambda h: jnp.concatenate([h, -h])[: len(h)] + jnp.concatenate([h, -h])[len(h) :],
    "halves": lambda h: sum(jnp.split(jnp.concatenate([h, -2 * h]), 2)),
    "each twice": lambda h: jnp.repeat(h, 2, axis=0)[1::2] + jnp.repeat(h, 2, axis=0).reshape(-1, 2, 4)[:, 0],
    "by columns": lambda h: jnp.reshape(jnp.ravel(h, order="F"), h.shape, order="F"),
    "side by side": lambda h: (h.reshape(-1) * 2).reshape(h.shape),
}
"""What puts images beside each other, and mixes none."""


@pytest.mark.parametrize("name", TOGETHER)
@pytest.mark.parametrize("count", [1, 2])
def test_images_beside_each_other_are_not_mixed(name, count):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((count, 3)), jnp.float32)
    with user_settings():
        network = mixing(TOGETHER[name])
        apply, params = dmbp_jax.gated((network, jnp.ones((3, 4))))
        ours, theirs = (jax.grad(lambda x, f=f: f(params, x).sum())(x) for f in (apply, network))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


APART = {
    "lax.map": lambda f: lambda p, x: lax.map(lambda one: f(p, one[None])[0], x),
    "scan": lambda f: lambda p, x: lax.scan(lambda c, one: (c, f(c, one[None])[0]), p, x)[1],
    "map in jit": lambda f: jax.jit(lambda p, x: lax.map(lambda one: f(p, one[None])[0], x)),
    "lax.map of several": lambda f: lambda p, x: lax.map(lambda one: f(p, one[None])[0], x, batch_size=1),
}


@pytest.mark.parametrize(
    ("method", "loop"),
    [
        ("gradient", "map in jit"),
        ("gradient", "lax.map of several"),
        ("grad_cam", "scan"),
        *(pytest.param(method, "lax.map", marks=pytest.mark.long) for method in ("gradient", "fast")),
        pytest.param("gradient", "scan", marks=pytest.mark.long),
    ],
)
@pytest.mark.usefixtures("x64")
def test_a_loop_over_the_images_is_the_network_itself(method, loop):
    params = draw_params()
    function = functools.partial(network, layout="NHWC")
    looped, _ = dmbp_jax.gated((APART[loop](function), params))
    images = draw_images()[:, :6, :6]
    both = gated_network("NHWC"), looped
    expected, actual = (explain(apply, method)(params, images).values for apply in both)
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9 * scale)
