"""Passes TensorRT's messages to Python's log, and keeps its errors for the sentence that reports a failure."""

import logging

from pspsearch_build.engine.bindings import trt

_LOG = logging.getLogger(__name__)
_Severity = trt.ILogger.Severity
_LEVELS = {
    _Severity.INTERNAL_ERROR: logging.ERROR,
    _Severity.ERROR: logging.ERROR,
    _Severity.WARNING: logging.WARNING,
    _Severity.INFO: logging.INFO,
    _Severity.VERBOSE: logging.DEBUG,
}


class TensorRtLog(trt.ILogger):
    """TensorRT's logger. TensorRT calls it from any thread; it never raises.

    It must outlive everything that was made with it.
    """

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Takes one message."""
        level = _LEVELS[severity]
        if level == logging.ERROR:
            self.errors.append(msg)
        else:
            _LOG.log(level, "%s", msg)
