"""The attribution methods by name, and the options with which the papers run them."""

import dataclasses
import inspect
from typing import Any

from dmbp_jax.attribution import (
    blur_integrated_gradients,
    deconvnet,
    deeplift,
    fullgrad,
    grad_cam,
    gradient,
    gradient_x_input,
    guided_backprop,
    guided_grad_cam,
    integrated_gradients,
    lpr,
    norm_grad,
    rise,
    selective_norm_grad,
    smoothgrad,
)
from dmbp_jax.checks import check_choice
from dmbp_jax.dmbp import PRESETS, dmbp
from dmbp_jax.result import Method
from dmbp_jax.typing import OutputActivation

METHODS: dict[str, Method] = {
    method.__name__: method
    for method in (
        dmbp,
        gradient,
        gradient_x_input,
        integrated_gradients,
        smoothgrad,
        blur_integrated_gradients,
        deeplift,
        guided_backprop,
        deconvnet,
        guided_grad_cam,
        grad_cam,
        fullgrad,
        rise,
        lpr,
        norm_grad,
        selective_norm_grad,
    )
}
"""In the order in which a comparison shows them."""


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dmbp_positive": ("dmbp", {"objective": "positive"}),
    "dmbp_posneg": ("dmbp", {"objective": "posneg"}),
}
"""Methods with options, under names of their own: the ablations of Table 1."""

FEWER_STEPS: dict[str, Any] = {"steps": 10, "learning_rate": 0.1}
"""For a quick look at an ablation, which is one of the paper's optimisation and not of a sweep."""


def list_methods() -> dict[str, dict[str, Any]]:
    """The methods' names, and the options of each with their defaults; `help(METHODS[name])` tells more.

    DMBP's options are those of its preset `"paper"`; `dmbp_jax.PRESETS` has both.

    >>> list_methods()["smoothgrad"]
    {'n_samples': 50, 'noise_level': 0.15, 'multiply_by_inputs': False}
    """
    return {name: _options(method) for name, method in METHODS.items()}


def _options(method: Method) -> dict[str, Any]:
    parameters = inspect.signature(method).parameters.values()
    options = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name != "key"
    }
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        options |= dataclasses.asdict(PRESETS["paper"])
    return options


def get_method(method: str | Method) -> Method:
    """The method of that name, or the method itself; `InputError` names the known ones."""
    if not isinstance(method, str):
        return method
    check_choice("method", method, METHODS)
    return METHODS[method]


def choose_method(
    name: str, preset: str, *, architecture: str, output: OutputActivation
) -> tuple[Method, dict[str, Any]]:
    """A method or variant, with the options that depend on the preset or on the network.

    DMBP takes the preset itself, but its ablations are the paper's optimisation, under `"fast"` with fewer
    and larger steps; RISE takes the network's output activation, and its paper's number of masks
    (8000 for ResNets, 4000 else) under `"paper"`, 1000 under `"fast"`; LPR takes the output activation.
    Everything else runs with its defaults, its own paper's.

    >>> choose_method("rise", "paper", architecture="resnet50", output="softmax")[1]
    {'n_masks': 8000, 'output': 'softmax'}
    >>> choose_method("dmbp_posneg", "fast", architecture="resnet50", output="softmax")[1]
    {'preset': 'paper', 'steps': 10, 'learning_rate': 0.1, 'objective': 'posneg'}
    """
    check_choice("preset", preset, PRESETS)
    check_choice("method", name, [*METHODS, *VARIANTS])
    base, options = VARIANTS.get(name, (name, {}))
    method = METHODS[base]
    if base == "dmbp":
        if options and preset == "fast":
            return method, {"preset": "paper", **FEWER_STEPS, **options}
        return method, {"preset": preset, **options}
    if base == "rise":
        paper = 8000 if architecture.startswith("resnet") else 4000
        return method, {"n_masks": paper if preset == "paper" else 1000, "output": output}
    return method, {"output": output} if base == "lpr" else {}
