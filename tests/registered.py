"""What a test registers is gone behind it."""

import contextlib

from dmbp_jax import methods
from dmbp_jax.data import kinds
from dmbp_jax.evaluation import registry
from dmbp_jax.pretrained import load


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
