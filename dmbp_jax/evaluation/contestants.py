"""What an evaluation compares: methods with the options under which the paper ran them."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

from dmbp_jax.attribution.random_map import random_map
from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.dmbp import configure
from dmbp_jax.methods import METHODS, VARIANTS, choose_method
from dmbp_jax.result import Method
from dmbp_jax.typing import OutputActivation

TABLE1 = ("gradient_x_input", "dmbp_positive", "dmbp_posneg", "dmbp")
"""The ablation of the objective; gradient times input is ND, no disentangling."""
TABLE2 = (
    "gradient_x_input",
    "integrated_gradients",
    "smoothgrad",
    "blur_integrated_gradients",
    "deeplift",
    "guided_backprop",
    "guided_grad_cam",
    "lpr",
    "rise",
    "fullgrad",
    "grad_cam",
    "dmbp",
)
TABLE3 = ("guided_backprop", "guided_grad_cam", "dmbp")

GROUPS: dict[str, tuple[str, ...]] = {
    "table1": TABLE1,
    "table2": TABLE2,
    "table3": TABLE3,
    "all": ("random", *(name for name in METHODS if name != "dmbp"), *TABLE1[1:]),
}
"""Names that stand for several; in the order in which tables show them."""

# Section 4 of the paper: "every gradient method's map is gradient times input". Guided Grad-CAM, a product
# already, stays as its authors define it.
_TIMES_INPUT = ("smoothgrad", "guided_backprop", "deconvnet")

KNOWN = (*METHODS, *VARIANTS, "random")


class Contestant(NamedTuple):
    """A method as it is evaluated."""

    name: str
    method: Method
    options: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """What makes this contestant, for the record of a run."""
        dmbp = self.method is METHODS["dmbp"]
        options = dataclasses.asdict(configure(**self.options)) if dmbp else self.options
        return {"method": self.method.__name__, "options": options}


def choose_contestants(
    names: Iterable[str],
    *,
    preset: str,
    steps: int | None = None,
    architecture: str,
    output: OutputActivation,
) -> tuple[Contestant, ...]:
    """The contestants of those names, each once; `table1`, `table2`, `table3` and `all` stand for several.

    `steps` is DMBP's number of steps in place of the preset's. Raises `InputError` for an unknown name, and
    for steps of the preset `"fast"`, which takes none.

    >>> chosen = choose_contestants(["table3"], preset="paper", architecture="resnet50", output="softmax")
    >>> [one.name for one in chosen], chosen[0].options
    (['guided_backprop', 'guided_grad_cam', 'dmbp'], {'multiply_by_inputs': True})
    """
    chosen: dict[str, Contestant] = {}
    for given in names:
        check_choice("method", given, [*KNOWN, *GROUPS])
        for name in GROUPS.get(given, (given,)):
            method, options = (
                (random_map, {})
                if name == "random"
                else choose_method(name, preset, architecture=architecture, output=output)
            )
            if method is METHODS["dmbp"] and steps is not None:
                if options["preset"] == "fast":
                    raise InputError("preset fast takes no steps: leave steps out, or take preset paper")
                options = {**options, "steps": steps}
            if name in _TIMES_INPUT:
                options = {**options, "multiply_by_inputs": True}
            chosen[name] = Contestant(name, method, options)
    if not chosen:
        raise InputError(f"no method given; name one or more of {', '.join([*GROUPS, *KNOWN])}")
    return tuple(chosen.values())
