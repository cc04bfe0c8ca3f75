"""A function cut at its loop is the same function."""

import jax
import jax.numpy as jnp
import numpy as np

from dmbp_jax.experiments.slices import cut


def power(x, rows):
    """A loop between other work, with a carry that is the argument itself, and rows in and out."""
    factor = jnp.exp(rows.mean())

    def body(carry, row):
        a, b = carry
        return (a * 0.5 + factor * row, b), a.sum()

    (a, b), sums = jax.lax.scan(body, (x, x), rows)
    return {"last": a + b, "sums": sums, "factor": factor, "x": x}


X, ROWS = jnp.arange(3.0), jnp.asarray(np.random.default_rng(0).normal(size=(60, 3)), jnp.float32)


def test_the_results_are_those_of_the_whole_and_the_arguments_stay_the_callers():
    sliced = cut(power, X, ROWS)
    assert (sliced.length, sliced.each) == (60, 3)
    seen = []
    for _ in range(2):
        results = sliced.run(X, ROWS, on_step=lambda *step: seen.append(step))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), results, power(X, ROWS))
    assert seen == 2 * [(3 * (i + 1), 60) for i in range(20)]
    np.testing.assert_array_equal(X, np.arange(3.0))
    np.testing.assert_array_equal(sliced.run(X + 1, ROWS)["x"], X + 1)


def test_a_prime_number_of_steps_is_walked_one_by_one():
    assert cut(power, X, ROWS[:59]).each == 1


def test_the_longest_loop_is_cut():
    def two_loops(x):
        x, _ = jax.lax.scan(lambda c, _: (c + 1, None), x, length=3)
        x, _ = jax.lax.scan(lambda c, _: (c * 2, None), x, length=5)
        return x

    sliced = cut(two_loops, X)
    assert sliced.length == 5
    np.testing.assert_array_equal(sliced.run(X), two_loops(X))


def test_a_function_without_a_loop_is_not_cut():
    assert cut(lambda x: x + 1, X) is None


def test_nothing_calls_back_so_that_the_programs_can_be_kept():
    """What JAX does not put into its compilation cache is a program with a call of the host."""
    sliced = cut(power, X, ROWS)
    texts = [sliced.lower(X, ROWS).as_text(), sliced.before.lower(X, ROWS).as_text()]
    assert all("callback" not in text for text in texts)
