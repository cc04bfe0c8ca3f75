"""Every method crossed with the properties that they share, on four kinds of network."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CLASSES, long_but, small_network, tiny_network

import dmbp_jax
from dmbp_jax import InputError
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax._methods import METHODS
from dmbp_jax.dmbp import PRESETS

# What each method does by default takes long for nothing here.
SHORT = {
    "dmbp": {"steps": 2},
    "integrated_gradients": {"n_steps": 3},
    "smoothgrad": {"n_samples": 3},
    "blur_integrated_gradients": {"n_steps": 3},
    "rise": {"n_masks": 6, "perturbations_per_eval": 4},
    "lpr": {"n_steps": 2},
}
EVERY = pytest.mark.parametrize(
    "name", long_but(("gradient_x_input", "integrated_gradients", "rise", "dmbp"), METHODS)
)
KEY = 7


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def run(network, name, images=None, targets=(1, 2, 3), **options):
    apply, params, given = network
    images = given if images is None else images
    options = {"key": jax.random.key(KEY), **SHORT.get(name, {}), **options}
    return dmbp_jax.explain(apply, params, images, jnp.asarray(targets), name, **options)


def assert_same(one, other, rtol=1e-4):
    def check(a, b):
        a, b = np.asarray(a), np.asarray(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), 1e-12))

    jax.tree.map(check, one, other)


@EVERY
def test_one_signature(name):
    parameters = list(inspect.signature(METHODS[name]).parameters.values())
    assert [p.name for p in parameters[:5]] == ["apply", "params", "image", "target", "key"]
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters[4:])
    assert METHODS[name].__name__ == name
    assert METHODS[name].__doc__


@EVERY
def test_one_finite_map_per_image_and_no_second_compilation(network, name):
    first = run(network, name)
    assert first.heatmap.shape == network[2].shape[:3]
    assert first.finite.shape == (3,)
    assert first.finite.all()
    assert np.isfinite(first.values).all()
    assert np.abs(first.values).max() > 0
    swapped = jnp.asarray(np.asarray(network[2])[::-1])
    targets, key = jnp.asarray((3, 2, 1)), jax.random.key(KEY)
    with count_compile_time() as compiled:
        run(network, name, images=swapped, targets=targets, key=key)
    assert compiled.programs == []
    assert_same(run(network, name), first, rtol=0)


@EVERY
def test_jit_equals_eager_and_vmap_equals_loop(network, name):
    apply, params, images = network
    batch = run(network, name)
    keys = jax.random.split(jax.random.key(KEY), 3)
    alone = METHODS[name](apply, params, images[1], jnp.asarray(2), key=keys[1], **SHORT.get(name, {}))
    assert_same(alone, jax.tree.map(lambda leaf: leaf[1], batch))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gradient_x_input", "resnet18"), ("fullgrad", "resnet18")]
    + [pytest.param(name, "vgg11", marks=pytest.mark.long) for name in METHODS]
    + [
        pytest.param("dmbp", kind, marks=pytest.mark.long)
        for kind in ("resnet18", "squeezenet1_1", "alexnet")
    ],
)
def test_works_on_every_kind_of_network_and_odd_sizes(name, kind):
    apply, params, _ = small_network(kind)
    images = jax.random.normal(jax.random.key(4), (1, 67, 71, 3))
    weights = jax.random.normal(jax.random.key(5), (1, CLASSES))
    a = run((apply, params, images), name, targets=weights)
    assert a.heatmap.shape == (1, 67, 71)
    assert a.finite.all()


@EVERY
def test_every_step_is_reported_once_for_all_images_and_changes_nothing(network, name):
    """A loop that is walked from the host is the same loop, and takes nothing from its caller."""
    seen = []
    whole = run(network, name)
    with count_compile_time() as compiled:
        in_slices = run(network, name, on_step=lambda *step: seen.append(step))
        assert (len(compiled.programs) > 0) == (name in SHORT)
        compiled.programs.clear()
        again = run(network, name, on_step=lambda *step: None)
        assert compiled.programs == []
    steps = seen[-1][1]
    assert seen == [(step, steps) for step in range(1, steps + 1)]
    assert (steps > 1) == (name in SHORT)
    assert_same(in_slices, whole)
    assert_same(again, in_slices)


def test_compilations_are_counted():
    """Else every test that asks for none would pass."""
    with count_compile_time() as compiled:
        jax.jit(lambda x: 3 * x + 1)(jnp.ones(5))
    assert len(compiled.programs) >= 1


# Numbers that decide no shape: their values share a program.

NUMBERS = {
    "dmbp": (
        {"steps": 2},
        {"learning_rate": (0.1, 0.3), "decay": (0.9, 0.95), "eps": (1e-8, 1e-5), "start": (0.0, 0.5)},
    ),
    "dmbp fast": ({"preset": "fast"}, {"strength": (1.0, 3.0)}),
    "integrated_gradients": ({"n_steps": 2}, {"baseline": (0, 0.7)}),
    "deeplift": ({}, {"baseline": (0.1, 0.7)}),
    "smoothgrad": ({"n_samples": 2}, {"noise_level": (0.1, 0.2)}),
    "blur_integrated_gradients": ({"n_steps": 2, "max_sigma": 2.0}, {"power": (1, 2.5)}),
    "rise": ({"n_masks": 6, "perturbations_per_eval": 4}, {"probability": (0.2, 0.7)}),
    "lpr": (
        {"n_steps": 2},
        {
            "learning_rate": (0.1, 0.3),
            "eps": (1e-8, 1e-5),
            "start": (3.0, 1.0),
            "percentile": (99.0, 70),
            "baseline": (0.0, 0.3),
            "area_weight": (1.0, -0.5),
            "total_variation_weight": (1.0, 0.1),
        },
    ),
}
WITH_NUMBERS = pytest.mark.parametrize("name", long_but(("integrated_gradients", "dmbp fast"), NUMBERS))


def numbers_of(network, name):
    """What explains with the fixed options, and two sets of the others."""
    apply, params, images = network
    fixed, both = NUMBERS[name]
    name = name.removesuffix(" fast")

    def explain(method=name, **options):
        options = {"key": jax.random.key(KEY), **fixed, **options}
        return dmbp_jax.explain(apply, params, images, [1, 2, 3], method, **options)

    return explain, METHODS[name], *({key: pair[i] for key, pair in both.items()} for i in (0, 1))


def test_every_number_of_every_method_is_listed():
    """What is missing here decides a shape, how far a blur reaches, or is a tuple."""
    found = {}
    for name, method in METHODS.items():
        for option in inspect.signature(method).parameters.values():
            if option.kind is option.KEYWORD_ONLY and "float" in str(option.annotation):
                found.setdefault(name, set()).add(option.name)
    found["blur_integrated_gradients"] -= {"max_sigma", "grad_step"}
    del found["norm_grad"], found["selective_norm_grad"]
    of_presets = {"dmbp": PRESETS["paper"], "dmbp fast": PRESETS["fast"]}
    for name, config in of_presets.items():
        found[name] = {field for field, value in vars(config).items() if isinstance(value, float)}
    assert found == {name: set(both) for name, (_, both) in NUMBERS.items()}


@WITH_NUMBERS
def test_numbers_share_a_program_and_are_what_they_are_as_constants(network, name):
    explain, method, first, second = numbers_of(network, name)
    one = explain(**first)
    with count_compile_time() as compiled:
        found = explain(**second)
        again = explain(**{key: np.float32(value) for key, value in second.items()})
    assert compiled.programs == []
    assert found.finite.all()
    assert np.abs(found.values - one.values).max() > 1e-3 * np.abs(one.values).max()
    assert_same(again, found, rtol=1e-6)
    # In a partial function they are constants of the program.
    constants = {key: float(value) for key, value in second.items()}
    assert_same(found.values, explain(functools.partial(method, **constants)).values, rtol=1e-5)


@WITH_NUMBERS
def test_numbers_may_be_traced(network, name):
    explain, _, _, second = numbers_of(network, name)
    found = jax.jit(lambda numbers: explain(**numbers).values)(second)
    assert_same(found, explain(**second).values, rtol=1e-5)


def test_numbers_of_a_loop_in_slices_and_of_chunks_share_programs(network):
    for more in ({"on_step": lambda *step: None}, {"batch_size": 2, "progress": False}):
        first = run(network, "smoothgrad", noise_level=0.1, **more)
        with count_compile_time() as compiled:
            second = run(network, "smoothgrad", noise_level=0.2, **more)
        assert compiled.programs == []
        assert np.abs(second.values - first.values).max() > 1e-3 * np.abs(first.values).max()


def test_levels_of_noise_side_by_side(network):
    levels = jnp.asarray([0.1, 0.4])
    both = jax.vmap(lambda level: run(network, "smoothgrad", noise_level=level).values)(levels)
    for values, level in zip(both, (0.1, 0.4), strict=True):
        assert_same(values, run(network, "smoothgrad", noise_level=level).values, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "name", "at"),
    [
        ({"preset": "fast"}, "strength", 1.5),
        ({"preset": "paper", "steps": 2}, "learning_rate", 0.1),
    ],
)
def test_the_derivative_by_an_option_is_that_of_differences(network, x64, options, name, at):
    apply, params, images = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64) if isinstance(leaf, jax.Array) else leaf, network
    )
    weights = np.random.default_rng(0).normal(size=images[:1].shape)

    def total(value):
        a = dmbp_jax.explain(apply, params, images[:1], [1], **options, **{name: value})
        assert a.values.dtype == jnp.float64
        return (weights * a.values).sum()

    slope = jax.jit(jax.grad(total))(at)
    step = 1e-5
    difference = (total(at + step) - total(at - step)) / (2 * step)
    assert abs(slope) > 1e-6
    np.testing.assert_allclose(slope, difference, rtol=1e-5)


def test_a_number_leaves_the_dtype_of_images_as_it_is(network):
    """Also one of single precision, traced, beside images of half precision."""
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), network[1:])
    given = (network[0], *half)
    for level in (0.25, np.float32(0.25), np.float64(0.25), jnp.asarray(0.25)):
        assert run(given, "smoothgrad", noise_level=level).values.dtype == jnp.float16
        inside = jax.jit(lambda level: run(given, "smoothgrad", noise_level=level).values)
        assert inside(level).dtype == jnp.float16


def test_numbers_out_of_range_are_told_before_anything_is_traced(network):
    def never(params, x, *, rule=None):
        raise AssertionError

    for name, options, message in (
        ("smoothgrad", {"noise_level": -1}, "noise_level must be finite and at least 0, got -1"),
        ("dmbp", {"learning_rate": np.float32(0)}, "learning_rate must be above 0, got 0.0"),
        ("lpr", {"percentile": 101.0}, r"percentile must be in \(0, 100\], got 101.0"),
        ("lpr", {"area_weight": float("nan")}, "area_weight must be finite, got nan"),
        ("deeplift", {"baseline": float("inf")}, "baseline must be finite, got inf"),
        ("blur_integrated_gradients", {"power": 0}, "power must be above 0, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            run((never, *network[1:]), name, **options)
    for level in (jnp.ones(3), [0.1, 0.2]):
        with pytest.raises((InputError, ValueError), match="noise_level must be"):
            run(network, "smoothgrad", noise_level=level)


def test_a_number_of_a_method_of_ones_own_stays_pythons(network):
    """Unless its annotation has a range."""
    seen = []

    def own(apply, params, image, target, *, key=None, scale: float = 1.0):
        seen.append(scale)
        return METHODS["gradient"](apply, params, scale * image, target)

    for scale in (2.0, np.float32(3.0)):
        run(network, own, scale=scale)
    assert [(type(scale), scale) for scale in seen] == [(float, 2.0), (float, 3.0)]
