"""Formats log lines, as text for people or as JSON. A caller's text never looks like a line of its own."""

import json
import logging
from contextvars import ContextVar
from typing import Any

from pspsearch.config import LogSettings

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest comes from `extra`."""


CURRENT_CALL: ContextVar[str] = ContextVar("request_id", default="")
"""The request id of the call that is worked on, in its task and in those that it starts."""


class RequestIdFilter(logging.Filter):
    """Adds the current call's id to every record, and drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Sets `request_id`, if there is a current call."""
        if request_id := CURRENT_CALL.get():
            record.request_id = request_id
        return True


_MAX_MESSAGE_CHARACTERS = 4000
"""A message is cut after this, so that no caller can fill a log with one long text."""


def one_line(text: str) -> str:
    """The text with everything unprintable escaped: no new line, no colour, no other direction of writing."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _shorten(message: str) -> str:
    if len(message) <= _MAX_MESSAGE_CHARACTERS:
        return message
    return f"{message[:_MAX_MESSAGE_CHARACTERS]}... ({len(message):,} characters)"


class TextFormatter(logging.Formatter):
    """A line for people, with the call's id at its end; the lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """Formats the line without its traceback."""
        request_id = getattr(record, "request_id", "")
        record.message = _shorten(record.message)
        line = one_line(super().formatMessage(record))
        return f"{line} [{one_line(request_id)}]" if request_id else line

    def format(self, record: logging.LogRecord) -> str:
        """Escapes the traceback, too: it repeats what an error says, which must not look like a line of its own."""
        line, *trace = super().format(record).split("\n")
        return "\n".join((line, *(f"  {one_line(one)}" for one in trace)))


class JsonFormatter(logging.Formatter):
    """One JSON object: time, level, logger, message, what `extra` gave, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns one line."""
        told: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _shorten(record.getMessage()),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        line = json.dumps(told, ensure_ascii=False, default=str)
        if line.isprintable():
            return line
        return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in line)


def set_up_logs(settings: LogSettings) -> None:
    """Sets up the log of the whole process, on standard error."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("faiss.loader").setLevel("WARNING")  # at INFO it logs attempts that failed and do not matter
