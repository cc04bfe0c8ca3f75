"""Work that does not change leaves a loop, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np

from dmbp_jax.ops._equations import inner_programs, scan_of
from dmbp_jax.ops._programs import hoist


def hoisted_scan(body, carry, rows=None, *, length=None):
    """`jax.lax.scan` with the constant work of `body` before it."""
    constants, within = hoist(body, carry, jax.tree.map(lambda leaf: leaf[0], rows))
    return jax.lax.scan(lambda carry, row: within(constants, carry, row), carry, rows, length=length)


def names_of_equations(jaxpr):
    """Every operation in a program, those of its parts included."""
    names = []
    for eqn in jaxpr.eqns:
        names.append(eqn.primitive.name)
        for inner in inner_programs(eqn):
            names += names_of_equations(inner.jaxpr)
    return names


def walk(scan, weights, start, rows):
    """A loop with constant, changing and mixed work, a nested jit, and all that a scan takes and returns."""

    @jax.jit
    def mix(x):
        return jnp.tanh(weights).T @ x, jnp.sort(weights, axis=0)[0]

    def body(carry, row):
        mixed, lowest = mix(carry["x"])
        return {"x": mixed + row, "n": carry["n"] + 1}, (mixed.sum(), lowest)

    return scan(body, {"x": start, "n": jnp.asarray(0)}, rows)


ARGUMENTS = (
    jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32),
    jnp.ones(3),
    jnp.arange(12.0).reshape(4, 3),
)


def test_the_loop_keeps_its_results_and_loses_what_is_constant():
    plain = walk(jax.lax.scan, *ARGUMENTS)
    hoisted = walk(hoisted_scan, *ARGUMENTS)
    assert jax.tree.structure(plain) == jax.tree.structure(hoisted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), plain, hoisted)

    program = jax.make_jaxpr(lambda *args: walk(hoisted_scan, *args))(*ARGUMENTS).jaxpr
    (loop,) = (scan for eqn in program.eqns if (scan := scan_of(eqn)) is not None)
    within = names_of_equations(loop.body.jaxpr)
    assert "dot_general" in within
    assert not {"tanh", "sort", "transpose"} & set(within)
    assert {"tanh", "sort", "transpose"} <= set(names_of_equations(program))


def test_it_can_be_vmapped_jitted_and_differentiated():
    def last(scan, weights):
        carry, _ = jax.vmap(lambda rows: walk(scan, weights, jnp.ones(3), rows))(
            jnp.arange(24.0).reshape(2, 4, 3)
        )
        return carry["x"].sum()

    expected = jax.grad(lambda w: last(jax.lax.scan, w))(ARGUMENTS[0])
    actual = jax.jit(jax.grad(lambda w: last(hoisted_scan, w)))(ARGUMENTS[0])
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_what_is_said_on_the_way_stays_in_the_loop():
    """An effect is no constant, even if it depends on nothing that changes."""
    seen = []

    def body(carry, _):
        jax.debug.callback(lambda: seen.append(1), ordered=True)
        return carry + 1, None

    jax.block_until_ready(jax.jit(lambda: hoisted_scan(body, jnp.asarray(0), length=5))())
    jax.effects_barrier()
    assert len(seen) == 5


def test_no_steps_change_nothing():
    carry, rows = hoisted_scan(lambda c, _: (c * 2, c), jnp.asarray(3.0), length=0)
    assert (carry, rows.shape) == (3.0, (0,))
