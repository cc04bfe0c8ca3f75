"""Maps that a run keeps, and maps that somebody else has made: a metric is added without an explanation."""

import contextlib
import dataclasses
import functools
import io
import os
import signal
import sqlite3
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from registered import forgetting
from small import CLASSES, long_but, tiny_network

import dmbp_jax
from dmbp_jax import attribution
from dmbp_jax._checks import InputError
from dmbp_jax.evaluation import _items as items
from dmbp_jax.evaluation._store import keep_map, open_store, resume_store

SIZE, COUNT = 16, 6
QUIET = {"progress": False, "batch_size": 4}
METHODS = ["random", "gradient_x_input", "dmbp"]


@pytest.fixture
def samples():
    images = np.random.default_rng(0).normal(size=(COUNT, SIZE, SIZE, 3)).astype(np.float32)
    return images, [(number % CLASSES, (number + 3) % CLASSES) for number in range(COUNT)]


@pytest.fixture
def network():
    return tiny_network()[:2]


@pytest.fixture
def explained(monkeypatch):
    """How many images each call of `explain` in an evaluation was given."""
    calls = []
    real = items.explain

    def counting(apply, params, images, *arguments, **options):
        calls.append(len(images))
        return real(apply, params, images, *arguments, **options)

    monkeypatch.setattr(items, "explain", counting)
    return calls


def without_seconds(run):
    return sorted(row._replace(seconds=0.0) for row in run.rows())


# The maps themselves.


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float32, (3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
    )
)
def test_a_kept_map_is_the_map_to_half_precision(heatmap):
    again = keep_map("a", 0, "dmbp", 0.5, heatmap).heatmap()
    most = np.abs(heatmap).max()
    # Eleven bits of each value, and what is lost below the least subnormal number.
    assert (np.abs(again - heatmap) <= np.abs(heatmap) * 2**-11 + most * 2.0**-24).all()
    assert again.dtype == np.float32


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_kept_map_does_not_depend_on_its_scale(scale):
    heatmap = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    one, other = (keep_map("a", 0, "dmbp", 0.5, m) for m in (heatmap, heatmap * np.float32(scale)))
    np.testing.assert_allclose(other.heatmap() / np.float32(scale), one.heatmap(), rtol=2e-3)


def test_maps_that_are_constant_or_no_numbers_are_kept_as_that():
    zero = keep_map("a", 0, "dmbp", 0.5, np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(zero.heatmap(), 0)
    broken = np.asarray([[1.0, np.nan], [np.inf, -2.0]], np.float32)
    np.testing.assert_array_equal(
        keep_map("a", 0, "dmbp", 0.5, broken).heatmap(), [[1, np.nan], [np.nan, -2]]
    )
    nothing = keep_map("a", 0, "dmbp", None, np.full((2, 2), np.nan, np.float32))
    assert np.isnan(nothing.heatmap()).all()


@pytest.mark.parametrize(
    "change",
    [
        {"values": b""},
        {"values": b"not packed"},
        {"values": zlib.compress(bytes(2**26))},
        {"values": zlib.compress(bytes(2 * 3 * 4 + 1))},
        {"values": zlib.compress(bytes(2 * 3 * 4))[:-1]},
        {"height": -3},
        {"height": 2**62},
        {"height": 6},
    ],
    ids=str,
)
def test_a_kept_map_that_was_damaged_is_refused_and_not_unpacked(change):
    kept = keep_map("a.jpg", 0, "dmbp", 0.5, np.ones((3, 4), np.float32))._replace(**change)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"the kept map of a\.jpg by dmbp is damaged"):
            kept.heatmap()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_kept_map_of_another_size_is_refused_before_it_is_measured(network, samples, tmp_path):
    options = {"methods": ["random"], "keep_maps": True, "folder": tmp_path / "run", **QUIET}
    dmbp_jax.evaluate(network, samples, metrics=["insertion"], **options)
    other = keep_map("0", 0, "random", 0.5, np.ones((8, 8), np.float32))
    with contextlib.closing(sqlite3.connect(tmp_path / "run" / "results.sqlite")) as connection, connection:
        connection.execute("UPDATE maps SET height = 8, width = 8, float16 = ?", (other.values,))
    with pytest.raises(InputError, match="is damaged: it is 8 x 8, and the network's image"):
        dmbp_jax.evaluate(network, samples, metrics=["insertion", "deletion"], **options)


# A metric that is added later.


def test_a_metric_is_added_without_a_single_explanation(network, samples, tmp_path, explained):
    options = {"methods": METHODS, "keep_maps": True, **QUIET}
    at_once = dmbp_jax.evaluate(
        network, samples, metrics=["insertion", "deletion"], folder=tmp_path / "at_once", **options
    )
    first = dmbp_jax.evaluate(network, samples, metrics=["insertion"], folder=tmp_path / "run", **options)
    before = first.rows()
    assert explained
    explained.clear()
    later = dmbp_jax.evaluate(
        network, samples, metrics=["insertion", "deletion"], folder=tmp_path / "run", **options
    )
    assert explained == []
    assert later.rows()[: len(before)] == before
    # With the rows of a run that had both from the beginning, and the time that explaining took then.
    assert without_seconds(later) == without_seconds(at_once)
    seconds = {(row.image, row.target, row.method, row.seconds) for row in later.rows()}
    assert len(seconds) == COUNT * 2 * len(METHODS)


def test_without_kept_maps_only_what_is_missing_is_computed_anew(network, samples, tmp_path, explained):
    options = {"methods": METHODS, **QUIET}
    at_once = dmbp_jax.evaluate(network, samples, metrics=["insertion", "deletion"], **options)
    dmbp_jax.evaluate(network, samples, metrics=["deletion"], folder=tmp_path / "run", **options)
    explained.clear()
    later = dmbp_jax.evaluate(network, samples, metrics=["insertion"], folder=tmp_path / "run", **options)
    assert sum(explained) == COUNT * 2 * len(METHODS)
    assert without_seconds(later) == without_seconds(at_once)
    explained.clear()
    dmbp_jax.evaluate(network, samples, metrics=["insertion", "deletion"], folder=tmp_path / "run", **options)
    assert explained == []


def test_a_metric_of_ones_own_must_stay_the_same_function(network, samples, tmp_path):
    options = {"methods": ["gradient"], "folder": tmp_path / "run", **QUIET}

    def made(number):
        if number == 1:

            def peak(predict, image, heatmap, target):
                return float(heatmap.max())

        else:

            def peak(predict, image, heatmap, target):
                return float(heatmap.min())

        return peak

    dmbp_jax.evaluate(network, samples, metrics=[made(1)], **options)
    dmbp_jax.evaluate(network, samples, metrics=[made(1)], **options)
    with pytest.raises(InputError, match="the metric peak is another function"):
        dmbp_jax.evaluate(network, samples, metrics=[made(2)], **options)


def test_a_method_of_ones_own_must_stay_the_same_function(network, samples, tmp_path):
    options = {"metrics": ["insertion"], "folder": tmp_path / "run", **QUIET}

    def flat(apply, params, image, target, *, key=None):
        return dmbp_jax.Attribution(values=image, finite=jnp.isfinite(image).all())

    dmbp_jax.evaluate(network, samples, methods=[flat], **options)

    def flat(apply, params, image, target, *, key=None):
        return dmbp_jax.Attribution(values=-image, finite=jnp.isfinite(image).all())

    with pytest.raises(InputError, match=r"methods\.flat\.code: there"):
        dmbp_jax.evaluate(network, samples, methods=[flat], **options)


def times(scale):
    def scaled(apply, params, image, target, *, key=None, more=0.0):
        return dmbp_jax.Attribution(values=scale * image + more, finite=jnp.isfinite(image).all())

    return scaled


def shifted(by):
    @functools.wraps(dmbp_jax.METHODS["gradient"])
    def gradient_and_more(*args, **options):
        a = dmbp_jax.METHODS["gradient"](*args, **options)
        return dataclasses.replace(a, values=a.values + by)

    gradient_and_more.__name__ = "gradient_and_more"
    return gradient_and_more


METHODS_OF_A_VALUE = {
    "noise_tunnel": lambda value: attribution.noise_tunnel(
        dmbp_jax.METHODS["gradient"], n_samples=2, noise_level=value
    ),
    "meta_saliency": lambda value: attribution.meta_saliency(dmbp_jax.METHODS["gradient"], step_size=value),
    "closure": times,
    "partial": lambda value: functools.partial(times(1.0), more=value),
    "wraps": shifted,
}


@pytest.mark.parametrize("name", long_but(("noise_tunnel", "closure"), METHODS_OF_A_VALUE))
def test_a_method_that_closes_over_something_else_is_another_one(network, samples, tmp_path, name):
    make = METHODS_OF_A_VALUE[name]
    options = {"metrics": ["sparseness"], "folder": tmp_path / "run", **QUIET}
    first = dmbp_jax.evaluate(network, samples, methods=[make(0.5)], **options).rows()
    assert dmbp_jax.evaluate(network, samples, methods=[make(0.5)], **options).rows() == first != []
    with pytest.raises(InputError, match=r"methods\.\w+\.code: there"):
        dmbp_jax.evaluate(network, samples, methods=[make(5.0)], **options)
    # Under a name of its own it is one method more, whose rows come to those that are there.
    with forgetting():
        dmbp_jax.register_method(make(5.0), name="strong")
        more = dmbp_jax.evaluate(network, samples, methods=["strong", make(0.5)], **options)
        assert [row for row in more.rows() if row.method != "strong"] == first
        assert len(more.rows()) == 2 * len(first)
        assert dmbp_jax.evaluate(network, samples, methods=["strong"], **options).rows() == more.rows()


def test_a_metric_that_closes_over_something_else_is_another_one(network, samples, tmp_path):
    def make(value):
        def above(predict, image, heatmap, target, *, more=0.0):
            return float((heatmap > value + more).mean())

        return above

    options = {"methods": ["gradient"], "folder": tmp_path / "run", **QUIET}
    first = dmbp_jax.evaluate(network, samples, metrics=[make(0.0)], **options)
    assert dmbp_jax.evaluate(network, samples, metrics=[make(0.0)], **options).rows() == first.rows()
    for other in (make(1e9), functools.partial(make(0.0), more=1e9)):
        with pytest.raises(InputError, match="the metric above is another function"):
            dmbp_jax.evaluate(network, samples, metrics=[other], **options)


def test_another_network_is_another_run(network, samples, tmp_path):
    """Another function of the same parameters, the same numbers in other places, another output."""
    apply, params = network
    options = {"methods": ["gradient"], "metrics": ["sparseness"], "folder": tmp_path / "run", **QUIET}

    def twice(scale):
        return lambda params, x, *, rule=None: scale * apply(params, x)

    dmbp_jax.evaluate((twice(2), params), samples, **options)
    dmbp_jax.evaluate((twice(2), params), samples, **options)
    swapped = params | {"conv2": params["conv2"] | {"bias": params["conv1"]["bias"]}}
    for other, more, said in (
        ((twice(3), params), {}, "another network than there"),
        ((apply, params), {}, "another network than there"),
        ((twice(2), swapped), {}, "other weights than there"),
        ((twice(2), params), {"output": "sigmoid"}, 'output: there null, now "sigmoid"'),
        ((twice(2), params), {"classes": "abcdefghij"}, "other names of the classes"),
    ):
        with pytest.raises(InputError, match=said):
            dmbp_jax.evaluate(other, samples, **options, **more)


def test_what_cannot_be_told_asks_for_a_name_where_there_is_a_folder(network, samples, tmp_path):
    apply, params = network
    numbers = np.random.default_rng(0)

    def drawing(apply, params, image, target, *, key=None):
        return dmbp_jax.Attribution(values=image * numbers.random(), finite=jnp.isfinite(image).all())

    def chance(predict, image, heatmap, target):
        return numbers.random()

    def network_of_chance(params, x, *, rule=None):
        return apply(params, x) * numbers.random()

    chosen = {"methods": ["gradient"], "metrics": ["sparseness"], **QUIET}
    for change, said in (
        ({"methods": [drawing]}, "the method drawing uses 'numbers', a Generator, .*register_method"),
        ({"metrics": [chance]}, "the metric chance uses 'numbers', a Generator, .*register_metric"),
        ({"network": (network_of_chance, params)}, "the network uses 'numbers', .*register_network"),
    ):
        given = {"network": network, "samples": samples} | chosen | change
        assert dmbp_jax.evaluate(**given).rows() != []
        with pytest.raises(InputError, match=said):
            dmbp_jax.evaluate(**given, folder=tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with forgetting():
        dmbp_jax.register_method(drawing, name="by_chance")
        dmbp_jax.register_metric(chance, name="luck")
        named = {"methods": ["by_chance"], "metrics": ["luck"], "folder": tmp_path / "run", **QUIET}
        first = dmbp_jax.evaluate(network, samples, **named)
        # Whatever it has drawn meanwhile: the name stands for it.
        assert dmbp_jax.evaluate(network, samples, **named).rows() == first.rows() != []


def test_keeping_maps_is_part_of_the_configuration(network, samples, tmp_path):
    options = {"methods": ["gradient"], "metrics": ["insertion"], "folder": tmp_path / "run", **QUIET}
    dmbp_jax.evaluate(network, samples, **options)
    with pytest.raises(InputError, match="keep_maps: there false, now true"):
        dmbp_jax.evaluate(network, samples, keep_maps=True, **options)


def test_a_map_that_another_process_kept_is_found(tmp_path):
    kept = keep_map("a", 0, "dmbp", 0.5, np.eye(3, dtype=np.float32))
    with resume_store(tmp_path, {}, {}) as first:
        with resume_store(tmp_path, {}, {}, process=1) as second:
            second.add(1, "dmbp", {"insertion": []}, maps=[kept], compiling=0.5)
        first.add(0, "dmbp", {"insertion": []}, compiling=0.25)
        assert first.kept_map("a", 0, "dmbp") == kept
        assert first.kept_map("a", 1, "dmbp") is None
        assert first.compiling() == 0.75


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from dmbp_jax.evaluation._store import keep_map
from dmbp_jax.evaluation._store import resume_store
from dmbp_jax.evaluation._store import Row

def kill_before(statement):
    if statement.startswith(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

with resume_store(Path(sys.argv[1]), {}, {}) as store:
    store._connection.set_trace_callback(kill_before)
    maps = [keep_map(f"{i}.jpg", 3, "dmbp", 0.5, np.full((64, 64), i, np.float32)) for i in range(50)]
    store.add(1, "dmbp", {"insertion": [Row("0.jpg", 3, "dmbp", "insertion", 0.5, 1.0)]}, maps=maps)
"""


@pytest.mark.long
@pytest.mark.parametrize("statement", ["INSERT OR IGNORE INTO maps", "INSERT INTO compiling", "COMMIT"])
def test_a_kill_leaves_no_half_of_the_maps(tmp_path, statement):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "run"), statement], check=False)
    killed = statement != "INSERT INTO compiling"
    assert done.returncode == (-signal.SIGKILL if killed else 0)
    with open_store(tmp_path / "run") as store:
        kept = [store.kept_map(f"{number}.jpg", 3, "dmbp") for number in range(50)]
        assert [one is None for one in kept] == [killed] * 50
        assert len(list(store.rows())) == (0 if killed else 1)


# Maps of somebody else.


def save(folder, name, heatmap):
    path = folder / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, heatmap)


@pytest.fixture
def maps(network, samples, tmp_path):
    """Gradient times input, as another program would have written it."""
    folder = tmp_path / "elsewhere"
    for number, (image, targets) in enumerate(zip(*samples, strict=True)):
        for target in targets:
            a = dmbp_jax.explain(*network, image[None], [target], "gradient_x_input")
            save(folder, f"{number}.{target}", np.asarray(a.heatmap[0]))
    return folder


def test_a_folder_of_maps_is_measured_as_the_method_that_made_them(
    network, samples, maps, explained, tmp_path
):
    run = dmbp_jax.evaluate(
        network,
        samples,
        methods=[f"maps:{maps}"],
        metrics=["insertion", "deletion"],
        folder=tmp_path / "run",
        **QUIET,
    )
    assert explained == []
    made = dmbp_jax.evaluate(
        network, samples, methods=["gradient_x_input"], metrics=["insertion", "deletion"], **QUIET
    )
    assert {row.method for row in run.rows()} == {"maps:elsewhere"}
    for one, other in zip(run.rows(), made.rows(), strict=True):
        assert (one.image, one.target, one.metric) == (other.image, other.target, other.metric)
        assert one.value == pytest.approx(other.value, rel=1e-3)
        assert one.seconds is None
    assert run.summary()["insertion", "maps:elsewhere"].seconds is None
    assert "Maps of elsewhere" in run.write_report().read_text("utf-8")


def test_a_map_of_a_single_target_needs_no_target_and_may_have_channels(network, samples, tmp_path):
    images, _ = samples
    for number, image in enumerate(images):
        save(tmp_path / "m", str(number), image.astype(np.float64))
    options = {"metrics": ["deletion"], **QUIET}

    def itself(apply, params, image, target, *, key=None):
        return dmbp_jax.Attribution(values=image, finite=jnp.isfinite(image).all())

    run = dmbp_jax.evaluate(network, (images, [1] * COUNT), methods=[f"maps:{tmp_path / 'm'}"], **options)
    made = dmbp_jax.evaluate(network, (images, [1] * COUNT), methods=[itself], **options)
    np.testing.assert_allclose([r.value for r in run.rows()], [r.value for r in made.rows()], rtol=1e-5)


def test_other_maps_are_another_run(network, samples, maps, tmp_path):
    options = {"methods": [f"maps:{maps}"], "metrics": ["insertion"], "folder": tmp_path / "run", **QUIET}
    dmbp_jax.evaluate(network, samples, **options)
    save(maps, "0.0", np.zeros((SIZE, SIZE), np.float32))
    with pytest.raises(InputError, match=r"methods\.maps:elsewhere\.maps: there"):
        dmbp_jax.evaluate(network, samples, **options)


_file = io.BytesIO()
np.savez(_file, np.ones((16, 16)))
ARCHIVE = _file.getvalue()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "3.6.npy").unlink(), r"no map of 3: there is no .*3\.6\.npy"),
        (
            lambda folder: save(folder, "3.6", np.zeros((8, 8))),
            r"3\.6\.npy has the shape \(8, 8\), and .* \(16, 16\)",
        ),
        (
            lambda folder: (folder / "3.6.npy").write_bytes(b"no"),
            r"3\.6\.npy is not an array that NumPy has saved",
        ),
        (lambda folder: save(folder, "3.6", np.asarray([["a"]])), "holds no array of numbers"),
        (lambda folder: save(folder, "3.6", np.ones((16, 16), np.complex64)), "numbers but of complex64"),
        (lambda folder: (folder / "3.6.npy").write_bytes(ARCHIVE), "not an array that NumPy has saved"),
    ],
)
def test_maps_that_are_missing_or_none_are_named(network, samples, maps, spoil, message):
    spoil(maps)
    with pytest.raises(InputError, match=message):
        dmbp_jax.evaluate(network, samples, methods=[f"maps:{maps}"], metrics=["insertion"], **QUIET)


def test_what_a_folder_of_maps_cannot_do_is_refused(network, samples, maps, tmp_path):
    with pytest.raises(InputError, match="sanity needs new explanations, which maps:elsewhere cannot"):
        dmbp_jax.evaluate(network, samples, methods=[f"maps:{maps}"], metrics=["sanity"], **QUIET)
    with pytest.raises(InputError, match="there is no 'nowhere'"):
        dmbp_jax.evaluate(network, samples, methods=["maps:nowhere"], metrics=["insertion"], **QUIET)
    other = tmp_path / "other" / "elsewhere"
    other.mkdir(parents=True)
    with pytest.raises(InputError, match="two methods are called 'maps:elsewhere'"):
        dmbp_jax.evaluate(
            network, samples, methods=[f"maps:{maps}", f"maps:{other}"], metrics=["insertion"], **QUIET
        )


def test_a_map_with_a_hole_is_undefined(network, samples, tmp_path):
    images, _ = samples
    for number in range(COUNT):
        save(
            tmp_path / "m", str(number), np.where(np.arange(SIZE) == number, np.nan, images[number, :, :, 0])
        )
    run = dmbp_jax.evaluate(
        network, (images, [1] * COUNT), methods=[f"maps:{tmp_path / 'm'}"], metrics=["insertion"], **QUIET
    )
    assert [row.value for row in run.rows()] == [None] * COUNT
    assert os.listdir(Path(tmp_path)) == ["m"]
