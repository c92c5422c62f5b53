"""Shows the progress of an import: a bar on a terminal, elsewhere a line every ten seconds."""

import time
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_SECONDS_BETWEEN_LINES = 10.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.0f}/s")


class ImportProgress:
    """A context manager that shows progress on standard error, so that standard output stays clean."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("importing"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task("importing", total=total) if self._bar else None
        self._total = total
        self._done = 0
        self._begun = self._said = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """The time since this object was made."""
        return time.monotonic() - self._begun

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self) -> None:
        """Counts one more finished image."""
        self._done += 1
        if self._bar and self._task is not None:
            self._bar.advance(self._task)
        elif time.monotonic() - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            rate = self._done / self.elapsed_s
            left_s = (self._total - self._done) / rate
            click.echo(f"{self._done} of {self._total} images, {rate:.0f}/s, {left_s:.0f} s left", err=True)
