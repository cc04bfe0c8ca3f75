"""How far a long run is, and when it will be done."""

import collections
import contextlib
import sys
import time
from collections.abc import Iterable, Iterator

import rich.console
import rich.progress


class RunProgress:
    """Units of work of several kinds, which take unlike times: the estimate knows each kind's own.

    On a terminal a bar, elsewhere a line for each unit, both on standard error.
    """

    def __init__(self) -> None:
        self._left: collections.Counter[str] = collections.Counter()
        self._seconds: dict[str, float] = {}
        self._kind = ""
        self._began = 0.0
        self._total = 0
        self._bar: rich.progress.Progress | None = None

    @contextlib.contextmanager
    def shown(self, *, total: int, left: Iterable[str]) -> Iterator[None]:
        """Show the progress for the length of a `with` block: the kinds of the units that are left to do."""
        self._total = total
        self._left = collections.Counter(left)
        console = rich.console.Console(stderr=True)
        if not console.is_terminal:
            yield
            return
        columns = (
            rich.progress.SpinnerColumn(),
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.description}", markup=False),
        )
        with rich.progress.Progress(*columns, console=console, transient=True) as bar:
            bar.add_task("reading", total=total, completed=self._done)
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    @property
    def _done(self) -> int:
        return self._total - self._left.total()

    def begin(self, kind: str, what: str) -> None:
        """The next unit: its kind, and what of it."""
        self._kind, self._began = kind, time.monotonic()
        text = f"{kind}, {what}{self._estimate()}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text)
        else:
            print(f"[{self._done + 1} of {self._total}] {text}", file=sys.stderr, flush=True)

    def advance(self) -> None:
        """The unit that was begun is done."""
        # The latest of its kind, not the mean: the first one compiles.
        self._seconds[self._kind] = time.monotonic() - self._began
        self._left[self._kind] -= 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)

    def note(self, text: str) -> None:
        """Print a line for the user to keep."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _estimate(self) -> str:
        """The time that is left, once every kind that is left has been seen."""
        kinds = +self._left
        if not kinds or not kinds.keys() <= self._seconds.keys():
            return ""
        seconds = sum(count * self._seconds[kind] for kind, count in kinds.items())
        minutes = round(seconds / 60)
        if minutes >= 90:
            return f", {minutes // 60} h {minutes % 60} min left"
        return f", {minutes} min left" if minutes >= 2 else f", {round(seconds)} s left"
