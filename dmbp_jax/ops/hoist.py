"""What does not change from step to step of a loop is computed once, before it.

In DMBP the gates, the first layer's output and the transposed kernels of the backward passes depend on no
mask.
XLA moves little of this out of a loop by itself, least of all on a CPU.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Var

from dmbp_jax.ops.program import Atom, as_function, trace, variables

RECOMPUTED = frozenset({"broadcast_in_dim", "convert_element_type", "eq", "iota", "reshape", "squeeze"})
"""Operations that cost less than reading what they return from memory."""


def hoisted_scan(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any = None, *, length: int | None = None
) -> tuple[Any, Any]:
    """`jax.lax.scan`, with the work of `body` that depends on neither the carry nor `xs` done before it.

    >>> import jax.numpy as jnp
    >>> kernel = jnp.ones((3, 3))
    >>> walk = lambda x: hoisted_scan(lambda c, _: (c @ jnp.exp(kernel).T, c[0]), x, length=4)
    >>> before, loop = str(jax.make_jaxpr(walk)(jnp.ones(3))).split("scan")
    >>> "exp" in before, "exp" in loop
    (True, False)
    """
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), xs)
    return jax.lax.scan(hoist(body, carry, x), carry, xs, length=length)


def hoist(step: Callable[..., Any], *changing: Any) -> Callable[..., Any]:
    """`step` with all work done that does not depend on its arguments, which are of the kind of `changing`.

    What `step` closes over does not change. The result takes and returns what `step` does; it is to be
    called, as often as needed, in the trace in which it was made.
    """
    program = trace(step, *changing)
    moves = set(program.jaxpr.invars)
    maker: dict[Var, JaxprEqn] = {}
    constant: list[JaxprEqn] = []
    varying: list[JaxprEqn] = []
    for eqn in program.eqns:
        if eqn.effects or not moves.isdisjoint(variables(eqn.invars)):
            varying.append(eqn)
            moves.update(eqn.outvars)
        else:
            constant.append(eqn)
            maker.update(dict.fromkeys(eqn.outvars, eqn))

    handed_over: dict[Var, None] = {}
    recomputed: set[int] = set()

    def need(atoms: list[Atom]) -> None:
        for v in variables(atoms):
            eqn = maker.get(v)
            if eqn is not None and eqn.primitive.name in RECOMPUTED:
                if id(eqn) not in recomputed:
                    recomputed.add(id(eqn))
                    need(eqn.invars)
            elif v not in moves:
                handed_over[v] = None

    need([v for eqn in varying for v in eqn.invars])
    need(program.outvars)
    before = as_function(program, program.jaxpr.constvars, list(handed_over), constant)(*program.consts)
    within = as_function(
        program,
        [*handed_over, *program.jaxpr.invars],
        program.outvars,
        [*(eqn for eqn in constant if id(eqn) in recomputed), *varying],
    )

    def hoisted(*args: Any) -> Any:
        results = within(*before, *jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(program.structure), results)

    return hoisted
