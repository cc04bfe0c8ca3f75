"""What holds for the package as a whole: import, exports, folders."""

import os
import subprocess
import sys

import dmbp_jax

IMPORT = """
import dmbp_jax
import jax
jax.config.update("jax_num_cpu_devices", 3)  # Refused once a device has been touched.
import sys
print([name for name in ("matplotlib", "huggingface_hub", "torch", "typer") if name in sys.modules])
"""


def test_import_touches_no_device_and_loads_nothing_heavy():
    """No time is asserted; what takes time is."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, env=os.environ
    )
    assert result.stdout == "[]\n"


def test_the_public_names_are_documented():
    public = [name for name in vars(dmbp_jax) if not name.startswith("_")]
    assert {"load_model", "explain", "DMBPConfig", "PRESETS", "Attribution"} <= set(public)
    for name in public:
        value = getattr(dmbp_jax, name)
        if callable(value):
            assert value.__doc__, name
