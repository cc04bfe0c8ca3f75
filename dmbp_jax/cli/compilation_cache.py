"""Compiled programs are kept on disk: the command's second run need not compile what its first did."""

import os
import sys
import tempfile
import warnings

import jax

from dmbp_jax.pretrained import cache_folder

FOLDER = "compiled"
MOST_BYTES = 2 * 1024**3
"""Beyond that the programs that were not used for longest make room."""


def use_compilation_cache() -> None:
    """Switch on JAX's persistent compilation cache, in `compiled` of the package's cache folder.

    What the user has set of JAX's own goes before: another folder in `JAX_COMPILATION_CACHE_DIR`, none with
    `JAX_ENABLE_COMPILATION_CACHE=false`. A folder that cannot be written costs one line of warning.
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return
    # One command compiles dozens of small programs, which together take longer than the large one.
    _set("jax_persistent_cache_min_compile_time_secs", 0.0)
    # What goes wrong with a file of the cache is a line for each program, and none of the user's concern.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    folder = cache_folder() / FOLDER
    try:
        # Whoever writes here can run code as the user.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        print(
            f"warning: compiled programs are not kept, {folder} cannot be written: "
            f"{error.strerror or error}; DMBP_JAX_CACHE names another folder",
            file=sys.stderr,
        )
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    _set("jax_compilation_cache_max_size", MOST_BYTES)


def forget_compilation_cache() -> None:
    """Neither read nor write compiled programs, whatever JAX's own variables say."""
    jax.config.update("jax_enable_compilation_cache", False)


def _set(option: str, value: float) -> None:
    """Set an option of JAX, unless the user has."""
    if option.upper() not in os.environ:
        jax.config.update(option, value)
