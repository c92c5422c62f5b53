"""What can be read, and in which order, from every catalog: the fake and the real one."""

import asyncio

import numpy as np
import pytest

from pspsearch.domain import Delete, Generation, Upsert, Written
from pspsearch.ports import Catalog
from tests.fakes.catalog import SETTINGS, VERSION, Ear, picture, plain

pytestmark = pytest.mark.usefixtures("ear")  # every catalog has a listener, as in a server


async def write(catalog: Catalog, generation: Generation, *writes: Upsert | Delete) -> list[Written]:
    """Makes all writes in one call."""
    return await catalog.write(generation, writes)


async def test_listener_knows_the_rows_that_there_are(catalog: Catalog, generation: Generation, ear: Ear) -> None:
    """It hears of a write before the acknowledgement, and a source of rows says the same."""
    await write(catalog, generation, *(picture(str(number), b"%d" % number) for number in range(5)))
    assert len(ear.rows(generation)) == 5
    await write(catalog, generation, Delete("1"), picture("3", b"x"), Upsert("0", None, '{"y": 0}'))

    source = catalog.rows_of(generation)

    rows = list(source.after(0))
    assert plain(rows) == plain(ear.rows(generation))
    assert [row.id for row in rows] == ["2", "4", "3", "0"]
    assert source.sequences().dtype == np.int64
    assert source.sequences().tolist() == [row.sequence for row in rows]
    assert plain(source.after(rows[1].sequence)) == plain(rows[2:])


async def test_rows_are_those_of_the_moment_they_were_asked_for(catalog: Catalog, generation: Generation) -> None:
    """Later rows are for the listener, so reading ends however fast others write."""
    await write(catalog, generation, picture("a", b"a"))

    rows = catalog.rows_of(generation).after(0)
    await write(catalog, generation, picture("b", b"b"))

    assert [row.id for row in rows] == ["a"]


async def test_rows_can_be_read_in_another_thread(catalog: Catalog, generation: Generation) -> None:
    """An index is built outside the event loop."""
    await write(catalog, generation, picture("a", b"a"))
    source = catalog.rows_of(generation)

    rows = await asyncio.to_thread(lambda: list(source.after(0)))

    assert [row.id for row in rows] == ["a"]


async def test_collections_do_not_mix(catalog: Catalog, generation: Generation, ear: Ear) -> None:
    """The same id in two collections is two items, whose sequences come from one count."""
    other = (await catalog.create_collection("other", SETTINGS, VERSION))[1]

    (first,) = await write(catalog, generation, picture("a", b"a", '{"in": 1}'))
    (second,) = await write(catalog, other, picture("a", b"b", '{"in": 2}'))

    assert second.sequence > first.sequence
    both = [first.sequence, second.sequence]
    assert await catalog.attributes(generation.collection, both) == {first.sequence: '{"in": 1}'}
    assert await catalog.attributes(other.collection, both) == {second.sequence: '{"in": 2}'}
    assert await catalog.image(other.collection, "a") == b"b"
    assert [row.sequence for row in catalog.rows_of(other).after(0)] == [second.sequence]
    assert [(commit.collection, commit.generation) for commit in ear.commits] == [
        (generation.collection, generation.key),
        (other.collection, other.key),
    ]
    (key,) = [item.key for item in await catalog.page(other.collection, 0, 9)]
    assert await catalog.items_by_key(generation.collection, [key]) == []


async def test_pages_follow_the_keys_whatever_changes(catalog: Catalog, generation: Generation) -> None:
    """An item that is there all the time is listed once, although it changes and others go."""
    await write(catalog, generation, *(picture(f"{number}", b"%d" % number) for number in range(6)))

    first = await catalog.page(generation.collection, 0, 2)
    await write(catalog, generation, Delete("1"), Delete("2"), Upsert("3", None, '{"x": 1}'), picture("6", b"6"))
    second = await catalog.page(generation.collection, first[-1].key, 2)
    third = await catalog.page(generation.collection, second[-1].key, 9)

    assert [[item.id for item in page] for page in (first, second, third)] == [["0", "1"], ["3", "4"], ["5", "6"]]
    assert await catalog.page(generation.collection, third[-1].key, 9) == []


async def test_items_by_key_are_those_still_there_in_order(catalog: Catalog, generation: Generation) -> None:
    """The keys may come in any order."""
    await write(catalog, generation, *(picture(f"{number}", b"%d" % number) for number in range(4)))
    items = await catalog.page(generation.collection, 0, 4)
    await write(catalog, generation, Delete("1"))

    found = await catalog.items_by_key(generation.collection, [items[3].key, items[1].key, items[0].key, 99])

    assert found == [items[0], items[3]]


async def test_attributes_are_those_of_current_rows(catalog: Catalog, generation: Generation) -> None:
    """A row that was replaced since has none."""
    (old, kept) = await write(catalog, generation, picture("a", b"a", '{"x": 1}'), picture("b", b"b"))
    (new,) = await write(catalog, generation, Upsert("a", None, '{"x": 2}'))

    found = await catalog.attributes(generation.collection, [old.sequence, new.sequence, kept.sequence, 99])

    assert found == {new.sequence: '{"x": 2}', kept.sequence: "{}"}


async def test_size_grows_with_what_is_in(catalog: Catalog, generation: Generation) -> None:
    """An operator sees how much room a collection takes."""
    before = catalog.size_bytes()

    await write(catalog, generation, picture("a", bytes(100_000)))

    assert catalog.size_bytes() >= before + 100_000
