"""A process that fuzzes: `python fuzz_child.py SCRATCH CASES [torch]` prints its counts by kind, as JSON.

In every case the file is read, or refused by one `InputError` with a message that is not long. No program is
started, no module loaded, nothing written or read outside the case's folder, and nothing half-written left.
Memory that runs away meets a limit, a case without end a watchdog; both end the process, with a traceback.
"""

import faulthandler
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

ROOM = 3 * 2**30
"""Bytes of address space beyond those of the process as it begins."""
PATIENCE = 60
"""Seconds of a case."""
STARTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.startfile",
    "subprocess.Popen",
    "pty.spawn",
)
LOADS = ("ctypes.dlopen", "pickle.find_class", "socket.connect")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "shutil.rmtree")


class Guard:
    """Notes what must not happen while a case runs."""

    def __init__(self, scratch: Path) -> None:
        self.case: Path | None = None
        self.seen: list[str] = []
        self._outside = str(scratch / "outside")
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.case is None:
            return
        escapes = event in CHANGES and not self._inside(arguments[0])
        if event.startswith(STARTS) or event in LOADS or escapes:
            self.seen.append(f"{event} {arguments}"[:200])
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, _, flags = arguments
            writes = bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            path = os.path.abspath(os.fsdecode(path))
            if path.startswith(self._outside) or (writes and not self._inside(path)):
                self.seen.append(f"opened {path}"[:200])

    def _inside(self, path: object) -> bool:
        return os.path.abspath(os.fsdecode(path)).startswith(str(self.case))


def status(name: str) -> int:
    """A line of `/proc/self/status`, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def fuzz(kind, count: int, scratch: Path, guard: Guard, fault) -> dict:
    """What came of `count` cases of a kind."""
    found = {
        "kind": kind.name,
        "cases": 0,
        "read": 0,
        "refused": 0,
        "slowest": 0.0,
        "peak": 0.0,
        "failure": "",
    }

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(kind.cases)
    def one(case: object) -> None:
        folder = Path(tempfile.mkdtemp(dir=scratch / "cases"))
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        guard.seen.clear()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        room, before = status("VmRSS"), time.perf_counter()
        guard.case = folder
        found["cases"] += 1
        try:
            kind.run(folder, case)
            found["read"] += 1
            message = "none"
        except fault as error:
            found["refused"] += 1
            message = str(error)
        finally:
            guard.case = None
            faulthandler.cancel_dump_traceback_later()
            found["slowest"] = max(found["slowest"], time.perf_counter() - before)
            found["peak"] = max(found["peak"], (status("VmHWM") - room) / 2**20)
            left = [path.name for path in folder.rglob(".*")]
            shutil.rmtree(folder, ignore_errors=True)
        assert 0 < len(message) < 2000 + 3 * len(str(folder)), f"a message of {len(message)} characters"
        assert not guard.seen, guard.seen
        assert not left, f"left behind: {left}"

    began = time.perf_counter()
    try:
        one()
    except Exception:
        found["failure"] = traceback.format_exc()
    found["seconds"] = time.perf_counter() - began
    return found


def main() -> None:
    scratch, total = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    from fuzz_images import PHOTO
    from fuzz_kinds import kinds

    from dmbp_jax._checks import InputError, InputWarning

    for name in ("outside", "cases", "here"):
        (scratch / name).mkdir()
    (scratch / "outside" / "secret.png").write_bytes(PHOTO)
    os.chdir(scratch / "here")
    found = kinds(scratch, torch="torch" in sys.argv)
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", InputWarning)  # of a dark image, which is no matter here
    faulthandler.enable()
    limit = status("VmSize") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    guard = Guard(scratch)
    shares = sum(kind.share for kind in found.values())
    for kind in found.values():
        result = fuzz(kind, -(-total * kind.share // shares), scratch, guard, InputError)
        result["left"] = sorted(
            str(path) for name in ("here", "outside") for path in (scratch / name).iterdir()
        )
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
