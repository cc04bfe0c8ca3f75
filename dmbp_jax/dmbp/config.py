"""The options of DMBP and its presets."""

import dataclasses
import math
import numbers
from typing import Any, Literal, get_args

from dmbp_jax.checks import InputError, check_choice

MaskSites = Literal["filter", "relu", "filter_and_shortcut"]
Objective = Literal["all", "posneg", "positive"]
Optimizer = Literal["rmsprop", "powerball"]
ComputeDtype = Literal["float32", "bfloat16", "float16", "float64"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMBPConfig:
    """Every option of DMBP; the defaults are the paper's (Section 4, "Implementation details").

    Raises `InputError` for a value outside its range.

    >>> DMBPConfig(steps=20).learning_rate
    0.01
    """

    steps: int = 200
    """Steps of RMSProp; 0 leaves the masks at their start."""
    learning_rate: float = 0.01
    optimizer: Optimizer = "rmsprop"
    """`"rmsprop"`, the paper's; `"powerball"`, ours here: a step along `s = sign(g) sqrt(|g|)` (Yuan et al.,
    "On the Powerball Method", 2016) over the root mean square of a site's `s`. It knows no `eps` and no
    `decay`, and is the same whatever the unit of the logits."""
    decay: float = 0.99
    """Of RMSProp's running mean of squares (PyTorch's `alpha`), in [0, 1)."""
    eps: float = 1e-8
    """Added to RMSProp's root mean square, above 0.

    In deep networks the gradients of early masks fall below 1e-8; then `eps`, not the gradient, decides how
    far these masks move, and the map depends on the scale of the logits. A smaller value takes that away, and
    gives a different map. In float32 the square of a gradient below about 1e-18 is lost, so that an `eps`
    below 1e-17 no longer bounds the step of such a mask.
    """
    start: float = 0.0
    """The initial `theta` of every mask `sigmoid(theta)`; the paper leaves it open. 0: both masks are 1/2."""
    mask_scale: float = 1.0
    """Masks are `mask_scale * sigmoid(theta)` and `mask_scale * sigmoid(-theta)`, above 0. The paper's is 1;
    with 2, ours, they are all ones at `theta = 0`, so that depth does not shrink the branches. So many masks
    above 1 that float32 cannot hold their product are refused."""
    parts_apart: bool = False
    """Whether the parts of the map are kept apart, ours: of the positive branch what is above zero, of the
    negative one what is below, in the logit's unit whatever the masks' scale (`dmbp_jax.dmbp.parts`). `y+`
    and `y-` are then the sums of the parts, and `y~` is what the biases contribute. If not, the map is the
    sum of both branches (Eq. 7), and the scores are those of Eq. 14."""
    mask_sites: MaskSites = "filter"
    """`"filter"`: after every hidden convolution or linear layer; `"relu"`: at every ReLU output;
    `"filter_and_shortcut"`: as the first, and at the projections of shortcuts. They differ only in networks
    with shortcuts."""
    objective: Objective = "all"
    """`"all"`: `y- - y+ + |y~|` (Eq. 10); `"posneg"`: `y- - y+`; `"positive"`: `-y+`."""
    compute_dtype: ComputeDtype | None = None
    """Of activations and cotangents; None keeps the images' dtype. Masks stay at least float32."""

    def __post_init__(self) -> None:
        check_choice("mask_sites", self.mask_sites, get_args(MaskSites))
        check_choice("objective", self.objective, get_args(Objective))
        check_choice("optimizer", self.optimizer, get_args(Optimizer))
        if self.compute_dtype is not None:
            check_choice("compute_dtype", self.compute_dtype, get_args(ComputeDtype))
        for name, holds, range_ in (
            ("steps", _is(numbers.Integral, self.steps) and self.steps >= 0, "a whole number, at least 0"),
            ("learning_rate", _is(numbers.Real, self.learning_rate) and self.learning_rate > 0, "above 0"),
            ("decay", _is(numbers.Real, self.decay) and 0 <= self.decay < 1, "in [0, 1)"),
            ("eps", _is(numbers.Real, self.eps) and self.eps > 0, "above 0"),
            ("mask_scale", _is(numbers.Real, self.mask_scale) and self.mask_scale > 0, "above 0"),
            ("start", _is(numbers.Real, self.start), "finite"),
        ):
            if not holds:
                raise InputError(f"{name} must be {range_}, got {getattr(self, name)!r}")


def _is(kind: type, value: object) -> bool:
    """Whether `value` is a finite number of that kind; flags are none."""
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)  # type: ignore[arg-type]


PRESETS: dict[str, DMBPConfig] = {
    "paper": DMBPConfig(),
    "fast": DMBPConfig(
        steps=2,
        learning_rate=1.0,
        optimizer="powerball",
        mask_scale=2.0,
        parts_apart=True,
        mask_sites="relu",
        objective="posneg",
    ),
}
"""`"paper"`: exactly the paper's. `"fast"`: ours, found by the study in `notebooks/fast_preset.ipynb`; it
departs from the paper in objective (`y- - y+` instead of Eq. 10), masks, their place, optimiser, and in what
it makes of the two branches."""


def configure(preset: str = "paper", **options: Any) -> DMBPConfig:
    """A preset with single options replaced.

    >>> configure("fast", steps=5)
    DMBPConfig(steps=5, learning_rate=1.0, optimizer='powerball', decay=0.99, eps=1e-08, start=0.0, \
mask_scale=2.0, parts_apart=True, mask_sites='relu', objective='posneg', compute_dtype=None)
    """
    check_choice("preset", preset, PRESETS)
    known = [field.name for field in dataclasses.fields(DMBPConfig)]
    for name in options:
        check_choice("option of dmbp", name, known)
    return dataclasses.replace(PRESETS[preset], **options)
