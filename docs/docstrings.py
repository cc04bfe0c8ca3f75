"""What griffe cannot read from the source: doctests as blocks of code, signatures that a dataclass gives."""

import re
from collections.abc import Iterator
from typing import Any

import griffe

_TAKES = re.compile(r"_takes\((\w+)\)")
_DOCTEST = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)


class FencedDoctests(griffe.Extension):
    """Puts a fence around every paragraph that starts with `>>>`.

    Markdown would take it for a quotation of quotations.
    """

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that has been read."""
        if obj.docstring:
            obj.docstring.value = _DOCTEST.sub(
                lambda found: f"```pycon\n{found[0]}\n```", obj.docstring.value
            )


class FieldsAsParameters(griffe.Extension):
    """Gives a function decorated with `_takes(Dataclass)` the fields of the dataclass as parameters."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called when a package has been read."""
        for function in list(_functions(pkg)):
            for decorator in function.decorators:
                found = _TAKES.fullmatch(str(decorator.value))
                if found is not None and function.parent is not None:
                    kind = function.parent[found[1]]
                    function.parameters = griffe.Parameters(
                        *(parameter for parameter in kind.parameters if parameter.name != "self")
                    )


def _functions(module: griffe.Module) -> Iterator[griffe.Function]:
    for member in module.members.values():
        if isinstance(member, griffe.Module):
            yield from _functions(member)
        elif isinstance(member, griffe.Function):
            yield member
