"""What checkups find: each room has its own, and `pspsearch doctor` prints what all of them find."""

import stat
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

SOON = timedelta(days=14)
"""What ends within this time is doubtful, because somebody must replace it."""


class Grade(StrEnum):
    """How bad a finding is."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    BAD = "bad"
    """A server would not start, or would not run for long."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    what: str
    grade: Grade
    words: str
    """What there is and, if that is not good, what to do."""


def judge_secret(what: str, file: Path, words: str) -> Finding:
    """A good finding about a file with secrets, or a doubtful one if users other than its owner can access it."""
    if file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        return Finding(what, Grade.DOUBTFUL, f"{words}, but users other than its owner can access {file}: chmod 600 it")
    return Finding(what, Grade.GOOD, words)
