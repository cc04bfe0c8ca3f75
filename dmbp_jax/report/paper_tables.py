"""The figures that the paper publishes, under this package's names."""

import functools
import importlib.resources
import tomllib
from typing import NamedTuple

SETUPS: dict[str, tuple[str, str]] = {
    "voc_vgg16": ("voc2012", "vgg16_caffe"),
    "voc_resnet50": ("voc2012", "resnet50_caffe"),
    "imagenet_vgg16": ("imagenet", "vgg16"),
    "imagenet_resnet50": ("imagenet", "resnet50"),
}
"""The paper's four pairs of data and network: our dataset kind and architecture."""

SETUP_TITLES: dict[str, str] = {
    "voc_vgg16": "VOC\u00a02012 VGG\u201116",
    "voc_resnet50": "VOC\u00a02012 ResNet\u201150",
    "imagenet_vgg16": "ImageNet VGG\u201116",
    "imagenet_resnet50": "ImageNet ResNet\u201150",
}
"""Two lines each in a narrow column: other spaces and hyphens do not break."""

METHOD_NAMES: dict[str, str] = {"dmbp_all": "dmbp", "nd": "gradient_x_input"}
"""Where the paper's name is not ours."""


class Published(NamedTuple):
    """One published number."""

    table: int
    setup: str
    """A key of `SETUPS`, or `average`: Table 2's mean of its six rows."""
    metric: str
    """`im`, `cim` or `sanity`; for the average `average`."""
    method: str
    value: float


@functools.cache
def published() -> tuple[Published, ...]:
    """Every published number of Tables 1 to 3, in the paper's order.

    Source: Ruiz, Agudo, Moreno-Noguer, ICCV 2021.

    >>> next(p for p in published() if p.table == 2 and p.setup == "imagenet_resnet50" and p.method == "dmbp")
    Published(table=2, setup='imagenet_resnet50', metric='im', method='dmbp', value=0.56)
    """
    text = importlib.resources.files("dmbp_jax.report").joinpath("paper_tables.toml").read_text("utf-8")
    numbers = []
    for name, table in tomllib.loads(text).items():
        columns = table.pop("columns")
        for row, values in table.items():
            for column, value in zip(columns, values, strict=True):
                if name == "table3":  # its rows are methods
                    setup, metric, method = column, "sanity", row
                elif row == "average":
                    setup, metric, method = row, row, column
                else:
                    (setup, _, metric), method = row.rpartition("_"), column
                number = int(name.removeprefix("table"))
                numbers.append(Published(number, setup, metric, METHOD_NAMES.get(method, method), value))
    return tuple(numbers)


def published_setup(dataset: str, architecture: str) -> str | None:
    """The paper's setup with that dataset kind and architecture, if it has one.

    >>> published_setup("voc2012", "vgg16_caffe"), published_setup("folder", "squeezenet1_1")
    ('voc_vgg16', None)
    """
    return next((setup for setup, pair in SETUPS.items() if pair == (dataset, architecture)), None)


def published_columns(table: int, metric: str) -> dict[str, dict[str, float]]:
    """A table's numbers for a metric: by setup, then by method.

    >>> published_columns(3, "sanity")["voc_vgg16"]
    {'guided_backprop': 0.99, 'guided_grad_cam': 0.25, 'dmbp': 0.02}
    """
    columns: dict[str, dict[str, float]] = {}
    for one in published():
        if (one.table, one.metric) == (table, metric):
            columns.setdefault(one.setup, {})[one.method] = one.value
    return columns
