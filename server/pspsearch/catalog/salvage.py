"""Copies what is whole in a damaged catalog into a new one, and says what was lost."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import apsw

from pspsearch.catalog.connections import connect_new, connect_reader, passing_over_damage, translate_errors
from pspsearch.catalog.folder import CATALOG, FolderLock, empty_folder, incoming_file
from pspsearch.catalog.integrity import TABLES, check_pages, count_rows
from pspsearch.catalog.log import find_loss
from pspsearch.catalog.schema import check_schema, migrate
from pspsearch.errors import CatalogDamaged, CatalogError

_FURTHEST = 1 << 62

_ITEMS = "SELECT collection, id, key FROM items INDEXED BY sqlite_autoindex_items_1 ORDER BY collection {0}, id {0}"
"""Reads an index, whose pages are not the table's."""

_INSERTS = {
    "collections": "",
    "generations": "",
    "images": "",  # checked against their digests instead
    "items": "WHERE EXISTS (SELECT 1 FROM collections WHERE key = :collection)",
    "descriptors": "WHERE EXISTS (SELECT 1 FROM items WHERE key = :item)",
    "requests": "WHERE EXISTS (SELECT 1 FROM collections WHERE key = :collection)",
}
"""The tables in the order in which they are copied, and what must exist for each row."""

_NAMELESS = (
    "INSERT OR IGNORE INTO collections (key, name, model, keep_images, index_kind, target_recall, created_us) "
    "VALUES (:collection, 'salvaged-' || :collection, :model, 1, 'auto', 0.95, 0)"
)
"""Rebuilds a collection whose own row is lost, as far as one of its generations tells."""

_WITHOUT_MODEL = (
    "DELETE FROM collections WHERE NOT EXISTS "
    "(SELECT 1 FROM generations WHERE collection = collections.key AND state = 'active')"
)
"""Drops collections without an active generation: nothing tells what their descriptors are of."""

_UNUSED = "DELETE FROM images WHERE NOT EXISTS (SELECT 1 FROM items WHERE image = images.key)"

_UNDESCRIBED = (
    "SELECT name, id FROM items JOIN collections ON collections.key = items.collection "
    "JOIN generations ON generations.collection = items.collection AND state = 'active' WHERE NOT EXISTS "
    "(SELECT 1 FROM descriptors WHERE item = items.key AND generation = generations.key)"
)


class Loss(StrEnum):
    """What is lost of an item or of the catalog."""

    ITEM = "item"
    """The whole item."""
    IMAGE = "image"
    """The stored bytes of its image."""
    DESCRIPTOR = "descriptor"
    """Its descriptor: searches do not find the item until it is put in again."""
    WRITES = "writes"
    """The last writes, to items that nothing names: a damaged log can be read only up to the damage."""


Tell = Callable[[Loss, str, str], None]
"""Receives the loss, the name of the collection and the id of the item; for writes, no name and what is lost."""


def salvage(data: Path, target: Path, tell: Tell) -> dict[str, int]:
    """Copies what is whole in `data` into the folder `target`, which must be new or empty; returns the rows by table.

    Raises CatalogDamaged if not even the tables can be found, and then leaves no catalog in `target`.
    """
    source = data / CATALOG
    if not source.is_file():
        raise CatalogError(f"there is no catalog in {data}")
    with (
        FolderLock(data),
        empty_folder(target),
        incoming_file(target / CATALOG) as incoming,
        translate_errors(source),
        contextlib.closing(connect_reader(source)) as origin,
        contextlib.closing(connect_new(incoming)) as made,
    ):
        columns = _tables(origin, source)
        if loss := find_loss(source):
            tell(Loss.WRITES, "", loss)
        migrate(made)
        with made:
            for table in _INSERTS:
                _take_out(origin, made, table, columns[table], tell)
            made.execute(_UNUSED)
            _tell_lost(origin, made, tell)
            _count_on(origin, made)
        check_pages(made, incoming)
        return count_rows(made)


def _tables(origin: apsw.Connection, source: Path) -> dict[str, list[str]]:
    """The columns of each table, as they were at the catalog's schema version."""
    with passing_over_damage(), contextlib.suppress(CatalogDamaged):
        check_schema(origin, source)
        return {table: [name for _, name, *_ in origin.execute(f"PRAGMA table_info({table})")] for table in TABLES}
    raise CatalogDamaged(f"the tables of {source} cannot be found any more, nothing can be taken out: restore a backup")


def _take_out(origin: apsw.Connection, made: apsw.Connection, table: str, columns: list[str], tell: Tell) -> None:
    names = ", ".join(columns)
    insert = f"INSERT OR IGNORE INTO {table} ({names}) SELECT :{', :'.join(columns)} {_INSERTS[table]}"
    for record in _rows(origin, f"SELECT rowid, {names} FROM {table} WHERE rowid > ? ORDER BY rowid"):  # noqa: S608 - the schema's own names
        row = dict(zip(columns, record[1:], strict=True))
        if table == "generations":
            made.execute(_NAMELESS, row)
        elif table == "images" and hashlib.sha256(row["content"]).digest() != row["sha256"]:
            continue
        elif table == "items" and row["image"] is not None and not _is_there(made, "images", row["image"]):
            row["image"] = None
            tell(Loss.IMAGE, _name(made, row["collection"]), row["id"])
        made.execute(insert, row)
    if table == "generations":
        made.execute(_WITHOUT_MODEL)


def _rows(origin: apsw.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows that can be read, by ascending rowid."""
    after = 0
    while after < _FURTHEST:
        with passing_over_damage():
            for record in origin.execute(query, (after,)):
                yield record
                after = record[0]
            return
        after = _next_readable(origin, f"{query} LIMIT 1", after)


def _next_readable(origin: apsw.Connection, query: str, after: int) -> int:
    """The first number after which a row can be read, found by steps that double and then by bisection.

    The search ends, because after the last row there is nothing to read and so nothing to fail.
    """
    step = 1
    while step < _FURTHEST and not _is_readable(origin, query, after + step):
        step *= 2
    bad, good = after + step // 2, after + step
    while good - bad > 1:
        middle = (bad + good) // 2
        bad, good = (bad, middle) if _is_readable(origin, query, middle) else (middle, good)
    return good


def _is_readable(origin: apsw.Connection, query: str, after: int) -> bool:
    with passing_over_damage():
        origin.execute(query, (after,)).fetchall()
        return True
    return False


def _tell_lost(origin: apsw.Connection, made: apsw.Connection, tell: Tell) -> None:
    """Reports lost items that an index still names, and items without a descriptor.

    The index is read from both ends, as far as each can be.
    """
    told: set[int] = set()
    for direction in ("ASC", "DESC"):
        with passing_over_damage():
            for collection, id_, key in origin.execute(_ITEMS.format(direction)):
                if key not in told and not _is_there(made, "items", key):
                    told.add(key)
                    tell(Loss.ITEM, _name(made, collection), id_)
            break
    for name, id_ in made.execute(_UNDESCRIBED):
        tell(Loss.DESCRIPTOR, name, id_)


def _count_on(origin: apsw.Connection, made: apsw.Connection) -> None:
    """Continues the count of changes, so that no sequence is given twice."""
    last: int = made.execute("SELECT COALESCE(MAX(sequence), 0) FROM items").get
    with passing_over_damage():
        last = max(last, origin.execute("SELECT sequence FROM last_change").get)
    made.execute("UPDATE last_change SET sequence = ?", (last,))


def _is_there(made: apsw.Connection, table: str, key: int) -> bool:
    return made.execute(f"SELECT 1 FROM {table} WHERE key = ?", (key,)).fetchone() is not None  # noqa: S608 - a name of ours


def _name(made: apsw.Connection, collection: int) -> str:
    """The collection's name; made up if its row is lost."""
    found = made.execute("SELECT name FROM collections WHERE key = ?", (collection,)).fetchone()
    return f"salvaged-{collection}" if found is None else found[0]
