"""What a checkup says: each room has one, and `pspsearch doctor` prints what all of them find."""

import stat
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

SOON = timedelta(days=14)
"""What ends within this time is doubtful: somebody has to replace it."""


class Grade(StrEnum):
    """How bad it is."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    BAD = "bad"
    """A server would not start, or not for long."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    grade: Grade
    words: str
    """What there is and, where that is not good, what to do."""


def judge_secret(what: str, file: Path, words: str) -> Finding:
    """A good finding about a file with secrets; a doubtful one where others than the file's owner can get at it."""
    if file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        return Finding(what, Grade.DOUBTFUL, f"{words}, but others than its owner can get at {file}: chmod 600 it")
    return Finding(what, Grade.GOOD, words)
