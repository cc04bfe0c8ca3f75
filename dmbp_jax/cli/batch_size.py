"""The option `--batch-size`, which the commands share."""

from typing import Annotated, Literal, TypeAlias

import typer


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
