"""The options of DMBP and its presets."""

import dataclasses
from typing import Any, Literal, get_args

from dmbp_jax._checks import InputError, check_choice
from dmbp_jax._ranges import CountFromZero, Decay, Finite, Positive, check_fields

MaskSites = Literal["filter", "relu", "filter_and_shortcut"]
Objective = Literal["all", "posneg", "positive"]
ComputeDtype = Literal["float32", "bfloat16", "float16", "float64"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMBPConfig:
    """Every option of DMBP; the defaults are the paper's (Section 4, "Implementation details").

    Raises `InputError` for a value outside its range.

    >>> DMBPConfig(steps=20).learning_rate
    0.01
    """

    steps: CountFromZero = 200
    """Steps of RMSProp; 0 leaves the masks at their start."""
    learning_rate: Positive = 0.01
    decay: Decay = 0.99
    """The decay of RMSProp's running mean of squares (PyTorch's `alpha`), in [0, 1)."""
    eps: Positive = 1e-8
    """Added to RMSProp's root mean square, above 0.

    In deep networks the gradients of early masks fall below 1e-8; then `eps`, not the gradient, decides how
    far these masks move, and the map depends on the scale of the logits. A smaller value removes this
    dependence, and gives a different map. In float32 the square of a gradient below about 1e-18 is lost, so
    that an `eps` below 1e-17 no longer bounds the step of such a mask.
    """
    start: Finite = 0.0
    """The initial `theta` of every mask `sigmoid(theta)`, not stated in the paper. 0: both masks are 1/2."""
    parts_apart: bool = False
    """Whether the map keeps the branches' parts apart (not in the paper): the positive values of the positive
    branch and the negative values of the negative one, in the logit's unit whatever the masks' scale
    (`dmbp/_optimization.py`). `y+` and `y-` are then the sums of the parts, and `y~` is the biases'
    contribution. If not, the map is the sum of both branches (Eq. 7), and the scores are those of Eq. 14."""
    mask_sites: MaskSites = "filter"
    """`"filter"`: after every hidden convolution or linear layer; `"relu"`: at every ReLU output;
    `"filter_and_shortcut"`: as the first, and at the projections of shortcuts. They differ only in networks
    with shortcuts."""
    objective: Objective = "all"
    """`"all"`: `y- - y+ + |y~|` (Eq. 10); `"posneg"`: `y- - y+`; `"positive"`: `-y+`."""
    compute_dtype: ComputeDtype | None = None
    """The dtype of activations and cotangents; None keeps the images' dtype. Masks stay at least float32."""

    def __post_init__(self) -> None:
        check_choice("mask_sites", self.mask_sites, get_args(MaskSites))
        check_choice("objective", self.objective, get_args(Objective))
        if self.compute_dtype is not None:
            check_choice("compute_dtype", self.compute_dtype, get_args(ComputeDtype))
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """The options of `fast`, which chooses all masks in one backward pass (`dmbp/_sweep.py`).

    Raises `InputError` for a value outside its range.

    >>> SweepConfig().strength
    1.5
    """

    strength: Positive = 1.5
    """The root mean square of a site's `theta`, above 0: the larger, the closer masks are to 0 and their
    maximum."""
    mask_sites: MaskSites = "relu"
    """As in `DMBPConfig`."""
    compute_dtype: ComputeDtype | None = None
    """As in `DMBPConfig`."""

    def __post_init__(self) -> None:
        check_choice("mask_sites", self.mask_sites, get_args(MaskSites))
        if self.compute_dtype is not None:
            check_choice("compute_dtype", self.compute_dtype, get_args(ComputeDtype))
        check_fields(self)


PRESETS: dict[str, DMBPConfig | SweepConfig] = {"paper": DMBPConfig(), "fast": SweepConfig()}
"""`"paper"`: exactly the paper's. `"fast"`: this package's, from the study in `notebooks/study_parts.py`; it
chooses its masks in one backward pass instead of 200 steps, and keeps the parts of the map apart."""


def configure(preset: str = "paper", **options: Any) -> DMBPConfig | SweepConfig:
    """A preset with single options replaced.

    Raises `InputError` for an unknown preset, an option that it does not have, and a value out of range.

    >>> configure("fast", strength=3.0)
    SweepConfig(strength=3.0, mask_sites='relu', compute_dtype=None)
    """
    check_choice("preset", preset, PRESETS)
    known = [field.name for field in dataclasses.fields(PRESETS[preset])]
    other = next(name for name in PRESETS if name != preset)
    for name in options:
        if name not in known and name in (field.name for field in dataclasses.fields(PRESETS[other])):
            raise InputError(
                f"{name} is an option of preset={other!r}; preset={preset!r} has {', '.join(known)}"
            )
        check_choice("option of dmbp", name, known)
    return dataclasses.replace(PRESETS[preset], **options)
