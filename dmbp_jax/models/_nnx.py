"""Networks of the package as modules of flax.nnx; `to_nnx` alone imports this file, and flax with it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from dmbp_jax._checks import InputError, kind_of
from dmbp_jax.typing import Apply, Images, Logits, Params


class Network(nnx.Module):  # type: ignore[misc]
    """A network whose parameters are `nnx.Param`s, under the names that they have in `params`."""

    def __init__(self, apply: Apply, params: Params) -> None:
        self.forward = apply
        _set_variables(self, params)

    def __call__(self, images: Images) -> Logits:
        """The logits of the images."""
        return self.forward(nnx.to_pure_dict(nnx.state(self, nnx.Param)), images)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The layers, which are set by their names."""


def _set_variables(module: Any, params: Any) -> Any:
    """Set every array of `params` as an `nnx.Param` of the module, nested dictionaries as `nnx.Dict`s."""
    if not isinstance(params, Mapping):
        raise InputError(f"to_nnx takes params that are arrays in nested dictionaries; got {kind_of(params)}")
    for name, part in params.items():
        if not isinstance(name, str) or hasattr(module, name):
            raise InputError(f"to_nnx cannot name a parameter {name!r}: call it otherwise in params")
        is_array = isinstance(part, jax.Array | np.ndarray)
        setattr(module, name, nnx.Param(part) if is_array else _set_variables(nnx.Dict(), part))
    return module
