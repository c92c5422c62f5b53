"""Data with every earlier schema version, and with a later one."""

import asyncio
import contextlib
from pathlib import Path

import apsw

from pspsearch.catalog.connections import connect_new, connect_writer
from pspsearch.catalog.folder import CATALOG
from pspsearch.catalog.schema import APPLICATION_ID, MIGRATIONS, WITH_CHECKSUMS
from pspsearch.client import AsyncClient, ItemInput
from tests.faults.place import MODEL, Ledger, Place, check_server, fingerprint_of, item
from tests.pictures import encode, load_photo
from tests.servers.search_server import why_refused

ITEMS = 200


async def earlier(place: Place, _: int) -> str:
    """Each earlier one opens with all its data and can be written to; a later one is refused and left unchanged."""
    folder = place.new_folder("schemas")
    picture = encode(load_photo(64, 48))
    with place.serve(folder / "now") as server:
        async with AsyncClient(server.address) as client:
            fingerprint = await fingerprint_of(client)
            await client.upsert([item(str(number), number, fingerprint) for number in range(ITEMS)])
            await client.upsert([ItemInput("picture", picture, {"version": -1})])
            await client.delete(["7"])
    there = {str(number): number for number in range(ITEMS) if number != 7}
    for version in range(1, len(MIGRATIONS) + 1):
        data = folder / f"version-{version}"
        _downgrade(folder / "now" / CATALOG, data, version)
        with place.serve(data) as server:
            async with AsyncClient(server.address) as client:
                assert await client.get_image("picture") == picture
                await client.delete(["picture"])
                await check_server(client, Ledger(dict(there)))
                await client.upsert([item("7", 7, fingerprint)])
                await check_server(client, Ledger({**there, "7": 7}))
    later = folder / "later"
    _downgrade(folder / "now" / CATALOG, later, len(MIGRATIONS))
    with contextlib.closing(connect_writer(later / CATALOG)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = (later / CATALOG).read_bytes()
    said = await asyncio.to_thread(why_refused, later, place.triton, "--model", MODEL)
    assert "it was written by a newer one" in said
    assert (later / CATALOG).read_bytes() == before
    return f"versions 1 to {len(MIGRATIONS)}: {ITEMS} items each, all there; {len(MIGRATIONS) + 1} is refused"


def _downgrade(catalog: Path, data: Path, version: int) -> None:
    """Stores the catalog's content in the tables of an earlier version, as far as they can hold it."""
    data.mkdir()
    path = data / CATALOG
    plain = version < WITH_CHECKSUMS
    with contextlib.closing(apsw.Connection(str(path)) if plain else connect_new(path)) as connection:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for step in MIGRATIONS[:version]:
            connection.execute(step)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("ATTACH ? AS now", (str(catalog),))
        connection.execute("DELETE FROM last_change")
        for (table,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            if not table.startswith("sqlite_"):
                columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
                connection.execute(f"INSERT INTO main.{table} SELECT {columns} FROM now.{table}")  # noqa: S608 - its own names
