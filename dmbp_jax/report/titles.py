"""What metrics and methods are called on a page, and which way each metric is good."""

from collections.abc import Mapping
from typing import NamedTuple

from dmbp_jax.checks import check_choice
from dmbp_jax.evaluation.metric import Shown
from dmbp_jax.evaluation.registry import METRICS
from dmbp_jax.evaluation.store import Store
from dmbp_jax.methods import TITLES


class Titles(NamedTuple):
    """How a run's rows are shown: its store knows, whatever is registered now."""

    metrics: Mapping[str, Shown]
    """By the name in the rows, in the order of the page."""
    methods: Mapping[str, str]

    def metric(self, name: str) -> Shown:
        """How a metric's rows are shown; `InputError` for an unknown one, which nobody has described.

        >>> registered_titles().metric("deletion").higher_is_better
        False
        """
        check_choice("metric", name, self.metrics)
        return self.metrics[name]

    def method(self, name: str) -> str:
        """A method's name for people; one without a title is shown as it is, without underscores.

        >>> registered_titles().method("grad_cam"), registered_titles().method("my_method")
        ('Grad-CAM', 'my method')
        """
        return self.methods.get(name, name.replace("_", " "))


def registered_titles() -> Titles:
    """Of all metrics and methods that are known now."""
    shown = {row: one for metric in METRICS.values() for row, one in metric.shown.items()}
    return Titles(shown, dict(TITLES))


def titles_of(store: Store) -> Titles:
    """Of a run: as they were when it was measured; the package's metrics in the package's order, others
    behind."""
    known = registered_titles()
    own = {row: one for metric in store.metrics().values() for row, one in metric.items()}
    return Titles({**known.metrics, **own}, {**known.methods, **store.about().get("titles", {})})
