"""Lines for people, or one JSON object per line."""

import json
import logging
from contextvars import ContextVar
from typing import Any

from pspsearch.config import LogSettings

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest was given with `extra`."""


CURRENT_CALL: ContextVar[str] = ContextVar("request_id", default="")
"""The request id of what is worked on, in its task and those that it starts."""


class RequestIdFilter(logging.Filter):
    """Gives every record the id of the call that it is about; never leaves one out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """As `request_id`, where there is one."""
        if request_id := CURRENT_CALL.get():
            record.request_id = request_id
        return True


class TextFormatter(logging.Formatter):
    """A line for people, with the call's id at its end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Without a traceback."""
        request_id = getattr(record, "request_id", "")
        line = super().formatMessage(record)
        return f"{line} [{request_id}]" if request_id else line


class JsonFormatter(logging.Formatter):
    """One object: time, level, logger, message, what `extra` gave, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        told: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


def set_up_logs(settings: LogSettings) -> None:
    """Of the whole process, on standard error."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("faiss.loader").setLevel("WARNING")  # at INFO it tells what it tried in vain, and needs no more
