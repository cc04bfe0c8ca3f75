"""A method at noisy copies: its limits, the definition, and that SmoothGrad is one of its kind."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references.noise import noisy_statistics
from small import long_but, tiny_apply, tiny_network

import dmbp_jax
from dmbp_jax import Attribution, InputError
from dmbp_jax._methods import METHODS
from dmbp_jax.attribution import gradient, meta_saliency, noise_tunnel, random_map, smoothgrad

KEY = jax.random.key(3)
STATISTICS = pytest.mark.parametrize("statistic", ["smoothgrad", "smoothgrad_sq", "vargrad"])
METHODS_INSIDE = ("gradient_x_input", "integrated_gradients", "grad_cam", "dmbp")


@pytest.fixture(scope="module")
def network():
    return tiny_network()


def close(actual, expected, rtol=1e-5):
    actual, expected = np.asarray(actual), np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


def test_smoothgrad_is_the_noise_tunnel_of_the_gradient(network):
    apply, params, images = network
    noisy = noise_tunnel(gradient, n_samples=5, noise_level=0.3)
    options = {"n_samples": 5, "noise_level": 0.3}
    for key in (KEY, jax.random.key(4)):
        through = dmbp_jax.explain(apply, params, images, [1, 2, 3], noisy, key=key)
        direct = dmbp_jax.explain(apply, params, images, [1, 2, 3], "smoothgrad", key=key, **options)
        np.testing.assert_array_equal(through.values, direct.values)
    times = dmbp_jax.explain(
        apply, params, images, [1, 2, 3], "smoothgrad", key=key, multiply_by_inputs=True, **options
    )
    close(times.values, direct.values * images)


@pytest.mark.parametrize("name", long_but(("gradient_x_input",), METHODS_INSIDE))
@STATISTICS
def test_without_noise_it_is_the_method_its_square_and_zero(network, name, statistic):
    apply, params, images = network
    options = {"steps": 2} if name == "dmbp" else {"n_steps": 2} if name == "integrated_gradients" else {}
    plain = dmbp_jax.explain(apply, params, images, [1, 2, 3], name, **options).values
    noisy = noise_tunnel(METHODS[name], n_samples=3, noise_level=0.0, statistic=statistic)
    a = dmbp_jax.explain(apply, params, images, [1, 2, 3], noisy, key=KEY, **options)
    expected = {"smoothgrad": plain, "smoothgrad_sq": plain**2, "vargrad": 0 * plain}[statistic]
    np.testing.assert_allclose(a.values, expected, rtol=0, atol=1e-5 * float(jnp.abs(plain).max() + 1) ** 2)
    assert a.finite.all()


@pytest.mark.usefixtures("x64")
@STATISTICS
def test_it_is_what_the_papers_define(statistic, monkeypatch):
    apply, params, images = jax.tree.map(
        lambda leaf: leaf if callable(leaf) else leaf.astype(jnp.float64), tiny_network()
    )
    draw = jax.random.normal

    def rounded(key, shape, dtype):
        # The draws are single in precision, and inside a program the last bit of some is another.
        return jnp.round(draw(key, shape, dtype) * 1024) / 1024

    monkeypatch.setattr(jax.random, "normal", rounded)
    noises = [
        rounded(jax.random.fold_in(KEY, number), images[0].shape, jnp.float32).astype(jnp.float64)
        for number in range(7)
    ]
    target = jnp.asarray(2)

    def explain(image):
        return METHODS["gradient_x_input"](apply, params, jnp.asarray(image), target).values

    expected = noisy_statistics(explain, images[0], noises, 0.4)[statistic]
    noisy = noise_tunnel(METHODS["gradient_x_input"], n_samples=7, noise_level=0.4, statistic=statistic)
    actual = jax.jit(functools.partial(noisy, apply, params, images[0], target, key=KEY))()
    close(actual.values, expected, rtol=1e-10)
    assert np.abs(expected).max() > 0


def test_a_small_variance_beside_a_large_mean_is_found():
    """A difference of two means of squares would be rounding alone here, and below zero half of the time."""

    def offset(apply, params, image, target, *, key=None):
        return Attribution(values=4000 + image, finite=jnp.asarray(True))

    image = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 6, 1)), jnp.float32)
    noisy = noise_tunnel(offset, n_samples=400, noise_level=0.1, statistic="vargrad")
    values = noisy(tiny_apply, None, image, jnp.asarray(0), key=KEY).values
    deviation = 0.1 * float(image.max() - image.min())
    assert float(values.mean()) == pytest.approx(deviation**2, rel=0.1)
    assert values.min() > 0


def test_of_a_linear_network_the_variance_is_zero_and_the_mean_exact():
    params = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)), jnp.float32)

    def linear(params, images, *, rule=None):
        return images.reshape(len(images), -1) @ params

    arguments = linear, params, jnp.asarray(np.random.default_rng(1).normal(size=(2, 2, 3)), jnp.float32)
    noisy = noise_tunnel(gradient, n_samples=4, statistic="vargrad")
    np.testing.assert_array_equal(noisy(*arguments, jnp.asarray(1), key=KEY).values, 0)
    mean = noise_tunnel(gradient, n_samples=4)(*arguments, jnp.asarray(1), key=KEY).values
    close(mean.ravel(), params[:, 1])


def test_a_method_that_draws_draws_anew_for_each_copy(network):
    apply, params, images = network
    target = jnp.asarray(0)
    one = noise_tunnel(random_map, n_samples=1)(apply, params, images[0], target, key=KEY).values
    noisy = noise_tunnel(random_map, n_samples=40, statistic="vargrad")
    assert float(noisy(apply, params, images[0], target, key=KEY).values.mean()) > 0.3 * float(one.var())


def test_methods_of_methods_nest_and_keep_names_options_and_steps(network):
    apply, params, images = network
    noisy = noise_tunnel(meta_saliency(METHODS["integrated_gradients"]), n_samples=3)
    assert noisy.__name__ == "noisy_meta_integrated_gradients"
    seen = []
    a = dmbp_jax.explain(
        apply, params, images, [1, 2, 3], noisy, key=KEY, n_steps=2, on_step=lambda *step: seen.append(step)
    )
    assert a.finite.all()
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(InputError, match="n_step"):
        dmbp_jax.explain(apply, params, images, [1, 2, 3], noisy, key=KEY, n_stesp=2)


def test_one_copy_that_is_not_finite_is_told():
    def divide(apply, params, image, target, *, key=None):
        values = jnp.where(image > 0.1, jnp.inf, 0.0)
        return Attribution(values=jnp.zeros_like(values), finite=jnp.isfinite(values).all())

    image = jnp.asarray([[[0.0], [-1.0]]])
    for noise_level, finite in ((0.0, True), (5.0, False)):
        noisy = noise_tunnel(divide, n_samples=20, noise_level=noise_level)
        assert bool(noisy(tiny_apply, None, image, jnp.asarray(0), key=KEY).finite) is finite


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 0}, "n_samples must be at least 1, got 0"),
        ({"noise_level": -0.1}, "noise_level must be finite and at least 0"),
        ({"noise_level": float("nan")}, "noise_level must be finite"),
        ({"statistic": "vargard"}, "did you mean 'vargrad'"),
    ],
)
def test_bad_options_are_refused_when_it_is_made(options, message):
    with pytest.raises(InputError, match=message):
        noise_tunnel(gradient, **options)


def test_no_key_is_refused_by_name(network):
    apply, params, images = network
    with pytest.raises(InputError, match="noisy_gradient draws noise: give key"):
        dmbp_jax.explain(apply, params, images, [1, 2, 3], noise_tunnel(gradient))
    with pytest.raises(InputError, match=r"^smoothgrad draws noise: give key"):
        smoothgrad(apply, params, images[0], jnp.asarray(0))
