"""Options that commands share."""

from typing import Annotated, Literal, TypeAlias, get_args

import typer

from dmbp_jax.data.depth import LEAST_DEPTH, MOST_DEPTH
from dmbp_jax.typing import OutputActivation


def read_batch_size(given: str) -> int | Literal["auto"]:
    """`"auto"`, or a number of at least 1.

    >>> read_batch_size("auto"), read_batch_size("8")
    ('auto', 8)
    """
    if given == "auto":
        return "auto"
    if not given.isdecimal() or int(given) < 1:
        raise typer.BadParameter(f"{given!r} is neither auto nor a number of at least 1")
    return int(given)


def read_activation(given: str | None) -> OutputActivation | None:
    """`"softmax"`, `"sigmoid"`, or None.

    >>> read_activation("sigmoid")
    'sigmoid'
    """
    known: tuple[OutputActivation, ...] = get_args(OutputActivation)
    found = next((one for one in known if one == given), None)
    if given is not None and found is None:
        raise typer.BadParameter(f"{given!r} is neither {' nor '.join(known)}")
    return found


def _check_activation(given: str | None) -> str | None:
    read_activation(given)
    return given


def _check(given: str) -> str:
    read_batch_size(given)
    return given


BatchSize: TypeAlias = Annotated[
    str,
    typer.Option(
        "--batch-size",
        callback=_check,
        help="Explained at once: a number, or auto, which is as many as free memory holds and gain by it.",
    ),
]

Depth: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--depth",
        min=LEAST_DEPTH,
        max=MOST_DEPTH,
        help="Bits of the photographs' values where a file does not say so, such as 12 that lie in 16.",
        show_default=False,
    ),
]

Activation: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--activation",
        callback=_check_activation,
        metavar="[softmax|sigmoid]",
        help="What makes probabilities of the network's outputs. Default: what the network says of itself, "
        "else a sigmoid of a single output and a softmax of several.",
        show_default=False,
    ),
]
