"""TensorRT's progress, passed on to the bars."""

from collections.abc import Callable
from typing import ParamSpec

from pspsearch_build.engine.bindings import trt
from pspsearch_build.engine.phase_bars import PhaseBars

P = ParamSpec("P")


class Monitor(trt.IProgressMonitor):
    """TensorRT calls it from any thread. Ctrl-C ends the build at the next step, and `interrupted` tells of it."""

    def __init__(self, bars: PhaseBars) -> None:
        trt.IProgressMonitor.__init__(self)
        self._bars = bars
        self.interrupted = False

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """A phase begins."""
        self._tell(self._bars.start, phase_name, parent_phase, num_steps)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """One step is done; False asks TensorRT to stop."""
        self._tell(self._bars.step, phase_name, step)
        return not self.interrupted

    def phase_finish(self, phase_name: str) -> None:
        """A phase ends, perhaps before all its steps."""
        self._tell(self._bars.finish, phase_name)

    def _tell(self, tell: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            tell(*args, **kwargs)
        except KeyboardInterrupt:  # it must not travel through TensorRT, which knows nothing of exceptions
            self.interrupted = True
