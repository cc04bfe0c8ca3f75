"""The user's own code by name: a module, a file, or an object in one."""

import functools
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from dmbp_jax._checks import InputError


def load_plugin(name: str) -> ModuleType:
    """Import `package.module` or `file.py`, which registers methods, metrics and more; once per process.

    The code's own errors are passed on. Raises `InputError` if there is no such module or file.

    >>> load_plugin("dmbp_jax.targets").__name__
    'dmbp_jax.targets'
    """
    if not name.endswith(".py"):
        if "" not in sys.path:
            # A command does not have the current folder on its path, as `python` has.
            sys.path.insert(0, "")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and not f"{name}.".startswith(f"{error.name}."):
                raise
            raise InputError(
                f"no module {name!r}: name one that Python can import, or a file that ends in .py"
            ) from None
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(f"no such file: {name}")
    return _load_file(path.resolve())


@functools.cache
def _load_file(path: Path) -> ModuleType:
    # Under a name that shadows no other module; dataclasses find their module by it.
    name = f"dmbp_jax_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def names_object(name: str) -> bool:
    """Whether `name` is one for `load_object`: `package.module:thing` or `file.py:thing`.

    >>> names_object("my.networks:resnet"), names_object("squeezenet1_1")
    (True, False)
    """
    module, colon, thing = name.rpartition(":")
    return bool(module and colon and thing.isidentifier())


def load_object(name: str) -> Any:
    """The `thing` of `package.module:thing` or `file.py:thing`; raises `InputError` if there is none.

    >>> load_object("dmbp_jax.targets:contrast").__name__
    'contrast'
    """
    module, _, thing = name.rpartition(":")
    loaded = load_plugin(module)
    if not hasattr(loaded, thing):
        raise InputError(f"{module} has no {thing!r}")
    return getattr(loaded, thing)
