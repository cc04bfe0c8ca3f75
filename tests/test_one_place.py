"""What is JAX's own affair is known in one place: how it writes programs down, and nothing private of it."""

import ast
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from small import tiny_network

import dmbp_jax

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
