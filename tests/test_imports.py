"""What is not used is not imported: a command starts as fast as what it needs."""

import os
import subprocess
import sys

import pytest

HEAVY = {"scipy.stats", "scipy.ndimage", "scipy.optimize", "matplotlib", "flax", "equinox", "huggingface_hub"}
HEAVY |= {"torch", "pandas", "IPython"}
REPORT = ["report", "--help"]
EVALUATION = {"dmbp_jax.evaluation._run", "dmbp_jax.evaluation._report", "dmbp_jax.bench._run"}
COMMAND = """
import sys
from dmbp_jax import cli
sys.argv = ["dmbp-jax", *{arguments!r}]
try:
    cli.main()
finally:
    print("\\n" + " ".join(sys.modules))
"""


def imported(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_the_package_alone():
    modules = imported("import sys, dmbp_jax; print(' '.join(sys.modules))")
    assert "dmbp_jax.dmbp._method" in modules
    assert modules & (HEAVY | EVALUATION | {"rich", "typer"}) == set()


@pytest.mark.parametrize(
    ("arguments", "used"),
    [
        (["explain", "--help"], set()),
        pytest.param(["--no-compilation-cache", "explain", "--help"], set(), marks=pytest.mark.long),
        pytest.param(["weights", "list"], {"huggingface_hub"}, marks=pytest.mark.long),
        (["report", "--help"], {"dmbp_jax.evaluation._report"}),
    ],
)
def test_a_command_imports_what_it_uses(arguments, used):
    modules = imported(COMMAND.format(arguments=arguments))
    assert "dmbp_jax.cli" in modules
    assert modules & (EVALUATION | HEAVY) == used


def test_help_still_lists_every_command():
    done = subprocess.run(
        [sys.executable, "-c", "from dmbp_jax.cli import main; main()", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ("explain", "evaluate", "report", "rows", "bench", "weights"):
        assert name in done.stdout


def test_importing_warns_of_nothing_and_starts_no_device():
    """With a platform that does not exist: whoever asks for a device gets an error."""
    program = "import dmbp_jax, dmbp_jax.cli, dmbp_jax.evaluation, jax; print('imported'); jax.devices()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"JAX_PLATFORMS": "none_of_them"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "imported\n", done.stderr
    assert done.returncode != 0
    assert "none_of_them" in done.stderr
