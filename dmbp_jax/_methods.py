"""The attribution methods by name, and the options with which the papers run them."""

import dataclasses
import functools
import inspect
from typing import Any

from dmbp_jax._checks import InputError, called, check_choice, check_name, kind_of
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
    random_map,
    rise,
    selective_norm_grad,
    smoothgrad,
)
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
"""The methods of `explain`, in the order of a comparison."""


VARIANTS: dict[str, tuple[Method, dict[str, Any]]] = {
    "dmbp_positive": (dmbp, {"objective": "positive"}),
    "dmbp_posneg": (dmbp, {"objective": "posneg"}),
    "random": (random_map, {}),
}
"""Further methods of the commands and of evaluations: methods with fixed options under their own names, such
as the ablations of Table 1, and the random map."""

TITLES: dict[str, str] = {
    "dmbp": "DMBP",
    "dmbp_positive": "DMBP, y⁺ only",
    "dmbp_posneg": "DMBP, y⁻ \u2212 y⁺",
    "random": "Random map",
    "gradient": "Gradient",
    "gradient_x_input": "Gradient \u00d7 input (ND)",
    "integrated_gradients": "Integrated gradients",
    "smoothgrad": "SmoothGrad",
    "blur_integrated_gradients": "Blur integrated gradients",
    "deeplift": "DeepLIFT",
    "guided_backprop": "Guided backprop",
    "deconvnet": "DeconvNet",
    "guided_grad_cam": "Guided Grad-CAM",
    "grad_cam": "Grad-CAM",
    "fullgrad": "FullGrad",
    "rise": "RISE",
    "lpr": "LPR",
    "norm_grad": "NormGrad",
    "selective_norm_grad": "Selective NormGrad",
}
"""The methods' titles in tables and on pages."""

_OWN = frozenset([*METHODS, *VARIANTS])

FEWER_STEPS: dict[str, Any] = {"steps": 10, "learning_rate": 0.1}
"""Options of the ablations under preset `fast`: the paper's optimisation, with fewer and larger steps."""


def list_methods() -> dict[str, dict[str, Any]]:
    """The methods' names, and the options of each with their defaults; see `help(METHODS[name])`.

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


def register_method(
    method: Method, *, name: str | None = None, title: str | None = None, **options: Any
) -> Method:
    """Register a method by name for `explain`, evaluations, the commands and the report.

    Args:
        method: `method(apply, params, image, target, *, key=None, **options) -> Attribution` for one image.
        name: by default the function's.
        title: its title in tables; by default the name, without underscores.
        **options: of the method, under this name: then the name is a variant, such as
            `register_method(smoothgrad, name="smoothgrad_500", n_samples=500)`, for evaluations and commands.

    Returns:
        The method, so that it may stand above a function as a decorator.

    Raises:
        InputError: a name that is empty, or that the package uses or reserves, such as `"all"`.

    >>> def zero(apply, params, image, target, *, key=None):
    ...     ...
    >>> register_method(zero, title="Nothing") is zero, "zero" in METHODS, TITLES["zero"]
    (True, True, 'Nothing')
    >>> del METHODS["zero"], TITLES["zero"]
    """
    name = check_name("method", name_of(method) if name is None else name)
    if name in _OWN:
        raise InputError(f"there is a method {name!r} in the package: give name= another one")
    METHODS.pop(name, None)
    VARIANTS.pop(name, None)
    if options:
        VARIANTS[name] = (method, options)
    else:
        METHODS[name] = method
    TITLES[name] = title or name.replace("_", " ")
    return method


def name_of(function: Any) -> str:
    """A function's own name, of a `functools.partial` its function's; `InputError` for one without, such as a
    lambda.

    >>> name_of(functools.partial(name_of, None))
    'name_of'
    """
    has_name = hasattr(function, "__name__") or isinstance(function, functools.partial)
    name = called(function)
    if not has_name or not name.isidentifier():
        raise InputError(
            f"{function!r} has no name to be shown by: write a function with def, or register it"
        )
    return name


ELSEWHERE = {
    "random_map": "it is 'random'",
    "lrp": "layer-wise relevance propagation is not here; 'lpr' is another method",
    "saliency": "it is 'gradient', and abs() of its values",
    "vanilla_gradient": "it is 'gradient'",
}
"""Names from other packages, with the method to use instead."""


def get_method(method: str | Method) -> Method:
    """The method of that name, or the method itself.

    Raises `InputError` for an unknown name, naming the known ones, and for an object that is no method.

    >>> get_method(lambda apply, params: 0)
    Traceback (most recent call last):
    dmbp_jax.InputError: <lambda> is no method(apply, params, image, target, *, key=None, **options): \
if it makes one, call it, as in noise_tunnel(gradient)
    """
    if not isinstance(method, str):
        _check_method(method)
        return method
    if method in PRESETS:
        raise InputError(f"{method!r} is a preset of the method 'dmbp': preset={method!r}")
    if method in VARIANTS:
        base, options = VARIANTS[method]
        if not options:
            return base
        given = ", ".join([name_of(base), *(f"{name}={value!r}" for name, value in options.items())])
        raise InputError(f"{method!r} is a name for evaluations and commands: explain takes {given}")
    if method not in METHODS and method.lower() in ELSEWHERE:
        raise InputError(f"unknown method {method!r}: {ELSEWHERE[method.lower()]}")
    check_choice("method", method, METHODS)
    return METHODS[method]


def _check_method(method: Any) -> None:
    """Raise `InputError` unless it can be called as a method is."""
    if callable(method) and not isinstance(method, type):
        parameters = inspect.signature(method).parameters.values()
        fixed = [p for p in parameters if p.kind is p.POSITIONAL_ONLY or p.kind is p.POSITIONAL_OR_KEYWORD]
        needed = [p for p in fixed if p.default is p.empty]
        room = len(fixed) >= 4 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
        keyed = any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in parameters)
        if room and len(needed) <= 4 and keyed:
            return
        raise InputError(
            f"{called(method)} is no method(apply, params, image, target, *, key=None, **options): if it "
            "makes one, call it, as in noise_tunnel(gradient)"
        )
    raise InputError(
        f"method must be a name, such as 'grad_cam', or a function of one image, got {kind_of(method)}"
    )


def choose_method(
    name: str, preset: str, *, architecture: str, output: OutputActivation | None
) -> tuple[Method, dict[str, Any]]:
    """A method or variant, with the options that depend on the preset or on the network.

    DMBP takes the preset itself; its ablations are the paper's optimisation, under `"fast"` with fewer and
    larger steps. RISE takes the network's output activation, and its paper's number of masks (8000 for
    ResNets, otherwise 4000) under `"paper"`, 1000 under `"fast"`; LPR takes the output activation. All others
    run with their defaults, those of their papers.

    >>> choose_method("rise", "paper", architecture="resnet50", output="softmax")[1]
    {'n_masks': 8000, 'output': 'softmax'}
    >>> choose_method("dmbp_posneg", "fast", architecture="resnet50", output="softmax")[1]
    {'preset': 'paper', 'steps': 10, 'learning_rate': 0.1, 'objective': 'posneg'}
    """
    check_choice("preset", preset, PRESETS)
    check_choice("method", name, [*METHODS, *VARIANTS])
    method, options = VARIANTS[name] if name in VARIANTS else (METHODS[name], {})
    if method is dmbp:
        if options and preset == "fast":
            return method, {"preset": "paper", **FEWER_STEPS, **options}
        return method, {"preset": preset, **options}
    if method is rise:
        paper = 8000 if architecture.startswith("resnet") else 4000
        return method, {"n_masks": paper if preset == "paper" else 1000, "output": output, **options}
    return method, {"output": output, **options} if method is lpr else options
