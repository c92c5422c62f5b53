"""Passes TensorRT's progress on to the bars."""

from collections.abc import Callable
from typing import ParamSpec

from pspsearch_build.engine.bindings import trt
from pspsearch_build.engine.phase_bars import PhaseBars

P = ParamSpec("P")


class Monitor(trt.IProgressMonitor):
    """Shows TensorRT's progress; TensorRT calls it from any thread.

    Ctrl-C ends the build at its next step and sets `interrupted`.
    """

    def __init__(self, bars: PhaseBars) -> None:
        trt.IProgressMonitor.__init__(self)
        self._bars = bars
        self.interrupted = False

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Starts the phase's bar."""
        self._tell(self._bars.start, phase_name, parent_phase, num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Advances the phase's bar; returning False asks TensorRT to stop."""
        self._tell(self._bars.step, phase_name, step)
        return not self.interrupted

    def phase_finish(self, phase_name: str) -> None:
        """Removes the phase's bar; the phase may not have finished its steps."""
        self._tell(self._bars.finish, phase_name)

    def _tell(self, tell: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            tell(*args, **kwargs)
        except KeyboardInterrupt:  # must not reach TensorRT, which knows no exceptions
            self.interrupted = True
