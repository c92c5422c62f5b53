"""The audit log: who wrote what, who changed what, and who was turned away, as one JSON object per line."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path

from pspsearch.call import Call
from pspsearch.callers.access import Access, Right
from pspsearch.callers.caller import Caller
from pspsearch.callers.rights import RULES
from pspsearch.callers.strangers import Strangers
from pspsearch.errors import BadSettings
from pspsearch.logs import JsonFormatter

log = logging.getLogger(__name__)

TURNED_AWAY = "turned_away"
"""The fact that counts how many requests of a stream were turned away."""

_UNKNOWN = "UNAUTHENTICATED"
_DENIALS = (_UNKNOWN, "PERMISSION_DENIED")


class Audit:
    """A file that is only ever appended to; if it is moved away, a new one is begun.

    Unknown callers get a bounded number of lines a minute, and then one line that counts what was left out.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Opens the file; BadSettings if it cannot be written. With None, nothing is written."""
        self._file = None if path is None else _open(path)
        self._strangers = Strangers(clock)

    def write(
        self,
        method: str,
        code: str,
        access: Access,
        call: Call,
        request: object,
        caller: Caller,
    ) -> None:
        """Writes a line about a call that ended with this code, unless it only read and was not turned away.

        `request` is None if it was not read.
        """
        rule = RULES[method]
        if self._file is None or rule is None:
            return
        if rule.right is Right.READ and code not in _DENIALS and TURNED_AWAY not in call.facts:
            return
        if self._strangers.is_over():
            self._tell_left_out()
        if code == _UNKNOWN and not access.holder and not self._strangers.admit(caller.host):
            return
        told = {
            "collection": rule.collection(request) if request is not None else None,
            "method": method,
            "code": code,
            "holder": access.holder,
            "caller": call.caller,
            "peer": caller.peer,
            "request_id": call.request_id,
            "milliseconds": round(1000 * call.elapsed_s(), 3),
            **call.facts,
        }
        message = f"{access.holder or call.caller} called {method}: {code}"
        self._write(message, told)

    def close(self) -> None:
        """Writes how much was left out, and closes the file; nothing may be written after that."""
        if self._file is not None:
            self._tell_left_out()
            self._file.close()

    def _tell_left_out(self) -> None:
        """Writes one line if anything was left out."""
        if by_host := self._strangers.end():
            count = sum(by_host.values())
            message = f"{count:,} more calls of strangers were turned away, and have no lines"
            self._write(message, {"code": _UNKNOWN, "left_out": count, "left_out_by_host": by_host})

    def _write(self, message: str, told: Mapping[str, object]) -> None:
        assert self._file is not None
        record = logging.makeLogRecord({"name": "pspsearch.audit", "levelname": "INFO", "msg": message, **told})
        self._file.handle(record)


class _File(WatchedFileHandler):
    def emit(self, record: logging.LogRecord) -> None:
        """Begins a new file if the last one was moved away, which may fail."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Logs the failure: it must not end the call that the line is about."""
        log.error("the audit log %s cannot be written: %s is not in it", self.baseFilename, record.getMessage())

    def _open(self) -> TextIOWrapper:
        """Creates a file that only its owner can read."""
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


def _open(path: Path) -> _File:
    try:
        file = _File(path)
    except OSError as error:
        raise BadSettings(f"the audit log {path} cannot be written: {error.strerror}") from error
    file.setFormatter(JsonFormatter())
    return file
