"""Programs that are compiled for a network, and let go of it."""

import functools
from collections.abc import Callable
from typing import Any

import jax

KEPT = 32
"""So many networks, each with a method or metric and its options, keep what was compiled for them, and with
it the network; then the one that has not been used for the longest time goes."""


def kept_jit(function: Callable[..., Any], *, static_argnames: tuple[str, ...] = ()) -> Callable[..., Any]:
    """`jax.jit` of a function of arrays by position, for each of what it is given by keyword.

    What comes by keyword, such as a network's `apply`, is hashable and fixed in a program. `jax.jit` keeps
    all programs, and by them all networks, until the process ends; here those of the last `KEPT` are kept.
    `static_argnames` are for what changes with every image: its programs stay with the others' of a network.

    The result's `clear_cache()` lets go of all.

    >>> import jax.numpy as jnp
    >>> power = kept_jit(lambda x, *, exponent: x**exponent)
    >>> power(jnp.asarray(3.0), exponent=2).item(), power(jnp.asarray(3.0), exponent=3).item()
    (9.0, 27.0)
    """

    @functools.lru_cache(maxsize=KEPT, typed=True)
    def program(**fixed: Any) -> Any:
        return jax.jit(functools.partial(function, **fixed), static_argnames=static_argnames)

    @functools.wraps(function)
    def call(*arrays: Any, **fixed: Any) -> Any:
        changing = {name: fixed.pop(name) for name in static_argnames}
        return program(**fixed)(*arrays, **changing)

    call.clear_cache = program.cache_clear  # type: ignore[attr-defined]
    return call
