"""A long method in slices: its program is cut at its loop; the host walks the loop and tells how far it is.

A callback from inside the loop would tell it too, but keeps a program out of JAX's compilation cache.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, jaxpr_as_fun

from dmbp_jax.ops.program import Program, as_function, trace, variables
from dmbp_jax.typing import OnStep

SLICES = 20
"""About so often does a loop report."""


class Slices(NamedTuple):
    """A function cut at the longest loop of its program; made by `cut`."""

    length: int
    """Steps of the loop; 1 for a function without one."""
    each: int
    """Steps of a slice."""
    before: Any
    """What the loop closes over, its first carry, what it walks, room for what it returns step by step, and
    what is needed afterwards."""
    within: Any
    after: Any

    def run(self, *args: Any, on_step: OnStep | None = None) -> Any:
        """As the function that was cut; `on_step(done, length)` after each slice."""
        fixed, carry, xs, ys, later = self.before(*args)
        for start in range(0, self.length, self.each):
            carry, ys = self.within(fixed, carry, xs, ys, start)
            if on_step is not None:
                jax.block_until_ready(carry)
                on_step(start + self.each, self.length)
        return self.after(carry, ys, later)

    def lower(self, *args: Any) -> jax.stages.Lowered:
        """The program of a slice, which needs the most memory."""
        fixed, carry, xs, ys, _ = jax.eval_shape(self.before, *args)
        return self.within.lower(fixed, carry, xs, ys, 0)


def cut(function: Callable[..., Any], *args: Any) -> Slices | None:
    """`function`, for arguments of the kind of `args`, cut at its longest loop; None if it has none.

    >>> def halve(x):
    ...     return jax.lax.scan(lambda c, _: (c / 2, None), x, length=40)[0] * 2.0**40
    >>> seen = []
    >>> sliced = cut(halve, jnp.ones(3))
    >>> sliced.run(jnp.ones(3), on_step=lambda *step: seen.append(step)).tolist(), seen[0], seen[-1]
    ([1.0, 1.0, 1.0], (2, 40), (40, 40))
    """
    program = trace(function, *args)
    loops = [eqn for eqn in program.eqns if eqn.primitive.name == "scan" and not eqn.params["reverse"]]
    loop = max(loops, key=lambda eqn: eqn.params["length"], default=None)
    if loop is None or loop.params["length"] < 1:
        return None
    length = loop.params["length"]
    each = max(n for n in range(1, max(1, length // SLICES) + 1) if length % n == 0)
    return Slices(length, each, *_parts(program, loop, each))


def _parts(program: Program, loop: JaxprEqn, each: int) -> tuple[Any, Any, Any]:
    """The three programs around and of a loop."""
    consts, carries = (loop.params[name] for name in ("num_consts", "num_carry"))
    behind = set(loop.outvars)
    first, last = [], []
    for eqn in program.eqns:
        if eqn is loop:
            continue
        if behind.isdisjoint(variables(eqn.invars)):
            first.append(eqn)
        else:
            last.append(eqn)
            behind.update(eqn.outvars)
    needed = variables([*(v for eqn in last for v in eqn.invars), *program.outvars])
    kept = list(dict.fromkeys(v for v in needed if v not in behind))
    inputs = [*program.jaxpr.constvars, *program.jaxpr.invars]
    compute_first = as_function(program, inputs, [*loop.invars, *kept], first)
    compute_last = as_function(program, [*loop.outvars, *kept], program.outvars, last)
    body = jaxpr_as_fun(loop.params["jaxpr"])
    rows: list[Any] = [v.aval for v in loop.outvars[carries:]]
    structure = jax.tree.structure(program.structure)

    @jax.jit
    def before(*args: Any) -> Any:
        values = compute_first(*program.consts, *jax.tree.leaves(args))
        fixed, carry = values[:consts], values[consts : consts + carries]
        xs, later = values[consts + carries : len(loop.invars)], values[len(loop.invars) :]
        # The carry is given away to each slice: it must be nobody else's, least of all the caller's.
        return fixed, [jnp.copy(c) for c in carry], xs, [jnp.zeros(v.shape, v.dtype) for v in rows], later

    def within(fixed: Any, carry: Any, xs: Any, ys: Any, start: Any) -> Any:
        def step(carry: Any, x: Any) -> tuple[Any, Any]:
            results = body(*fixed, *carry, *x)
            return results[:carries], results[carries:]

        part = [jax.lax.dynamic_slice_in_dim(x, start, each) for x in xs]
        carry, row = jax.lax.scan(step, carry, part, length=each)
        return carry, [
            jax.lax.dynamic_update_slice_in_dim(y, r, start, 0) for y, r in zip(ys, row, strict=True)
        ]

    @jax.jit
    def after(carry: Any, ys: Any, later: Any) -> Any:
        return jax.tree.unflatten(structure, compute_last(*carry, *ys, *later))

    return before, jax.jit(within, donate_argnums=(1, 3)), after
