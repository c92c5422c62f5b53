"""Lines for people, or one JSON object per line. A caller's text in one never looks like another line."""

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


_MAX_MESSAGE_CHARACTERS = 4000
"""What is longer in a message is left out: nothing that a caller sends fills a log by its length."""


def one_line(text: str) -> str:
    """The text with all that is not printable as an escape: no new line, no colour, no other direction of writing."""
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
        """Without a traceback."""
        request_id = getattr(record, "request_id", "")
        record.message = _shorten(record.message)
        line = one_line(super().formatMessage(record))
        return f"{line} [{one_line(request_id)}]" if request_id else line

    def format(self, record: logging.LogRecord) -> str:
        """What an error says stands in its traceback, too, and is no line of its own either."""
        line, *trace = super().format(record).split("\n")
        return "\n".join((line, *(f"  {one_line(one)}" for one in trace)))


class JsonFormatter(logging.Formatter):
    """One object: time, level, logger, message, what `extra` gave, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
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
    """Of the whole process, on standard error."""
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    if settings.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("faiss.loader").setLevel("WARNING")  # at INFO it tells what it tried in vain, and needs no more
