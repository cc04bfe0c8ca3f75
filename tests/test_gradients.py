"""Explanations that are themselves differentiated: against central differences, in double precision.

The images are away from kinks: no ReLU, maximum or comparison changes within the step of a difference.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import TINY_LAYERS, draw_images, draw_params, long_but, tiny_apply, tiny_network

import dmbp_jax
from dmbp_jax import InputError
from dmbp_jax._methods import METHODS
from dmbp_jax.ops._derivatives import square_root, stop_first_gradient

SHORT = {
    "integrated_gradients": {"n_steps": 3},
    "smoothgrad": {"n_samples": 3},
    "blur_integrated_gradients": {"n_steps": 3},
    "rise": {"n_masks": 6, "perturbations_per_eval": 4},
    "lpr": {"n_steps": 2},
}
CASES = {name: (name, SHORT.get(name, {})) for name in METHODS if name != "dmbp"} | {
    "paper": ("dmbp", {"steps": 3}),
    "paper apart": ("dmbp", {"steps": 3, "parts_apart": True}),
    "posneg": ("dmbp", {"steps": 2, "objective": "posneg", "mask_sites": "relu"}),
    "fast": ("dmbp", {"preset": "fast"}),
    "two sites": (
        "norm_grad",
        {"site": ("relu1", "relu2"), "virtual_layer": "scaling", "aggregation": "positive_norm"},
    ),
}
STILL = {"gradient", "smoothgrad", "guided_backprop", "deconvnet"}
"""Of a piecewise linear network their maps are the same for all images between two kinks."""
STEP = 1e-6


def own():
    """A network of the package, one of whose filters is dead."""
    params = draw_params(TINY_LAYERS, jnp.float64)
    params["conv1"]["bias"] = params["conv1"]["bias"].at[0].set(-100)
    return tiny_apply, params, draw_images(2, 8, 8, 3, dtype=jnp.float64)


def pieces(params, x):
    """A clip, a leaky ReLU and an overlapping maximum, traced."""
    h = jax.lax.conv(x, params["conv"], (1, 1), "SAME")
    h = jnp.clip(h, -0.5, 6.0)
    h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), "VALID")
    h = jnp.einsum("nchw,cd->nhwd", h, params["mix"])
    h = jnp.where(h > 0, h, 0.1 * h)
    return h.mean((1, 2)) @ params["scores"]


def smooth(params, x):
    """An activation that bends, and a product of two values of the image."""
    h = jax.nn.silu(jax.lax.conv(x, params["conv"], (1, 1), "SAME"))
    h = h * jax.nn.sigmoid(h.mean((2, 3), keepdims=True))
    return jnp.einsum("nchw,cd,dk->nk", jax.nn.relu(h - 0.1), params["mix"], params["scores"])


def gate(function):
    draw = np.random.default_rng(3).standard_normal
    params = {"conv": draw((4, 3, 3, 3)) / 4, "mix": draw((4, 5)), "scores": draw((5, 3))}
    gated = dmbp_jax.gated(
        (function, jax.tree.map(jnp.asarray, params)), layout="NCHW", linearize_smooth=function is smooth
    )
    return *gated, draw_images(2, 8, 8, 3, dtype=jnp.float64)


NETWORKS = {"own": own, "pieces": lambda: gate(pieces), "smooth": lambda: gate(smooth)}
SHORTLY = {("own", "fast"), ("pieces", "fast")}
"""What is not left to the long tests."""
LONGER = [("pieces", case) for case in CASES if case != "two sites"]
LONGER += [("own", case) for case in ("paper", "fullgrad", "lpr", "two sites")]
LONGER += [("smooth", case) for case in ("gradient", "fast", "deeplift", "norm_grad")]
PAIRS = [pytest.param(*pair) for pair in sorted(SHORTLY)] + [
    pytest.param(*pair, marks=pytest.mark.long) for pair in LONGER if pair not in SHORTLY
]


def loss_of(network, case):
    """A function of images and parameters: a weighted sum of the map."""
    apply, _, images = network
    method, options = CASES[case]
    weights = jnp.asarray(np.random.default_rng(5).standard_normal(images.shape[:3]), images.dtype)

    def loss(images, params):
        targets = jnp.arange(1, len(images) + 1)
        a = dmbp_jax.explain(apply, params, images, targets, method, key=jax.random.key(0), **options)
        return jnp.vdot(a.heatmap, weights)

    return loss


@pytest.mark.parametrize(("network", "case"), PAIRS)
def test_the_gradient_of_a_map_is_that_of_finite_differences(x64, network, case):
    made = NETWORKS[network]()
    arguments = made[2], made[1]
    loss = jax.jit(jax.value_and_grad(loss_of(made, case), argnums=(0, 1)))
    _, gradients = loss(*arguments)
    found, expected = [], []
    for number, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
        random = np.random.default_rng(11)
        along = jax.tree.map(lambda leaf, r=random: jnp.asarray(r.standard_normal(leaf.shape)), argument)
        ahead, behind = list(arguments), list(arguments)
        ahead[number] = jax.tree.map(lambda leaf, v: leaf + STEP * v, argument, along)
        behind[number] = jax.tree.map(lambda leaf, v: leaf - STEP * v, argument, along)
        expected.append((loss(*ahead)[0] - loss(*behind)[0]).item() / (2 * STEP))
        found.append(sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, along))).item())
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-9)
    assert (abs(expected[0]) < 1e-9) == (case in STILL and network != "smooth")
    assert abs(expected[1]) > 1e-3


@pytest.mark.parametrize("case", long_but(("fast",), ("paper", "fast", "lpr", "two sites")))
def test_where_everything_is_zero_the_gradient_is_finite(case):
    """A black image, dead filters, and a target that nothing speaks for or against, in single precision."""
    apply, params, images = tiny_network()
    params["conv1"]["bias"] = jnp.full_like(params["conv1"]["bias"], -100)
    gradients = jax.jit(jax.grad(loss_of((apply, params, images), case), argnums=(0, 1)))(0 * images, params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


@pytest.mark.long
def test_the_same_gradient_without_jit_in_chunks_and_under_vmap():
    network = tiny_network()
    apply, params, images = network
    loss = loss_of(network, "fast")
    expected = jax.jit(jax.grad(loss))(images, params)

    weights = jnp.asarray(np.random.default_rng(5).standard_normal((3, 8, 8)), jnp.float32)

    def chunks(images):
        targets = jnp.arange(1, len(images) + 1)
        a = dmbp_jax.explain(apply, params, images, targets, preset="fast", batch_size=2)
        return jnp.vdot(a.heatmap, weights)

    largest = jnp.abs(expected).max()
    np.testing.assert_allclose(jax.grad(loss)(images, params), expected, rtol=0, atol=1e-4 * largest)
    np.testing.assert_allclose(jax.grad(chunks)(images), expected, rtol=0, atol=1e-4 * largest)

    def alone(image, target):
        return dmbp_jax.explain(apply, params, image[None], target[None], preset="fast").values.sum()

    each = jax.jit(jax.vmap(jax.grad(alone)))(images, jnp.asarray([1, 2, 3]))
    one_by_one = jax.jit(jax.grad(alone))
    for image, target, found in zip(images, (1, 2, 3), each, strict=True):
        one = one_by_one(image, jnp.asarray(target))
        np.testing.assert_allclose(found, one, rtol=0, atol=1e-4 * jnp.abs(one).max())


@pytest.mark.long
def test_several_classes_at_once_have_the_gradients_of_each():
    apply, params, images = tiny_network()

    def of_classes(params):
        return dmbp_jax.explain_classes(apply, params, images, [1, 2], preset="fast").heatmap[:, 1, 2].sum()

    def of_each(params):
        targets = jnp.full(len(images), 2)
        return dmbp_jax.explain(apply, params, images, targets, preset="fast").heatmap[:, 2].sum()

    expected = jax.jit(jax.grad(of_each))(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * max(jnp.abs(b).max(), 1e-6)),
        jax.jit(jax.grad(of_classes))(params),
        expected,
    )


def own_in_jax(params, x):
    """`own` without the package."""

    def conv(name, h):
        z = jax.lax.conv_general_dilated(
            h, params[name]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return z + params[name]["bias"][None, None, None]

    h = jax.nn.relu(conv("conv1", x))
    h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    h = jax.nn.relu(h + conv("conv2", h))
    return h.mean((1, 2)) @ params["fc"]["kernel"] + params["fc"]["bias"][None]


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_have_forward_derivatives_of_every_order(x64, network):
    """Of the package's and of gated ones: as without the package, and as finite differences."""
    apply, params, images = NETWORKS[network]()
    nchw = {"pieces": pieces, "smooth": smooth}
    image, random = images[:1], np.random.default_rng(7)
    direction = jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape)), (params, image))

    def without(params, image):
        return (
            own_in_jax(params, image)
            if network == "own"
            else nchw[network](params, image.transpose(0, 3, 1, 2))
        )

    @jax.jit
    def derivatives(point, direction):
        def loss(point):
            return (apply(*point) ** 3).sum()

        value, slope = jax.jvp(loss, (point,), (direction,))
        forth = jax.jvp(jax.grad(loss), (point,), (direction,))[1]
        back = jax.grad(lambda point: jax.jvp(loss, (point,), (direction,))[1])(point)
        twice = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), direction)
        each = jax.vmap(jax.linearize(loss, point)[1])(twice)
        return value, slope, jax.grad(loss)(point), forth, back, each

    def at(step):
        point = jax.tree.map(lambda leaf, along: leaf + step * along, (params, image), direction)
        return derivatives(point, direction)

    _, slope, gradient, forth, back, each = at(0.0)
    ahead, behind = at(STEP), at(-STEP)
    np.testing.assert_allclose(slope, (ahead[0] - behind[0]) / (2 * STEP), rtol=1e-6)
    np.testing.assert_allclose(each, slope * np.asarray([1.0, 2.0]), rtol=1e-12)
    inner = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
    np.testing.assert_allclose(slope, inner, rtol=1e-12)
    for found, transposed, one, other in zip(
        *map(jax.tree.leaves, (forth, back, ahead[2], behind[2])), strict=True
    ):
        np.testing.assert_allclose(found, transposed, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found, (one - other) / (2 * STEP), rtol=1e-4, atol=1e-4)
    assert all(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(forth[1]))

    def hessian(of):
        def of_corner(corner):
            return of(params, image.at[0, 2:4, 2, :2].set(corner))[0, :2]

        return jax.jit(lambda corner: (jax.jacfwd(of_corner)(corner), jax.hessian(of_corner)(corner)))(
            image[0, 2:4, 2, :2]
        )

    with jax.numpy_rank_promotion("allow"):
        expected = hessian(without)
    for found, other in zip(hessian(apply), expected, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-9, atol=1e-12)
    assert jnp.abs(expected[0]).max() > 0
    assert (jnp.abs(expected[1]).max() > 0) == (network == "smooth")


@pytest.mark.parametrize("case", long_but(("fast",), CASES))
def test_forward_mode_gives_the_derivative_of_a_map_that_reverse_mode_gives(x64, case):
    network = own()
    _, params, images = network
    point, random = (images, params), np.random.default_rng(11)
    direction = jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape)), point)
    loss = loss_of(network, case)

    @jax.jit
    def both(point, direction):
        slope = jax.jvp(lambda point: loss(*point), (point,), (direction,))[1]
        gradient = jax.grad(lambda point: loss(*point))(point)
        return slope, sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))

    found, expected = both(point, direction)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert abs(expected) > 1e-3


def test_what_needs_the_host_is_refused_under_grad():
    apply, params, images = tiny_network()

    def explain(images, **options):
        return dmbp_jax.explain(apply, params, images, [1, 2, 3], "gradient", **options).values.sum()

    with pytest.raises(InputError, match="grad"):
        jax.grad(lambda x: explain(x, on_step=print))(images)
    mesh = jax.make_mesh((1,), ("images",))
    with pytest.raises(InputError, match="grad"):
        jax.grad(lambda x: explain(x, mesh=mesh))(images)


def test_the_derivative_of_a_root_at_zero_is_zero_and_nothing_else_changes():
    x = jnp.asarray([0.0, 1e-30, 4.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(square_root(x), jnp.sqrt(x))
    slopes = jax.vmap(jax.grad(square_root))(x)
    np.testing.assert_allclose(slopes[:4], [0, 0.5e15, 0.25, 0], rtol=1e-6)
    assert np.isnan(square_root(jnp.asarray(-1.0)))


def test_what_is_held_is_constant_in_one_gradient_only():
    def slope(x):
        return jax.grad(lambda x: stop_first_gradient((x**2, x))[0] * x + stop_first_gradient(x))(x)

    assert slope(3.0) == 9
    assert jax.grad(slope)(3.0) == 6
