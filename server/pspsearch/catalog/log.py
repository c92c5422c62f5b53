"""Finds damage in the catalog's write-ahead log.

SQLite reads the log up to the first bad frame and takes the rest for the torn end of a transaction that was never
acknowledged. But each transaction is synced before the next one begins, so a torn end holds at most one. If two whole
transactions follow a bad frame, acknowledged writes are lost.
"""

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pspsearch.catalog.connections import damage

_MAGIC = 0x377F0682
"""The magic number of a log whose checksums read words lowest byte first; one more means highest byte first."""
_HEADER, _SUMMED, _FRAME_HEADER, _SUMMED_OF_FRAME_HEADER = 32, 24, 24, 8
"""Sizes in bytes."""
_PAGE_SIZE_AT = 16
"""The offset of the page size in the catalog's file."""
_AT_ONCE = 1024
"""How many frames are read at once."""

_Words = NDArray[np.uint32]
_Flags = NDArray[np.bool_]
_Order = Literal["<", ">"]


def log_of(catalog: Path) -> Path:
    """The path of the log that SQLite keeps for the catalog."""
    return catalog.with_name(f"{catalog.name}-wal")


def check_log(catalog: Path) -> None:
    """Raises CatalogDamaged if `find_loss` finds a loss."""
    if loss := find_loss(catalog):
        raise damage(loss)


def find_loss(catalog: Path) -> str:
    """Describes the lost writes; empty if none are lost. Changes nothing, but nobody else may write to the log.

    Damage in the last transaction looks like a torn end, and so does damage at the end of the last but one.
    """
    log = log_of(catalog)
    if not log.is_file() or log.stat().st_size < _HEADER:
        return ""
    raw = np.fromfile(log, np.uint8, _HEADER)
    header = _read(raw, ">")
    order: _Order = ">" if header[0] == _MAGIC + 1 else "<"
    known = np.array_equal(_sum(np.zeros(2, np.uint32), raw[:_SUMMED], order), header[6:])
    size = _FRAME_HEADER + (int(header[2]) if known else _page_size(catalog))
    count = (log.stat().st_size - _HEADER) // size
    if count == 0:
        return ""
    frames = np.memmap(log, np.uint8, "r", _HEADER, (count, size))
    salts = header[4:6] if known else _read(frames[0, :_FRAME_HEADER], ">")[2:4]
    if not (salts == header[4:6]).any():
        return ""  # the torn header of a log that began anew; the catalog has what the frames hold
    whole, ends = _look(frames, header[6:], salts, order)
    first = int(np.argmin(whole)) if known else 0
    behind = np.bincount(np.cumsum(~whole[first:])[whole[first:] & ends[first:]])
    if (known and whole[first]) or behind.max(initial=0) < 2:
        return ""
    return f"{log} is damaged: {behind.max()} transactions after its frame {first + 1} are lost"


def _look(frames: NDArray[np.uint8], seed: _Words, salts: _Words, order: _Order) -> tuple[_Flags, _Flags]:
    """Which frames are intact, given the checksums of those before them, and which end a transaction."""
    whole, ends = np.empty(len(frames), np.bool_), np.empty(len(frames), np.bool_)
    for first in range(0, len(frames), _AT_ONCE):
        chunk = np.asarray(frames[first : first + _AT_ONCE])
        headers = _read(chunk[:, :_FRAME_HEADER], ">")
        sums = headers[:, 4:]
        seeds = np.concatenate([seed[None], sums[:-1]])
        content = np.concatenate([chunk[:, :_SUMMED_OF_FRAME_HEADER], chunk[:, _FRAME_HEADER:]], axis=1)
        right = (_sum(seeds, content, order) == sums) & (headers[:, 2:4] == salts)
        whole[first : first + _AT_ONCE], ends[first : first + _AT_ONCE] = right.all(axis=1), headers[:, 1] > 0
        seed = sums[-1]
    return whole, ends


def _sum(seeds: _Words, content: NDArray[np.uint8], order: _Order) -> _Words:
    """SQLite's two checksums of each row of bytes, which begin with the two checksums before it."""
    words = _read(content, order)
    of_seeds, of_words = _weights(words.shape[-1])
    return seeds @ of_seeds + words @ of_words


@cache
def _weights(count: int) -> tuple[_Words, _Words]:
    """What each seed and each word adds to the two checksums, modulo 2 ** 32.

    SQLite takes two words at a time: `s += a + t; t += b + s`.
    """
    of_words, power = np.empty((count, 2), np.uint32), np.eye(2, dtype=np.uint32)
    for place in range(count - 2, -1, -2):
        of_words[place : place + 2] = np.array([[1, 1], [0, 1]], np.uint32) @ power
        power = np.array([[1, 1], [1, 2]], np.uint32) @ power
    return power, of_words


def _read(content: NDArray[np.uint8], order: _Order) -> _Words:
    return np.ascontiguousarray(content).view(f"{order}u4").astype(np.uint32)


def _page_size(catalog: Path) -> int:
    size = int(np.fromfile(catalog, ">u2", 1, offset=_PAGE_SIZE_AT)[0])
    return 65_536 if size == 1 else size
