"""What a metric is to an evaluation: how it is measured, what it needs, how its rows are shown and read."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dmbp_jax.checks import InputError
from dmbp_jax.data import Dataset
from dmbp_jax.evaluation.items import Measure


class Shown(NamedTuple):
    """How the rows of one name are shown and read."""

    title: str
    """For headings and running text."""
    short: str
    """For table heads."""
    higher_is_better: bool | None
    """None: nobody has said, and so nothing is called better."""
    explanation: str
    """One sentence."""
    curve: tuple[str, str] | None = None
    """The labels of the two axes of its curve; None where no curve is drawn."""
    of_image: bool = False
    """Whether it is measured once per image, for a target of its own."""

    @property
    def direction(self) -> str:
        """Which way is good, in words."""
        if self.higher_is_better is None:
            return "direction not given"
        return "higher is better" if self.higher_is_better else "lower is better"


class Metric(NamedTuple):
    """A metric by name."""

    name: str
    """What is asked for."""
    measure: Measure
    shown: Mapping[str, Shown]
    """Its rows, in the order of tables: most metrics have those of their own name alone."""
    lacks: Callable[[Dataset], str | None] = lambda _: None
    """What it needs and no sample of a dataset has, with the remedy; None where it can be measured."""
    classes: int = 1
    """How many classes the network must tell apart, at least."""
    explains: bool = False
    """Whether it explains anew, which maps from a folder do not allow."""
    regions: bool = False
    """Whether it asks where the target is, pixel by pixel."""
    function: Callable[..., Any] | None = None
    """What it is made of, if it is a function of one map."""
    code: str = ""
    """A fingerprint of a metric of one's own, whose change is another metric."""
    untold: str | None = None
    """What it uses of which a later run cannot tell whether it is the same, unless a name stands for it."""

    def check_told(self) -> None:
        """Raise `InputError` for a function of which a later run cannot tell whether it is the same."""
        if self.untold is not None:
            raise InputError(
                f"the metric {self.name} uses {self.untold}, of which a later run in this folder cannot tell "
                "whether it is the same: give it a name that stands for it, register_metric(..., name=...)"
            )
