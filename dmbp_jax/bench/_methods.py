"""The methods whose speed is measured: this package's and PyTorch's, with the same number of steps."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from dmbp_jax._explain import explain
from dmbp_jax.bench._counts import NetworkCounts
from dmbp_jax.bench._torch.network import TorchNetwork
from dmbp_jax.ops._convolution import cast_floats
from dmbp_jax.result import Attribution
from dmbp_jax.typing import Apply, Params


class Timed(NamedTuple):
    """A method, and the definition of its step."""

    name: str
    option: str | None
    """The option with the number of steps; None for a method of a single step."""
    default: int
    flops: Callable[[NetworkCounts], int]
    """Operations of one step, of convolutions and matrix products."""
    deterministic: bool
    """Whether both programs compute the same map."""
    modules: tuple[str, ...] = ("torch", "torchvision")
    """The packages that its PyTorch program needs; empty if there is no such program."""

    @property
    def fixed_cost(self) -> bool:
        """Whether a call does much work besides its steps, so that both are measured separately."""
        return self.name == "dmbp"


TIMED = {
    timed.name: timed
    for timed in (
        Timed("dmbp", "steps", 10, lambda counts: counts.step_flops, deterministic=True),
        # One forward pass, and one backward pass of three rows.
        Timed("fast", None, 1, lambda counts: 4 * counts.forward_flops, deterministic=True, modules=()),
        Timed("rise", "n_masks", 256, lambda counts: counts.forward_flops, deterministic=False),
        Timed(
            "integrated_gradients",
            "n_steps",
            50,
            lambda counts: 2 * counts.forward_flops,
            deterministic=True,
            modules=("torch", "torchvision", "captum"),
        ),
        Timed(
            "smoothgrad",
            "n_samples",
            50,
            lambda counts: 2 * counts.forward_flops,
            deterministic=False,
            modules=("torch", "torchvision", "captum"),
        ),
        Timed("fullgrad", None, 1, lambda counts: 2 * counts.forward_flops, deterministic=True),
    )
}


def run_ours(
    timed: Timed,
    apply: Apply,
    params: Params,
    images: jax.Array,
    targets: Sequence[int],
    *,
    steps: int,
    dtype: str,
) -> Attribution:
    """The call as a user makes it, finished when it returns."""
    options: dict[str, Any] = {} if timed.option is None else {timed.option: steps}
    name = timed.name
    if name in ("dmbp", "fast"):
        options["preset"] = "fast" if name == "fast" else "paper"
        options["compute_dtype"] = None if dtype == "float32" else dtype
        name = "dmbp"
    else:
        params, images = cast_floats((params, images), dtype)
    return run_method(apply, params, images, targets, name, **options)


def run_method(
    apply: Apply, params: Params, images: jax.Array, targets: Sequence[int], method: str, **options: Any
) -> Attribution:
    """A call of `explain`, finished when it returns."""
    key = jax.random.key(0)
    return jax.block_until_ready(
        explain(apply, params, images, np.asarray(targets), method, key=key, **options)
    )


def run_torch(
    timed: Timed, network: TorchNetwork, x: Any, targets: Sequence[int], *, steps: int
) -> np.ndarray:
    """The same with PyTorch; the maps, NHWC."""
    from dmbp_jax.bench._torch import baselines as torch_baselines
    from dmbp_jax.bench._torch import dmbp as torch_reference

    if timed.name == "dmbp":
        return torch_reference.dmbp(network, x, targets, steps=steps).values
    options = {} if timed.option is None else {timed.option: steps}
    return getattr(torch_baselines, timed.name)(network, x, targets, **options)
