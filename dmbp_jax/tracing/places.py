"""Where an operation stands: its named scopes, and the line of the user's source."""

import re
import sysconfig
from pathlib import Path
from typing import Any

import jax
from jax.extend import source_info_util
from jax.extend.core import JaxprEqn

_TRANSFORM = re.compile(r"\w+\((.*)\)$")
_NAME = re.compile(r"[\w.]+")
_OURS = str(Path(__file__).parents[1])
_JAX = str(Path(jax.__file__).parent)
_PYTHON = sysconfig.get_path("stdlib")


def scope_of(eqn: JaxprEqn) -> tuple[str, ...]:
    """The named scopes of an equation, without the transformations among them."""
    names = []
    for part in str(eqn.source_info.name_stack).split("/"):
        name = part
        while (inner := _TRANSFORM.match(name)) is not None:
            name = inner[1]
        # Some functions name their scope by what they do: "ni,oi->no".
        if _NAME.fullmatch(name):
            names.append(name)
    return tuple(names)


def place(eqn: JaxprEqn) -> str | None:
    """`file:line (function)` of an equation; where that is a library's, with the line that called it.

    None if it is not known.
    """
    if not getattr(eqn.source_info.traceback, "frames", ()):
        return None
    deepest = str(source_info_util.summarize(eqn.source_info))
    own = _own_frame(eqn.source_info.traceback)
    if not deepest:
        return own
    return deepest if own is None or own.split(" ")[0] in deepest else f"{deepest}, called at {own}"


def is_own(file: str) -> bool:
    """Whether a source file is neither of an installed library, nor Python's, nor of this package."""
    installed = "site-packages" in file or "dist-packages" in file
    return not (installed or file.startswith((_OURS, _JAX, _PYTHON, "<frozen")))


def _own_frame(traceback: Any) -> str | None:
    for frame in getattr(traceback, "frames", ()):
        if is_own(frame.file_name):
            return f"{frame.file_name}:{frame.line_num} ({frame.function_name})"
    return None
