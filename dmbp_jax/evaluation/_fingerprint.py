"""Fingerprints of functions: a run is resumed only with the same methods, metrics and network."""

import contextlib
import dataclasses
import dis
import enum
import functools
import hashlib
import importlib
import importlib.util
import inspect
import logging
import re
import struct
import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

from dmbp_jax._checks import kind_of
from dmbp_jax._gated.program import is_own

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...))
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_HEAP_TYPE = 1 << 9
"""CPython's flag of a class that may be written in Python."""


class Code(NamedTuple):
    """The fingerprint of a function, and its first unreadable part."""

    fingerprint: str
    """Empty for a function of this package without a closure, whose version is recorded instead."""
    untold: str | None = None
    """An object that it uses and that a later run could not compare; None if all can be compared."""


def code_of(function: Callable[..., Any]) -> Code:
    """A fingerprint of a function, a `functools.partial`, a bound method or an object that can be called.

    It covers the source, closure, defaults, the arguments of a partial, the function behind
    `functools.wraps`, the object of a bound method, attributes of a class or of the function, the global
    variables that it reads, the user's modules that it imports, and recursively the user's functions and
    classes that it uses. Arrays count by their content, objects of installed libraries by their name. It does
    not cover computed names (`getattr`, `importlib`), files, the environment, and methods of objects that are
    passed in.

    >>> def make(scale, table=np.ones(2)):
    ...     return lambda x: scale * x + table
    >>> code_of(code_of), len(code_of(make(1.0)).fingerprint)
    (Code(fingerprint='', untold=None), 16)
    >>> code_of(make(1.0)) == code_of(make(1.0)), code_of(make(1.0)) == code_of(make(2.0))
    (True, False)
    >>> code_of(functools.partial(max, iter([]))).untold
    'a list_iterator'
    """
    if _is_named(function) and str(function.__module__).partition(".")[0] == "dmbp_jax":
        return Code("")
    reader = _Reader()
    found = reader.digest(function, "").hex()[:16]
    return Code(found, reader.untold)


def fingerprint(thing: Any) -> str:
    """The fingerprint of an object that is no function: arrays by their content, containers, dataclasses.

    >>> fingerprint([1, np.zeros(3)]) == fingerprint([1, np.zeros(3)]) != fingerprint([1, np.zeros((3, 1))])
    True
    """
    return _Reader().digest(thing, "").hex()[:16]


def fingerprint_tree(tree: Any) -> str:
    """The fingerprint of a tree's arrays and their paths, whatever the containers' types.

    >>> fingerprint_tree({"a": 1.0}) == fingerprint_tree({"b": 1.0})
    False
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return fingerprint([(jax.tree_util.keystr(path), leaf) for path, leaf in leaves])


class _Reader:
    """Reads an object and its parts; `untold` is the first part that cannot be read."""

    def __init__(self) -> None:
        self.untold: str | None = None
        self._known: dict[int, bytes] = {}
        self._kept: list[Any] = []

    def digest(self, thing: Any, where: str) -> bytes:
        """`where` is the object's name in the source, for a message."""
        if type(thing) in _PLAIN:
            return _hash([type(thing).__name__, repr(thing)])
        if id(thing) not in self._known:
            # For reference cycles; the object is kept alive, so that its id is not reused.
            self._known[id(thing)] = b"itself"
            self._kept.append(thing)
            self._known[id(thing)] = _hash(self._parts(thing, where))
        return self._known[id(thing)]

    def _parts(self, thing: Any, where: str) -> Iterator[str | bytes]:
        yield type(thing).__qualname__
        read = _reader_of(thing)
        if read is not None:
            yield from read(self, thing, where)
        elif self.untold is None:
            self.untold = f"{where!r}, {kind_of(thing)}" if where else kind_of(thing)

    def array(self, thing: Any, where: str) -> Iterator[str | bytes]:
        if isinstance(thing, jax.Array) and jnp.issubdtype(thing.dtype, jax.dtypes.prng_key):
            yield str(thing.dtype)
            thing = jax.random.key_data(thing)
        array = np.asarray(thing)
        yield f"{array.dtype} {array.shape}"
        if array.dtype == object:
            yield self.digest(array.ravel().tolist(), where)
        else:
            yield array.tobytes()

    def sequence(self, thing: Any, where: str) -> Iterator[bytes]:
        yield from self._of_kind(thing, where)
        for one in thing:
            yield self.digest(one, where)

    def unordered(self, thing: Any, where: str) -> Iterator[bytes]:
        yield from sorted(self.digest(one, where) for one in thing)

    def mapping(self, thing: Mapping[Any, Any], where: str) -> Iterator[bytes]:
        yield from self._of_kind(thing, where)
        yield self.digest(getattr(thing, "default_factory", None), where)
        yield from sorted(
            self.digest(key, where) + self.digest(value, key if isinstance(key, str) else where)
            for key, value in thing.items()
        )

    def _of_kind(self, thing: Any, where: str) -> Iterator[bytes]:
        """The attributes of a user's container type besides its items."""
        if type(thing).__flags__ & _HEAP_TYPE:
            yield self.digest(type(thing), where)
            yield self.digest(getattr(thing, "__dict__", None), where)

    def by_name(self, thing: Any, _: str) -> Iterator[str]:
        yield f"{getattr(thing, '__module__', '')}.{_qualified(thing)}"

    def by_text(self, thing: Any, _: str) -> Iterator[str]:
        yield _ADDRESS.sub("", repr(thing))

    def structure(self, thing: Any, where: str) -> Iterator[str | bytes]:
        """A tree structure of JAX or flax, without its arrays."""
        yield from self.by_text(thing, where)
        for kind in _kinds_within(thing):
            yield self.digest(kind, where)

    def builtin(self, thing: Any, where: str) -> Iterator[str | bytes]:
        yield from self.by_name(thing, where)
        owner = getattr(thing, "__self__", None)
        if not isinstance(owner, types.ModuleType):
            yield self.digest(owner, where)

    def partial(self, thing: Any, where: str) -> Iterator[bytes]:
        for part in (thing.func, thing.args, thing.keywords):
            yield self.digest(part, where)

    def method(self, thing: Any, where: str) -> Iterator[bytes]:
        yield self.digest(thing.__func__, where)
        yield self.digest(thing.__self__, where)

    def of_class(self, thing: Any, where: str) -> Iterator[bytes]:
        """A `staticmethod`, a `classmethod`, a `property`, a `functools.cached_property`."""
        for name in ("__func__", "fget", "func"):
            yield self.digest(getattr(thing, name, None), where)

    def wrapper(self, thing: Any, where: str) -> Iterator[bytes]:
        yield self.digest(thing.__wrapped__, where)

    def function(self, thing: Any, where: str) -> Iterator[str | bytes]:
        code = thing.__code__
        if is_own(code.co_filename):
            yield from self._source(thing)
            yield from self._globals(thing)
            yield from self._attributes(thing)
        else:
            yield f"{thing.__module__}.{code.co_qualname}"
        for name, cell in zip(code.co_freevars, thing.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:
                # The variable is assigned later.
                continue
            yield name
            yield from self._used(value, name, thing.__code__)
        yield self.digest(thing.__defaults__, where)
        yield self.digest(thing.__kwdefaults__, where)
        yield self.digest(getattr(thing, "__wrapped__", None), where)

    def _source(self, thing: Any) -> Iterator[str | bytes]:
        try:
            yield inspect.getsource(thing)
        except (OSError, TypeError, IndexError, SyntaxError):
            # Typed at a prompt, or made by `exec`.
            yield from _instructions(thing.__code__)
        if thing.__name__ == "<lambda>" or thing.__code__.co_filename.startswith("<"):
            # A line may define several functions, and Python 3.13 gives the program of `python -c` as the
            # source of functions made by `exec`.
            yield from _instructions(thing.__code__)

    def _globals(self, thing: Any) -> Iterator[str | bytes]:
        # Modules that it imports itself are treated as global variables.
        imported = {module.__name__: module for module in _imported(thing)}
        read = _names_read(thing.__code__) & thing.__globals__.keys()
        for name, value in sorted((imported | {name: thing.__globals__[name] for name in read}).items()):
            yield name
            yield from self._used(value, name, thing.__code__)

    def _used(self, value: Any, where: str, code: types.CodeType) -> Iterator[str | bytes]:
        """The value of a name in code; for a user's module, the attributes that the code may look up."""
        if _is_module_of_user(value):
            names = sorted({name for inner in _codes(code) for name in inner.co_names})
            yield from self._within(value, where, names, {value.__name__})
        else:
            yield self.digest(value, where)

    def _within(self, module: Any, where: str, names: list[str], seen: set[str]) -> Iterator[str | bytes]:
        yield module.__name__
        for name in names:
            value = getattr(module, name, None)
            if not _is_module_of_user(value):
                yield self.digest(value, f"{where}.{name}")
            elif value.__name__ not in seen:
                seen.add(value.__name__)
                yield from self._within(value, f"{where}.{name}", names, seen)

    def module(self, thing: Any, _: str) -> Iterator[str]:
        """A module held by an object: the attributes in use are unknown."""
        yield thing.__name__
        if _is_module_of_user(thing) and thing.__name__ != "__main__":
            with contextlib.suppress(OSError, TypeError):
                yield inspect.getsource(thing)

    def kind(self, thing: type, where: str) -> Iterator[str | bytes]:
        yield thing.__qualname__
        if not _is_own_module(sys.modules.get(thing.__module__)):
            yield thing.__module__
            return
        for base in thing.__bases__:
            yield self.digest(base, where)
        yield from self._attributes(thing)

    def _attributes(self, thing: Any) -> Iterator[str | bytes]:
        """The attributes of a class or a function, without those that Python adds, such as line numbers."""
        for name, value in sorted(vars(thing).items()):
            is_special = name.startswith("__") or name == "_abc_impl"
            if not is_special or (name != "__wrapped__" and (callable(value) or hasattr(value, "__get__"))):
                yield name
                yield self.digest(value, name)

    def fields(self, thing: Any, where: str) -> Iterator[bytes]:
        yield self.digest(type(thing), where)
        for field in dataclasses.fields(thing):
            yield self.digest(getattr(thing, field.name, None), field.name)

    def state(self, thing: Any, where: str) -> Iterator[bytes]:
        yield self.digest(type(thing), where)
        yield self.digest(getattr(thing, "__dict__", None), where)
        for kind in type(thing).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__"):
                    yield self.digest(getattr(thing, name, None), name)

    def nnx(self, thing: Any, where: str) -> Iterator[str | bytes]:
        from flax import nnx

        structure, state = nnx.split(thing)
        yield self.digest(type(thing), where)
        yield self.digest(structure, where)
        yield fingerprint_tree(state)


_READERS: tuple[tuple[tuple[type, ...], Callable[..., Iterator[str | bytes]] | None], ...] = (
    ((jax.core.Tracer,), None),
    ((jax.Array, np.ndarray, np.generic), _Reader.array),
    ((type,), _Reader.kind),
    ((enum.Enum, PurePath, re.Pattern, range, slice, np.dtype, logging.Logger), _Reader.by_text),
    ((types.ModuleType,), _Reader.module),
    ((types.CodeType,), lambda _, thing, __: _instructions(thing)),
    ((functools.partial, functools.partialmethod), _Reader.partial),
    ((staticmethod, classmethod, property, functools.cached_property), _Reader.of_class),
    ((types.SimpleNamespace,), _Reader.state),
    ((weakref.ReferenceType,), lambda self, thing, where: iter([self.digest(thing(), where)])),
    ((types.MethodType,), _Reader.method),
    ((types.FunctionType,), _Reader.function),
    ((np.ufunc,), _Reader.by_name),
    ((types.BuiltinFunctionType, types.MethodWrapperType), _Reader.builtin),
    ((types.MethodDescriptorType, types.WrapperDescriptorType), _Reader.by_name),
    ((types.GetSetDescriptorType, types.MemberDescriptorType), _Reader.by_name),
    ((type(Code.__dict__["untold"]),), _Reader.by_text),
    ((jax.tree_util.PyTreeDef,), _Reader.structure),
)


def _reader_of(thing: Any) -> Callable[..., Iterator[str | bytes]] | None:
    """The reader of an object; None if it cannot be read."""
    if _is_named(thing) and not isinstance(thing, type):
        return _Reader.by_name
    for kinds, read in _READERS:
        if isinstance(thing, kinds):
            return read
    if type(thing) in (list, tuple, deque) or (isinstance(thing, tuple) and hasattr(thing, "_fields")):
        return _Reader.sequence
    if type(thing) in (set, frozenset):
        return _Reader.unordered
    if isinstance(thing, Mapping):
        return _Reader.mapping
    return _reader_of_object(thing)


def _reader_of_object(thing: Any) -> Callable[..., Iterator[str | bytes]] | None:
    flax = sys.modules.get("flax.nnx")
    if flax is not None and isinstance(thing, flax.Module):
        return _Reader.nnx
    if flax is not None and isinstance(thing, flax.GraphDef):
        return _Reader.structure
    if dataclasses.is_dataclass(thing):
        return _Reader.fields
    if isinstance(thing, jax.stages.Wrapped) or type(thing).__module__ == "functools":
        return _Reader.wrapper if hasattr(thing, "__wrapped__") else None
    if isinstance(thing, types.GenericAlias | types.UnionType) or type(thing).__module__ == "typing":
        return _Reader.by_text
    # Objects not written in Python may have hidden state; a plain `object()` has none.
    is_python = all(map(_is_python, type(thing).__mro__[:-1]))
    shows = hasattr(thing, "__dict__") or hasattr(thing, "__slots__") or type(thing) is object
    return _Reader.state if is_python and shows else None


def _is_python(kind: type) -> bool:
    """Whether a class is written in Python: its objects have only slots, `__dict__` and weak references."""
    slots = vars(kind).get("__slots__", ())
    count = 2 + (1 if isinstance(slots, str) else len(slots))
    room = kind.__basicsize__ - (kind.__base__ or object).__basicsize__
    return bool(kind.__flags__ & _HEAP_TYPE) and room <= count * struct.calcsize("P")


def _kinds_within(structure: Any) -> Iterator[type]:
    """The classes of the nodes of a tree."""
    if isinstance(structure, jax.tree_util.PyTreeDef):
        data = structure.node_data()
        if data is not None:
            yield data[0]
        for child in structure.children():
            yield from _kinds_within(child)
        return
    for node in getattr(structure, "nodes", ()):
        kind = getattr(node, "type", None)
        if isinstance(kind, type):
            yield kind


def _is_named(thing: Any) -> bool:
    """Whether it is a module-level name of an installed library or of this package."""
    module = sys.modules.get(str(getattr(thing, "__module__", None)))
    found: Any = module
    for part in _qualified(thing).split("."):
        found = getattr(found, part, None)
    return found is thing and module is not None and not _is_own_module(module)


def _qualified(thing: Any) -> str:
    return str(getattr(thing, "__qualname__", None) or getattr(thing, "__name__", ""))


def _is_own_module(module: Any) -> bool:
    """Whether a module is the user's; a module without a file is if it is `__main__`."""
    if module is None or module.__name__ == "__main__":
        return True
    file = getattr(module, "__file__", None)
    return file is not None and is_own(file)


def _is_module_of_user(thing: Any) -> TypeGuard[types.ModuleType]:
    return isinstance(thing, types.ModuleType) and _is_own_module(thing)


def _imported(function: types.FunctionType) -> Iterator[types.ModuleType]:
    """The user's modules that a function imports when it runs, also submodules of a package."""
    package = function.__globals__.get("__package__")
    for code in _codes(function.__code__):
        level = 0
        taken: tuple[Any, ...] = ()
        for one in dis.get_instructions(code):
            if one.opname == "IMPORT_NAME":
                name = "." * level + one.argval
                within = f"{name}." if one.argval else name
                for module in (name, *(within + part for part in taken)):
                    # An import that fails here fails in the function too.
                    with contextlib.suppress(Exception):
                        known = importlib.util.resolve_name(module, package)
                        spec = importlib.util.find_spec(known.partition(".")[0])
                        if spec is not None and (spec.origin is None or is_own(spec.origin)):
                            yield importlib.import_module(known)
            elif isinstance(one.argval, int):
                level = one.argval
            else:
                taken = one.argval if isinstance(one.argval, tuple) else ()


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code, and that of the functions within."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _names_read(code: types.CodeType) -> set[str]:
    """The names of global variables that are read."""
    return {
        one.argval
        for inner in _codes(code)
        for one in dis.get_instructions(inner)
        if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }


def _instructions(code: types.CodeType) -> Iterator[str | bytes]:
    for inner in _codes(code):
        yield inner.co_code
        yield repr((inner.co_names, inner.co_varnames, inner.co_freevars))
        constants = [one for one in inner.co_consts if not isinstance(one, types.CodeType)]
        yield repr([sorted(map(repr, one)) if isinstance(one, frozenset) else one for one in constants])


def _hash(parts: Any) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))
        digest.update(data)
    return digest.digest()
