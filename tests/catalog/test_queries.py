"""The SQL of reads finds its rows by an index; no table is scanned, however many items there are."""

import contextlib
import re
from pathlib import Path

import pytest

from pspsearch.catalog import queries
from pspsearch.catalog.connections import connect_new
from pspsearch.catalog.schema import migrate

TABLES = re.compile(r"SCAN (items|images|descriptors|requests|collections$)")


@pytest.mark.parametrize("name", ["ITEMS", "ITEMS_BY_KEY", "PAGE", "ATTRIBUTES", "IMAGE", "DESCRIPTOR"])
def test_nothing_is_read_through(tmp_path: Path, name: str) -> None:
    """Every table is searched by an index and never scanned."""
    plan = explain(tmp_path, getattr(queries, name))

    assert plan
    assert not any(TABLES.match(step) for step in plan), plan


@pytest.mark.parametrize("name", ["PAGE", "SEQUENCES", "ROWS", "COLLECTIONS"])
def test_nothing_is_sorted(tmp_path: Path, name: str) -> None:
    """What must be in order is read in order, so the first row comes before the last one is looked at."""
    plan = explain(tmp_path, getattr(queries, name))

    assert plan
    assert not any("TEMP B-TREE" in step for step in plan), plan


def explain(folder: Path, statement: str) -> list[str]:
    """The steps of SQLite's plan."""
    names = dict.fromkeys(re.findall(r":(\w+)", statement), 0)
    with contextlib.closing(connect_new(folder / "catalog")) as connection:
        migrate(connection)
        return [step for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", names)]
