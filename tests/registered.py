"""What a test registers is gone behind it."""

import contextlib

from dmbp_jax import _methods as methods
from dmbp_jax.evaluation import _registry as registry
from dmbp_jax.images import _datasets as kinds
from dmbp_jax.models import _load as load


@contextlib.contextmanager
def forgetting():
    """Put the registries back to what they were."""
    registries = (
        *(methods.METHODS, methods.VARIANTS, methods.TITLES),
        *(registry.METRICS, load.REGISTERED, kinds.REGISTERED),
    )
    before = [dict(one) for one in registries]
    try:
        yield
    finally:
        for one, names in zip(registries, before, strict=True):
            one.clear()
            one.update(names)
