"""A base on disk: FAISS's own data, a header as JSON, and a checksum over both."""

import json
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss

from pspsearch.index.candidates.finder import Effort
from pspsearch.index.candidates.plan import Plan, decode_plan, encode_plan

_TRAILER = struct.Struct("<II8s")
"""The length of the header, the checksum of all bytes before the trailer, and a mark."""

_MARK = b"pspbase1"

_CHUNK_BYTES = 1 << 20


class IndexDamaged(Exception):
    """A base's file is not what was written, or is of another matrix, so the base must be built again."""


@dataclass(frozen=True, slots=True)
class BaseHeader:
    """What a base's file says about the base."""

    plan: Plan
    rows: int
    effort: Effort | None = None
    """None for an exact base, as are the recalls."""
    target_recall: float | None = None
    measured_recall: float | None = None


def write_base_file(path: Path, header: BaseHeader, index: faiss.Index | None) -> None:
    """Writes the whole file without syncing it. Raises OSError if that fails."""
    path.write_bytes(b"")
    if index is not None:
        try:
            faiss.write_index(index, str(path), faiss.IO_FLAG_SKIP_STORAGE)
        except RuntimeError as error:
            raise OSError(f"{path}: FAISS could not write it: {error}") from error
    encoded = json.dumps({**asdict(header), "plan": encode_plan(header.plan)}).encode()
    with path.open("ab") as file:
        file.write(encoded)
    checksum = _checksum(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(_TRAILER.pack(len(encoded), checksum, _MARK))


def read_base_file(path: Path) -> tuple[BaseHeader, faiss.Index | None]:
    """Reads what was written. Raises IndexDamaged if the file is missing, cut short, changed, or of another kind."""
    try:
        header, index_bytes = _read_header(path)
        return header, faiss.read_index(str(path)) if index_bytes else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, struct.error) as error:
        raise IndexDamaged(f"{path}: not the file of a base: {error}") from error


def _read_header(path: Path) -> tuple[BaseHeader, int]:
    """Returns the header, and how many bytes of FAISS's data come before it."""
    with path.open("rb") as file:
        trailer_start = file.seek(-_TRAILER.size, 2)
        header_bytes, checksum, mark = _TRAILER.unpack(file.read())
        if mark != _MARK:
            raise ValueError("it does not end with the mark")
        if checksum != _checksum(path, trailer_start):
            raise ValueError("its checksum is wrong")
        index_bytes = file.seek(trailer_start - header_bytes)
        fields: dict[str, Any] = json.loads(file.read(header_bytes))
    fields["plan"] = decode_plan(fields["plan"])
    fields["effort"] = fields["effort"] and Effort(**fields["effort"])
    return BaseHeader(**fields), index_bytes


def _checksum(path: Path, size_bytes: int) -> int:
    checksum = 0
    with path.open("rb") as file:
        while size_bytes:
            chunk = file.read(min(size_bytes, _CHUNK_BYTES))
            if not chunk:
                break
            checksum = zlib.crc32(chunk, checksum)
            size_bytes -= len(chunk)
    return checksum
