"""Python code that looks at the values of images, which a traced program has not."""

import contextlib
import traceback
from collections.abc import Iterator

import jax

from dmbp_jax.checks import InputError
from dmbp_jax.gated.places import is_own


@contextlib.contextmanager
def python_on_values() -> Iterator[None]:
    """Raise `InputError`, with the line of the source, where tracing fails since code depends on values."""
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if is_own(f.filename)]
        at = (
            f"{frames[-1].filename}:{frames[-1].lineno} ({frames[-1].name})" if frames else "an unknown place"
        )
        raise InputError(
            f"data-dependent control flow: the network's Python code needs the values of its inputs, at {at}; "
            "use jnp.where in place of if, and jax.numpy in place of numpy, or fix the value beforehand"
        ) from error
