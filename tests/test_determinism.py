"""The same key, the same map: in any chunking, process, number of devices and precision, for every method."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import draw_images, long_but, tiny_network
from test_gradients import CASES

import dmbp_jax

EVERY = pytest.mark.parametrize(
    "case", long_but(("gradient", "rise", "fast"), [case for case in CASES if case != "two sites"])
)
ANYWHERE = ("smoothgrad", "rise", "lpr", "fullgrad", "paper", "fast")
"""What is compared between processes and on several devices: what draws, what sums, what iterates."""
ROUNDING = 1e-5
"""Of a map's largest magnitude: what the pages promise."""
COARSE = {"blur_integrated_gradients": 1e-2}
"""Where roundings differ: it divides a difference of two nearly equal images by a small step."""

PROGRAM = """
import sys
import jax
import numpy as np
from test_determinism import maps

mesh = jax.make_mesh((8,), ("images",)) if jax.device_count() == 8 else None
np.savez(sys.argv[1], **maps(mesh))
"""


def explain(case, images=None, params=None, *, dtype=jnp.float32, **options):
    apply, own, given = tiny_network()
    method, fixed = CASES[case]
    images = given if images is None else images
    params, images = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), (own, images))
    targets = np.arange(len(images)) % 9 + 1
    key = jax.random.key(7)
    return dmbp_jax.explain(apply, params, images, targets, method, key=key, **fixed, **options).values


def maps(mesh):
    images = draw_images(8, 8, 8, 3)
    return {case: np.asarray(explain(case, images, mesh=mesh)) for case in ANYWHERE}


def assert_same(found, expected, tolerance=ROUNDING):
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@EVERY
def test_chunks_of_any_size_give_the_same_map(case):
    whole = np.asarray(explain(case))
    for batch_size in (1, 2):
        assert_same(explain(case, batch_size=batch_size), whole, COARSE.get(case, ROUNDING))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[] if case in ("smoothgrad", "rise", "fast") else pytest.mark.long)
        for case in CASES
    ],
)
def test_a_key_means_the_same_in_double_precision(case, x64):
    double = explain(case, dtype=jnp.float64)
    assert double.dtype == jnp.float64
    single = explain(case)
    assert single.dtype == jnp.float32
    assert_same(single, double, COARSE.get(case, ROUNDING))


@pytest.mark.long
def test_every_process_gives_the_same_bytes_and_eight_devices_the_same_maps(tmp_path):
    """Also where sets and strings are hashed in another order."""
    found = []
    for seed, devices in ((0, 1), (1, 1), (2, 8)):
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        more = {"PYTHONPATH": path, "PYTHONHASHSEED": str(seed)}
        more["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
        subprocess.run(
            [sys.executable, "-c", PROGRAM, f"{seed}.npz"], cwd=tmp_path, env=os.environ | more, check=True
        )
        with np.load(tmp_path / f"{seed}.npz") as arrays:
            found.append(dict(arrays))
    one, again, eight = found
    assert tuple(one) == ANYWHERE
    for case, expected in one.items():
        np.testing.assert_array_equal(again[case], expected, err_msg=case)
        assert_same(eight[case], expected, COARSE.get(case, ROUNDING))
