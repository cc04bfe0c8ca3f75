"""Programs as data: a traced function, to be taken apart and put together anew."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var, gensym

from dmbp_jax.ops.equations import called, evaluate, is_jit

Atom = Var | Literal


class Program(NamedTuple):
    """What a function does, equation by equation; `jit`s within it are opened."""

    jaxpr: Jaxpr
    """As it was traced: inputs and constants are read from here."""
    consts: list[Any]
    eqns: list[JaxprEqn]
    outvars: list[Atom]
    structure: Any
    """The result's, a tree of shapes."""


def trace(function: Callable[..., Any], *args: Any) -> Program:
    """The program of `function` for arguments of the kind of `args`, arrays or shapes."""
    closed, structure = jax.make_jaxpr(function, return_shape=True)(*args)
    eqns, outvars = _open(closed.jaxpr)
    return Program(closed.jaxpr, closed.consts, eqns, outvars, structure)


def as_function(
    program: Program, invars: Sequence[Var], outvars: Sequence[Atom], eqns: Sequence[JaxprEqn]
) -> Callable[..., Sequence[Any]]:
    """The part of a program that computes `outvars` from `invars` with `eqns`, as a function of arrays."""
    effects = frozenset().union(*(eqn.effects for eqn in eqns))
    names = program.jaxpr.debug_info._replace(
        arg_names=("",) * len(invars), result_paths=("",) * len(outvars)
    )
    return evaluate(Jaxpr([], list(invars), list(outvars), list(eqns), effects, names))


def variables(atoms: Sequence[Atom]) -> list[Var]:
    """Those that are no literals."""
    return [atom for atom in atoms if isinstance(atom, Var)]


def depending(eqns: Iterable[JaxprEqn], on: Iterable[Var]) -> set[Var]:
    """The variables that depend on any of `on`, these included."""
    found = set(on)
    for eqn in eqns:
        if not found.isdisjoint(variables(eqn.invars)):
            found.update(eqn.outvars)
    return found


def _open(jaxpr: Jaxpr) -> tuple[list[JaxprEqn], list[Atom]]:
    new = gensym()
    eqns: list[JaxprEqn] = []

    def walk(jaxpr: Jaxpr, known: dict[Var, Atom]) -> list[Atom]:
        def of(atom: Atom) -> Atom:
            return known[atom] if isinstance(atom, Var) else atom

        for eqn in jaxpr.eqns:
            invars = [of(v) for v in eqn.invars]
            inner = called(eqn) if is_jit(eqn) else None
            if inner is not None and not inner.consts:
                outvars = walk(inner.jaxpr, dict(zip(inner.jaxpr.invars, invars, strict=True)))
            else:
                fresh = [new(v.aval) for v in eqn.outvars]
                eqns.append(eqn.replace(invars=invars, outvars=fresh))
                outvars = [*fresh]
            known.update(zip(eqn.outvars, outvars, strict=True))
        return [of(v) for v in jaxpr.outvars]

    outer = [*jaxpr.constvars, *jaxpr.invars]
    return eqns, walk(jaxpr, dict(zip(outer, outer, strict=True)))
