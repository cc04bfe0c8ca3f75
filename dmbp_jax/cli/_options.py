"""Options that commands share, and the compilation cache."""

import os
import sys
import tempfile
import warnings
from typing import Annotated, Literal, TypeAlias, get_args

import jax
import typer

from dmbp_jax.images._depth import LEAST_DEPTH, MOST_DEPTH
from dmbp_jax.models import cache_folder
from dmbp_jax.typing import OutputActivation

# Compiled programs are kept on disk: the command's second run need not compile what its first did.

FOLDER = "compiled"
MOST_BYTES = 2 * 1024**3
"""Beyond that the programs that were not used for longest make room."""


def use_compilation_cache() -> None:
    """Switch on JAX's persistent compilation cache, in `compiled` of the package's cache folder.

    What the user has set of JAX's own goes before: another folder in `JAX_COMPILATION_CACHE_DIR`, none with
    `JAX_ENABLE_COMPILATION_CACHE=false`. A folder that cannot be written costs one line of warning.
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return
    # One command compiles dozens of small programs, which together take longer than the large one.
    _set("jax_persistent_cache_min_compile_time_secs", 0.0)
    # What goes wrong with a file of the cache is a line for each program, and none of the user's concern.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    folder = cache_folder() / FOLDER
    try:
        # Whoever writes here can run code as the user.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        print(
            f"warning: compiled programs are not kept, {folder} cannot be written: "
            f"{error.strerror or error}; DMBP_JAX_CACHE names another folder",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    _set("jax_compilation_cache_max_size", MOST_BYTES)


def forget_compilation_cache() -> None:
    """Neither read nor write compiled programs, whatever JAX's own variables say."""
    jax.config.update("jax_enable_compilation_cache", False)


def _set(option: str, value: float) -> None:
    """Set an option of JAX, unless the user has."""
    if option.upper() not in os.environ:
        jax.config.update(option, value)


# Options that commands share.


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
