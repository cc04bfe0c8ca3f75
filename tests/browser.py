"""For tests of pages: a headless Chromium, and a made-up run whose page looks like a real one."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dmbp_jax.evaluation._registry import METRICS
from dmbp_jax.evaluation._store import Picture, Row, Store, resume_store
from dmbp_jax.images import Problem
from dmbp_jax.plot._heatmap import thumbnail_map, thumbnail_photo

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
METHODS = (
    "gradient_x_input", "integrated_gradients", "smoothgrad", "blur_integrated_gradients", "deeplift",
    "guided_backprop", "guided_grad_cam", "lpr", "rise", "fullgrad", "grad_cam", "dmbp",
)  # fmt: skip
NAMES = ("tabby", "ostrich", "container ship", "Pembroke", "strawberry", "pickup", "castle", "teapot")


@contextlib.contextmanager
def open_browser(profile: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """Chromium through its driver, with an empty profile and no network of its own.

    Where it is not installed the test is skipped; in CI it fails.
    """
    if not (CHROMIUM.exists() and DRIVER.exists()):
        absent = "chromium and chromedriver (Debian's packages), which this test drives, are absent"
        pytest.fail(absent) if os.environ.get("CI") else pytest.skip(absent)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-dev-shm-usage",
        "disable-background-networking", "disable-component-update", "disable-sync",
        f"user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # The driver's path is given, so that Selenium looks for none, and downloads none.
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        yield driver
    finally:
        driver.quit()


def made_up_run(
    folder: Path,
    *,
    images: int = 64,
    methods: Sequence[str] = METHODS,
    metrics: Sequence[str] = ("insertion", "complementary_insertion", "deletion"),
    chunks: int | None = None,
    data: str = "folder:../shared/images",
    steps: int = 10,
    names: Sequence[str] | None = None,
    problems: Sequence[Problem] = (),
    listed: Sequence[str] | None = None,
    **config: Any,
) -> Path:
    """A run's folder: every second image has two targets; plausible values, curves and pictures.

    `listed` are the methods of the configuration, where they differ from those that have rows.
    """
    rng = np.random.default_rng(0)
    config = {
        "dataset": "folder",
        "samples": images,
        "chunks": images if chunks is None else chunks,
        "model": "squeezenet1_1",
        "weights": "caffe",
        "methods": {
            name: {"method": name, "options": {"steps": steps} if name == "dmbp" else {}}
            for name in listed or methods
        },
        "metrics": list(metrics),
        "target": "truth",
        "split": None,
        "limit": None,
        "per_class": None,
        "preset": "fast",
        "seed": 0,
        "batch_size": 8,
        **config,
    }
    about = {
        "data": data,
        "classes": {str(index): name for index, name in enumerate(NAMES)},
        "versions": {"python": "3.11.7", "jax": "0.7.0", "dmbp_jax": "0.1.0"},
        "device": "cpu, cpu",
        "started": "2026-01-31T12:00:00+00:00",
    }
    with resume_store(folder, config, about) as store:
        store.add_metrics([METRICS[name] for name in metrics if name in METRICS])
        store.add_problems(problems)
        for number in range(images):
            name = names[number] if names else f"n{1514668 + 977 * number:08d}_{NAMES[number % 8]}.JPEG"
            _add_image(store, rng, number, name, methods, metrics)
    return folder


def _add_image(
    store: Store,
    rng: np.random.Generator,
    number: int,
    name: str,
    methods: Sequence[str],
    metrics: Sequence[str],
) -> None:
    targets = (number % 8, (number + 3) % 8)[: 1 + number % 2]
    hard, photo = rng.normal(0, 0.1), _photo(rng)
    for at, method in enumerate(methods):
        rows, pictures = [], [Picture(name, -1, "", photo)]
        for target in targets:
            for metric in metrics:
                if metric == "complementary_insertion" and len(targets) == 1:
                    continue
                level = {
                    "insertion": 0.25 + 0.03 * at,
                    "complementary_insertion": 0.08 + 0.01 * at,
                    "deletion": 0.2 - 0.01 * at,
                }.get(metric, 0.1)
                value: float | None = float(np.clip(level + hard + rng.normal(0, 0.06), 0, 1))
                share = np.linspace(0, 1, 51)
                rise = share ** (1 / max(value or 0, 0.05) - 1) if metric != "deletion" else (1 - share) ** 4
                curve = tuple((0.9 * rise + rng.normal(0, 0.01, 51)).clip(0, 1).round(4).tolist())
                if method == "fullgrad" and number == 5:
                    value = None
                rows.append(Row(name, target, method, metric, value, 0.05 * (1 + at) ** 2, curve))
            pictures.append(Picture(name, target, method, _map(rng, at)))
        by_metric = {metric: [row for row in rows if row.metric == metric] for metric in metrics}
        store.add(number, method, by_metric, pictures)


def _photo(rng: np.random.Generator) -> bytes:
    coarse = PIL.Image.fromarray(rng.integers(40, 220, (5, 5, 3), dtype=np.uint8))
    return thumbnail_photo(np.asarray(coarse.resize((224, 224), PIL.Image.Resampling.BICUBIC)))


def _map(rng: np.random.Generator, at: int) -> bytes:
    y, x = np.mgrid[-1:1:112j, -1:1:112j]
    centre = rng.uniform(-0.4, 0.4, 2)
    blob = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / 0.15)
    return thumbnail_map(blob + 0.02 * at * rng.normal(size=(112, 112)))
