"""Progress from inside a compiled loop."""

import jax
from jaxtyping import Array, Int

from dmbp_jax.typing import OnStep


def report_step(on_step: OnStep | None, index: Int[Array, ""]) -> None:
    """Call `on_step(index + 1)` on the host each time the compiled program passes here; None does nothing.

    Under `vmap` it is called once for the whole batch, if the index is not batched.

    >>> seen = []
    >>> @jax.jit
    ... def walk():
    ...     def step(carry, index):
    ...         report_step(lambda number: seen.append(int(number)), index)
    ...         return carry, None
    ...     jax.lax.scan(step, None, jax.numpy.arange(3))
    >>> walk()
    >>> jax.effects_barrier()
    >>> sorted(seen)
    [1, 2, 3]
    """
    if on_step is not None:
        jax.debug.callback(on_step, index + 1)
