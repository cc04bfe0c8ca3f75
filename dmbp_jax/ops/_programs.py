"""Loops as data, and a bounded cache of compiled programs."""

import functools
import inspect
import weakref
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var, gensym
from jaxtyping import Array, Int

from dmbp_jax.ops._equations import called, evaluate, is_jit
from dmbp_jax.result import Attribution
from dmbp_jax.typing import Key, Params

P = ParamSpec("P")
T = TypeVar("T")

# Compiled programs, least recently used ones discarded.

KEPT = 32
"""The most combinations of a network with a method or metric and its options whose programs are cached; then
the least recently used one is discarded, and its network with it."""
_MAKERS: weakref.WeakSet[Any] = weakref.WeakSet()


def keep_programs(make: Callable[P, T]) -> Callable[P, T]:
    """A decorator for what makes compiled programs, of which the last `KEPT` are kept; arguments are
    hashable."""
    maker: Any = functools.lru_cache(maxsize=KEPT, typed=True)(make)
    _MAKERS.add(maker)
    found: Callable[P, T] = maker
    return found


def forget_programs() -> None:
    """Let go of all compiled programs that are kept: a process that explains images of hundreds of sizes
    would keep as many."""
    for maker in list(_MAKERS):
        maker.cache_clear()


def kept_jit(function: Callable[..., Any], *, static_argnames: tuple[str, ...] = ()) -> Callable[..., Any]:
    """`jax.jit` of a function whose arrays are positional arguments and whose keyword arguments are static.

    Keyword arguments, such as a network's `apply`, are hashable. `jax.jit` keeps all programs, and with them
    all networks, until the process ends; here only those of the last `KEPT` keyword arguments are kept.
    `static_argnames` are static arguments that vary for one network, and do not count towards `KEPT`.

    >>> import jax.numpy as jnp
    >>> power = kept_jit(lambda x, *, exponent: x**exponent)
    >>> power(jnp.asarray(3.0), exponent=2).item(), power(jnp.asarray(3.0), exponent=3).item()
    (9.0, 27.0)
    """

    @keep_programs
    def program(**fixed: Any) -> Any:
        return jax.jit(functools.partial(function, **fixed), static_argnames=static_argnames)

    @functools.wraps(function)
    def call(*arrays: Any, **fixed: Any) -> Any:
        changing = {name: fixed.pop(name) for name in static_argnames}
        return program(**fixed)(*arrays, **changing)

    return call


# Names: of the tensors of a network, and of what random numbers belong to.


def named_tensors(params: Params) -> list[tuple[str, Any]]:
    """The leaves of a tree, each with its path, whose parts are joined by dots.

    >>> named_tensors({"fc": {"kernel": 1.0, "bias": 2.0}, "scales": [3.0]})
    [('fc.bias', 2.0), ('fc.kernel', 1.0), ('scales.0', 3.0)]
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def fold_in_name(key: Key, name: str) -> Key:
    """The random key that belongs to a name under `key`, in every process.

    >>> key = jax.random.key(0)
    >>> bool(fold_in_name(key, "fc.bias") == fold_in_name(key, "fc.kernel"))
    False
    """
    # Not Python's `hash`, which is another in every process.
    return jax.random.fold_in(key, zlib.crc32(name.encode("utf-8", "surrogateescape")))


# A traced function as data, which can be split in two.

Atom = Var | Literal


class Program(NamedTuple):
    """The equations of a function, with calls of `jit` inlined."""

    jaxpr: Jaxpr
    """The traced program, with its inputs and constants."""
    consts: list[Any]
    eqns: list[JaxprEqn]
    outvars: list[Atom]
    structure: Any
    """The result's shapes, a tree."""


def trace(function: Callable[..., Any], *args: Any) -> Program:
    """The program of `function` for arguments with the shapes and dtypes of `args`, arrays or shapes."""
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
    """The atoms that are not literals."""
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


# Loop-invariant code motion: what does not change from step to step is computed once, before the loop.
#
# In DMBP the gates, the first layer's output and the transposed kernels of the backward passes do not depend
# on the masks. XLA moves little of this out of a loop, least on a CPU.

RECOMPUTED = frozenset({"broadcast_in_dim", "convert_element_type", "eq", "iota", "reshape", "squeeze"})
"""Operations that cost less than reading their result from memory."""


def hoist(step: Callable[..., Any], *changing: Any) -> tuple[list[Any], Callable[..., Any]]:
    """`step` divided into the part that depends on its arguments, shaped as `changing`, and the invariant
    rest.

    Returns the arrays of the rest, computed where this is called, and `within(constants, *changing)`, which
    captures nothing else and may be called in any trace.

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


# A loop as data: its first state, its step, the number of steps, and what is computed from the last state.
#
# A method that loops returns its `Loop`. The same loop runs as one program, or in slices called from the
# host, which can report progress (`_calls/call.py`).


class Loop(NamedTuple):
    """`carry = step(carry, number)` for `number` from 0 to `length - 1`; then `finish(carry)`."""

    length: int
    start: Any
    """The first carry, a tree of arrays."""
    step: Callable[[Any, Int[Array, ""]], Any]
    finish: Callable[[Any], Any] = lambda carry: carry

    def then(self, function: Callable[[Any], Any]) -> "Loop":
        """The same loop, whose result is `function` of this one's."""
        return self._replace(finish=lambda carry: function(self.finish(carry)))


def run_loop(loop: Loop) -> Any:
    """The result of a loop, as one program when traced; loop invariants are computed once.

    >>> run_loop(Loop(4, jnp.asarray(1.0), lambda carry, number: carry * 2)).item()
    16.0
    """

    if loop.length == 0:
        return loop.finish(loop.start)
    numbers = jnp.arange(loop.length, dtype=jnp.int32)
    constants, step = hoist(loop.step, loop.start, jax.ShapeDtypeStruct((), numbers.dtype))
    carry, _ = jax.lax.scan(lambda carry, number: (step(constants, carry, number), None), loop.start, numbers)
    return loop.finish(carry)


def iterative(method: Callable[P, Loop]) -> Callable[P, Attribution]:
    """Decorate a method that returns a `Loop`: it becomes a method that returns an `Attribution`.

    >>> @iterative
    ... def mean(apply, params, image, target, *, key=None, n_steps=4):
    ...     total = Loop(n_steps, 0 * image, lambda carry, _: carry + image)
    ...     return total.then(lambda carry: Attribution(carry / n_steps, jnp.asarray(True)))
    >>> mean(None, None, jnp.ones(2), 0).values.tolist(), loop_of(mean)(None, None, jnp.ones(2), 0).length
    ([1.0, 1.0], 4)
    """

    @functools.wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> Attribution:
        result: Attribution = run_loop(method(*args, **kwargs))
        return result

    signature = inspect.signature(method).replace(return_annotation=Attribution)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.loop = method  # type: ignore[attr-defined]
    return run


def loop_of(method: Callable[..., Attribution]) -> Callable[..., Loop] | None:
    """The function that returns the loop of an `iterative` method, with the method's arguments; else None."""
    loop: Callable[..., Loop] | None = getattr(method, "loop", None)
    # `functools.wraps` copies attributes: a wrapper of a method has the attribute, but another loop.
    return loop if getattr(method, "__wrapped__", None) is loop else None
