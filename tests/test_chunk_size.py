"""How many images at once: memory counted, chunks chosen, programs reused."""

import functools

import jax
import numpy as np
import pytest
from small import draw_images, small_network, tiny_network

import dmbp_jax
from dmbp_jax._calls import call
from dmbp_jax._calls.chunks import (
    ProgramBytes,
    even_chunk,
    fitting_chunk,
    free_bytes,
    host_free_bytes,
    program_bytes,
)
from dmbp_jax._checks import InputError
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax._explain import automatic_batch_size

FEW = {"steps": 2, "learning_rate": 0.1}


@pytest.mark.long
def test_peak_memory_grows_linearly_in_the_chunk():
    apply, params, _ = small_network("squeezenet1_1")
    needed = []
    for chunk in (1, 2, 4, 8):
        images = jax.ShapeDtypeStruct((chunk, 64, 64, 3), np.float32)
        targets = jax.ShapeDtypeStruct((chunk,), np.int32)
        program = jax.jit(functools.partial(dmbp_jax.explain, apply, method="dmbp", **FEW))
        needed.append(sum(program_bytes(program.lower(params, images, targets).compile())))
    line = np.polynomial.Polynomial.fit((1, 2, 4, 8), needed, 1)
    np.testing.assert_allclose(line(np.asarray((1, 2, 4, 8))), needed, rtol=0.08)
    # Only the parameters, and the kernels as the backward passes take them, do not grow.
    assert line(0) < 4 * sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def test_the_program_does_not_depend_on_the_number_of_images():
    apply, params, _ = tiny_network()
    few, many = (np.asarray(draw_images(count, 8, 8, 3)) for count in (5, 43))
    dmbp_jax.explain(apply, params, few, np.zeros(5, np.int32), batch_size=4, **FEW)
    with count_compile_time() as compiled:
        a = dmbp_jax.explain(apply, params, many, np.zeros(43, np.int32), batch_size=4, **FEW)
    # The last chunk is filled up. No array of all images is made on the device.
    assert [name for name in compiled.programs if "explain" in name] == []
    assert a.values.shape == many.shape
    assert isinstance(a.values, np.ndarray)


def test_few_programs_serve_all_numbers_of_images():
    chunks = {even_chunk(count, 8) for count in range(1, 200)}
    assert chunks == {1, 2, 4, 8}
    for count in range(1, 200):
        assert 3 * (-count % even_chunk(count, 8)) <= count
    for devices in (2, 3, 8):
        assert all(even_chunk(count, 24, devices) % devices == 0 for count in range(1, 200))


def needs(chunk):
    return ProgramBytes(per_chunk=10 * chunk + 3, fixed=50)


@pytest.mark.parametrize(
    ("count", "free", "devices", "chosen"),
    [
        (64, 1000, 1, 32),
        (64, 373, 1, 32),
        (64, 372, 1, 16),
        (64, 100, 1, 4),
        (64, 63, 1, 1),
        (3, 1000, 1, 4),
        (1, 1000, 1, 1),
        (64, 1000, 8, 32),
        (64, 200, 8, 8),
        (1, 1000, 8, 8),
    ],
)
def test_the_largest_chunk_that_fits(count, free, devices, chosen):
    assert fitting_chunk(needs, count=count, free=free, most=32, devices=devices) == chosen


def test_what_fits_is_compiled_once_and_what_does_not_hardly_more_often():
    asked = []

    def counting(chunk):
        asked.append(chunk)
        return needs(chunk)

    assert fitting_chunk(counting, count=64, free=1000, most=32) == 32
    assert asked == [32]
    asked.clear()
    assert fitting_chunk(counting, count=64, free=75, most=32) == 2
    assert asked == [32, 2]


def test_memory_for_not_even_one_image_is_an_error_that_says_how_much():
    with pytest.raises(InputError, match=r"one image needs 63\.0 MB, and 62\.0 MB are free"):
        fitting_chunk(
            lambda chunk: ProgramBytes(13_000_000 * chunk, 50_000_000), count=64, free=62_000_000, most=32
        )


@pytest.mark.long
def test_explain_takes_what_the_device_has_free(monkeypatch):
    apply, params, _ = small_network("squeezenet1_1")
    images, targets = np.asarray(draw_images(8, 64, 64, 3)), np.arange(8)
    explain = functools.partial(dmbp_jax.explain, apply, params, images, targets, "gradient")
    choose = functools.partial(automatic_batch_size, apply, params, images, targets, "gradient")
    assert choose() == 8
    with count_compile_time() as compiled:
        automatic = explain(batch_size="auto")
    # The program that was asked is the one that runs.
    assert [name for name in compiled.programs if "explain" in name] == []
    monkeypatch.setattr(call, "free_bytes", lambda device: 1_300_000)
    assert choose() == 2
    np.testing.assert_allclose(
        explain(batch_size="auto").values, automatic.values, atol=1e-4 * np.abs(automatic.values).max()
    )
    monkeypatch.setattr(call, "free_bytes", lambda device: 500_000)
    with pytest.raises(InputError, match=r"one image needs .* MB, and 0\.5 MB are free"):
        explain(batch_size="auto")


def test_inside_jit_the_automatic_size_takes_all():
    apply, params, images = tiny_network()

    @jax.jit
    def inside(images):
        return dmbp_jax.explain(apply, params, images, np.arange(3), batch_size="auto", **FEW).values

    assert inside(images).shape == images.shape


class Device:
    platform = "gpu"

    def __init__(self, statistics):
        self.statistics = statistics

    def memory_stats(self):
        return self.statistics


def test_free_memory_is_what_the_backend_says_or_else_the_hosts(monkeypatch):
    assert free_bytes(Device({"bytes_limit": 1000, "bytes_in_use": 200})) == 640
    monkeypatch.setattr("dmbp_jax._calls.chunks.host_free_bytes", lambda: 1000)
    for statistics in (None, {}, {"bytes_in_use": 3}):
        assert free_bytes(Device(statistics)) == 500 // jax.local_device_count()


def test_a_control_group_limits_the_host(tmp_path):
    assert 10**8 < host_free_bytes() < 10**14
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:   5000 kB\n")
    assert host_free_bytes(tmp_path) == 5000 * 1024
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.current").write_text("1000\n")
    (group / "memory.max").write_text("max\n")
    assert host_free_bytes(tmp_path) == 5000 * 1024
    (group / "memory.max").write_text("3000\n")
    assert host_free_bytes(tmp_path) == 2000


def test_a_mesh_inside_jit_is_refused():
    apply, params, images = tiny_network()
    mesh = jax.make_mesh((1,), ("x",))
    with pytest.raises(InputError, match="mesh= does nothing inside jit"):
        jax.jit(lambda x: dmbp_jax.explain(apply, params, x, [1, 2, 3], "gradient", mesh=mesh))(images)
