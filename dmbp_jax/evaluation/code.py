"""Which code a function is: a run goes on only with the methods and metrics that it began with."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any


def code_of(function: Callable[..., Any]) -> str:
    """A fingerprint of a function's source; of the package's own an empty one, since its version counts.

    What the function calls, and what it closes over, is not in it.

    >>> import json
    >>> code_of(code_of), len(code_of(json.dumps))
    ('', 16)
    """
    inner = inspect.unwrap(function)
    if getattr(inner, "__module__", "").partition(".")[0] == "dmbp_jax":
        return ""
    try:
        text = inspect.getsource(inner)
    except (OSError, TypeError):
        # Typed at a prompt, or no function at all.
        text = repr(getattr(getattr(inner, "__code__", None), "co_code", type(inner).__qualname__))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
