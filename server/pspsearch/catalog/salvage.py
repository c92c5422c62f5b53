"""Takes what is whole out of a damaged catalog into a new one, and says what was lost."""

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
"""Out of an index, whose pages are others than the table's."""

_INSERTS = {
    "collections": "",
    "generations": "",
    "images": "",  # their digests are held against them
    "items": "WHERE EXISTS (SELECT 1 FROM collections WHERE key = :collection)",
    "descriptors": "WHERE EXISTS (SELECT 1 FROM items WHERE key = :item)",
    "requests": "WHERE EXISTS (SELECT 1 FROM collections WHERE key = :collection)",
}
"""What must be there for a row of each table, in the order in which they are taken out."""

_NAMELESS = (
    "INSERT OR IGNORE INTO collections (key, name, model, keep_images, index_kind, target_recall, created_us) "
    "VALUES (:collection, 'salvaged-' || :collection, :model, 1, 'auto', 0.95, 0)"
)
"""A collection whose own row is lost, as far as a generation of it tells."""

_WITHOUT_MODEL = (
    "DELETE FROM collections WHERE NOT EXISTS "
    "(SELECT 1 FROM generations WHERE collection = collections.key AND state = 'active')"
)
"""A collection that does not know any more what its descriptors are of."""

_UNUSED = "DELETE FROM images WHERE NOT EXISTS (SELECT 1 FROM items WHERE image = images.key)"

_UNDESCRIBED = (
    "SELECT name, id FROM items JOIN collections ON collections.key = items.collection "
    "JOIN generations ON generations.collection = items.collection AND state = 'active' WHERE NOT EXISTS "
    "(SELECT 1 FROM descriptors WHERE item = items.key AND generation = generations.key)"
)


class Loss(StrEnum):
    """What is lost, of an item or of the catalog."""

    ITEM = "item"
    """Everything."""
    IMAGE = "image"
    """The bytes that were kept of it."""
    DESCRIPTOR = "descriptor"
    """It is not found any more by what it looks like; to put it in again mends that."""
    WRITES = "writes"
    """The last ones, of items that nothing tells of: a damaged log ends where the damage is."""


Tell = Callable[[Loss, str, str], None]
"""Hears the name of the collection and the id of the item; of writes, nothing and what is lost."""


def salvage(data: Path, target: Path, tell: Tell) -> dict[str, int]:
    """Makes the folder `target`, which must be new or empty, of what is whole in `data`; rows by table.

    CatalogDamaged where not even the tables can be found; then there is no catalog in `target`.
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
    """The columns of each, as there were at the catalog's version."""
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
    """Those that can be read, by ascending rowid."""
    after = 0
    while after < _FURTHEST:
        with passing_over_damage():
            for record in origin.execute(query, (after,)):
                yield record
                after = record[0]
            return
        after = _next_readable(origin, f"{query} LIMIT 1", after)


def _next_readable(origin: apsw.Connection, query: str, after: int) -> int:
    """The first number after which a row can be read: looked for in steps that double, and then between the last two.

    Behind the last row nothing has to be read, which always can be.
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
    """The items that an index still names, from both its ends as far as it can be read; and what has no descriptor."""
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
    """No sequence is given twice."""
    last: int = made.execute("SELECT COALESCE(MAX(sequence), 0) FROM items").get
    with passing_over_damage():
        last = max(last, origin.execute("SELECT sequence FROM last_change").get)
    made.execute("UPDATE last_change SET sequence = ?", (last,))


def _is_there(made: apsw.Connection, table: str, key: int) -> bool:
    return made.execute(f"SELECT 1 FROM {table} WHERE key = ?", (key,)).fetchone() is not None  # noqa: S608 - a name of ours


def _name(made: apsw.Connection, collection: int) -> str:
    """Of a collection that may be lost."""
    found = made.execute("SELECT name FROM collections WHERE key = ?", (collection,)).fetchone()
    return f"salvaged-{collection}" if found is None else found[0]
