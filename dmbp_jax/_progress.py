"""Progress on standard error: a bar on a terminal, lines elsewhere."""

import collections
import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.progress


@contextlib.contextmanager
def bar(
    description: str, total: int | None, *, remaining: bool = False
) -> "Iterator[rich.progress.Progress | None]":
    """A progress bar of one task within a `with` block; None if standard error is no terminal.

    `remaining`: show the estimated remaining time (for steps of equal length) instead of the elapsed time.

    >>> with bar("reading", 3) as shown:
    ...     shown is None
    True
    """
    import rich.console
    import rich.progress

    console = rich.console.Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (
        rich.progress.SpinnerColumn(),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn() if remaining else rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("{task.description}", markup=False),
    )
    with rich.progress.Progress(*columns, console=console, transient=True) as shown:
        shown.add_task(description, total=total)
        yield shown


class StepProgress:
    """An `on_step`: shows "compiling", then the number of finished steps; without a terminal every tenth."""

    def __init__(self) -> None:
        self._label = ""
        self._tenths = 0
        self._bar: "rich.progress.Progress | None" = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress for the length of a `with` block."""
        try:
            with bar("compiling", None) as self._bar:
                yield
        finally:
            self._bar = None

    def begin(self, label: str) -> None:
        """Start with the next piece of work, which is being compiled."""
        self._label, self._tenths = label, 0
        if self._bar is None:
            print(f"{label}compiling", file=sys.stderr, flush=True)
        else:
            self._bar.reset(self._bar.task_ids[0], total=None, description=f"{label}compiling")

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` steps of `total` are done."""
        tenths = done * 10 // total
        if self._bar is not None:
            self._bar.update(
                self._bar.task_ids[0], completed=done, total=total, description=f"{self._label}iterating"
            )
        elif tenths > self._tenths and total > 1:
            print(f"{self._label}step {done} of {total}", file=sys.stderr, flush=True)
        self._tenths = tenths


class RunProgress:
    """Progress of work units of several kinds; the remaining time is estimated from each kind's own time.

    Without a terminal it prints a line for each unit.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._left: collections.Counter[str] = collections.Counter()
        self._seconds: dict[str, float] = {}
        self._kind = ""
        self._began = 0.0
        self._total = 0
        self._bar: "rich.progress.Progress | None" = None

    @contextlib.contextmanager
    def shown(self, *, total: int, left: Iterable[str]) -> Iterator[None]:
        """Show the progress within a `with` block; `left` are the kinds of the remaining units."""
        self._total = total
        self._left = collections.Counter(left)
        try:
            with contextlib.nullcontext() if self._silent else bar("reading", total) as self._bar:
                self._show()
                yield
        finally:
            self._bar = None

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)

    @property
    def _done(self) -> int:
        return self._total - self._left.total()

    def begin(self, kind: str, what: str) -> None:
        """Start the next unit, of a kind, described by `what`."""
        self._kind, self._began = kind, time.monotonic()
        text = f"{kind}, {what}{self._estimate()}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text)
        elif not self._silent:
            print(f"[{self._done + 1} of {self._total}] {text}", file=sys.stderr, flush=True)

    def advance(self) -> None:
        """The unit that was begun is done."""
        # The latest time of a kind, not the mean: the first one includes compiling.
        self._seconds[self._kind] = time.monotonic() - self._began
        self._left[self._kind] -= 1
        self._show()

    def note(self, text: str) -> None:
        """Print a permanent line."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _estimate(self) -> str:
        """The remaining time, once a unit of every remaining kind is done."""
        kinds = +self._left
        if not kinds or not kinds.keys() <= self._seconds.keys():
            return ""
        seconds = sum(count * self._seconds[kind] for kind, count in kinds.items())
        minutes = round(seconds / 60)
        if minutes >= 90:
            return f", {minutes // 60} h {minutes % 60} min left"
        return f", {minutes} min left" if minutes >= 2 else f", {round(seconds)} s left"
