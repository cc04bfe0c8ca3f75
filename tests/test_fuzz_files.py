"""Files of strangers, by the thousand: each is read, or refused by one message, and nothing else happens.

`fuzz_kinds` says what is read, `fuzz_mutate` how it is spoiled, `fuzz_child` what must hold.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MOST_MIB = 1024
"""Of memory beside what the process had; 2^24 pixels, the most that a file of few bytes may decode to, take
64 MiB for each copy in RGB."""


def fuzz(tmp_path: Path, cases: int, *more: str) -> list[dict]:
    """What each kind of file came to."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "hypothesis"),
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, str(TESTS / "fuzz_child.py"), str(tmp_path), str(cases), *more],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{[one['kind'] for one in found]}\n{done.stderr[-8000:]}"
    return found


def check(found: list[dict], cases: int) -> None:
    for one in found:
        assert not one["failure"], f"{one['kind']}:\n{one['failure'][-6000:]}"
        assert [Path(path).name for path in one["left"]] == ["secret.png"]
        assert one["peak"] < MOST_MIB, one
        assert one["refused"], one
        # A kind of which all is refused tells little of what comes behind.
        if one["cases"] > 200 and one["kind"] not in ("foreign format", "names"):
            assert one["read"], one
    assert sum(one["cases"] for one in found) >= cases


def table(found: list[dict]) -> str:
    lines = [
        f"{'kind':<16} {'cases':>6} {'read':>6} {'refused':>7} {'slowest/s':>9} {'peak/MiB':>8} {'all/s':>6}"
    ]
    lines += [
        f"{one['kind']:<16} {one['cases']:>6} {one['read']:>6} {one['refused']:>7} {one['slowest']:>9.2f} "
        f"{one['peak']:>8.0f} {one['seconds']:>6.1f}"
        for one in found
    ]
    return "\n".join(lines)


@pytest.mark.long
def test_some_hundred_spoiled_files(tmp_path):
    check(fuzz(tmp_path, 400), 300)


@pytest.mark.long
def test_ten_thousand_spoiled_files(tmp_path, capsys):
    found = fuzz(tmp_path, 12_000)
    with capsys.disabled():
        print(f"\n{table(found)}")
    check(found, 10_000)


@pytest.mark.parity
def test_a_thousand_spoiled_checkpoints(tmp_path, capsys):
    found = fuzz(tmp_path, 1_000, "torch")
    with capsys.disabled():
        print(f"\n{table(found)}")
    check(found, 800)
