"""Settings for all tests: array annotations are checked at run time, silent promotions are errors."""

import os
import sys
from pathlib import Path

import jax
import jaxtyping
import pytest

ROOT = Path(__file__).parents[1]
# Tests share plain helper modules (`small`, `references`, `zoo`), which importlib mode leaves off the path.
sys.path.insert(0, str(Path(__file__).parent))
# Imported by the tests that use them, some of which have PyTorch or Equinox and some of which have not.
collect_ignore = ["references", "zoo"]

jaxtyping.install_import_hook("dmbp_jax", "beartype.beartype")

# Tests compile what they test, and leave nothing in the user's cache: here, and in the commands they start.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
jax.config.update("jax_enable_compilation_cache", False)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with photographs and reference numbers beside the repository; CI must have it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        absent = f"{folder}, which this test reads, is absent"
        pytest.fail(absent) if os.environ.get("CI") else pytest.skip(absent)
    return folder


@pytest.fixture
def x64():
    """Compute in float64 for the length of a test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def quick_compiling():
    """Compile without XLA's optimisation passes, which cost more than they gain on small networks."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(autouse=True, scope="module")
def forget_compilations():
    """Free a module's compiled programs behind it: a process that keeps thousands runs out of room."""
    yield
    jax.clear_caches()
