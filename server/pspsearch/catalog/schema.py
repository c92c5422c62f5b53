"""The tables of the catalog, and the migrations that bring older files up to date."""

import contextlib
import logging
from pathlib import Path

import apsw

from pspsearch.catalog.connections import add_checksums, connect_new, damage, has_checksums
from pspsearch.catalog.folder import PRIVATE, sync
from pspsearch.errors import CatalogError

log = logging.getLogger(__name__)

APPLICATION_ID = 0x50535053
"""`PSPS`, which tells a catalog from other SQLite files."""

MIGRATIONS = (
    """
    CREATE TABLE last_change (sequence INTEGER NOT NULL) STRICT;
    INSERT INTO last_change VALUES (0);

    CREATE TABLE collections (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        model TEXT NOT NULL,
        keep_images INTEGER NOT NULL,
        index_kind TEXT NOT NULL,
        target_recall REAL NOT NULL,
        created_us INTEGER NOT NULL, -- since 1970, UTC, like every time here
        gone INTEGER NOT NULL DEFAULT 0 -- deleted, and its items are still being taken out
    ) STRICT;
    CREATE UNIQUE INDEX collections_by_name ON collections (name) WHERE NOT gone;

    CREATE TABLE generations (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        collection INTEGER NOT NULL REFERENCES collections,
        model TEXT NOT NULL,
        version INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        dimension INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'active'
    ) STRICT;
    CREATE INDEX generations_by_collection ON generations (collection);
    CREATE UNIQUE INDEX active_generations ON generations (collection) WHERE state = 'active';

    CREATE TABLE images (
        key INTEGER PRIMARY KEY,
        sha256 BLOB NOT NULL UNIQUE,
        content BLOB NOT NULL
    ) STRICT;

    CREATE TABLE items (
        key INTEGER PRIMARY KEY AUTOINCREMENT,
        collection INTEGER NOT NULL REFERENCES collections,
        id TEXT NOT NULL,
        attributes TEXT NOT NULL,
        media_type TEXT, -- this and the next four: null for an item without an image
        width_px INTEGER,
        height_px INTEGER,
        size_bytes INTEGER,
        sha256 BLOB,
        image INTEGER REFERENCES images, -- null where the bytes are not kept
        created_us INTEGER NOT NULL,
        updated_us INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        UNIQUE (collection, id),
        UNIQUE (collection, sequence)
    ) STRICT;
    CREATE INDEX items_by_collection ON items (collection); -- and by key in it, as every index ends with the key
    CREATE INDEX items_by_image ON items (image);

    CREATE TABLE descriptors (
        item INTEGER NOT NULL REFERENCES items ON DELETE CASCADE,
        generation INTEGER NOT NULL, -- no reference: it would cost an index, and descriptors go with their items
        descriptor BLOB NOT NULL, -- fp16, little-endian
        UNIQUE (item, generation)
    ) STRICT;

    CREATE TABLE requests (
        collection INTEGER NOT NULL REFERENCES collections,
        request_id TEXT NOT NULL,
        answer TEXT NOT NULL,
        created_us INTEGER NOT NULL,
        UNIQUE (collection, request_id)
    ) STRICT;
    CREATE INDEX requests_by_age ON requests (created_us);
    """,
    """
    ALTER TABLE generations ADD COLUMN details TEXT NOT NULL DEFAULT '{}'; -- what its rollout tells of it, in JSON
    ALTER TABLE generations ADD COLUMN created_us INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE generations ADD COLUMN changed_us INTEGER NOT NULL DEFAULT 0; -- its state
    ALTER TABLE generations ADD COLUMN swept INTEGER; -- of one that ended: the last row that was looked through
    UPDATE generations SET created_us = (SELECT created_us FROM collections WHERE collections.key = collection);
    UPDATE generations SET changed_us = created_us;
    CREATE UNIQUE INDEX building_generations ON generations (collection) WHERE state = 'building';
    CREATE UNIQUE INDEX kept_generations ON generations (collection) WHERE state = 'kept';
    """,
    """
    ALTER TABLE collections ADD COLUMN follows INTEGER NOT NULL DEFAULT 0; -- new versions of its model, by itself
    """,
    "",  # pages with checksums
)
"""The n-th migration turns schema version n - 1 into n."""

WITH_CHECKSUMS = 4
"""The schema version that gave every page a checksum."""


def create(path: Path) -> None:
    """Creates an empty catalog, completely or not at all; durable on return."""
    incoming = path.with_name(f"{path.name}.incoming")
    incoming.unlink(missing_ok=True)
    incoming.touch(PRIVATE)
    with contextlib.closing(connect_new(incoming)) as connection:
        migrate(connection)
    sync(incoming)
    incoming.rename(path)
    sync(path.parent)


def migrate(connection: apsw.Connection) -> None:
    """Brings the tables to the current version; each step is durable."""
    if _version(connection) == 0:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for version in range(_version(connection) + 1, len(MIGRATIONS) + 1):
        if version == WITH_CHECKSUMS and not has_checksums(connection):
            log.info("the catalog is rewritten with a checksum on each page: that takes about as long as copying it")
            add_checksums(connection)
        with connection:
            connection.execute(MIGRATIONS[version - 1])
            connection.execute(f"PRAGMA user_version = {version}")


def check_schema(connection: apsw.Connection, path: Path) -> None:
    """Raises CatalogError if the file is no catalog, or if this program is too old for it.

    The caller translates SQLite's errors.
    """
    if connection.execute("PRAGMA page_count").get == 0:  # SQLite takes it for a database without tables
        raise damage(f"the catalog {path} is damaged: it is empty")
    version = _version(connection)
    if connection.execute("PRAGMA application_id").get != APPLICATION_ID:
        raise CatalogError(f"{path} is no catalog of pspsearch, but another program's SQLite file")
    if version > len(MIGRATIONS):
        raise CatalogError(
            f"the catalog {path} has schema version {version}, and this pspsearch knows {len(MIGRATIONS)}: "
            "it was written by a newer one"
        )
    if version >= WITH_CHECKSUMS and not has_checksums(connection):
        raise damage(f"the catalog {path} is damaged: it no longer says that its pages have checksums")


def _version(connection: apsw.Connection) -> int:
    return connection.execute("PRAGMA user_version").get
