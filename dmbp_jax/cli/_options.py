"""Options that commands share, and the compilation cache."""

import dataclasses
import functools
import inspect
import operator
import os
import re
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Set
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import jax
import typer

import dmbp_jax
from dmbp_jax._checks import InputError
from dmbp_jax._ranges import Whole, whole_of
from dmbp_jax.images._depth import LEAST_DEPTH, MOST_DEPTH
from dmbp_jax.models import cache_folder
from dmbp_jax.typing import OutputActivation

T = TypeVar("T")

# Compiled programs are cached on disk, so that the command's second run need not compile them again.

FOLDER = "compiled"
MOST_BYTES = 2 * 1024**3
"""The cache's size in bytes; beyond it the least recently used programs are deleted."""


def use_compilation_cache() -> None:
    """Switch on JAX's persistent compilation cache, in `compiled` of the package's cache folder.

    The user's settings of JAX have priority: another folder in `JAX_COMPILATION_CACHE_DIR`, none with
    `JAX_ENABLE_COMPILATION_CACHE=false`. A folder that cannot be written causes one line of warning.
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return
    # A command compiles dozens of small programs, which together take longer than the large one.
    _set("jax_persistent_cache_min_compile_time_secs", 0.0)
    # Errors of the cache's files would print a line for each program, of no use to the user.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    folder = cache_folder() / FOLDER
    try:
        # Anyone who can write into this folder can run code as the user.
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

_ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)


def meanings(function: Callable[..., Any]) -> dict[str, str]:
    """What the arguments of a function mean, by its docstring, as help for the command.

    >>> meanings(dmbp_jax.evaluate)["limit"]
    'Evaluate a random subset of so many images.'
    """
    found = {}
    arguments = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    for name, text in _ARGUMENT.findall(arguments):
        plain = re.sub(r'`"([^"`]*)"`', r"\1", " ".join(text.split()))
        # A value of the option, such as fast, is written as it is given.
        found[name] = plain if text.startswith("`") else plain[:1].upper() + plain[1:]
    return found


def options_of(
    kind: type, function: Callable[..., Any], *, but: Set[str], before: str
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """A decorator for a command that takes the fields of a dataclass as options, in its `**options`.

    Each has the name, the type and the default of its field, and `function` says what it means. A
    field that the command has as a parameter of its own keeps that.

    Args:
        kind: the dataclass.
        function: takes the same options.
        but: fields that are no options of the command.
        before: the command's own parameter before which they stand in its help.
    """
    says = meanings(function)

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        own = [one for one in inspect.signature(command).parameters.values() if one.name != "options"]
        names = {one.name for one in own}
        fields = [one for one in dataclasses.fields(kind) if one.name not in names | but]
        more = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=_as_option(field.name, field.type, says.get(field.name)),
            )
            for field in fields
        ]
        at = next(place for place, one in enumerate(own) if one.name == before)
        parameters = [*own[:at], *more, *own[at:]]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def _as_option(name: str, annotation: Any, says: str | None) -> Any:
    """The annotation of a field as typer takes it; its range is shown here, and checked where Python's is."""
    flag = f"--{name.replace('_', '-')}"
    return Annotated[_plain(annotation), typer.Option(flag, help=says, metavar=_range(whole_of(annotation)))]


def _range(whole: Whole | None) -> str | None:
    """As typer shows a range of its own.

    >>> _range(Whole(1)), _range(Whole(8, 32))
    ('<int range> [x>=1]', '<int range> [8<=x<=32]')
    """
    if whole is None or whole.least is None:
        return None
    if whole.most is None:
        return f"<int range> [x>={whole.least}]"
    return f"<int range> [{whole.least}<=x<={whole.most}]"


def _plain(annotation: Any) -> Any:
    """A type without what is annotated of it."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return functools.reduce(operator.or_, map(_plain, get_args(annotation)))
    return annotation


def split_names(what: str, *given: str) -> tuple[str, ...]:
    """Names that are separated by commas, each once; `InputError` that names `what` where there is none.

    >>> split_names("methods", "dmbp, rise", "rise")
    ('dmbp', 'rise')
    """
    names = [name.strip() for one in given for name in one.split(",") if name.strip()]
    if not names:
        raise InputError(f"{what} names nothing; give one or several, separated by commas")
    return tuple(dict.fromkeys(names))


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


_SAYS = meanings(dmbp_jax.evaluate)

Network: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        help="The network: a name, or package.module:factory or file.py:factory, which returns a Model of "
        "your own.",
    ),
]

Weights: TypeAlias = Annotated[str | None, typer.Option("--weights", help=_SAYS.get("weights"))]

BatchSize: TypeAlias = Annotated[
    str,
    typer.Option(
        "--batch-size",
        callback=_check,
        help="Images explained at once: a number, or auto, the largest useful one that fits into memory.",
    ),
]

Depth: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--depth",
        min=LEAST_DEPTH,
        max=MOST_DEPTH,
        help=_SAYS.get("depth"),
        show_default=False,
    ),
]

Activation: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--activation",
        callback=_check_activation,
        metavar="[softmax|sigmoid]",
        help="The output activation, which gives probabilities. Default: the network's own, "
        "otherwise a sigmoid of a single output and a softmax of several.",
        show_default=False,
    ),
]
