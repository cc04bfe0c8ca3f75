"""Which public networks pass `gated`, measured: a row for each in `public_networks.csv`, and the table of them.

`python notebooks/study_public_networks.py` measures the networks of `public_networks.py` that have no row yet,
each in a process of its own, and prints the Markdown table of `docs/your_own_network.md`; with names, such as
`keras/ResNet50`, these alone, anew. It needs the packages (`pip install --no-deps`, where they want an old JAX).
What is compared is `gated(network)` with the package's own network, on one photograph; weights are random.
"""

import csv
import importlib.metadata
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
from public_networks import CASES, Built, Case

import dmbp_jax as dmbp
from dmbp_jax.attribution import full_gradients
from dmbp_jax.rules import find_sites, lay_out, linearize, tap

TABLE = Path(__file__).with_name("public_networks.csv")
LIMIT_S = 600
COLUMNS = (
    *("package", "version", "network", "side", "given", "verdict", "smooth_allowed", "relus", "smooth"),
    *("logits_difference", "gradient_difference", "gap", "fast", "grad_cam", "grad_cam_at"),
    *("first_s", "again_s", "fast_first_s", "fast_again_s", "plain_first_s"),
)


def photograph(side: int) -> jax.Array:
    """The example photograph, `(1, side, side, 3)`, of mean 0 and deviation 1."""
    with PIL.Image.open(dmbp.example_photo()) as photo:
        pixels = np.asarray(photo.convert("RGB").resize((side, side)), np.float32)
    return jnp.asarray((pixels - pixels.mean()) / pixels.std())[None]


def measure(case: Case) -> dict[str, Any]:
    """One row."""
    row: dict[str, Any] = {
        "package": case.package,
        "version": importlib.metadata.version(case.package),
        "network": case.name,
        "side": case.side,
    }
    built = case.build(case.side)
    row["given"] = built.given
    x = photograph(case.side)
    logits = jax.jit(built.plain)(x)
    target = int(logits[0].argmax())
    apply, params, row["verdict"] = gate(built, x)
    row["smooth_allowed"] = row["verdict"] != "exact"
    row |= count_sites(apply, params, x[0])

    found = jax.jit(apply)(params, x)
    row["logits_difference"] = difference(found, logits)
    own, row["plain_first_s"] = timed(lambda: jax.jit(jax.grad(lambda x: built.plain(x)[0, target]))(x))
    a, row["first_s"] = timed(lambda: dmbp.explain(apply, params, x, [target], "gradient"))
    row["again_s"] = timed(lambda: dmbp.explain(apply, params, x, [target], "gradient"))[1]
    row["gradient_difference"] = difference(a.values, own)

    fast, row["fast_first_s"] = timed(lambda: dmbp.explain(apply, params, x, [target], preset="fast"))
    row["fast_again_s"] = timed(lambda: dmbp.explain(apply, params, x, [target], preset="fast"))[1]
    row["fast"] = state_of(fast)
    gap = fast.completeness_gap
    if gap is None:
        gap = jax.jit(lambda p, x: full_gradients(apply, p, x, jnp.asarray(target)).completeness_gap)(
            params, x[0]
        )
    row["gap"] = float(np.abs(np.asarray(gap) / np.asarray(logits)[0, target]).max())
    row["grad_cam"], row["grad_cam_at"] = grad_cam(case, apply, params, x, target)
    return row


def gate(built: Built, x: jax.Array) -> tuple[Any, Any, str]:
    """The gated network, with `linearize_smooth` if it is refused without; and "exact", or the refusal."""
    apply, params = dmbp.gated(built.network, layout=built.layout)
    try:
        find_sites(apply, params, x[0])
    except dmbp.InputError as error:
        return *dmbp.gated(built.network, layout=built.layout, linearize_smooth=True), shorten(str(error))
    return apply, params, "exact"


def shorten(refusal: str) -> str:
    """The operation of a refusal, and the file and function in which it stands."""
    found = re.search(r"piecewise linear: (.*?), at (\S+?):\d+\S* \((\S+?)\)", refusal)
    if found is None:
        return refusal[:160]
    what, file, function = found.groups()
    return f"{what}, in {Path(file).name} ({function})"


def count_sites(apply: Any, params: Any, image: jax.Array) -> dict[str, int]:
    """How many activations and pools are piecewise linear, and how many operations are taken by tangents."""
    at = jax.eval_shape(lambda p, x: linearize(apply, p, x)[1], params, image)
    return {
        "relus": len(at.gates) + len(at.pieces) + len(at.selections),
        "smooth": len(at.tangents) + len(at.points),
    }


def grad_cam(case: Case, apply: Any, params: Any, x: jax.Array, target: int) -> tuple[str, str]:
    """What Grad-CAM's map is, and at which site: the last activation, or the last layer with tokens where the
    map is not 0 (behind the last attention only the token of the class reaches the logits)."""
    options: dict[str, Any] = {}
    if case.token_grid is not None:
        tokens = case.token_grid[0] * case.token_grid[1]
        layers = [s for s in find_sites(apply, params, x[0]) if s.kind == "affine" and len(s.shape) == 2]
        layers = [s for s in layers if tokens <= s.shape[0] <= tokens + 5]
        tapped = jax.jit(lambda p, x: tap(apply, p, x, jnp.asarray(target), layers)[2:])(params, x[0])
        cams = {s.name: cam(*(one[s.name] for one in tapped), case.token_grid) for s in layers}
        options = {
            "site": [*cams, *(name for name, found in cams.items() if found > 0)][-1],
            "token_grid": case.token_grid,
        }
    try:
        a = dmbp.explain(apply, params, x, [target], "grad_cam", **options)
    except dmbp.InputError as error:
        return f"refused: {str(error)[:100]}", ""
    return state_of(a), options.get("site", "")


def cam(activation: jax.Array, gradient: jax.Array, grid: tuple[int, int]) -> float:
    """The largest value of Grad-CAM's map of one site."""
    laid, to = lay_out(activation, grid), lay_out(gradient, grid)
    return float((to.mean(axis=(0, 1)) * laid).sum(axis=-1).max())


def state_of(a: dmbp.Attribution) -> str:
    """ "finite", "zero" or "not finite"."""
    if not bool(a.finite.all()):
        return "not finite"
    return "finite" if bool(jnp.abs(a.values).max() > 0) else "zero"


def difference(found: jax.Array, wanted: jax.Array) -> float:
    """The largest difference, as a part of the largest value."""
    expected = np.asarray(wanted)
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def timed(make: Any) -> tuple[Any, float]:
    """What it makes, and the seconds."""
    start = time.perf_counter()
    made = jax.block_until_ready(make())
    return made, time.perf_counter() - start


def rows() -> list[dict[str, str]]:
    """Those of the file."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def write(row: dict[str, Any]) -> None:
    """Put a row into the file in the order of `CASES`, instead of one of the same network."""
    kept = {(r["package"], r["network"]): r for r in rows()}
    kept[row["package"], row["network"]] = {
        k: f"{v:.3g}" if isinstance(v, float) else v for k, v in row.items()
    }
    order = [(case.package, case.name) for case in CASES]
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept[key] for key in order if key in kept)


def table() -> str:
    """Markdown, of the file."""
    head = [
        "package",
        "network, pixels",
        "alone",
        "ReLUs, smooth",
        "logits",
        "gradient",
        "gap",
        "maps",
        "seconds",
    ]
    lines = [head, ["---"] * len(head)]
    for r in rows():
        operation = re.split(r"[ ,]", r["verdict"])[0]
        alone = "exact" if operation == "exact" else f"`{operation}`"
        logits, gradient = (f"{float(r[key]):.0e}" for key in ("logits_difference", "gradient_difference"))
        gap = f"{float(r['gap']):.0%}" if r["smooth_allowed"] == "True" else f"{float(r['gap']):.0e}"
        states = r["fast"], r["grad_cam"]
        maps = states[0] if len(set(states)) == 1 else " / ".join(states)
        seconds = ", ".join(
            f"{float(r[key]):.2g}" for key in ("first_s", "again_s", "fast_first_s", "fast_again_s")
        )
        named = f"{r['package']} {r['version']}", f"{r['network']}, {r['side']}"
        lines.append([*named, alone, f"{r['relus']}, {r['smooth']}", logits, gradient, gap, maps, seconds])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(names: list[str]) -> None:
    """Measure, each network in a process of its own, and print the table."""
    done = {f"{r['package']}/{r['network']}" for r in rows()}
    for case in CASES:
        name = f"{case.package}/{case.name}"
        if (names and name not in names) or (not names and name in done):
            continue
        start = time.perf_counter()
        try:
            child = subprocess.run(
                [sys.executable, __file__, "--one", name],
                timeout=LIMIT_S,
                capture_output=True,
                text=True,
                check=False,
            )
            said = "" if child.returncode == 0 else child.stderr[-1500:]
        except subprocess.TimeoutExpired:
            said = f"more than {LIMIT_S} s"
        print(f"{name}: {time.perf_counter() - start:.0f} s {said}", file=sys.stderr, flush=True)
    print(table())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        warnings.filterwarnings("ignore")
        write(measure(next(case for case in CASES if f"{case.package}/{case.name}" == sys.argv[2])))
    else:
        main(sys.argv[1:])
