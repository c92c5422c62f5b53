"""The SQL of reads. Each is one statement, so it sees one moment, and each finds its rows by an index."""

# ruff: noqa: S608 - statements are built only from constants of this package

import json
from collections.abc import Sequence

import apsw

from pspsearch.catalog.records import (
    COLLECTION_COLUMNS,
    GENERATION_COLUMNS,
    ITEM_COLUMNS,
    read_collection,
    read_descriptor,
    read_generation,
    read_item,
)
from pspsearch.domain import Collection, Generation, GenerationRecord, Item, Lacking, StoredDescriptor

COLLECTIONS = (
    f"SELECT {COLLECTION_COLUMNS} FROM collections "
    "CROSS JOIN generations ON generations.collection = collections.key AND state = 'active' "
    "WHERE NOT gone ORDER BY name"  # CROSS makes SQLite keep this order
)

THERE = "EXISTS (SELECT 1 FROM collections WHERE collections.key = :collection AND NOT gone)"
"""Holds if the collection is not gone. Items of one that is gone may still be on disk."""

ITEMS = (
    f"SELECT {ITEM_COLUMNS} FROM items "
    f"WHERE collection = :collection AND id IN (SELECT value FROM json_each(:ids)) AND {THERE}"
)
ITEMS_BY_KEY = (
    f"SELECT {ITEM_COLUMNS} FROM items "
    f"WHERE collection = :collection AND items.key IN (SELECT value FROM json_each(:keys)) AND {THERE} "
    "ORDER BY items.key"
)
PAGE = (
    f"SELECT {ITEM_COLUMNS} FROM items "
    f"WHERE collection = :collection AND items.key > :after AND {THERE} ORDER BY items.key LIMIT :count"
)
ATTRIBUTES = (
    "SELECT sequence, attributes FROM items "
    f"WHERE collection = :collection AND sequence IN (SELECT value FROM json_each(:sequences)) AND {THERE}"
)
IMAGE = (
    "SELECT content FROM items JOIN images ON images.key = items.image "
    f"WHERE collection = :collection AND id = :id AND {THERE}"
)
DESCRIPTOR = (
    "SELECT descriptor FROM items JOIN descriptors ON item = items.key AND generation = :generation "
    f"WHERE collection = :collection AND id = :id AND {THERE}"
)
SEQUENCES = (
    "SELECT sequence FROM items JOIN descriptors ON item = items.key AND generation = :generation "
    f"WHERE collection = :collection AND {THERE} ORDER BY sequence"
)
ROWS = (
    "SELECT sequence, items.key, id, attributes, descriptor "
    "FROM items JOIN descriptors ON item = items.key AND generation = :generation "
    f"WHERE collection = :collection AND sequence > :after AND sequence <= :last AND {THERE} "
    "ORDER BY sequence LIMIT :count"
)
LAST_CHANGE = "SELECT sequence FROM last_change"

GENERATIONS = (
    f"SELECT {GENERATION_COLUMNS}, state, details, created_us, changed_us FROM generations "
    f"WHERE collection = :collection AND {THERE} ORDER BY key"
)
_LACKING = (
    f"FROM items WHERE collection = :collection AND {THERE} AND NOT EXISTS "
    "(SELECT 1 FROM descriptors WHERE item = items.key AND generation = :generation)"
)
LACKING = f"SELECT {ITEM_COLUMNS} {_LACKING} AND items.key > :after ORDER BY items.key LIMIT :count"
COUNT_LACKING = f"SELECT COUNT(image), COUNT(*), ({LAST_CHANGE}) {_LACKING}"


def list_collections(connection: apsw.Connection) -> list[tuple[Collection, Generation]]:
    """All collections by name, each with its active generation."""
    return [read_collection(record) for record in connection.execute(COLLECTIONS)]


def find_items(connection: apsw.Connection, collection: int, ids: Sequence[str]) -> dict[str, Item]:
    """The items that exist, by id."""
    found = connection.execute(ITEMS, {"collection": collection, "ids": json.dumps(ids)})
    return {item.id: item for item in map(read_item, found)}


def find_items_by_key(connection: apsw.Connection, collection: int, keys: Sequence[int]) -> list[Item]:
    """The items that exist, by ascending key."""
    found = connection.execute(ITEMS_BY_KEY, {"collection": collection, "keys": json.dumps(keys)})
    return [read_item(record) for record in found]


def read_page(connection: apsw.Connection, collection: int, after_key: int, count: int) -> list[Item]:
    """The next items by ascending key."""
    found = connection.execute(PAGE, {"collection": collection, "after": after_key, "count": count})
    return [read_item(record) for record in found]


def find_attributes(connection: apsw.Connection, collection: int, sequences: Sequence[int]) -> dict[int, str]:
    """The attributes of those rows that are current, by sequence."""
    return dict(connection.execute(ATTRIBUTES, {"collection": collection, "sequences": json.dumps(sequences)}))


def find_image(connection: apsw.Connection, collection: int, id_: str) -> bytes | None:
    """The bytes as they came; None if there is no item or its image is not kept."""
    found = connection.execute(IMAGE, {"collection": collection, "id": id_}).fetchone()
    return None if found is None else found[0]


def list_generations(connection: apsw.Connection, collection: int) -> list[GenerationRecord]:
    """All generations that there ever were, by key; none if the collection is gone."""
    return [read_generation(record) for record in connection.execute(GENERATIONS, {"collection": collection})]


def find_lacking(connection: apsw.Connection, generation: Generation, after_key: int, count: int) -> list[Item]:
    """The next items by ascending key that have no descriptor in the generation."""
    wanted = {"collection": generation.collection, "generation": generation.key, "after": after_key, "count": count}
    return [read_item(record) for record in connection.execute(LACKING, wanted)]


def count_lacking(connection: apsw.Connection, generation: Generation) -> Lacking:
    """Counts the items without a descriptor in the generation, as of the last change."""
    wanted = {"collection": generation.collection, "generation": generation.key}
    with_image, together, sequence = connection.execute(COUNT_LACKING, wanted).get
    return Lacking(with_image, together - with_image, sequence)


def find_descriptor(connection: apsw.Connection, generation: Generation, id_: str) -> StoredDescriptor | None:
    """The item's descriptor in the generation; None if there is none."""
    wanted = {"collection": generation.collection, "generation": generation.key, "id": id_}
    found = connection.execute(DESCRIPTOR, wanted).fetchone()
    return None if found is None else read_descriptor(found[0])
