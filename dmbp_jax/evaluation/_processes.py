"""Several processes of one evaluation, on one machine or on several: membership and barriers.

This uses JAX's own runtime (`jax.distributed`). Process 0 is the coordinator. A killed process is detected
after some seconds without a heartbeat, and the others continue without it; if it was process 0, JAX ends the
others at once, with its own message. A process that ends with an error writes a note into the run's folder,
and the other processes end too.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
from jax.experimental import multihost_utils

from dmbp_jax._checks import InputError
from dmbp_jax._ranges import check_whole

NOTE = "results-stopped.txt"
"""The file in the run's folder with the reason why a process ended, for the others to read."""


@runtime_checkable
class Processes(Protocol):
    """The processes of a run, from the view of one of them."""

    index: int
    """This process's number; the first is 0."""
    count: int
    """The number of processes at the start."""

    def meet(self) -> list[int]:
        """A barrier of all live processes; returns their numbers, the same in all of them.

        Raises `InputError` if one has stopped with an error.
        """

    def check(self) -> None:
        """Raise `InputError` if another process has stopped with an error."""


class Alone:
    """A single process."""

    index = 0
    count = 1

    def meet(self) -> list[int]:
        """Returns this process only."""
        return [0]

    def check(self) -> None:
        """Does nothing: there is no other process."""


class _Joined:
    """The processes of JAX's coordination service. Creating it initialises the devices, a barrier of all."""

    def __init__(self, note: Path) -> None:
        self._note = note
        self._devices = jax.devices()
        self.index = jax.process_index()
        self.count = jax.process_count()

    def meet(self) -> list[int]:
        alive = self.alive()
        self.check()
        return alive

    def alive(self) -> list[int]:
        while True:
            # The end of the block is a barrier. If a process is lost by then, the next block reports it.
            with contextlib.suppress(multihost_utils.ProcessFailureError):
                with multihost_utils.live_devices(self._devices) as alive:
                    pass
                return sorted({device.process_index for device in alive})

    def check(self) -> None:
        try:
            reason = self._note.read_text("utf-8")
        except OSError:
            # No process has left a note.
            return
        raise InputError(
            f"stopped, since {reason or 'another process ended with an error'}\n"
            "What was finished is kept; the same command resumes the run"
        )

    def stop(self, reason: str) -> None:
        # Only the first reason is kept.
        with contextlib.suppress(OSError):
            self._note.parent.mkdir(parents=True, exist_ok=True)
            with self._note.open("x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(reason)


@contextlib.contextmanager
def join_processes(
    folder: Path,
    coordinator: str | None = None,
    *,
    count: int | None = None,
    index: int | None = None,
    lost_after: int = 60,
    patience: int = 300,
) -> Iterator[Processes]:
    """Join the other processes of a run within a `with` block; before JAX initialises any device.

    Args:
        folder: of the run, shared by all of them.
        coordinator: `HOST:PORT` of process 0, which opens that port. `"auto"` asks the cluster (Slurm, Open
            MPI, Cloud TPU, Kubernetes: whatever `jax.distributed` knows) for it and the next two.
        count: how many processes there are.
        index: which of them this is, from 0.
        lost_after: seconds without a heartbeat after which a process counts as dead. patience: seconds to
            wait for all processes to join.

    Raises:
        InputError: options that do not fit together, a port that is taken, no cluster.
    """
    detected = coordinator == "auto"
    if coordinator is None:
        if count is not None or index is not None:
            raise InputError("the number of processes says nothing without --coordinator HOST:PORT, or auto")
        yield Alone()
        return
    _check(coordinator, count, index)
    # With it, the others survive the death of a process.
    jax.config.update("jax_enable_recoverability", True)
    # gRPC warns about each proxy that the environment names.
    jax.config.update("jax_check_proxy_envs", False)
    note, is_new = folder / NOTE, not folder.exists()
    # A note of an earlier run; no process of this one can write one before the first barrier.
    with contextlib.suppress(OSError):
        note.unlink()
    try:
        jax.distributed.initialize(
            None if detected else coordinator,
            num_processes=count,
            process_id=index,
            cluster_detection_method=None if detected else "deactivate",
            initialization_timeout=patience,
            heartbeat_timeout_seconds=lost_after,
        )
    except (RuntimeError, ValueError) as error:
        if detected:
            raise InputError(
                f"this is no cluster that JAX knows: {error}; name --coordinator HOST:PORT"
            ) from None
        raise InputError(f"cannot join the other processes at {coordinator}: {error}") from None
    joined = _Joined(note)
    joined.alive()
    try:
        yield joined
    except BaseException as error:
        what = str(error).splitlines()[0] if isinstance(error, InputError) else type(error).__name__
        joined.stop(f"process {joined.index} ended with: {what}")
        raise
    finally:
        if joined.index == 0:
            # Process 0 runs the service, whose end would end the processes that still use it.
            while len(joined.alive()) > 1:
                pass
            with contextlib.suppress(OSError):
                note.unlink()
                if is_new:
                    folder.rmdir()
        jax.distributed.shutdown()


def _check(coordinator: str, count: int | None, index: int | None) -> None:
    if coordinator == "auto":
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--coordinator must be HOST:PORT, the same for all processes, got {coordinator!r}")
    if count is None or index is None:
        raise InputError("--coordinator HOST:PORT needs --num-processes and --process-id too")
    check_whole("--process-id", index, least=0, most=count - 1, why=", one less than --num-processes")
