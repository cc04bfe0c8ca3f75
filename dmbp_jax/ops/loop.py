"""A long computation as data: where it starts, what a step is, how many there are, what becomes of the last.

A method that loops says so by returning its `Loop`. The same loop is then scanned inside one program, or
walked from the host in slices, which can tell how far it is (`dmbp_jax.batching.slices`).
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from dmbp_jax.ops.hoist import hoist
from dmbp_jax.result import Attribution

P = ParamSpec("P")


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
    """The result of a loop, as one program when traced; what no step changes is computed once.

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
    """A method that is written as its loop, as a method like every other: decorate its definition.

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
    """What makes the loop of a method that is `iterative`, with the method's own arguments; else None."""
    loop: Callable[..., Loop] | None = getattr(method, "loop", None)
    # `functools.wraps` copies attributes: what wraps a method bears its loop, and does something else.
    return loop if getattr(method, "__wrapped__", None) is loop else None
