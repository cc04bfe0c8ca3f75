"""Every method is a program for TPUs and for CUDA: compiled for the one, lowered for the other, and not run.

Neither is at hand. `libtpu` compiles on a CPU for a slice that is described to it; what it says of a program
is a compiler's word and no measurement.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from to_compile import CASES, WIDE, explain_by, shapes

pytestmark = pytest.mark.long
EVERY = pytest.mark.parametrize("case", CASES)

PROGRAM = """
import json, warnings
warnings.simplefilter("error")
import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec
from to_compile import CASES, TINY, WIDE, explain_by, shapes

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
mesh = jax.sharding.Mesh(np.array(devices), ("images",))
copied, divided = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("images"))

def call_host(params, images, targets):
    return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(images.shape, images.dtype), images)

cases = {case: (explain_by(case), TINY) for case in CASES}
cases["wide"] = explain_by("dmbp"), WIDE
cases["sum over images"] = (lambda params, images, targets: images.sum(0)), TINY
cases["call of the host"] = call_host, TINY
words = {
    "collectives": ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter"),
    "host": ("callback", "is_host_transfer=true", "infeed", "outfeed"),
    "winograd": ("winograd",),
    "chips": ("num_partitions=4",),
}
said = {}
for case, (function, network) in cases.items():
    program = jax.jit(function, in_shardings=(copied, divided, divided))
    text = program.lower(*shapes(network, 8)).compile().as_text()
    said[case] = {kind: [word for word in some if word in text] for kind, some in words.items()}
print(json.dumps(said))
"""

SLICE = {
    "JAX_PLATFORMS": "cpu",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_LOG_DIR": "disabled",
    # There is no chip for which two processes could compete.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
"""What libtpu reads when it is loaded, which is why it has a process of its own."""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """For each case, what was found in its program for four chips; CI must have libtpu."""
    if importlib.util.find_spec("libtpu") is None:
        absent = "libtpu, which this test compiles with, is absent: pip install -e '.[tpu]' on 64-bit Linux"
        pytest.fail(absent) if os.environ.get("CI") else pytest.skip(absent)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    # The programs that a TPU would run have all their optimisations.
    compiler = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "false", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path_factory.mktemp("tpu"),
        env=os.environ | SLICE | compiler | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", [*CASES, "wide"])
def test_a_tpu_program_asks_neither_the_host_nor_another_chip(said, case):
    assert said[case] == {"collectives": [], "host": [], "winograd": [], "chips": ["num_partitions=4"]}


def test_a_word_with_the_host_or_another_chip_would_be_seen(said):
    """Else every test that asks for none would pass."""
    assert said["sum over images"]["collectives"] == ["all-reduce"]
    assert "is_host_transfer=true" in said["call of the host"]["host"]


def lowered(case, platform):
    traced = jax.jit(explain_by(case)).trace(*shapes(WIDE, 2))
    return traced.lower(lowering_platforms=(platform,)).as_text()


@EVERY
def test_winograds_convolution_is_for_cpus(case):
    assert "@winograd" in lowered(case, "cpu")
    for platform in ("tpu", "cuda"):
        program = lowered(case, platform)
        assert "@winograd" not in program
        assert "stablehlo.convolution" in program


@EVERY
def test_every_method_exports_for_cuda_and_calls_no_library(case):
    exported = jax.export.export(jax.jit(explain_by(case)), platforms=["cuda"])(*shapes(WIDE, 2))
    assert exported.platforms == ("cuda",)
    assert "custom_call" not in exported.mlir_module()


def test_a_call_of_a_library_would_be_seen():
    """Else the export's test would pass whatever it found."""
    for platform in ("cpu", "cuda"):
        exported = jax.export.export(jax.jit(jnp.linalg.qr), platforms=[platform])(jnp.ones((2, 2)))
        assert "custom_call" in exported.mlir_module()
