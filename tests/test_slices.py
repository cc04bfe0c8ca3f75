"""A loop walked in slices is the same loop."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmbp_jax
from dmbp_jax._calls.call import slice_loops
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax.attribution import meta_saliency
from dmbp_jax.attribution._wrappers import smoothgrad
from dmbp_jax.ops import Loop, iterative
from dmbp_jax.ops._programs import loop_of, run_loop
from dmbp_jax.result._attribution import attribution

IMAGES, SHIFT = jnp.arange(6.0).reshape(2, 3), jnp.asarray([0.5, -1.0, 2.0])


def power(shift, x, length=60):
    """A loop between other work, whose first carry is the argument itself."""
    factor = jnp.exp(shift.mean())

    def step(carry, number):
        a, b, sums = carry
        return a * 0.5 + factor * number.astype(x.dtype) + x, b, sums.at[number].set(a.sum())

    def finish(carry):
        a, b, sums = carry
        return {"last": a + b, "sums": sums, "factor": factor, "x": x}

    return Loop(length, (x, x, jnp.zeros(length)), step, finish)


def reports(slices, *arguments):
    seen = []
    result = slices.run(*arguments, on_step=lambda *step: seen.append(step))
    return result, seen


def assert_same(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), one, other)


def test_the_results_are_those_of_the_whole_and_the_arguments_stay_the_callers():
    slices = slice_loops(power, (SHIFT,), (IMAGES,))
    assert (slices.length, slices.each) == (60, 3)
    whole = jax.vmap(lambda x: run_loop(power(SHIFT, x)))(IMAGES)
    for _ in range(2):
        result, seen = reports(slices, (SHIFT,), (IMAGES,))
        assert_same(result, whole)
        assert seen == [(3 * (i + 1), 60) for i in range(20)]
    np.testing.assert_array_equal(IMAGES, np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(slices.run((SHIFT,), (IMAGES + 1,))["x"], IMAGES + 1)


@pytest.mark.parametrize(("length", "each", "count"), [(59, 3, 20), (1, 1, 1), (19, 1, 19), (61, 4, 16)])
def test_any_number_of_steps_is_walked_in_few_slices(length, each, count):
    slices = slice_loops(functools.partial(power, length=length), (SHIFT,), (IMAGES,))
    assert slices.each == each
    result, seen = reports(slices, (SHIFT,), (IMAGES,))
    assert len(seen) == count
    assert seen[-1] == (length, length)
    assert_same(result, jax.vmap(lambda x: run_loop(power(SHIFT, x, length)))(IMAGES))


def test_a_loop_of_no_steps_has_no_slices_and_its_result_is_not_traced():
    def make(shift, x):
        return Loop(0, x, lambda carry, _: carry, lambda carry: pytest.fail("traced in vain"))

    assert slice_loops(make, (SHIFT,), (IMAGES,)) is None


def test_three_programs_whatever_the_number_of_slices():
    slices = slice_loops(functools.partial(power, length=47), (SHIFT,), (IMAGES,))
    with count_compile_time() as compiled:
        slices.run((SHIFT,), (IMAGES,))
    assert len(compiled.programs) == 3


def test_what_no_image_changes_is_kept_once_and_what_no_step_changes_is_computed_once():

    def make(weights, x):
        squashed = jnp.tanh(weights)
        return Loop(4, x, lambda carry, _: carry * squashed.sum(axis=0) + x.mean())

    weights = jnp.ones((3, 3))
    slices = slice_loops(make, (weights,), (IMAGES,))
    constants, _ = slices.before((weights,), (IMAGES,))
    # The sum of the weights, one for all images, and the mean of each image.
    assert sorted(one.shape for one in constants) == [(2,), (3,)]
    assert_same(slices.after(constants, IMAGES), IMAGES)
    assert "tanh" not in slices.lower((weights,), (IMAGES,)).as_text()


def test_a_wrapper_has_not_the_loop_of_what_it_wraps():
    """It would be passed over where steps are reported."""

    @functools.wraps(smoothgrad)
    def negative(*args, **kwargs):
        result = smoothgrad(*args, **kwargs)
        return dataclasses.replace(result, values=-result.values)

    assert loop_of(smoothgrad) is not None
    assert loop_of(negative) is None
    assert loop_of(meta_saliency(smoothgrad)) is not None
    assert loop_of(lambda *args: args) is None


def test_a_method_of_ones_own_reports_its_steps():
    @iterative
    def countdown(apply, params, image, target, *, key=None, n_steps=5):
        return Loop(n_steps, image, lambda carry, _: carry - 1, attribution)

    def network(params, images, *, rule=None):
        return images.mean(axis=(1, 2))

    seen = []
    images = jnp.full((2, 4, 4, 3), 7.0)
    a = dmbp_jax.explain(network, {}, images, [0, 1], countdown, on_step=lambda *step: seen.append(step))
    assert seen == [(step, 5) for step in range(1, 6)]
    np.testing.assert_array_equal(a.values, np.full(images.shape, 2.0))


def test_nothing_calls_back_so_that_the_programs_can_be_kept():
    """What JAX does not put into its compilation cache is a program with a call of the host."""
    slices = slice_loops(power, (SHIFT,), (IMAGES,))
    texts = [slices.lower((SHIFT,), (IMAGES,)).as_text(), slices.before.lower((SHIFT,), (IMAGES,)).as_text()]
    assert all("callback" not in text for text in texts)
