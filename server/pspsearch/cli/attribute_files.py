"""Reads the attributes of imported items from a table."""

import csv
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pspsearch.cli.image_files import ImageFile
from pspsearch.errors import InvalidRequest

Attributes = dict[str, Any]


@dataclass(slots=True)
class AttributeTable:
    """The rows of an attribute file. Each names an item's `id`, or a `file` relative to the table's folder."""

    by_id: dict[str, Attributes] = field(default_factory=dict[str, Attributes])
    by_path: dict[Path, Attributes] = field(default_factory=dict[Path, Attributes])
    used: set[int] = field(default_factory=set[int])
    """The Python ids of the rows that matched a file."""

    def of(self, file: ImageFile) -> Attributes | None:
        """Returns the attributes of a file, or None if no row matches it."""
        row = self.by_id.get(file.id)
        if row is None and self.by_path:
            row = self.by_path.get(Path(file.path).resolve())
        if row is not None:
            self.used.add(id(row))
        return row

    @property
    def unused(self) -> int:
        """How many rows matched no file."""
        return len(self.by_id) + len(self.by_path) - len(self.used)


def read_attributes(path: Path) -> AttributeTable:
    """Reads a `.csv` with a header, or a `.jsonl` of objects. Raises InvalidRequest with the number of a bad line.

    A CSV cell is read as a number, `true` or `false` if it is one in JSON, and otherwise as text. An empty cell gives
    no attribute.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidRequest(f"{path} is neither .csv nor .jsonl")
    table = AttributeTable()
    try:
        for number, row in reader(path):
            _add(table, row, path, number)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8") from error
    return table


def _add(table: AttributeTable, row: Attributes, path: Path, number: int) -> None:
    key = "id" if "id" in row else "file"
    name = row.pop(key, None)
    if not isinstance(name, str):
        raise InvalidRequest(f"{path} line {number} has no `id` and no `file`")
    if key == "id":
        rows, place = table.by_id, unicodedata.normalize("NFC", name)
    else:
        rows, place = table.by_path, (path.parent / name).resolve()
    if place in rows:
        raise InvalidRequest(f"{path} line {number} is a second row for {name!r}")
    rows[place] = row  # pyright: ignore[reportArgumentType] - the branches above pair them


def _read_csv(path: Path) -> Iterator[tuple[int, Attributes]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise InvalidRequest(f"{path} line {reader.line_num} does not have as many cells as the header")
                values = {name: value if name in {"id", "file"} else _value(value) for name, value in row.items()}
                yield reader.line_num, {name: value for name, value in values.items() if value != ""}
        except csv.Error as error:
            raise InvalidRequest(f"{path} line {reader.line_num + 1} is not CSV: {error}") from error


def _value(cell: str) -> str | float | bool:
    """Reads a cell as a JSON number or boolean if it is one, else as text."""
    try:
        value = json.loads(cell, parse_constant=str)
    except ValueError:
        return cell
    return value if isinstance(value, bool | int | float) else cell


def _read_jsonl(path: Path) -> Iterator[tuple[int, Attributes]]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InvalidRequest(f"{path} line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise InvalidRequest(f"{path} line {number} is not a JSON object")
            yield number, row
