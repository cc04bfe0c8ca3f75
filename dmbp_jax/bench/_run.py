"""The speed of a method: seconds per image and step, compared with plain forward passes and with PyTorch."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from dmbp_jax._checks import InputError
from dmbp_jax._compile_time import count_compile_time
from dmbp_jax._progress import RunProgress
from dmbp_jax.bench._counts import count_network
from dmbp_jax.bench._measure import (
    Spread,
    matrix_product,
    measure_rounds,
    peak_bytes,
    ratios,
    spread,
    step_bytes,
)
from dmbp_jax.bench._methods import run_method, run_ours, run_torch
from dmbp_jax.bench._results import SHORT, Against, BenchRow, Case, Side
from dmbp_jax.models import get_architecture, init
from dmbp_jax.ops._convolution import cast_floats
from dmbp_jax.typing import Apply, Params

FORWARDS = 4
"""The cost of a step of DMBP in plain forward passes, at least: two forward and two backward."""


def measure(case: Case, progress: RunProgress | None = None) -> BenchRow:
    """Measure one row. Compiled programs of this process are dropped afterwards (`jax.clear_caches`).

    Parameters and images are random, since speed does not depend on them.
    """
    progress = progress or RunProgress()
    random = np.random.default_rng(0)
    apply, params = get_architecture(case.model).apply, random_params(random, case.model)
    images = jax.numpy.asarray(random.standard_normal((case.batch_size, case.size, case.size, 3)), "float32")
    counts = count_network(apply, params, images[0])

    forward = _forward(apply, *cast_floats((params, images), case.dtype))
    # The likeliest class, for whose score SqueezeNet's last ReLU is open.
    targets = [int(i) for i in np.asarray(forward(), np.float32).argmax(axis=1)]

    def ours(steps: int) -> Any:
        return run_ours(case.timed, apply, params, images, targets, steps=steps, dtype=case.dtype)

    progress.begin(f"compile {case.title}", "compiling")
    began = time.perf_counter()
    with count_compile_time() as compiled:
        values = ours(case.count).values
    first_call = time.perf_counter() - began
    runs = _runs("ours", case, ours, forward)
    if case.timed.option is None:
        cast = cast_floats((params, images), case.dtype)
        runs["gradient"] = lambda: run_method(apply, *cast, targets, "gradient")
    product, product_flops = matrix_product(case.dtype)
    runs["matmul"] = product
    agreement = None
    if case.against_torch:
        theirs, their_forward = _torch(case, params, images, targets)
        maps = theirs(case.count)
        if case.timed.deterministic:
            agreement = _correlation(np.asarray(values, np.float32).sum(axis=-1), maps.sum(axis=-1))
        runs |= _runs("torch", case, theirs, their_forward)
    for name, run in runs.items():
        if not name.endswith("_call"):
            run()
    progress.advance()

    rounds = []
    measured = measure_rounds(runs, case.repeats)
    for number in range(case.repeats):
        progress.begin(case.title, f"round {number + 1} of {case.repeats}")
        rounds.append(next(measured))
        progress.advance()
    jax.clear_caches()

    flops = case.timed.flops(counts)
    best_product = product_flops / min(seconds["matmul"] for seconds in rounds)
    side = _side("ours", case, rounds)
    achieved = flops / side.step.median
    return BenchRow(
        case=case,
        ours=side,
        first_call_seconds=first_call,
        compile_seconds=compiled.seconds,
        program_bytes=max(compiled.bytes, default=None),
        device_peak_bytes=peak_bytes(),
        counts=counts,
        flops_per_step=flops,
        bytes_per_step_at_least=(
            step_bytes(counts, batch_size=case.batch_size, precision=case.dtype)  # type: ignore[arg-type]
            if case.method == "dmbp"
            else None
        ),
        flops_per_second=achieved,
        matmul_flops_per_second=best_product,
        share_of_matmul=achieved / best_product,
        call_over_gradient=(
            ratios([one["ours_call"] for one in rounds], [one["gradient"] for one in rounds])
            if "gradient" in runs
            else None
        ),
        against=_against(case, rounds, agreement) if case.against_torch else None,
    )


def random_params(random: np.random.Generator, model: str) -> Params:
    """Parameters of the shapes and scales of `models.init`.

    NumPy draws them: JAX would compile a program for every shape, half a minute for a deep network.
    """

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        # A kernel's last axis holds its outputs, the others its inputs.
        scale = 0.1 if len(leaf.shape) == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
        return jax.numpy.asarray(scale * random.standard_normal(leaf.shape, np.float32), leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(lambda: init(jax.random.key(0), model)))


def _forward(apply: Apply, params: Params, images: jax.Array) -> Callable[[], jax.Array]:
    plain = jax.jit(apply)
    return lambda: jax.block_until_ready(plain(params, images))


def _torch(
    case: Case, params: Params, images: jax.Array, targets: Sequence[int]
) -> tuple[Callable[[int], np.ndarray], Callable[[], object]]:
    from dmbp_jax.bench._torch import network as torch_network

    network = torch_network.torch_network(case.model, params, case.dtype)
    x = torch_network.to_nchw(images, case.dtype)
    interleaved = torch_network.channels_last(x)
    return (
        lambda steps: run_torch(case.timed, network, x, targets, steps=steps),
        lambda: torch_network.forward(network, interleaved),
    )


def _runs(
    who: str, case: Case, call: Callable[[int], object], forward: Callable[[], object]
) -> dict[str, Callable[[], object]]:
    """The runs of one program that are timed."""

    def forwards() -> None:
        for _ in range(FORWARDS):
            forward()

    runs: dict[str, Callable[[], object]] = {f"{who}_call": lambda: call(case.count)}
    if case.timed.fixed_cost:
        runs[f"{who}_short"] = lambda: call(SHORT)
    return runs | {f"{who}_forwards": forwards}


def _steps(who: str, case: Case, rounds: Sequence[dict[str, float]]) -> list[float]:
    """Seconds of a step of the whole batch, in each round."""
    if case.timed.fixed_cost:
        return [(one[f"{who}_call"] - one[f"{who}_short"]) / (case.count - SHORT) for one in rounds]
    return [one[f"{who}_call"] / case.count for one in rounds]


def _side(who: str, case: Case, rounds: Sequence[dict[str, float]]) -> Side:
    steps = _steps(who, case, rounds)
    forwards = [one[f"{who}_forwards"] for one in rounds]

    def per_image(values: Sequence[float], divisor: int = 1) -> Spread:
        return spread([value / divisor / case.batch_size for value in values])

    return Side(
        call=per_image([one[f"{who}_call"] for one in rounds]),
        step=per_image(steps),
        forward=per_image(forwards, FORWARDS),
        step_over_four_forwards=ratios(steps, forwards),
    )


def _against(case: Case, rounds: Sequence[dict[str, float]], agreement: float | None) -> Against:
    def ratio(name: str) -> Spread:
        return ratios([one[f"ours_{name}"] for one in rounds], [one[f"torch_{name}"] for one in rounds])

    return Against(
        torch=_side("torch", case, rounds),
        call_ratio=ratio("call"),
        step_ratio=ratios(_steps("ours", case, rounds), _steps("torch", case, rounds)),
        forward_ratio=ratio("forwards"),
        agreement=agreement,
    )


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def check_torch(cases: Sequence[Case]) -> None:
    """Raise `InputError`, before anything is measured, if a comparison with PyTorch is not possible here."""
    from dmbp_jax.bench._torch.network import check_known, require

    for case in cases:
        require(*case.timed.modules)
        check_known(case.model)
    if cases and jax.default_backend() != "cpu":
        raise InputError(
            f"the PyTorch program computes on CPUs and JAX on a {jax.default_backend()}: compare with "
            "JAX_PLATFORMS=cpu dmbp-jax bench ..."
        )


def measure_all(cases: Sequence[Case]) -> Iterator[BenchRow]:
    """Measure several rows, with progress on standard error."""
    against = [case for case in cases if case.against_torch]
    check_torch(against)
    progress = RunProgress()
    left = [kind for case in cases for kind in (f"compile {case.title}", *[case.title] * case.repeats)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(progress.shown(total=len(left), left=left))
        if against:
            from dmbp_jax.bench._torch.network import all_cores

            stack.enter_context(all_cores())
        for case in cases:
            yield measure(case, progress)
