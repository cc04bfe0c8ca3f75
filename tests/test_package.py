"""What holds for the package as a whole: import, exports, folders."""

import importlib.util
import inspect
import os
import pkgutil
import subprocess
import sys
import types

import dmbp_jax
from dmbp_jax import attribution, metrics

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


def test_no_name_hides_a_module():
    """So that `import dmbp_jax.explain as m` is no module, rather than a function."""
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] == "dmbp_jax"]:
        for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
            there = getattr(module, info.name, None)
            assert there is None or isinstance(there, types.ModuleType), f"{module.__name__}.{info.name}"
    assert importlib.util.find_spec("dmbp_jax.explain") is None


def test_the_public_names_are_documented():
    public = [name for name in vars(dmbp_jax) if not name.startswith("_")]
    assert {"load_model", "explain", "DMBPConfig", "PRESETS", "Attribution"} <= set(public)
    for name in public:
        value = getattr(dmbp_jax, name)
        if callable(value):
            assert value.__doc__, name


SYNONYMS = {
    "substrate": "baseline",
    "outside": "baseline",
    "reference": "baseline",
    "sites": "site",
    "layer": "site",
    "chunk_size": "perturbations_per_eval",
    "epsilon": "eps",
    "num_steps": "n_steps",
}


def test_options_have_one_name_each():
    """What means the same is called the same in every function for users."""
    functions = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in (dmbp_jax, attribution, metrics)
        for name in module.__all__
        if inspect.isroutine(getattr(module, name))
    }
    options = {
        (name, option) for name, one in functions.items() for option in inspect.signature(one).parameters
    }
    assert {"baseline", "site", "perturbations_per_eval", "n_steps"} <= {option for _, option in options}
    assert [one for one in sorted(options) if one[1] in SYNONYMS] == []
