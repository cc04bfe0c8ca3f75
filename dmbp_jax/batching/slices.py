"""A loop walked from the host, a slice of its steps at a time, which can tell how far it is.

A callback from inside the loop would tell it too, but keeps a program out of JAX's compilation cache.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Var
from jaxtyping import Array, Int

from dmbp_jax.ops import Loop
from dmbp_jax.ops.hoist import hoist
from dmbp_jax.ops.program import as_function, depending, trace
from dmbp_jax.typing import OnStep

SLICES = 20
"""About so often does a loop report."""


class Slices(NamedTuple):
    """The loops of a batch of images as three programs; made by `slice_loops`."""

    length: int
    """Steps of the loop."""
    each: int
    """Steps of a slice; the last one may have fewer."""
    before: Any
    """What no step changes, and the first carry."""
    within: Any
    """The carry some steps later."""
    after: Any
    """The result."""

    def run(self, fixed: Any, images: Any, *, on_step: OnStep | None = None) -> Any:
        """The results for `images`; `on_step(done, length)` after each slice."""
        constants, carry = self.before(fixed, images)
        for first in range(0, self.length, self.each):
            last = min(first + self.each, self.length)
            carry = self.within(constants, carry, first, last)
            if on_step is not None:
                jax.block_until_ready(carry)
                on_step(last, self.length)
        return self.after(constants, carry)

    def lower(self, fixed: Any, images: Any) -> jax.stages.Lowered:
        """The program of a slice, which needs the most memory."""
        constants, carry = jax.eval_shape(self.before, fixed, images)
        return self.within.lower(constants, carry, 0, self.each)


def slice_loops(make: Callable[..., Loop], fixed: tuple[Any, ...], images: tuple[Any, ...]) -> Slices:
    """The loops `make(*fixed, *image)` of a batch, for arguments of these kinds, arrays or shapes.

    `images` are trees of arrays whose first axis is the batch; `fixed` is the same for all. Each part of a
    loop is traced once, for one image.

    >>> halve = lambda factor, x: Loop(40, x, lambda carry, _: carry * factor, lambda carry: carry * 2.0**40)
    >>> seen, arguments = [], ((0.5,), (jnp.ones(3),))
    >>> slices = slice_loops(halve, *arguments)
    >>> slices.run(*arguments, on_step=lambda *step: seen.append(step)).tolist(), seen[0], seen[-1]
    ([1.0, 1.0, 1.0], (2, 40), (40, 40))
    """
    parts: dict[str, Any] = {}

    def begin(fixed: Any, image: Any) -> Any:
        loop = make(*fixed, *image)
        take = loop.step if loop.length else lambda carry, _: carry
        of_step, step = hoist(take, loop.start, jax.ShapeDtypeStruct((), jnp.int32))
        of_finish, finish = hoist(loop.finish, loop.start)
        # Both mostly need the same arrays.
        constants = list({id(array): array for array in (*of_step, *of_finish)}.values())
        places = {id(array): place for place, array in enumerate(constants)}
        parts.update(length=loop.length, step=step, finish=finish)
        parts.update(of_step=[places[id(one)] for one in of_step])
        parts.update(of_finish=[places[id(one)] for one in of_finish])
        return constants, loop.start

    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), images)
    program = trace(begin, fixed, one)
    # What depends on parameters alone is not to be repeated for each image.
    own = program.jaxpr.invars[len(jax.tree.leaves(fixed)) :]
    moving = depending(program.eqns, own)
    constants, start = program.structure
    each_image = [
        0 if isinstance(v, Var) and v in moving else None for v in program.outvars[: len(constants)]
    ]
    axes = (each_image, jax.tree.map(lambda _: 0, start))
    inputs = [*program.jaxpr.constvars, *program.jaxpr.invars]
    compute = as_function(program, inputs, program.outvars, program.eqns)
    structure = jax.tree.structure(program.structure)

    def first(fixed: Any, image: Any) -> Any:
        leaves = compute(*program.consts, *jax.tree.leaves((fixed, image)))
        return jax.tree.unflatten(structure, leaves)

    def step(constants: list[Any], carry: Any, number: Int[Array, ""]) -> Any:
        return parts["step"]([constants[i] for i in parts["of_step"]], carry, number)

    def finish(constants: list[Any], carry: Any) -> Any:
        return parts["finish"]([constants[i] for i in parts["of_finish"]], carry)

    @jax.jit
    def before(fixed: Any, images: Any) -> Any:
        constants, carry = jax.vmap(first, in_axes=(None, 0), out_axes=axes)(fixed, images)
        # The carry is given away to each slice: it must be nobody else's, least of all the caller's.
        return constants, jax.tree.map(jnp.copy, carry)

    def within(constants: list[Any], carry: Any, first: Any, last: Any) -> Any:
        def steps(number: Any, carry: Any) -> Any:
            return jax.vmap(step, in_axes=(each_image, 0, None))(constants, carry, number)

        return jax.lax.fori_loop(first, last, steps, carry)

    @jax.jit
    def after(constants: list[Any], carry: Any) -> Any:
        return jax.vmap(finish, in_axes=(each_image, 0))(constants, carry)

    length = parts["length"]
    return Slices(length, max(1, -(-length // SLICES)), before, jax.jit(within, donate_argnums=1), after)
