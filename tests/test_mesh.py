"""Images divided over several devices: the same maps, computed on all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("error")
import jax
import numpy as np
from small import CLASSES, draw_images, tiny_network

import dmbp_jax
from dmbp_jax.batching.call import make_program
from dmbp_jax.explain import check_call
from dmbp_jax.batching.chunk_size import free_bytes
from dmbp_jax.batching.chunks import local_mesh

OPTIONS = {"dmbp": {"steps": 3, "learning_rate": 0.1}, "rise": {"n_masks": 10}, "grad_cam": {}}
OPTIONS |= {"smoothgrad": {"n_samples": 3}, "lpr": {"n_steps": 2}}
METHODS = sys.argv[2:]
apply, params, _ = tiny_network()
images, targets = np.asarray(draw_images(11, 8, 8, 3)), np.arange(11) % CLASSES
arrays, said = {}, {}
for count in (1, 2, 8):
    devices = np.asarray(jax.devices()[:count]).reshape(-1, min(count, 2))
    mesh = jax.sharding.Mesh(devices, ("hosts", "devices"))
    if count == 8:
        # Its axes are explicit by default.
        mesh = jax.make_mesh((2, 4), ("hosts", "devices"))
    for method in METHODS:
        options = OPTIONS[method]
        for name, batch_size in (("chunks", 3), ("whole", None), ("auto", "auto")):
            a = dmbp_jax.explain(
                apply, params, images, targets, method,
                key=jax.random.key(0), batch_size=batch_size, mesh=mesh, **options,
            )
            arrays[f"{method} {name} {count}"] = a.values
    # As many images as devices: nothing is filled up, and the result stays where it was computed.
    a = dmbp_jax.explain(apply, params, images[:8], targets[:8], "dmbp", mesh=mesh, **OPTIONS["dmbp"])
    said[f"shards {count}"] = [shard.data.shape[0] for shard in a.values.addressable_shards]
    call = check_call(apply, params, images, targets, "dmbp", key=None, mesh=mesh, options=OPTIONS["dmbp"])
    program = make_program(call, 8, mesh).lower().compile().as_text()
    said[f"talks {count}"] = [
        word for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute") if word in program
    ]
seen = []
mesh = local_mesh()
dmbp_jax.explain(
    apply, params, images[:8], targets[:8], "rise", key=jax.random.key(0), batch_size=8, mesh=mesh,
    n_masks=100, chunk_size=50, on_step=lambda *step: seen.append(step),
)
said["steps"] = seen
said["local"] = mesh.shape["images"]
said["free"] = free_bytes(jax.devices()[0])
np.savez(sys.argv[1], **arrays)
print(json.dumps(said))
"""

OTHERS = ("rise", "smoothgrad", "lpr")


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """What a process with eight simulated devices computed, and what it said."""
    return compute(tmp_path_factory.mktemp("eight"), "dmbp", "grad_cam")


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """The same of other methods."""
    return compute(tmp_path_factory.mktemp("others"), *OTHERS)


def compute(folder, *methods):
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "maps.npz", *methods],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "maps.npz") as arrays:
        return dict(arrays), json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "method", ["dmbp", "grad_cam", *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)]
)
def test_one_two_and_eight_devices_give_the_same_maps(request, method):
    maps, _ = request.getfixturevalue("others" if method in OTHERS else "eight")
    expected = maps[f"{method} whole 1"]
    assert np.abs(expected).max() > 0
    for name in ("chunks", "whole", "auto"):
        for count in (1, 2, 8):
            found = maps[f"{method} {name} {count}"]
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("count", [1, 2, 8])
def test_every_device_computes_its_own_images(eight, count):
    _, said = eight
    assert said[f"shards {count}"] == [8 // count] * count
    # Images have nothing to do with each other, so that their devices have not either.
    assert said[f"talks {count}"] == []


def test_steps_are_reported_once_for_all_devices(eight):
    _, said = eight
    assert said["steps"] == [[1, 2], [2, 2]]


def test_the_commands_take_all_devices_of_the_process(eight):
    _, said = eight
    assert said["local"] == 8
