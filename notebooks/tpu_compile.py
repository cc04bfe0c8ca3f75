"""What XLA's compiler for TPUs says of DMBP, on a machine without a TPU: memory, and talk between chips.

`pip install -e '.[tpu]' && python notebooks/tpu_compile.py` prints the table of `what_to_expect.ipynb`, for `MANY`
images on a chip. It is a compiler's word and no measurement: nothing runs, and how long anything would take is not among what it says.
"""

import os
import sys
from typing import Any, NamedTuple

# libtpu reads these when it is loaded: which slice to compile for, that this host is all of it, and that there
# is no Google Cloud to ask. Everything that is computed here is computed on the CPU.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
}

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import dmbp_jax
from dmbp_jax.models import get_architecture, init

NETWORKS = ("squeezenet1_1", "resnet50")
PRESETS = ("fast", "paper")
CHIPS = (1, 4)
FEW, MANY = 1, 8
"""Images on a chip; the straight line through both is what `fit` is taken from."""
CHIP = 16e9
"""Bytes of a v5e's memory, by its data sheet."""
GIB = 2**30
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
COLUMNS = (
    "network",
    "preset",
    "chips",
    "temporaries, GiB",
    "arguments, GiB",
    "outputs, GiB",
    "one image more, GiB",
    "images in 16 GB",
    "collectives",
)


class Program(NamedTuple):
    """A compiled program, in bytes on each chip."""

    temporaries: int
    arguments: int
    outputs: int
    collectives: tuple[str, ...]

    @property
    def total(self) -> int:
        """What a chip must hold; nothing is donated, so that no buffer is counted twice."""
        return self.temporaries + self.arguments + self.outputs


def compile_for(chips: list[Any], network: str, preset: str, images: int) -> Program:
    """DMBP for `images` photographs on each of `chips`, compiled and not run."""
    mesh = Mesh(np.array(chips), ("images",))
    everywhere, divided = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("images"))
    apply = get_architecture(network).apply

    def explain(params: Any, photographs: jax.Array, targets: jax.Array) -> dmbp_jax.Attribution:
        return dmbp_jax.explain(apply, params, photographs, targets, preset=preset)

    count = images * len(chips)
    shapes = (
        jax.eval_shape(lambda: init(jax.random.key(0), network)),
        jax.ShapeDtypeStruct((count, 224, 224, 3), jnp.float32),
        jax.ShapeDtypeStruct((count,), jnp.int32),
    )
    program = jax.jit(explain, in_shardings=(everywhere, divided, divided), out_shardings=divided)
    compiled = program.lower(*shapes).compile()
    counted: Any = compiled.memory_analysis()
    text = compiled.as_text()
    return Program(
        counted.temp_size_in_bytes,
        counted.argument_size_in_bytes,
        counted.output_size_in_bytes,
        tuple(word for word in COLLECTIVES if word in text),
    )


def row(network: str, preset: str, few: Program, many: Program, chips: int) -> tuple[str, ...]:
    """A line of the table."""
    each = (many.total - few.total) / (MANY - FEW)
    fit = int((CHIP - few.total) / each) + FEW
    return (
        network,
        preset,
        str(chips),
        *(f"{size / GIB:.2f}" for size in (many.temporaries, many.arguments, many.outputs)),
        f"{each / GIB:.3f}",
        str(fit),
        ", ".join(many.collectives) or "none",
    )


def main() -> None:
    """Print the table; what is being compiled goes to stderr."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    for network in NETWORKS:
        for preset in PRESETS:
            for chips in CHIPS:
                programs = []
                for images in (FEW, MANY):
                    program = compile_for(devices[:chips], network, preset, images)
                    print(network, preset, chips, images, program, file=sys.stderr, flush=True)
                    programs.append(program)
                print("| " + " | ".join(row(network, preset, *programs, chips)) + " |", flush=True)


if __name__ == "__main__":
    main()
