"""What a function is: everything that its results depend on, as far as it can be told."""

import collections
import functools
import importlib
import os
import random
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import dmbp_jax
from dmbp_jax.attribution import meta_saliency, noise_tunnel
from dmbp_jax.evaluation._fingerprint import code_of, fingerprint, fingerprint_tree

GRADIENT = dmbp_jax.METHODS["gradient"]


def closing_over(value):
    def metric(predict, image, heatmap, target):
        return value

    return metric


def with_default(value):
    def metric(predict, image, heatmap, target, more=value, *, other=None):
        return more

    return metric


def with_keyword_default(value):
    def metric(predict, image, heatmap, target, *, other=value):
        return other

    return metric


def partial(value):
    return functools.partial(with_default(0), other=value)


def partial_of_library(value):
    return functools.partial(max, value)


def wrapping(value):
    @functools.wraps(GRADIENT)
    def scaled(*args, **options):
        return value, GRADIENT(*args, **options)

    return scaled


def wrapped(value):
    """The wrapper is the same, and what it hides is not."""
    inner = closing_over(value)

    @functools.wraps(inner)
    def outer(*args):
        return args

    return outer


def jitted(value):
    return jax.jit(closing_over(value))


def transformed(value):
    return jax.vmap(jax.checkpoint(closing_over(value)))


def with_derivative(value):
    function = jax.custom_jvp(lambda x: x)
    function.defjvp(lambda primals, tangents: (primals[0], value))
    return function


class Scaled:
    def __init__(self, scale):
        self.scale = scale

    def measure(self, predict, image, heatmap, target):
        return self.scale

    def __call__(self, predict, image, heatmap, target):
        return self.scale


class Slotted:
    __slots__ = ("scale",)

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return x


def with_attribute(value):
    def metric(predict, image, heatmap, target):
        return metric.scale

    metric.scale = value
    return metric


def of_class(**members):
    """An object of a class of the user's own, which has such members and reads them when it is called."""

    class Kind:
        def __call__(self, x):
            return self.member

    for name, member in members.items():
        setattr(Kind, name, member)
    return Kind()


class Descriptor:
    def __init__(self, value):
        self.value = value

    def __get__(self, instance, kind):
        return self.value


def cached(value):
    found = functools.cached_property(lambda self: value)
    found.__set_name__(None, "member")
    return found


def decorated(value):
    @functools.wraps(Scaled.__call__)
    def outer(self, *args):
        return value

    return outer


def named_tuple(value):
    class Pair(NamedTuple):
        first: int

        def __call__(self, x):
            return value

    return Pair(1)


def dictionary(value):
    class Table(dict):
        def __call__(self, x):
            return value

    return Table()


class Equinox(eqx.Module):
    scale: jax.Array

    def __call__(self, x):
        return x


class Linen(linen.Module):
    scale: object

    def __call__(self, x):
        return x


class Nnx(nnx.Module):
    def __init__(self, scale):
        self.scale = nnx.Param(jnp.asarray(scale))

    def __call__(self, x):
        return x


MAKERS = {
    "closure": closing_over,
    "default": with_default,
    "keyword default": with_keyword_default,
    "partial": partial,
    "partial of a library's": partial_of_library,
    "wraps, the wrapper": wrapping,
    "wraps, what it hides": wrapped,
    "jit": jitted,
    "transformations": transformed,
    "custom_jvp": with_derivative,
    "bound method": lambda value: Scaled(value).measure,
    "object": Scaled,
    "slots": Slotted,
    "attribute": with_attribute,
    "class: an array": lambda value: of_class(member=np.full(2, value)),
    "class: a list": lambda value: of_class(member=[value]),
    "class: an object": lambda value: of_class(member=types.SimpleNamespace(a=value)),
    "class: a class": lambda value: of_class(member=type(of_class(inner=value))),
    "class: partialmethod": lambda value: of_class(member=functools.partialmethod(Scaled.measure, value)),
    "class: cached_property": lambda value: of_class(member=cached(value)),
    "class: a descriptor": lambda value: of_class(member=Descriptor(value)),
    "class: a decorator": lambda value: of_class(member=decorated(value)),
    "named tuple": named_tuple,
    "dictionary": dictionary,
    "defaultdict": lambda value: closing_over(collections.defaultdict(lambda: value)),
    "equinox": lambda value: Equinox(jnp.asarray(value)),
    "equinox, gated": lambda value: dmbp_jax.gated(closing_over_network(value)).apply,
    "linen": Linen,
    "nnx": Nnx,
    "in a container": lambda value: closing_over([{"a": (value,)}, types.SimpleNamespace(b={1})]),
    "of a container": lambda value: closing_over(types.SimpleNamespace(b={1, value})),
    "noise_tunnel": lambda value: noise_tunnel(GRADIENT, noise_level=value),
    "meta_saliency": lambda value: meta_saliency(GRADIENT, step_size=value),
    "of another method": lambda value: meta_saliency(noise_tunnel(GRADIENT, noise_level=value)),
}


def closing_over_network(value):
    def network(params, x):
        return value * x.mean((1, 2)) @ params

    return network, jnp.ones((3, 2))


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_function_holds_is_part_of_it(name):
    make = MAKERS[name]
    one, again, other = (code_of(make(value)) for value in (0.5, 0.5, 0.25))
    assert one == again != other
    assert {one.untold, other.untold} == {None}


def test_arrays_count_by_content_kind_and_shape():
    values = [np.zeros(4), np.zeros(4), np.zeros((2, 2)), np.zeros(4, np.float32), np.asarray([0, 0, 0, 1.0])]
    found = [fingerprint(value) for value in values]
    assert found[0] == found[1]
    assert len(set(found)) == 4
    assert fingerprint(jax.random.key(0)) != fingerprint(jax.random.key(1))
    assert fingerprint(np.asarray([1, "a"], object)) != fingerprint(np.asarray([2, "a"], object))
    trees = [{"a": np.ones(2), "b": np.zeros(2)}, {"b": np.ones(2), "a": np.zeros(2)}]
    assert len({fingerprint_tree(tree) for tree in [*trees, {"a": trees[0]}]}) == 3


MODULE = """
import functools
import jax.numpy as jnp
import helpers
SCALE, UNUSED = {scale}, {unused}
TABLE = jnp.asarray([1.0, {table}])
class Kind:
    def run(self, x):
        return x + {kind}
def helper(x):
    return x * {helper}
def metric(predict, image, heatmap, target):
    inner = lambda x: helper(x) + SCALE
    return inner(Kind().run(TABLE)) + helpers.more(1)
"""
HELPERS = "def more(x):\n    return x + {more}\ndef unused(x):\n    return {unused}\n"
SAME = {"scale": 1, "unused": 1, "table": 1, "kind": 1, "helper": 1, "more": 1}
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import module
from dmbp_jax.evaluation._fingerprint import code_of
print(code_of(module.metric).fingerprint, code_of(module.metric).untold)
"""


def in_a_file(folder, monkeypatch, **change):
    """The metric of a module and its helpers in another one, loaded anew."""
    folder.mkdir()
    values = SAME | change
    (folder / "module.py").write_text(MODULE.format(**values))
    (folder / "helpers.py").write_text(HELPERS.format(**values))
    monkeypatch.syspath_prepend(str(folder))
    for name in ("module", "helpers"):
        sys.modules.pop(name, None)
    import module  # type: ignore[import-not-found]

    return code_of(module.metric)


def test_global_variables_and_the_functions_that_are_called_are_part_of_it(tmp_path, monkeypatch):
    first = in_a_file(tmp_path / "first", monkeypatch)
    assert first.untold is None
    assert in_a_file(tmp_path / "unused", monkeypatch, unused=2) == first
    for name in ("scale", "table", "kind", "helper", "more"):
        assert in_a_file(tmp_path / name, monkeypatch, **{name: 2}) != first, name
    found = []
    root = str(Path(dmbp_jax.__file__).parents[1])
    for seed in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "first")],
            env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(done.stdout.split())
    assert found == [[first.fingerprint, "None"]] * 2


IMPORTING = """
import package.within
from package import within as held
class Holding:
    def __init__(self):
        self.module = held
    def __call__(self, *args):
        return self.module.MORE
def imports(*args):
    import package.within
    return package.within.MORE
def takes(*args):
    from package import within
    return within.MORE
def global_module(*args):
    return package.within.MORE
def make(module):
    return lambda *args: module.MORE
closed = make(held)
holding = Holding()
"""


@pytest.mark.parametrize("name", ["imports", "takes", "global_module", "closed", "holding"])
def test_modules_that_a_function_looks_into_are_part_of_it(name, tmp_path, monkeypatch):
    found = []
    for number, more in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        (folder / "package").mkdir(parents=True)
        (folder / "package" / "__init__.py").touch()
        (folder / "package" / "within.py").write_text(f"MORE = {more}\n")
        (folder / "importing.py").write_text(IMPORTING)
        monkeypatch.syspath_prepend(str(folder))
        for module in ("package", "package.within", "importing"):
            sys.modules.pop(module, None)
        found.append(code_of(getattr(importlib.import_module("importing"), name)))
    assert found[0] == found[1] != found[2]
    assert {one.untold for one in found} == {None}


def test_what_cannot_be_told_is_named():
    def numbers():
        yield 1

    drawn = np.random.default_rng(0)
    for thing, said in (
        (closing_over(numbers()), "'value', a generator"),
        (closing_over({"rng": drawn}), "'rng', a Generator"),
        (closing_over(random.Random(0)), "'value', a Random"),
        (functools.partial(closing_over(0), drawn), "a Generator"),
        (Scaled(threading.Lock()).measure, "'scale', a lock"),
    ):
        assert code_of(thing).untold == said


def test_what_leads_back_to_itself_and_two_on_one_line():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    both = [lambda x: x + 1, lambda x: x + 2]
    assert code_of(even).untold is None
    assert code_of(both[0]) != code_of(both[1])
    made = []
    for number in (1, 2):
        space: dict = {}
        exec(textwrap.dedent(f"def typed(x):\n    return x + {number}"), space)
        made.append(code_of(space["typed"]))
    assert made[0] != made[1]
