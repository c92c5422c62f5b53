"""Prints answers: tables for people, JSON for programs."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_OF_A_FILE = 200


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table with numbers to the right and all else to the left. Long cells are wrapped, never cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [tuple(row) for row in rows]
    for number, heading in enumerate(headings):
        numeric = bool(rows) and all(isinstance(row[number], int | float) for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    _console().print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Prints one line per fact."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(_cell(value)))
    _console().print(table)


def print_json(value: object) -> None:
    """Prints JSON on one line."""
    click.echo(json.dumps(value, ensure_ascii=False, default=_plain))


def size(count: int) -> str:
    """A number of bytes with a readable unit, such as `1.5 MiB`."""
    scaled = float(count)
    for unit in ("B", "KiB", "MiB"):
        if scaled < 1024:
            return f"{scaled:.0f} {unit}" if unit == "B" else f"{scaled:.1f} {unit}"
        scaled /= 1024
    return f"{scaled:.1f} GiB"


def attribute_words(attributes: Mapping[str, Any] | None) -> str:
    """Attributes as text for a table cell, such as `brand=Acme price=12`."""
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in (attributes or {}).items()
    )


def plural(count: int, thing: str) -> str:
    """The count with its noun, such as `1 item` or `2 items`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _console() -> Console:
    width = None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
    return Console(file=sys.stdout, width=width, highlight=False)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, datetime):
        return value.astimezone().isoformat(" ", "seconds")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value)} has no JSON form")
