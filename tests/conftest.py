"""Settings for all tests: silent promotions are errors, annotations are checked where asked for."""

import gc
import os
import sys
import tempfile
from pathlib import Path

import jax
import jaxtyping
import pytest

ROOT = Path(__file__).parents[1]
# Tests share plain helper modules (`small`, `references`, `zoo`), which importlib mode leaves off the path.
sys.path.insert(0, str(Path(__file__).parent))
# Imported by the tests that use them, some of which have PyTorch or Equinox and some of which have not.
collect_ignore = ["references", "zoo"]

# Checks every call's arguments and result, which takes a fifth of the time: `.ci/run` does under Python 3.11.
if os.environ.get("DMBP_JAX_TEST_ANNOTATIONS"):
    jaxtyping.install_import_hook("dmbp_jax", "beartype.beartype")

# Tracing makes many objects that live as long as a program: looking through them all so often takes a tenth.
gc.set_threshold(100_000, 50, 50)

# A compilation cache for this session alone: workers and the commands that tests start inherit it, and fetch
# what another has compiled. Nothing is left in the user's own. `.ci/run` has one for all of its sessions.
if "PYTEST_XDIST_WORKER" not in os.environ:
    if "DMBP_JAX_TEST_CACHE" in os.environ:
        _folder = os.environ["DMBP_JAX_TEST_CACHE"]
    else:
        _cache = tempfile.TemporaryDirectory(prefix="dmbp_jax-tests-", ignore_cleanup_errors=True)
        _folder = _cache.name
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _folder
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "true"
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # XLA's optimisation passes cost more than they gain on small networks.
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_enable_compilation_cache", True)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_disable_most_optimizations", True)
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
def fully_optimized():
    """Compile with XLA's optimisation passes: for programs that run long, or are themselves looked at."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(autouse=True, scope="module")
def forget_compilations():
    """Free a module's compiled programs behind it: a process that keeps thousands runs out of room."""
    yield
    jax.clear_caches()
    gc.collect()
