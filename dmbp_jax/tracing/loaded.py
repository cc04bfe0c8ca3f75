"""Objects of libraries that are not imported for it."""

import operator
import sys
from typing import Any

import jax

from dmbp_jax.checks import InputError


def is_a(thing: Any, module: str, name: str) -> bool:
    """Whether `thing` is an object of that class of a library; a library that nobody imported has none.

    >>> from fractions import Fraction
    >>> is_a(Fraction(1, 2), "fractions", "Fraction"), is_a(1, "nowhere", "Fraction")
    (True, False)
    """
    library = sys.modules.get(module)
    return library is not None and isinstance(thing, getattr(library, name))


def refuse_changes(before: Any, after: Any, remedy: str) -> None:
    """Raise `InputError` unless both trees hold the same arrays, and not only equal ones."""
    old, new = jax.tree.leaves(before), jax.tree.leaves(after)
    if len(old) != len(new) or any(map(operator.is_not, old, new)):
        raise InputError(
            "the network has a side effect: it changes its own state when it is called, as dropout "
            f"and batch-norm in training mode do; switch it to evaluation, {remedy}"
        )
