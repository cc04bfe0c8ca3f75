"""What does not change from step to step of a loop is computed once, before it.

In DMBP the gates, the first layer's output and the transposed kernels of the backward passes depend on no
mask. XLA moves little of this out of a loop by itself, least of all on a CPU.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Var

from dmbp_jax.ops.program import Atom, as_function, trace, variables

RECOMPUTED = frozenset({"broadcast_in_dim", "convert_element_type", "eq", "iota", "reshape", "squeeze"})
"""Operations that cost less than reading what they return from memory."""


def hoist(step: Callable[..., Any], *changing: Any) -> tuple[list[Any], Callable[..., Any]]:
    """`step` divided into what depends on its arguments, which are of the kind of `changing`, and the rest.

    Returns the arrays that the rest comes to, computed where this is called, and `within(constants,
    *changing)`, which holds nothing else and may be called in any trace.

    >>> import jax.numpy as jnp
    >>> rate = jnp.asarray([0.0, 1.0])
    >>> constants, within = hoist(lambda x: jnp.exp(rate).sum() * x, jnp.ones(2))
    >>> round(constants[0].item(), 2), within([jnp.asarray(10.0)], jnp.ones(2)).tolist()
    (3.72, [10.0, 10.0])
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
    compute = as_function(
        program,
        [*handed_over, *program.jaxpr.invars],
        program.outvars,
        [*(eqn for eqn in constant if id(eqn) in recomputed), *varying],
    )
    structure = jax.tree.structure(program.structure)

    def within(constants: list[Any], *args: Any) -> Any:
        return jax.tree.unflatten(structure, compute(*constants, *jax.tree.leaves(args)))

    return list(before), within
