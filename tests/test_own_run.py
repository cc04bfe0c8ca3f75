"""The program of `docs/your_own_network.md`, killed and resumed, with its report in a browser."""

import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from browser import open_browser
from commands import rows_of

from dmbp_jax.evaluation._store import open_store

PAGE = Path(__file__).parents[1] / "docs" / "your_own_network.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
FIRST, LATER = next(
    (block, after) for block, after in itertools.pairwise(BLOCKS) if "dmbp.evaluate(" in block
)
PRELUDE = (
    "import sys; sys.path.insert(0, {tests!r}); from tiny_evaluation import kill_after; kill_after({units})\n"
)
COUNTING = """
import dmbp_jax.evaluation._items as items
items.explain = None  # An explanation would end the program.
"""


def run(folder, *parts):
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text("\n".join(parts))
    return subprocess.run(
        [sys.executable, "-W", "ignore", script],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run(folder, FIRST)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_is_short():
    lines = [line for line in FIRST.splitlines() if line.strip()]
    assert len(lines) <= 25


@pytest.mark.long
def test_killed_and_resumed_it_has_the_rows_of_an_undisturbed_run(undisturbed, tmp_path):
    """`kill -9` before the third batch of a method is stored, and before the nineteenth of twenty."""
    for units in (2, 16):
        prelude = PRELUDE.format(tests=str(Path(__file__).parent), units=units)
        assert run(tmp_path, prelude, FIRST).returncode == -signal.SIGKILL
    with open_store(tmp_path / "my_run") as store:
        assert len(store.done()) == 18 * 4
    done = run(tmp_path, FIRST)
    assert done.returncode == 0, done.stderr
    assert "[19 of 20]" in done.stderr
    assert "[18 of 20]" not in done.stderr
    assert rows_of(tmp_path / "my_run") == rows_of(undisturbed / "my_run")
    # insertion, deletion and half_mass of five methods; counter-evidence has two rows.
    assert len(rows_of(tmp_path / "my_run")) == 32 * 5 * 5


def test_a_metric_is_added_without_an_explanation(undisturbed):
    before = rows_of(undisturbed / "my_run")
    later = LATER.replace("class_sensitivity", "sharpness")
    own = "def sharpness(predict, image, heatmap, target):\n    return float(abs(heatmap).max())\n"
    own += "dmbp.register_metric(sharpness, higher_is_better=True)\n"
    done = run(undisturbed, FIRST, COUNTING, own, later)
    assert done.returncode == 0, done.stderr
    after = rows_of(undisturbed / "my_run")
    assert [row for row in after if row.metric != "sharpness"] == before
    assert sum(row.metric == "sharpness" for row in after) == 32 * 5


def test_its_report_shows_in_a_browser(undisturbed, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    with open_browser(tmp_path / "profile") as browser:
        browser.get((undisturbed / "my_run" / "report.html").as_uri())
        text = browser.find_element(By.TAG_NAME, "body").text
        for seen in ("brightness", "Half mass", "Insertion (IM)", "Grad-CAM", "arrays in memory"):
            assert seen in text, seen
        browser.execute_script("document.getElementById('images').scrollIntoView()")
        shown = WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.CSS_SELECTOR, "#images img"))
        # A photograph and five maps of each image that is in sight.
        assert len(shown) >= 6
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
