"""The seconds of compiling, apart from those of the work itself."""

import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small import tiny_network

import dmbp_jax
from dmbp_jax import load_model
from dmbp_jax._compile_time import STAGES, covered, stopwatch
from dmbp_jax._progress import StepProgress
from dmbp_jax.cli._explain import Photograph, explain_photographs
from dmbp_jax.rules import PLAIN

INTERVALS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)).map(lambda t: (t[0], t[0] + t[1])))


@given(INTERVALS)
def test_what_intervals_cover_is_counted_once(intervals):
    cells = {cell for begin, end in intervals for cell in range(begin, end)}
    assert covered([(float(begin), float(end)) for begin, end in intervals]) == len(cells)


def test_a_second_call_compiles_nothing():
    program = jax.jit(lambda x: jnp.sin(x) * 3.25)
    x = jnp.linspace(0, 1, 7)
    with stopwatch() as first:
        jax.block_until_ready(program(x))
    with stopwatch() as second:
        jax.block_until_ready(program(x))
    assert first.compiling > 0
    assert second.compiling == 0
    assert second.working > 0


def test_the_command_traces_a_network_once_for_what_it_says_and_once_for_its_map():
    """The check of `explain` is of the program that has classified, and what takes no steps has no slices."""
    apply, params, _ = tiny_network()
    rules = []

    def counting(params, x, *, rule=PLAIN):
        rules.append(type(rule).__name__)
        return apply(params, x, rule=rule)

    model = load_model("squeezenet1_1")._replace(apply=counting, params=params)
    (explained,) = explain_photographs(
        model,
        [Photograph(Path("one.png"), np.zeros((8, 8, 3), np.uint8))],
        target=None,
        contrast_with=None,
        methods=["dmbp"],
        preset="fast",
        batch_size=1,
        key=jax.random.key(0),
        progress=StepProgress(),
    )
    assert explained.attributions["dmbp"].finite
    assert rules == ["Plain", "Swept"]


def test_tracing_counts_as_compiling_and_nothing_twice():
    """The inner program is traced while the outer one is: a second within the first."""

    @jax.jit
    def inner(x):
        time.sleep(0.05)
        return jnp.cos(x)

    @jax.jit
    def outer(x):
        time.sleep(0.05)
        return inner(x) + 1

    start = time.perf_counter()
    with stopwatch() as watch:
        jax.block_until_ready(outer(jnp.ones(5)))
    elapsed = time.perf_counter() - start
    # What slept was being traced.
    assert watch.compiling >= 0.1
    assert watch.compiling + watch.working <= elapsed


def test_what_another_thread_compiles_is_its_own_affair():
    def elsewhere():
        jax.block_until_ready(jax.jit(lambda x: x * 11.5)(np.ones(6, np.float32)))

    with stopwatch() as watch:
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
    assert watch.compiling == 0


def test_the_stages_are_those_that_jax_tells_of():
    told = []

    def listener(event, duration, **details):
        told.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        jax.block_until_ready(jax.jit(lambda x: x * 12.5)(np.ones(6, np.float32)))
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert set(STAGES) <= set(told)


def test_a_run_of_one_chunk_tells_both_apart(tmp_path):
    """Seconds of the work do not hold what the page says that compiling took."""

    def slow_to_trace(apply, params, image, target, *, key=None):
        time.sleep(0.2)
        return dmbp_jax.Attribution(values=image, finite=jnp.isfinite(image).all())

    network = (lambda params, x, rule=None: x.mean(axis=(1, 2)) @ params, jnp.ones((3, 2)))
    images = np.ones((2, 8, 8, 3), np.float32)
    start = time.perf_counter()
    run = dmbp_jax.evaluate(
        network,
        (images, [0, 1]),
        methods=[slow_to_trace],
        metrics=["insertion"],
        folder=tmp_path / "run",
        progress=False,
    )
    elapsed = time.perf_counter() - start
    from dmbp_jax.evaluation._store import open_store

    with open_store(tmp_path / "run") as store:
        compiling = store.compiling()
    seconds = sum(row.seconds for row in run.rows())
    assert compiling >= 0.2
    assert seconds + compiling <= elapsed
    page = run.write_report().read_text("utf-8")
    assert f"without the {compiling:,.2f} seconds of compiling in all" in page
