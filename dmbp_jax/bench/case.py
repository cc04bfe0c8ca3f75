"""What is measured: one row of a benchmark."""

import dataclasses

from dmbp_jax.bench.methods import TIMED, Timed
from dmbp_jax.checks import InputError, check_choice
from dmbp_jax.models import get_architecture

DTYPES = ("float32", "bfloat16")
SHORT = 1
"""Steps of the call that is taken away from the long one, so that what is done once per call cancels: gates,
the first convolution, the maps at the end. Not 0, which would be a program without a loop."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One row of a benchmark. Raises `InputError` for a value outside its range."""

    model: str = "squeezenet1_1"
    batch_size: int = 1
    dtype: str = "float32"
    method: str = "dmbp"
    steps: int | None = None
    """Steps of DMBP and Integrated Gradients, samples of SmoothGrad, masks of RISE; None: see `TIMED`."""
    repeats: int = 5
    """Rounds in which everything is measured once."""
    size: int = 224
    """The side of the square images, in pixels."""
    against_torch: bool = False

    def __post_init__(self) -> None:
        get_architecture(self.model)
        check_choice("dtype", self.dtype, DTYPES)
        check_choice("method to time", self.method, TIMED)
        for name, value in (("batch size", self.batch_size), ("repeats", self.repeats), ("size", self.size)):
            if value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if self.method == "dmbp" and self.count <= SHORT:
            raise InputError(
                f"steps must be at least {SHORT + 1}, got {self.count}: a step is the difference of two calls"
            )
        if self.count < 1:
            raise InputError(f"steps must be at least 1, got {self.count}")

    @property
    def timed(self) -> Timed:
        """The method."""
        return TIMED[self.method]

    @property
    def count(self) -> int:
        """The number of steps."""
        return self.timed.default if self.steps is None or self.timed.option is None else self.steps

    @property
    def title(self) -> str:
        """The row in a few words."""
        return f"{self.method}, {self.model}, batch {self.batch_size}, {self.dtype}"
