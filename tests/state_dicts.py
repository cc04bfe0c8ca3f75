"""State dicts in PyTorch's layout with random values, and a network that is small enough for slow oracles."""

import sys

import numpy as np
import pytest

from dmbp_jax import cli
from dmbp_jax._checks import InputError
from dmbp_jax.models import Architecture, get_architecture
from dmbp_jax.models._layers import LayerShape

NORM = ("weight", "bias", "running_mean", "running_var")


def tiny_layout(classes: int):
    """A convolution with batch-norm, one without, and two linear layers, the first on a 3x3 map."""
    yield LayerShape("stem.conv", (4, 3, 3, 3), bias=False, batch_norm="stem.bn")
    yield LayerShape("features.0", (2, 4, 1, 1))
    yield LayerShape("classifier.0", (5, 2 * 3**2), grid=3)
    yield LayerShape("classifier.3", (classes, 5))


def tiny_apply(params, images, **options):
    raise NotImplementedError


TINY = Architecture("tiny", tiny_apply, tiny_layout)


def random_state(architecture: str | Architecture, classes: int = 3) -> dict[str, np.ndarray]:
    """A state dict as a checkpoint of that network holds it; variances are positive."""
    if isinstance(architecture, str):
        architecture = get_architecture(architecture)
    random = np.random.default_rng(0)
    state = {}
    for layer in architecture.layout(classes):
        width = layer.weight[0]
        state[f"{layer.name}.weight"] = random.standard_normal(layer.weight, np.float32)
        if layer.bias:
            state[f"{layer.name}.bias"] = random.standard_normal(width, np.float32)
        if layer.batch_norm:
            state |= {f"{layer.batch_norm}.{name}": random.random(width, np.float32) for name in NORM}
    return state


def same(actual: dict, expected: dict) -> bool:
    """Whether two state dicts hold the same names and values."""
    return actual.keys() == expected.keys() and all(
        np.array_equal(actual[name], expected[name]) for name in expected
    )


def refuse(action, *arguments) -> str:
    """The message of the one `InputError` that an action ends with."""
    with pytest.raises(InputError) as caught:
        action(*arguments)
    return str(caught.value)


def run_command(monkeypatch, *arguments: str) -> int:
    """The exit code of `dmbp-jax ARGUMENTS`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["dmbp-jax", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0
