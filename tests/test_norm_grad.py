"""The NormGrad family: closed forms, special cases, several sites, meta-saliency."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references import norm_grad as reference
from small import CLASSES, long_but, small_network, tiny_network

from dmbp_jax import InputError
from dmbp_jax.attribution._gradients import gradient, gradient_x_input, target_gradient
from dmbp_jax.attribution._norm_grad import (
    AGGREGATIONS,
    VIRTUAL_LAYERS,
    combine_maps,
    norm_grad,
    selective_norm_grad,
    site_weights,
    virtual_identity,
)
from dmbp_jax.attribution._wrappers import meta_saliency
from dmbp_jax.rules import PLAIN, Plain, find_sites, tap
from dmbp_jax.rules._tap import choose_map

FAMILY = list(itertools.product(VIRTUAL_LAYERS, AGGREGATIONS))
SITES = ("relu1", "pool", "conv2", "relu2")
TARGET = jnp.asarray(3)


@pytest.fixture(scope="module")
def network():
    apply, params, images = tiny_network()
    return apply, params, images[0]


@pytest.fixture(scope="module")
def tapped(network):
    """Activation and gradient at the site `pool`, 4 x 4 positions."""
    at = tap(*network, TARGET, [choose_map(find_sites(*network), "pool")])
    return at.activations["pool"], at.gradients["pool"]


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def assert_close(actual, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    assert np.shape(actual) == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-30))


@pytest.mark.parametrize(("layer", "aggregation"), FAMILY)
@pytest.mark.parametrize("size", [(4, 5, 3), (1, 1, 1), (2, 1, 4)])
def test_closed_forms_are_those_of_the_formed_weight_gradient(layer, aggregation, size):
    x, g = draw(0, *size), draw(1, *size)
    terms = reference.weight_gradients(np.asarray(x), np.asarray(g), layer)
    assert_close(virtual_identity(x, g, layer, aggregation), reference.aggregate(terms, aggregation))


@pytest.mark.parametrize(("layer", "aggregation"), FAMILY)
def test_closed_forms_hold_at_a_site_of_a_network(tapped, layer, aggregation):
    terms = reference.weight_gradients(*(np.asarray(one) for one in tapped), layer)
    assert np.abs(terms).max() > 0
    assert_close(virtual_identity(*tapped, layer, aggregation), reference.aggregate(terms, aggregation))


def insert_identity(layer, weight, h):
    """The virtual layer, made real."""
    if layer == "bias":
        return h + weight[None, None, None]
    if layer == "scaling":
        return h * weight[None, None, None]
    return jax.lax.conv_general_dilated(h, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def identity_weight(layer, channels):
    if layer in ("bias", "scaling"):
        return jnp.full(channels, float(layer == "scaling"))
    size, middle = (1, 0) if layer == "conv1x1" else (3, 1)
    return jnp.zeros((size, size, channels, channels)).at[middle, middle].set(jnp.eye(channels))


class Inserted(Plain):
    def __init__(self, layer, weight):
        object.__setattr__(self, "insert", functools.partial(insert_identity, layer, weight))

    def max_pool(self, site, h, window):
        return self.insert(super().max_pool(site, h, window))


@pytest.mark.parametrize("layer", VIRTUAL_LAYERS)
def test_the_terms_add_up_to_the_gradient_through_an_inserted_identity(network, tapped, layer):
    apply, params, image = network

    def score(weight):
        return apply(params, image[None], rule=Inserted(layer, weight))[0, TARGET]

    weight = identity_weight(layer, 4)
    assert_close(score(weight), apply(params, image[None])[0, TARGET])
    inserted = np.asarray(jax.grad(score)(weight))
    terms = reference.weight_gradients(*(np.asarray(one) for one in tapped), layer).sum(axis=(0, 1))
    if layer == "conv1x1":
        terms = terms.T[None, None]
    if layer == "conv3x3":
        terms = terms.transpose(2, 3, 1, 0)
    assert_close(terms, inserted)
    total = np.asarray(virtual_identity(*tapped, layer, "sum")).sum()
    np.testing.assert_allclose(total, inserted.sum(), rtol=0, atol=1e-5 * np.abs(inserted).sum())


def test_bias_and_max_at_the_input_is_simonyans_gradient(network):
    apply, params, image = network
    slope = target_gradient(apply, params, image, TARGET)
    simonyan = np.abs(np.asarray(gradient(apply, params, image, TARGET).values)).max(axis=-1)
    np.testing.assert_array_equal(virtual_identity(image, slope, "bias", "max"), simonyan)


def test_scaling_and_sum_is_the_linear_approximation(network, tapped):
    apply, params, image = network
    activation, slope = (np.asarray(one) for one in tapped)
    expected = (activation * slope).sum(axis=2)
    assert_close(virtual_identity(*tapped, "scaling", "sum"), expected)
    at_input = virtual_identity(image, target_gradient(apply, params, image, TARGET), "scaling", "sum")
    assert_close(at_input, gradient_x_input(apply, params, image, TARGET).heatmap)


def test_grad_cam_is_scaling_and_sum_with_the_averaged_gradient(tapped):
    activation, slope = tapped
    averaged = jnp.broadcast_to(slope.mean(axis=(0, 1), keepdims=True), slope.shape)
    framework = jax.nn.relu(virtual_identity(activation, averaged, "scaling", "sum"))
    x, g = np.asarray(activation), np.asarray(slope)
    cam = np.zeros(x.shape[:2])
    for channel in range(x.shape[2]):
        cam += g[:, :, channel].mean() * x[:, :, channel]
    assert_close(framework, np.maximum(cam, 0))


def test_the_defaults_are_normgrad_and_selective_normgrad_at_the_last_stage(network):
    at = tap(*network, TARGET, [choose_map(find_sites(*network))])
    x, g = np.asarray(at.activations["relu2"]), np.asarray(at.gradients["relu2"])
    plain = norm_grad(*network, TARGET)
    assert plain.values.shape == (8, 8, 1)
    assert bool(plain.finite)
    norms = np.linalg.norm(x, axis=2) * np.linalg.norm(g, axis=2)
    assert_close(plain.heatmap, reference.upsample(norms, (8, 8)))
    selective = selective_norm_grad(*network, TARGET)
    norms = np.linalg.norm(np.maximum(x * g, 0), axis=2)
    assert_close(selective.heatmap, reference.upsample(norms, (8, 8)))


def test_weights_of_classes_explain_as_their_sum(network):
    one_hot = jnp.eye(CLASSES)[3]
    assert_close(norm_grad(*network, one_hot).values, norm_grad(*network, TARGET).values)


@pytest.mark.parametrize("combine", ["geometric_mean", "sum"])
@pytest.mark.parametrize(
    ("weights", "numbers"), [("uniform", (1, 1, 1)), ("linear", (1, 2, 3)), ((0, 1.5, 4), (0, 1.5, 4))]
)
@pytest.mark.parametrize("constant", [None, 0, 1, 2])
def test_combination_against_the_oracle(combine, weights, numbers, constant):
    maps = [draw(seed, *size) for seed, size in enumerate([(6, 5), (4, 4), (2, 3)])]
    if constant is not None:
        # Interpolating a third does not give back exactly a third everywhere.
        maps[constant] = jnp.full_like(maps[constant], 1 / 3)
    expected = reference.combine([np.asarray(one) for one in maps], (9, 7), combine, numbers)
    combined = combine_maps(maps, (9, 7), combine=combine, weights=weights)
    assert combined.min() >= 0
    assert combined.max() <= 1 + 1e-6
    # A root magnifies the rounding near the minimum, where a map is zero.
    assert_close(combined, expected, tolerance=3e-3 if combine == "geometric_mean" else 1e-5)


@pytest.mark.parametrize("combine", ["geometric_mean", "sum"])
def test_maps_that_are_all_constant_combine_to_zeros(combine):
    flat = [jnp.full((3, 3), 0.1), jnp.zeros((2, 2)), jnp.full((5, 3), -7.3)]
    np.testing.assert_array_equal(combine_maps(flat, (9, 7), combine=combine), np.zeros((9, 7)))


def test_a_single_map_keeps_its_unit():
    one = 5 * draw(0, 3, 4)
    assert_close(combine_maps([one], (9, 8)), reference.upsample(np.asarray(one), (9, 8)))


def test_weights_sum_to_one():
    np.testing.assert_allclose(site_weights("linear", 3), [1 / 6, 2 / 6, 3 / 6])
    np.testing.assert_allclose(site_weights((2, 0, 6), 3), [0.25, 0, 0.75])


@pytest.mark.parametrize("name", long_but(("resnet18",), ("alexnet", "resnet18", "squeezenet1_1", "vgg11")))
@pytest.mark.parametrize("method", [norm_grad, selective_norm_grad])
def test_the_default_site_knows_the_class_but_where_it_is_averaged(name, method):
    """Also where the class scores are a map, whose gradient is the same number everywhere.

    A ResNet averages its last stage: `g_u` is the same at every position, and `|x_u| |g_u|` of two classes
    differ by a factor only.
    """
    apply, params, images = small_network(name)
    of_class = jax.jit(lambda target: method(apply, params, images[0], target).values)
    # The two most likely classes: SqueezeNet's ReLU may silence others altogether.
    one, other = map(of_class, jnp.argsort(apply(params, images[:1])[0])[-2:])
    apart = np.abs(one / one.max() - other / other.max()).max()
    if (name, method) == ("resnet18", norm_grad):
        assert apart < 1e-5
    else:
        assert apart > 0.01


@pytest.mark.parametrize("combine", ["geometric_mean", "sum"])
@pytest.mark.parametrize("layer", VIRTUAL_LAYERS)
def test_several_sites_combine_their_maps(network, combine, layer):
    at = tap(*network, TARGET, [choose_map(find_sites(*network), name) for name in SITES])
    maps = [virtual_identity(at.activations[name], at.gradients[name], layer, "norm") for name in SITES]
    a = norm_grad(*network, TARGET, virtual_layer=layer, site=SITES, combine=combine, weights="linear")
    assert_close(a.heatmap, combine_maps(maps, (8, 8), combine=combine, weights="linear"))
    assert np.ptp(a.heatmap) > 0


def test_what_is_not_finite_is_flagged_though_scaling_hides_it(network):
    apply, params, image = network
    broken = image.at[0, 0, 0].set(jnp.nan)
    assert not norm_grad(apply, params, broken, TARGET, site=SITES).finite
    assert not norm_grad(apply, params, image, jnp.asarray(CLASSES)).finite


METHODS = {
    "norm_grad": norm_grad,
    "selective_norm_grad": selective_norm_grad,
    "meta norm_grad": meta_saliency(norm_grad, step_size=0.1),
    "meta gradient": meta_saliency(gradient),
}


@pytest.mark.parametrize("name", long_but(("norm_grad",), METHODS))
def test_jit_equals_eager_and_vmap_a_loop(name):
    apply, params, images = tiny_network()
    targets = jnp.asarray([1, 2, 3])

    def one(image, target):
        return METHODS[name](apply, params, image, target).values

    eager = np.stack([one(image, target) for image, target in zip(images, targets, strict=True)])
    assert_close(np.stack([jax.jit(one)(image, 1 + i) for i, image in enumerate(images)]), eager)
    assert_close(jax.vmap(one)(images, targets), eager)


def test_a_wrapped_method_has_a_name_of_its_own():
    assert meta_saliency(norm_grad).__name__ == "meta_norm_grad"


@pytest.mark.parametrize("name", METHODS)
def test_methods_share_one_signature(name):
    parameters = list(inspect.signature(METHODS[name]).parameters.values())
    assert [p.name for p in parameters][:5] == ["apply", "params", "image", "target", "key"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[4:])


def test_works_on_a_residual_network_and_odd_sizes():
    apply, params, images = small_network("resnet18")
    image = images[0, :57, :63]
    first = find_sites(apply, params, image)[0].name
    last = choose_map(find_sites(apply, params, image)).name
    a = jax.jit(lambda x: norm_grad(apply, params, x, TARGET, site=(first, last)))(image)
    assert a.values.shape == (57, 63, 1)
    assert bool(a.finite)
    assert np.ptp(a.values) > 0


@pytest.mark.parametrize("method", [norm_grad, gradient_x_input])
@pytest.mark.parametrize("sign", [1, -1])
def test_meta_saliency_with_epsilon_zero_is_the_method(network, method, sign):
    meta = meta_saliency(method, step_size=0.0, sign=sign)
    np.testing.assert_array_equal(meta(*network, TARGET).values, method(*network, TARGET).values)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("weighted", [False, True])
def test_meta_saliency_takes_one_step_of_gradient_descent(network, sign, weighted):
    apply, params, image = network
    label = jnp.linspace(-1.0, 2.0, CLASSES) if weighted else jnp.eye(CLASSES)[3]

    # By the chain rule, from the logits' Jacobian: d(loss)/d(logits) = sum(label) * softmax - label.
    logits = apply(params, image[None])[0]
    pull = label.sum() * jax.nn.softmax(logits) - label
    jacobian = jax.jacrev(lambda p: apply(p, image[None])[0])(params)
    stepped = jax.tree.map(
        lambda leaf, rows: leaf - sign * 0.3 * jnp.tensordot(pull, rows, axes=1), params, jacobian
    )
    expected = norm_grad(apply, stepped, image, TARGET, virtual_layer="conv3x3")

    def method(apply, params, image, target, *, key=None, **options):
        # What the wrapper hands on, explained for one class in both cases.
        return norm_grad(apply, params, image, TARGET, key=key, **options)

    meta = meta_saliency(method, step_size=0.3, sign=sign)
    a = meta(apply, params, image, label if weighted else TARGET, virtual_layer="conv3x3")
    assert_close(a.values, expected.values, tolerance=1e-4)
    unmoved = norm_grad(apply, params, image, TARGET, virtual_layer="conv3x3").values
    assert np.abs(a.values - unmoved).max() > 1e-3 * np.abs(unmoved).max()


def test_descending_the_loss_makes_the_class_likelier(network):
    apply, params, image = network
    likelihood = {}

    def method(apply, params, image, target, *, key=None):
        likelihood[step] = jax.nn.log_softmax(apply(params, image[None])[0])[target]
        return gradient(apply, params, image, target)

    for step in (-1, 0, 1):
        step_size, sign = (0.1, step) if step else (0.0, 1)
        meta_saliency(method, step_size=step_size, sign=sign)(apply, params, image, TARGET)
    assert likelihood[-1] < likelihood[0] < likelihood[1]


def test_meta_saliency_leaves_whole_numbers_alone(network):
    apply, params, image = network
    counted = {"network": params, "steps": jnp.asarray(7)}
    seen = {}

    def method(apply, params, image, target, *, key=None):
        seen.update(params)
        return gradient(apply, params, image, target)

    meta_saliency(method)(
        lambda p, x, *, rule=PLAIN: apply(p["network"], x, rule=rule), counted, image, TARGET
    )
    assert seen["steps"].dtype == jnp.int32
    assert int(seen["steps"]) == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"virtual_layer": "conv"}, "unknown virtual_layer 'conv'.*bias, conv1x1, conv3x3, scaling"),
        ({"aggregation": "mean"}, "unknown aggregation 'mean'.*max, norm, positive_norm, sum"),
        ({"combine": "mean"}, "unknown combine 'mean'.*geometric_mean, sum"),
        ({"weights": "lin"}, "unknown weights 'lin': did you mean 'linear'.*linear, uniform"),
        ({"site": "relu3"}, "unknown site 'relu3'.*conv1, conv2, fc, pool, relu1, relu2"),
        ({"site": ("relu1", "relu3")}, "unknown site 'relu3'"),
        ({"site": ("relu1", "fc")}, r"site 'fc' has no map: its output has shape \(10,\)"),
        ({"site": ()}, "no site given"),
        ({"weights": (1.0, 2.0)}, "2 weights for 1 sites"),
        (
            {"site": ("relu1", "relu2"), "weights": (1.0, -2.0)},
            "weights must be finite, not negative and not all zero",
        ),
        (
            {"site": ("relu1", "relu2"), "weights": (0.0, 0.0)},
            "weights must be finite, not negative and not all zero",
        ),
        ({"weights": (float("nan"),)}, "weights must be finite"),
    ],
)
def test_bad_options_are_one_clear_error(network, options, message):
    with pytest.raises(InputError, match=message):
        norm_grad(*network, TARGET, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": -0.1}, "step_size must be finite and at least 0, got -0.1"),
        ({"step_size": float("nan")}, "step_size must be finite"),
        ({"sign": 0}, "sign must be 1 or -1, got 0"),
    ],
)
def test_bad_options_of_meta_saliency_are_one_clear_error(options, message):
    with pytest.raises(InputError, match=message):
        meta_saliency(gradient, **options)
