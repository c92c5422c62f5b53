"""Shows the phases of a long build as bars on a terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class PhaseBars:
    """One bar per running phase, indented under its parent; nothing if there is no terminal.

    Its methods may be called from any thread, and ignore phases that were never started.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._bars: dict[str, TaskID] = {}
        self._depths: dict[str, int] = {}

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """Shows a bar for a phase of `steps` steps."""
        self._depths[phase] = 0 if parent is None else self._depths.get(parent, 0) + 1
        self._bars[phase] = self._progress.add_task("  " * self._depths[phase] + phase, total=steps)

    def step(self, phase: str, step: int) -> None:
        """Records that a step is complete, by its number from 0."""
        if phase in self._bars:
            self._progress.update(self._bars[phase], completed=step + 1)

    def finish(self, phase: str) -> None:
        """Removes the phase's bar; the same name may be started again."""
        if phase in self._bars:
            self._progress.remove_task(self._bars.pop(phase))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
