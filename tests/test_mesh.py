"""Images divided over several devices, of one process or two: the same maps, computed on all of them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.long

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("error")
import jax
import numpy as np
from jax.sharding import PartitionSpec as P
from small import CLASSES, draw_images, tiny_network

import dmbp_jax
from dmbp_jax._calls.call import make_program
from dmbp_jax._explain import check_call
from dmbp_jax._calls.chunks import free_bytes
from dmbp_jax._calls.chunks import local_mesh

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
    # Images that are divided, and whose other axes may be: the result is divided as they are.
    axes = jax.sharding.Mesh(devices, ("hosts", "devices"))
    for name, spec in (("shards", P(("hosts", "devices"))), ("apart", P("hosts", "devices"))):
        divided = jax.device_put(images[:8], jax.sharding.NamedSharding(axes, spec))
        for batch_size in (None, 3, "auto"):
            found = dmbp_jax.explain(
                apply, params, divided, targets[:8], "dmbp", batch_size=batch_size, **OPTIONS["dmbp"]
            )
            leaves = jax.tree.leaves(found)
            rows = {tuple(shard.data.shape[0] for shard in leaf.addressable_shards) for leaf in leaves}
            said[f"{name} {batch_size} {count}"] = sorted(rows)
            arrays[f"dmbp {name} {batch_size} {count}"] = found.values
    call = check_call(apply, params, images, targets, "dmbp", key=None, mesh=mesh, options=OPTIONS["dmbp"])
    program = make_program(call, 8, mesh).lower().compile().as_text()
    said[f"talks {count}"] = [
        word for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute") if word in program
    ]
seen = []
mesh = local_mesh()
dmbp_jax.explain(
    apply, params, images[:8], targets[:8], "rise", key=jax.random.key(0), batch_size=8, mesh=mesh,
    n_masks=100, perturbations_per_eval=50, on_step=lambda *step: seen.append(step),
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


@pytest.mark.parametrize("method", ["dmbp", "grad_cam", *OTHERS])
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
    maps, said = eight
    expected = maps["dmbp whole 1"][:8]
    for batch_size in (None, 3, "auto"):
        assert said[f"shards {batch_size} {count}"] == [[8 // count] * count]
        # Along the rows as well, which scores and flags have not.
        assert said[f"apart {batch_size} {count}"] == [[8 // max(1, count // 2)] * count]
        for name in ("shards", "apart"):
            found = maps[f"dmbp {name} {batch_size} {count}"]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    # Images have nothing to do with each other, so that their devices have not either.
    assert said[f"talks {count}"] == []


def test_steps_are_reported_once_for_all_devices(eight):
    _, said = eight
    assert said["steps"] == [[1, 2], [2, 2]]


def test_the_commands_take_all_devices_of_the_process(eight):
    _, said = eight
    assert said["local"] == 8


# Several processes.

OF_TWO = """
import json, sys, warnings
warnings.simplefilter("error")
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

index = int(sys.argv[2])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, index, initialization_timeout=120)

import dmbp_jax
from dmbp_jax._checks import InputError
from dmbp_jax.rules import PLAIN

def apply(params, x, *, rule=PLAIN):
    return rule.relu("relu", rule.affine("mix", x @ params["w"] + params["b"], "filter")).mean(axis=(1, 2))

random = np.random.default_rng(0)
params = {"w": random.normal(size=(3, 3)).astype(np.float32), "b": np.float32([0.1, -0.2, 0.3])}
images, targets = random.normal(size=(8, 4, 4, 3)).astype(np.float32), np.arange(8) % 3
mesh = Mesh(np.asarray(jax.devices()), ("images",))
explicit = jax.make_mesh((4,), ("images",))
along, apart = NamedSharding(mesh, PartitionSpec("images")), NamedSharding(explicit, PartitionSpec("images"))
key = jax.random.key(0)

def spread(array, sharding=along):
    return jax.make_array_from_callback(np.shape(array), sharding, lambda part: np.asarray(array)[part])

def rows(array):
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([shard.data for shard in shards]).tolist()

said = {}

def compare(name, images, targets, params=params, method="gradient_x_input", **options):
    drawing = {"key": keys if "keys" in name else key, "n_samples": 2} if method == "smoothgrad" else {}
    found = dmbp_jax.explain(apply, params, images, targets, method, **drawing, **options)
    host = isinstance(found.values, np.ndarray)
    said[name] = [found.values.tolist() if host else rows(found.values), host]
    if not (host or name.endswith("alone")):
        assert all(leaf.sharding.is_equivalent_to(along, leaf.ndim) for leaf in jax.tree.leaves(found))
    return found

def refuse(*args, **options):
    try:
        dmbp_jax.explain(apply, params, *args, "gradient_x_input", **options)
    except InputError as error:
        return str(error)

shared = spread(images)
for method in ("gradient_x_input", "smoothgrad"):
    compare(f"{method} alone", images, targets, method=method)
    compare(f"{method} direct", shared, spread(targets), method=method)
    compare(f"{method} chunks", shared, targets, method=method, batch_size=3)
keys = jax.jit(lambda key: jax.random.split(key, 8), out_shardings=along)(key)
compare("smoothgrad keys direct", shared, targets, method="smoothgrad")
compare("smoothgrad keys chunks", shared, targets, method="smoothgrad", batch_size=3)
compare("mesh", images, targets, mesh=mesh)
compare("mesh chunks", images[:7], targets[:7], mesh=mesh, batch_size=3)
compare("mesh auto", shared, spread(targets), mesh=mesh, batch_size="auto")
compare("explicit", spread(images, apart), spread(targets, apart))
whole = jax.tree.map(lambda leaf: spread(leaf, NamedSharding(mesh, PartitionSpec())), params)
compare("shared params", shared, targets, whole)
compare("shared params chunks", shared, targets, whole, batch_size=3)
spoiled = images.copy()
spoiled[[1, 6]] = np.nan
a = compare("spoiled", spread(spoiled), spread(np.where(np.arange(8) == 2, 3, targets)))
said["finite"] = rows(a.finite)
said["repr"] = repr(a)
said["heatmap"] = [list(shard.data.shape) for shard in a.heatmap.addressable_shards]
of_classes = dmbp_jax.explain_classes(apply, params, shared, [0, 1], "gradient_x_input")
said["classes"] = [list(shard.data.shape) for shard in of_classes.values.addressable_shards]
said["uneven"] = refuse(images[:7], targets[:7], mesh=mesh)
said["few"] = refuse(images[:1], targets[:1], mesh=mesh, batch_size=1)
halves = Mesh(np.asarray(jax.devices()).reshape(2, 2), ("a", "b"))
split = spread(images, NamedSharding(halves, PartitionSpec("a", "b")))
said["split"] = refuse(split, targets, batch_size=1)
try:
    a.save("maps.safetensors")
except InputError as error:
    said["save"] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes with two simulated devices says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OF_TWO, address, str(index)],
            cwd=tmp_path_factory.mktemp(f"process{index}"),
            env=os.environ | flags,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        ended = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, ended, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in ended]


OWN = (slice(4), slice(4, 8))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize(
    ("name", "in_host_memory"),
    [
        ("gradient_x_input direct", False),
        ("smoothgrad direct", False),
        ("smoothgrad keys direct", False),
        ("mesh", False),
        ("explicit", False),
        ("shared params", False),
        ("gradient_x_input chunks", True),
        ("smoothgrad chunks", True),
        ("smoothgrad keys chunks", True),
        ("mesh auto", True),
        ("mesh chunks", True),
        ("shared params chunks", True),
    ],
)
def test_each_process_gets_the_maps_of_its_own_images(two, index, name, in_host_memory):
    method = "smoothgrad" if "smoothgrad" in name else "gradient_x_input"
    expected = np.asarray(two[index][f"{method} alone"][0])[OWN[index]]
    if name == "mesh chunks":
        # Of seven.
        expected = expected[: 4 - index]
    maps, host = two[index][name]
    assert host == in_host_memory
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-6)


def test_flags_in_place_of_errors_about_numbers_of_several_processes(two):
    """Two images that are not finite, and a class that does not exist."""
    assert [said["finite"] for said in two] == [[True, False, False, True], [True, True, False, True]]
    for said in two:
        assert said["repr"] == "Attribution(values=float32[8,4,4,3], finite=bool[8])"
        assert said["heatmap"] == [[2, 4, 4]] * 2
        assert said["classes"] == [[2, 2, 4, 4, 3]] * 2


def test_what_cannot_be_divided_over_processes_is_one_sentence_in_each(two):
    for said in two:
        assert said["uneven"] == (
            "7 images cannot be divided over 4 devices of several processes without a remainder: give "
            "batch_size=, with which each process gets the maps of its own images"
        )
        assert said["few"] == "1 images are too few for 2 processes: leave mesh= out"
        assert said["split"].startswith(
            "images are divided over processes along another axis than their first"
        )
        assert said["save"].startswith("cannot save values: its values are not in this process")
