"""Networks as users write them, in four libraries: `gated` crossed with the identities of the method."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas
from references import pooling
from references.masked_backprop import eq14_at_sites
from small import long_but, small_network
from zoo import CASES, REFUSED, user_settings
from zoo.case import CLASSES

import dmbp_jax
from dmbp_jax._checks import InputError
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax._methods import METHODS
from dmbp_jax.dmbp import masked_sites
from dmbp_jax.rules import Masked, biases_at, find_sites, linearize

# One network of each library, and one for each way of writing an activation; the others are larger.
KINDS = ("equinox mlp", "plain maxout", "plain abs, hard tanh, clip")


EVERY = pytest.mark.parametrize("case", long_but(KINDS, CASES))
# Whole runs: one network for each kind of operation. The others repeat these in other arrangements.
RUNS = ("nnx resnet", "nnx leaky relu, average pool", "nnx pre-activation resnet", "linen vgg")
RUNS += ("linen bottleneck resnet", "linen prelu", "equinox cnn", "equinox mlp", "plain tabular mlp")
RUNS += ("plain channels first", "plain reshape and max", "plain maxout", "plain abs, hard tanh, clip")
RUNS += ("plain where", "plain signal")
OPTIONS = {"steps": 2, "learning_rate": 0.1, "return_history": True, "eps": 1e-150}
ON_IMAGES = ("blur_integrated_gradients", "guided_grad_cam", "grad_cam", "fullgrad", "rise", "lpr")
ON_IMAGES += ("norm_grad", "selective_norm_grad")
SHORT = {
    "dmbp": {"steps": 2},
    "integrated_gradients": {"n_steps": 3},
    "smoothgrad": {"n_samples": 3},
    "blur_integrated_gradients": {"n_steps": 3},
    "rise": {"n_masks": 6, "perturbations_per_eval": 4},
    "lpr": {"n_steps": 2},
}


def close(actual, expected, rtol=1e-9):
    """Equal up to `rtol` of the largest expected magnitude."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * max(np.abs(expected).max(), 1e-12))


def get(name):
    return next(case for case in CASES if case.name == name)


def build(case, dtype=jnp.float64):
    """The network as the user calls it, gated, and two images."""
    network, images = case.build(dtype), case.images(2, dtype)
    apply, params = dmbp_jax.gated(network, **case.options)
    return (lambda x: case.forward(network, x)), apply, params, images


def random_masks(sites, seed=3):
    random = np.random.default_rng(seed)
    return {site.name: jnp.asarray(random.uniform(size=site.shape)) for site in sites}


@EVERY
@pytest.mark.usefixtures("x64")
def test_logits_gradient_and_identities_1_to_3(case):
    with user_settings():
        plain, apply, params, images = build(case)
        close(apply(params, images), plain(images), rtol=1e-13)
        image, weights = images[0], jnp.asarray(np.random.default_rng(2).standard_normal(case.classes))
        sites = find_sites(apply, params, image)
        # Masks at every kind of site at once, those of maxout networks being at their layers.
        masks = random_masks([s for s in sites if s.kind in ("relu", "piecewise") or s.role == "filter"])
        direction = random_masks([s for s in sites if s.name in masks], seed=4)
        step = 1e-5
        ahead = jax.tree.map(lambda m, d: m + step * d, masks, direction)
        behind = jax.tree.map(lambda m, d: m - step * d, masks, direction)
        ones = jax.tree.map(jnp.ones_like, masks)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), ones, masks, ahead, behind)

        @jax.jit
        def quantities(image):
            logits, at = linearize(apply, params, image)
            biases = biases_at(apply, params, image)

            def masked(masks, image):
                return jnp.vdot(weights, apply(params, image[None], rule=Masked(at, masks))[0])

            return (
                jnp.vdot(weights, logits),
                jax.value_and_grad(lambda x: jnp.vdot(weights, plain(x[None])[0]))(image),
                jax.grad(lambda x: jnp.vdot(weights, apply(params, x[None])[0]))(image),
                jax.vmap(jax.value_and_grad(masked, argnums=(0, 1)), in_axes=(0, None))(stacked, image),
                eq14_at_sites(apply, params, image, weights, ones, biases),
                eq14_at_sites(apply, params, image, weights, masks, biases),
            )

        recorded, (logit, gradient), ours, (y, (to_masks, to_image)), all_ones, definition = quantities(image)
    close(recorded, logit)
    close(ours, gradient)
    # Eq. 14: the gradient and all biases account for the logit.
    close(all_ones[0], logit)
    # Masks of ones.
    close(y[0], logit)
    close(to_image[0], gradient)
    # Duality.
    close(y[1], definition[0])
    close(to_image[1], definition[1])
    assert np.abs(definition[1]).max() > 0
    # Mask gradients along one direction, against the central difference.
    slope = sum(jnp.vdot(to_masks[name][1], direction[name]) for name in masks)
    close(slope, (y[2] - y[3]) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("name", long_but(("equinox mlp", "plain maxout"), RUNS))
@pytest.mark.usefixtures("x64")
def test_scores_add_up_and_images_are_independent(name):
    """Identities 4 and 5, and no second compilation."""
    case = get(name)
    with user_settings():
        plain, apply, params, images = build(case)
        batch = dmbp_jax.explain(apply, params, images, [1, 2], **OPTIONS)
        logits, turned = plain(images), images[::-1]
        with count_compile_time() as compiled:
            twice = dmbp_jax.explain(apply, params, turned, [2, 1], **OPTIONS)
    parts = batch.history.positive + batch.history.negative + batch.history.nuisance
    close(parts, batch.history.total)
    close(batch.scores.total, [logits[0, 1], logits[1, 2]])
    assert batch.values.shape == images.shape
    assert batch.finite.all()
    assert compiled.programs == []
    jax.tree.map(lambda one, other: close(one[::-1], other), batch, twice)


def both(name):
    """An own network with its sites, and its plain version through gated."""
    explicit, params, images = small_network(name, jnp.float64)
    # A function that knows of no rule.
    apply, same = dmbp_jax.gated((functools.partial(explicit), params))
    assert same is params
    return explicit, apply, params, images[:1, :40, :36]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", long_but(("resnet18",), ("resnet18", "resnet50", "squeezenet1_1", "vgg11")))
def test_the_packages_own_networks_are_the_same_through_gated(name):
    """Site by site, and in a masked pass."""
    explicit, apply, params, images = both(name)
    sites, ours = (find_sites(network, params, images[0]) for network in (explicit, apply))
    assert [site[1:] for site in sites] == [site[1:] for site in ours]
    masks = random_masks([site for site in sites if site.role == "filter"])
    renamed = {
        site.name: masks[other.name] for site, other in zip(ours, sites, strict=True) if other.name in masks
    }

    @jax.jit
    def maps(image):
        def masked(apply, masks):
            logits, at = linearize(apply, params, image)
            rule = Masked(at, masks)
            return logits, jax.grad(lambda x: apply(params, x[None], rule=rule)[0, 1])(image)

        return masked(explicit, masks), masked(apply, renamed)

    expected, actual = maps(images[0])
    jax.tree.map(close, actual, expected)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_a_gated_network_has_the_same_map_and_no_more_arithmetic():
    explicit, apply, params, images = both("squeezenet1_1")
    programs = [
        jax.jit(lambda x, network=network: dmbp_jax.explain(network, params, x, [1], steps=2).values)
        .lower(images)
        .compile()
        for network in (explicit, apply)
    ]
    expected, actual = (program(images) for program in programs)
    close(actual, expected)
    flops = [program.cost_analysis()["flops"] for program in programs]
    assert flops[1] == pytest.approx(flops[0], rel=0.01)


@pytest.mark.parametrize(
    ("name", "method"),
    [("equinox cnn", "deeplift"), ("equinox cnn", "fullgrad")]
    + [pytest.param("plain maxout", method, marks=pytest.mark.long) for method in METHODS],
)
def test_every_method_takes_gated_networks(name, method):
    with user_settings():
        _, apply, params, images = build(get(name), jnp.float32)
        relus = [s for s in find_sites(apply, params, images[0]) if s.kind in ("relu", "piecewise")]
        options = {"key": jax.random.key(0), **SHORT.get(method, {})}
        if not relus and method in ("grad_cam", "guided_grad_cam", "norm_grad", "selective_norm_grad", "lpr"):
            # Maxout networks have no activation of a single value, but other sites.
            with pytest.raises(InputError, match=r"no activation|no ReLU or other activation"):
                dmbp_jax.explain(apply, params, images, [1, 2], method, **options)
            if method == "lpr":
                return
            options["site"] = "conv_2"
        told = not relus and method in ("guided_backprop", "deconvnet", "guided_grad_cam")
        with pytest.warns(dmbp_jax.ExplanationWarning) if told else contextlib.nullcontext():
            a = dmbp_jax.explain(apply, params, images, [1, 2], method, **options)
    assert a.finite.all()
    assert a.values.shape[:3] == images.shape[:3]
    assert np.abs(a.values).max() > 0


@pytest.mark.parametrize("method", long_but(("gradient_x_input", "grad_cam", "rise"), METHODS))
def test_inputs_of_any_rank_or_one_message(method):
    for name in ("plain tabular mlp", "plain signal"):
        with user_settings():
            _, apply, params, inputs = build(get(name), jnp.float32)
            options = {"key": jax.random.key(0), **SHORT.get(method, {})}
            if method in ON_IMAGES:
                with pytest.raises(InputError, match=rf"images \(h, w, c\) only.*{inputs.shape[1]}"):
                    dmbp_jax.explain(apply, params, inputs, [1, 2], method, **options)
                continue
            a = dmbp_jax.explain(apply, params, inputs, [1, 2], method, **options)
        assert a.values.shape == inputs.shape
        # Neither a row of features nor a signal has the rank of an image with channels.
        assert a.heatmap.shape == inputs.shape


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "name",
    long_but(
        ("plain abs, hard tanh, clip", "linen prelu"),
        ("nnx mobilenet", "plain abs, hard tanh, clip", "plain maxout", "linen prelu"),
    ),
)
def test_deeplift_adds_up_through_every_activation(name):
    with user_settings():
        _, apply, params, images = build(get(name))
        a = dmbp_jax.explain(apply, params, images, [1, 2], "deeplift")
    np.testing.assert_allclose(a.convergence_delta, 0, atol=1e-9)
    assert np.abs(a.values).max() > 1e-3


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_has_no_linear_map_is_refused_in_one_message(case):
    with user_settings():
        apply, params = dmbp_jax.gated(case.build(), **case.options)
        with pytest.raises(InputError) as caught:
            apply(params, case.images())
    message = str(caught.value)
    assert all(word in message for word in case.words), message
    assert "\n" not in message.strip()


@pytest.mark.parametrize(
    "name", long_but(("plain softmax",), ("plain gelu", "plain silu", "plain softmax", "linen layer norm"))
)
@pytest.mark.usefixtures("x64")
def test_smooth_operations_by_their_tangent(name):
    """The logits and gradients are the network's; the tangents' constants are the gap of Eq. 14."""
    case = next(case for case in REFUSED if case.name == name)
    with user_settings():
        network, images = case.build(jnp.float64), case.images(2, jnp.float64)
        apply, params = dmbp_jax.gated(network, linearize_smooth=True, **case.options)
        a = dmbp_jax.explain(apply, params, images, [1, 2], **OPTIONS)
        plain = dmbp_jax.explain(apply, params, images, [1, 2], "gradient_x_input")
        function = getattr(network[0], "apply", network[0])

        @jax.jit
        def inputs_and_biases(image, target):
            def score(image, params):
                return function(params, image[None])[0, target]

            to_image, to_params = jax.grad(score, argnums=(0, 1))(image, params)
            shares = jax.tree_util.tree_map_with_path(
                lambda path, g, p: jnp.vdot(g, p) if "bias" in jax.tree_util.keystr(path) else 0.0,
                to_params,
                params,
            )
            return jnp.vdot(to_image, image) + sum(jax.tree.leaves(shares))

        expected = [inputs_and_biases(x, t) for x, t in zip(images, (1, 2), strict=True)]
    close(a.scores.positive + a.scores.negative + a.scores.nuisance, a.scores.total)
    assert a.completeness_gap.shape == (2,)
    assert np.abs(a.completeness_gap).max() > 1e-6
    assert plain.completeness_gap is None
    # A layer norm's epsilon, 1e-6, is a shift of the program as well, and no parameter.
    close(a.scores.total - a.completeness_gap, expected, rtol=1e-5 if "norm" in name else 1e-9)


def test_corners_and_ties_have_the_slopes_of_the_paper():
    def network(params, x):
        largest = jnp.max(x[:, 1:3], axis=1, keepdims=True)
        return params * jnp.concatenate([jnp.maximum(x[:, :1], 0), largest, jax.nn.relu6(x[:, 3:])], axis=1)

    apply, params = dmbp_jax.gated((network, jnp.ones(3)))
    gradient = jax.grad(lambda x: apply(params, x[None])[0].sum())(jnp.asarray([0.0, 2.0, 2.0, 6.0]))
    # JAX's own are 1/2, 1/2 and 1/2, and 1/2.
    np.testing.assert_array_equal(gradient, [0, 1, 0, 0])


WINDOWS = {
    "along a signal": ((6,), (2,), (1,), ((0, 1),), (1,)),
    "wide": ((4, 5), (1, 3), (1, 2), ((0, 0), (1, 1)), (1, 1)),
    "asymmetric": ((5, 4), (2, 2), (2, 2), ((0, 2), (1, 2)), (1, 1)),
    "dilated": ((5, 6), (2, 3), (1, 1), ((1, 1), (0, 0)), (2, 2)),
    "of a volume": ((3, 4, 3), (2, 2, 2), (1, 2, 1), ((0, 0),) * 3, (1, 1, 1)),
    "larger than 16": ((4, 5), (17, 17), (1, 1), ((8, 8),) * 2, (1, 1)),
}


@pytest.mark.parametrize(
    ("name", "extremum"),
    [
        ("asymmetric", "max"),
        ("dilated", "max"),
        ("wide", "min"),
        *(
            pytest.param(name, "max", marks=pytest.mark.long)
            for name in ("along a signal", "wide", "of a volume")
        ),
        *(pytest.param("larger than 16", extremum, marks=pytest.mark.long) for extremum in ("max", "min")),
    ],
)
@pytest.mark.usefixtures("x64")
def test_pools_over_windows_of_every_kind_equal_loops(name, extremum):
    """Values, gradient and a masked pass at another image, on ties; and what DeepLIFT adds up to."""
    shape, sizes, strides, pads, apart = WINDOWS[name]
    sign = 1 if extremum == "max" else -1
    around = (1, *shape, 1)
    random = np.random.default_rng(0)
    x = random.integers(0, 4, around).astype(np.float64)
    values, places = pooling.max_windows(sign * x[0, ..., 0], sizes, strides, [*pads], apart)
    weights = random.standard_normal(values.size)

    def network(weights, x):
        windows, steps = (1, *sizes, 1), (1, *strides, 1)
        padding, dilation = ((0, 0), *pads, (0, 0)), (1, *apart, 1)
        operation = jax.lax.max if sign == 1 else jax.lax.min
        pooled = jax.lax.reduce_window(
            x, -sign * jnp.inf, operation, windows, steps, padding, window_dilation=dilation
        )
        return jnp.tile(pooled.reshape(len(x), -1) @ weights[:, None], (1, 2))

    apply, params = dmbp_jax.gated((network, jnp.asarray(weights)))
    expected, other = np.zeros(shape), random.standard_normal(around)
    for weight, place in zip(weights, places.reshape(-1, len(shape)), strict=True):
        expected[tuple(place)] += weight

    @jax.jit
    def run(params, x, other):
        logits, at = linearize(apply, params, x[0])
        gradient = jax.grad(lambda x: apply(params, x)[0, 0])(x)
        lifted = dmbp_jax.explain(apply, params, other, [0], "deeplift")
        return logits[0], gradient, apply(params, other, rule=Masked(at, {}))[0, 0], lifted.convergence_delta

    logit, gradient, masked, delta = run(params, jnp.asarray(x), jnp.asarray(other))
    close(logit, sign * values.ravel() @ weights)
    close(gradient[0, ..., 0], expected)
    close(masked, np.vdot(other[0, ..., 0], expected))
    np.testing.assert_allclose(delta, 0, atol=1e-9)


ORDERS = {
    "sort": lambda h: jnp.sort(h, axis=-1),
    "sort, descending, over pixels": lambda h: jnp.sort(h, axis=1, descending=True),
    "sorted by keys": lambda h: jax.lax.sort((h[..., ::-1], h), dimension=2)[1],
    "argsort": lambda h: jnp.take_along_axis(2 * h, jnp.argsort(h, axis=1), axis=1),
    "top k": lambda h: jax.lax.top_k(h, 2)[0],
    "above the third": lambda h: jnp.where(h >= jax.lax.top_k(h, 3)[0][..., -1:], h, 0),
    "approximate top k": lambda h: jax.lax.approx_max_k(h, 2)[0],
    "median": lambda h: h - jnp.median(h, axis=1, keepdims=True),
    "quantile": lambda h: jnp.quantile(h, 0.3, axis=2)[..., None],
    "running maximum": lambda h: jax.lax.cummax(h, axis=1),
    "running minimum from the end": lambda h: jax.lax.cummin(h, axis=2, reverse=True),
    "clamp by others": lambda h: jax.lax.clamp(h[..., ::-1] - 0.5, h, h[..., ::-1] + 1),
}


@pytest.mark.parametrize("name", long_but(("sort", "top k", "median", "clamp by others"), ORDERS))
@pytest.mark.usefixtures("x64")
def test_orders_are_piecewise_linear(name):
    """The gradient is JAX's own, and adds up to the logit; another image in the order of this one."""
    random = np.random.default_rng(0)
    draws = [random.standard_normal(shape) for shape in ((3, 4), (4,), (4, CLASSES), (2, 6, 3))]
    kernel, bias, scores, images = map(jnp.asarray, draws)

    def network(params, x):
        ordered = ORDERS[name](x @ params[0] + params[1][None, None])
        columns = ordered.reshape(*ordered.shape[:2], -1) * jnp.arange(1.0, 7.0)[None, :, None]
        return jax.nn.leaky_relu(columns, 0.3).sum(axis=1) @ params[2][: columns.shape[-1]]

    apply, params = dmbp_jax.gated((network, (kernel, bias, scores)))

    @jax.jit
    def run(params, images):
        image, other = images
        logits, at = linearize(apply, params, image)
        to_params, to_image = jax.grad(lambda p, x: network(p, x[None])[0, 1], argnums=(0, 1))(params, image)
        shares = jnp.vdot(to_image, image) + jnp.vdot(to_params[1], params[1])
        held = apply(params, other[None], rule=Masked(at, {}))[0, 1]
        ours = jax.grad(lambda x: apply(params, x[None])[0, 1])(image)
        at_other = jnp.vdot(to_image, other) + jnp.vdot(to_params[1], params[1])
        return logits[1], shares, ours, to_image, held, at_other

    logit, shares, ours, own, held, at_other = run(params, images)
    assert np.abs(own).max() > 0
    close(ours, own)
    if "clamp" not in name:  # It has constants of its own.
        close(shares, logit)
        close(held, at_other)


def test_ties_go_to_the_element_that_stands_first():
    def network(params, x):
        orders = [jax.lax.top_k(x, 1)[0], jnp.sort(x, axis=1)[:, -1:], jax.lax.cummax(x, axis=1)[:, -1:]]
        return params * jnp.concatenate(orders, axis=1)

    apply, params = dmbp_jax.gated((network, jnp.ones((1, 3))))
    to_x = jax.jacobian(lambda x: apply(params, x[None])[0])(jnp.asarray([0.0, 2.0, 2.0, 1.0]))
    # A sort that keeps the order of equal elements has the second of them last.
    np.testing.assert_array_equal(to_x, [[0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]])


def test_an_order_among_images_is_refused():
    apply, params = dmbp_jax.gated((lambda p, x: jnp.sort(x, axis=0) * p, jnp.ones((1, 3))))
    with pytest.raises(InputError, match=r"mixes images.*: sort, at .*test_gated\.py"):
        apply(params, jnp.ones((2, 3)))


PADS = ("edge", "mean", "maximum", "minimum", "median", "reflect", "symmetric", "wrap", "linear_ramp")


@pytest.mark.parametrize("mode", long_but(("edge", "mean", "reflect"), PADS))
def test_every_way_of_padding_has_its_own_gradient(mode):
    """`jnp.pad` also makes empty arrays, by extrema over all images."""

    def network(params, x):
        around = jnp.pad(x @ params, ((0, 0), (1, 2), (2, 1), (0, 0)), mode=mode)
        return (around * jnp.arange(7.0)[None, :, None, None]).sum(axis=(1, 2))

    params, images = (
        jnp.eye(3),
        jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 5, 3)), jnp.float32),
    )
    with user_settings():
        apply, _ = dmbp_jax.gated((network, params))
        ours, own = (
            jax.jit(jax.grad(lambda x, f=f: f(params, x)[:, 1].sum()))(images) for f in (apply, network)
        )
    close(ours, own, rtol=1e-6)
    assert np.abs(own).max() > 0


def test_an_empty_part_changes_nothing():
    def network(params, x):
        empty = x[:, :0].reshape(len(x), 0, 3)
        rows = jnp.concatenate([empty, x.reshape(len(x), -1, 3)], axis=1)
        return jax.nn.relu(rows @ params).mean(axis=1)

    apply, params = dmbp_jax.gated((network, jnp.eye(3)))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 4, 5, 3)), jnp.float32)
    close(apply(params, images), network(params, images), rtol=1e-6)


def test_in_a_shard_map_maps_are_the_same():
    """There parameters are the same on all devices and images are not, which equations want to know."""

    def network(params, x):
        pooled = jax.lax.reduce_window(x @ params, -jnp.inf, jax.lax.max, (1, 4, 4, 1), (1, 1, 1, 1), "SAME")
        h = jax.nn.leaky_relu(jnp.sort(pooled, axis=1)).mean(axis=(1, 2))

        def layer(h, scale):
            return jax.nn.relu(h @ params * scale) + jnp.arange(3.0)[None], None

        return jax.lax.scan(layer, h, jnp.ones(2))[0]

    apply, params = dmbp_jax.gated((network, jnp.asarray([[1.0, 2, 0], [0, 1, 1], [1, -1, 1]])))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 5, 3)), jnp.float32)
    mesh, along = jax.make_mesh((1,), ("devices",)), jax.sharding.PartitionSpec("devices")

    def maps(params, images):
        return dmbp_jax.explain(apply, params, images, [1, 1], preset="fast").values

    with user_settings():
        expected = jax.jit(maps)(params, images)
        specs = (jax.sharding.PartitionSpec(), along)
        auto = jax.sharding.Mesh(mesh.devices, mesh.axis_names)
        divided = jax.jit(jax.shard_map(maps, mesh=auto, in_specs=specs, out_specs=along))(params, images)
    close(divided, expected, rtol=1e-6)
    assert np.abs(expected).max() > 0


def by_kernel(x):
    def double(source, target):
        target[...] = 2 * source[...]

    return pallas.pallas_call(double, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x)


def by_callback(x):
    return jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


@pytest.mark.parametrize("function", [by_kernel, by_callback])
@pytest.mark.parametrize("linearize_smooth", [True, False])
def test_kernels_and_callbacks_are_refused_in_one_sentence(function, linearize_smooth):
    network = (lambda p, x: function(x) @ p, jnp.eye(3))
    apply, params = dmbp_jax.gated(network, linearize_smooth=linearize_smooth)
    words = "no tangent at" if linearize_smooth else "not piecewise linear"
    with pytest.raises(InputError, match=rf"{words}.* p.*_call.*test_gated\.py"):
        dmbp_jax.explain(apply, params, jnp.ones((1, 3)), [0], "gradient")


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_over_layers_is_unrolled(reverse):
    kernels = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 4)), jnp.float32)

    def network(params, x):
        def layer(h, kernel):
            return jax.nn.relu(h @ kernel), h

        last, before = jax.lax.scan(layer, x, params, reverse=reverse)
        return last + before[2]

    apply, params = dmbp_jax.gated((network, kernels))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 4)), jnp.float32)
    close(apply(params, x), network(kernels, x), rtol=1e-6)
    names = [site.name for site in find_sites(apply, params, x[0])]
    assert names == ["dense", "relu", "dense_2", "relu_2", "dense_3", "relu_3"]


def test_names_are_those_of_scopes_and_stable():
    with user_settings():
        _, apply, params, images = build(get("linen bottleneck resnet"), jnp.float32)
        sites = find_sites(apply, params, images[0])
        again = find_sites(*dmbp_jax.gated(get("linen bottleneck resnet").build(jnp.float32)), images[1])
    assert sites == again
    names = [site.name for site in sites]
    assert "BottleneckResNet.Bottleneck_1.ConvNorm_0.Conv_0" in names
    assert "BottleneckResNet.Bottleneck_1.relu_2" in names
    roles = {site.name: site.role for site in sites}
    assert roles["BottleneckResNet.Bottleneck_1.ConvNorm_3.Conv_0"] == "shortcut"
    assert roles["BottleneckResNet.Dense_0"] == "class"


def test_shortcuts_and_shifts_of_a_pre_activation_resnet():
    with user_settings():
        _, apply, params, images = build(get("nnx pre-activation resnet"), jnp.float32)
        sites = find_sites(apply, params, images[0])
    roles = [site.role for site in sites if site.kind == "affine"]
    # The stem feeds the first sum and its branch, and is no shortcut; the projection of the second block is.
    assert roles == [
        *("filter", "shift", "filter", "filter", "shift"),
        *("shortcut", "filter", "filter", "shift", "class"),
    ]
    assert len(masked_sites(sites, "filter")) == 5


def test_half_precision_and_images_that_are_not_square():
    with user_settings():
        case = get("plain nested jit")
        _, apply, params, _ = build(case, jnp.float32)
        images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 17, 22, 3)), jnp.float32)
        full = dmbp_jax.explain(apply, params, images, [1, 2], steps=2)
        half = dmbp_jax.explain(apply, params, images, [1, 2], steps=2, compute_dtype="bfloat16")
    assert full.values.shape == half.values.shape == images.shape
    assert half.values.dtype == jnp.float32
    assert np.corrcoef(np.ravel(full.values), np.ravel(half.values))[0, 1] > 0.98


def test_what_is_no_network_is_refused():
    for wrong in (3, (3, {}), lambda x: x, (lambda p, x: x, {}, {})):
        with pytest.raises(InputError, match=r"gated takes a flax\.nnx\.Module"):
            dmbp_jax.gated(wrong)
    with user_settings():
        module, _ = get("linen vgg").build(jnp.float32)
    with pytest.raises(InputError, match=r"give gated\(\(module, variables\)\)"):
        dmbp_jax.gated(module)
    with pytest.raises(InputError, match="unknown layout 'NWHC': did you mean 'NHWC'"):
        dmbp_jax.gated((lambda p, x: x, {}), layout="NWHC")
