"""Several at once: threads of one process, and commands that share what is compiled."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import draw_images, tiny_network
from test_compilation_cache import EXPLAIN, PROGRAM

import dmbp_jax
from dmbp_jax.attribution import layer_activation
from dmbp_jax.ops._programs import forget_programs
from dmbp_jax.rules import find_sites

THREADS = 8


def networks():
    def function(params, x):
        h = jax.nn.relu(jnp.einsum("nhwc,cd->nhwd", x, params["in"]))
        return h.max((1, 2)) @ params["out"]

    draw = np.random.default_rng(3).standard_normal
    params = {"in": jnp.asarray(draw((3, 6)), jnp.float32), "out": jnp.asarray(draw((6, 10)), jnp.float32)}
    apply, own, _ = tiny_network()
    return (apply, own), dmbp_jax.gated((function, params))


def work(network, number):
    """What one thread does: methods of every kind, images of its own."""
    images, targets = draw_images(THREADS * 2, 8, 8, 3)[number : number + 2], [number, 1]
    key, site = jax.random.key(number), find_sites(*network, images[0])[1].name
    explain = dmbp_jax.explain
    return [
        explain(*network, images, targets, "gradient_x_input").values,
        explain(*network, images, targets, preset="fast", batch_size=1, progress=False).values,
        explain(*network, images, targets, steps=2, on_step=lambda *step: None).values,
        explain(*network, images, targets, "smoothgrad", key=key, n_samples=2).values,
        dmbp_jax.explain_classes(*network, images, [number, 9], "gradient").values,
        layer_activation(*network, images, site),
    ]


@pytest.mark.long
def test_eight_threads_and_two_networks_give_what_one_thread_gives():
    """From cold caches, all at the same time: each network is traced, planned and compiled by several."""
    expected = [
        work(network, number) for number in range(THREADS) for network in networks()[number % 2 :][:1]
    ]
    forget_programs()
    both, ready = networks(), threading.Barrier(THREADS)

    def start(number):
        ready.wait(timeout=60)
        return work(both[number % 2], number)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(start, range(THREADS)))
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert np.abs(b).max() > 0
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.long
def test_commands_at_once_share_one_cache_and_leave_it_whole(tmp_path):
    """Three start with an empty cache, and write the same programs; the next one finds all of them."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    def start(name):
        folder = tmp_path / name
        folder.mkdir()
        arguments = [*EXPLAIN, "--save", "cat.safetensors"]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "count.json", *arguments],
            cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def end(name, process):
        err = process.communicate(timeout=600)[1]
        assert process.returncode == 0, err
        assert "warning" not in err
        values = dmbp_jax.Attribution.load(tmp_path / name / "cat.safetensors").values
        return values, json.loads((tmp_path / name / "count.json").read_text())

    together = {name: start(name) for name in ("one", "two", "three")}
    found = [end(name, process) for name, process in together.items()]
    last, counted = end("last", start("last"))
    assert counted["compiled"] == 0
    assert len(counted["programs"]) > 0
    for values, _ in found:
        np.testing.assert_array_equal(values, last)
