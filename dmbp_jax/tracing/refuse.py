"""What goes wrong while a network is traced, as one message with a remedy."""

import contextlib
import sys
import traceback
from collections.abc import Iterator

import jax

from dmbp_jax.checks import InputError
from dmbp_jax.tracing.places import is_own


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Raise `InputError` where code depends on the values of images, which a traced program has not, and
    where a linen module updates its state or does not find its variables."""
    flax_errors = sys.modules.get("flax.errors")
    changes_state: tuple[type[Exception], ...] = ()
    lacks_variables: tuple[type[Exception], ...] = ()
    if flax_errors is not None:
        changes_state = (flax_errors.ModifyScopeVariableError,)
        lacks_variables = (flax_errors.ScopeCollectionNotFound, flax_errors.ScopeParamNotFoundError)
    try:
        yield
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if is_own(f.filename)]
        at = "an unknown place"
        if frames:
            at = f"{frames[-1].filename}:{frames[-1].lineno} ({frames[-1].name})"
        raise InputError(
            "data-dependent control flow: the network's Python code needs the values of its inputs, at "
            f"{at}; use jnp.where in place of if and jax.numpy in place of numpy, or fix the value beforehand"
        ) from error
    except changes_state as error:
        raise InputError(
            "the network has a side effect: it updates its variables, as batch-norm in training mode does; "
            f"switch it to evaluation, for example with use_running_average=True ({error})"
        ) from error
    except lacks_variables as error:
        raise InputError(
            "the variables lack what the linen module reads: give all that module.init returned, "
            f"{{'params': ..., 'batch_stats': ...}} ({error})"
        ) from error
