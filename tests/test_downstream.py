"""Programs of users of the package: they name all that is public, they run, and they pass `mypy --strict`."""

import ast
import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from registered import forgetting

import dmbp_jax

PROGRAMS = sorted((Path(__file__).parent / "downstream").glob("*.py"))
PACKAGES = (
    *("dmbp_jax", "dmbp_jax.attribution", "dmbp_jax.bench", "dmbp_jax.dmbp", "dmbp_jax.images"),
    "dmbp_jax.metrics",
    *("dmbp_jax.models", "dmbp_jax.ops", "dmbp_jax.plot", "dmbp_jax.result", "dmbp_jax.rules"),
    *("dmbp_jax.targets", "dmbp_jax.typing"),
)


def exported(package: str) -> set[str]:
    """The names in a package's `__all__`."""
    return set(getattr(importlib.import_module(package), "__all__", ()))


def used(program: Path) -> set[str]:
    """The dotted names of the package that a program refers to, behind its imports."""
    tree = ast.parse(program.read_text("utf-8"))
    meant: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            meant |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            meant |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    names = {meant.get(node.id, "") for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {
        f"{meant.get(node.value.id, '')}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    return names | attributes


def test_users_use_every_public_name():
    assert len(PROGRAMS) == 2
    found = set().union(*map(used, PROGRAMS))
    public = {f"{package}.{name}" for package in PACKAGES for name in exported(package)}
    assert len(public) > 100
    assert not public - found


def test_every_package_that_hands_on_names_is_among_them():
    """What is not for users starts with an underscore; commands and `evaluation` export nothing."""
    folder = Path(dmbp_jax.__file__).parent
    packages = {"dmbp_jax", *(f"dmbp_jax.{init.parent.name}" for init in folder.glob("*/__init__.py"))}
    packages |= {f"dmbp_jax.{module.stem}" for module in folder.glob("*.py")} - {"dmbp_jax.__init__"}
    shown = {package for package in packages if "._" not in package}
    assert {package for package in shown if exported(package)} == set(PACKAGES)
    assert shown - set(PACKAGES) == {*("dmbp_jax.cli", "dmbp_jax.evaluation")}


def test_every_module_of_a_public_folder_starts_with_an_underscore():
    folder = Path(dmbp_jax.__file__).parent
    modules = [module.relative_to(folder).parts for module in folder.glob("*/**/*.py")]
    shown = [parts for parts in modules if not any(part.startswith("_") for part in parts)]
    assert shown == []


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_users_programs_run(program):
    with forgetting():
        runpy.run_path(str(program), run_name="__main__")


@pytest.mark.long
def test_users_programs_pass_mypy(tmp_path):
    """Strictly, with no configuration, against the installed package; run elsewhere than in the checkout."""
    assert (Path(dmbp_jax.__file__).parent / "py.typed").is_file()
    environment = {name: value for name, value in os.environ.items() if name != "MYPYPATH"}
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path)]
    result = subprocess.run(
        [*command, *map(str, PROGRAMS)],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
