"""What is said and done in one place: JAX's programs, checks of ranges, options of an evaluation."""

import ast
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from small import tiny_network

import dmbp_jax
from dmbp_jax.cli._options import meanings

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("dmbp_jax", "tests", "notebooks") for path in (ROOT / folder).rglob("*.py")]
EQUATIONS = ROOT / "dmbp_jax" / "ops" / "_equations.py"


def reads_parameters(path):
    """The lines that read a parameter of an equation by name: `eqn.params["..."]`, or `.get("...")`."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Subscript):
            read, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            read, key = node.func.value, node.args[0]
        else:
            continue
        owner = getattr(read, "value", None)
        is_params = isinstance(read, ast.Attribute) and read.attr == "params"
        if is_params and getattr(owner, "id", "") not in ("self", "model") and isinstance(key, ast.Constant):
            lines.append(node.lineno)
    return lines


def test_equations_are_read_in_one_file():
    assert [path for path in SOURCES if reads_parameters(path)] == [EQUATIONS]


def test_nothing_private_of_jax_is_used():
    private = "jax." + "_src"
    assert [path.name for path in SOURCES if private in path.read_text("utf-8")] == []


@pytest.mark.parametrize("study", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_a_study_imports_what_is_public(study):
    imports = [
        node for node in ast.walk(ast.parse(study.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)
    ]
    names = [f"{node.module}.{one.name}" for node in imports for one in node.names]
    assert [name for name in names if name.startswith("dmbp_jax") and "._" in name] == []


def raised_in(path):
    """The text of each `raise InputError("...")` of a file, values as braces."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            parts = getattr(node.exc.args[0], "values", [node.exc.args[0]])
            yield "".join(
                str(getattr(part, "value", "")) if isinstance(part, ast.Constant) else "{}" for part in parts
            )


def test_ranges_are_checked_in_one_file():
    """What a number must be is said by `check_whole` and `check_range`, in the same words everywhere."""
    of_ranges = re.compile(
        r"must (not )?be (at least|from|between|above|positive|negative|a whole number|in [(\[])"
    )
    files = [path for path in SOURCES if ROOT / "dmbp_jax" in path.parents]
    assert {path.name for path in files if any(map(of_ranges.search, raised_in(path)))} == {"_ranges.py"}


def named_in(path):
    """The names of parameters, fields and keyword arguments of a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.arg | ast.keyword):
            yield node.arg
        elif isinstance(node, ast.AnnAssign):
            yield getattr(node.target, "id", "")


@pytest.mark.parametrize("option", ["gallery", "per_class", "grid", "keep_maps", "split"])
def test_an_option_of_an_evaluation_is_declared_once(option):
    """In `Evaluation`: `evaluate` and the command have their names, types and defaults from there."""
    files = [*(ROOT / "dmbp_jax" / "cli").glob("*.py"), ROOT / "dmbp_jax" / "evaluation" / "_evaluate.py"]
    assert sum(name == option for path in files for name in named_in(path)) == 1


def test_evaluate_says_what_each_of_its_options_means():
    parameters = inspect.signature(dmbp_jax.evaluate).parameters
    assert list(meanings(dmbp_jax.evaluate)) == list(parameters)
    assert parameters["grid"].default == 2
    assert parameters["grid"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("stepwise", [False, True])
def test_a_network_is_traced_three_times_for_a_compilation(stepwise):
    """The plain pass, the forward pass and the pass both ways; and once to look at its logits."""
    apply, params, images = tiny_network()
    traced = []

    def counting(params, images, **rule):
        traced.append(1)
        return apply(params, images, **rule)

    options = {"on_step": lambda *_: None} if stepwise else {}
    for _ in range(2):
        dmbp_jax.explain(counting, params, images, [1, 2, 3], steps=2, **options)
    assert len(traced) == 4


def test_one_photograph_asks_for_no_memory(monkeypatch):
    from dmbp_jax._calls import call

    monkeypatch.setattr(call, "program_bytes", lambda *_: pytest.fail("asked"))
    apply, params, images = tiny_network()
    a = dmbp_jax.explain(apply, params, images[:1], [1], "gradient", batch_size="auto")
    assert jnp.all(jnp.isfinite(a.values))
    assert jax.tree.leaves(a)
