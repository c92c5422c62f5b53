"""Checks whether anybody would be let in, and whether the audit log can be written. Changes nothing."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pspsearch.callers.tokens import read_tokens
from pspsearch.config import SecuritySettings
from pspsearch.errors import PspsearchError
from pspsearch.findings import SOON, Finding, Grade, judge_secret


def examine_callers(settings: SecuritySettings) -> Iterator[Finding]:
    """Examines the tokens, the audit log, and whether anybody may call."""
    if settings.tokens:
        yield from _examine_tokens(Path(settings.tokens))
    if settings.audit_log:
        yield _examine_audit_log(Path(settings.audit_log))
    if settings.is_open and settings.insecure:
        yield Finding("callers", Grade.DOUBTFUL, "insecure: anyone who reaches the port can read and change everything")


def _examine_tokens(path: Path) -> Iterator[Finding]:
    try:
        tokens = read_tokens(path)
    except PspsearchError as error:
        yield Finding("tokens", Grade.BAD, str(error))
        return
    now = datetime.now(UTC)
    good = [one for one in tokens if one.is_good(now)]
    if not good:
        yield Finding("tokens", Grade.BAD, f"{path} has no token that is good: nobody can call; create one")
        return
    yield judge_secret("tokens", path, f"{len(good)} valid")
    soon = [one.access.holder for one in good if not one.is_good(now + SOON)]
    if soon:
        words = f"{', '.join(soon)} will expire within {SOON.days} days: create others in time"
        yield Finding("tokens", Grade.DOUBTFUL, words)


def _examine_audit_log(path: Path) -> Finding:
    """If the path is there, it must be a file; otherwise the server will create one."""
    folder = path.absolute().parent
    if os.access(path, os.F_OK):
        good, words = os.access(path, os.W_OK) and not path.is_dir(), f"{path} is no file"
    else:
        good, words = os.access(folder, os.W_OK | os.X_OK) and folder.is_dir(), f"{folder} is no folder"
    if not good:
        return Finding("audit log", Grade.BAD, f"{words} that this account can write to: chown it, or name another")
    return Finding("audit log", Grade.GOOD, f"{path} can be written")
