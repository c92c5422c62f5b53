"""Deletions in portions, in every catalog: the fake and the real one."""

import pytest

from pspsearch.domain import Delete, Deletion, Generation, Outcome, Upsert
from pspsearch.errors import InvalidRequest, NotFound
from pspsearch.ports import Catalog
from tests.fakes.catalog import Clock, Ear, picture

pytestmark = pytest.mark.usefixtures("ear")  # every catalog has a listener, as in a server


@pytest.fixture
async def keys(catalog: Catalog, generation: Generation) -> dict[str, int]:
    """The keys of four existing items."""
    await catalog.write(generation, [picture(id_, id_.encode(), '{"x":1}') for id_ in "abcd"])
    return {item.id: item.key for item in await catalog.page(generation.collection, 0, 10)}


async def left(catalog: Catalog, generation: Generation) -> str:
    """Returns the ids that still exist."""
    return "".join(item.id for item in await catalog.page(generation.collection, 0, 10))


async def test_portions_add_up(catalog: Catalog, generation: Generation, keys: dict[str, int], ear: Ear) -> None:
    """Each portion is a commit of its own; a repeated portion that is done changes nothing."""
    begun = Deletion(keys["c"])
    first = await catalog.delete_portion(
        generation, [Delete("a"), Delete("x")], begun, is_last=False, request_id="r", asked="q"
    )
    assert await catalog.deletion(generation, "r", "q") == first
    second = await catalog.delete_portion(generation, [Delete("b")], begun, is_last=True, request_id="r", asked="q")
    third = await catalog.delete_portion(generation, [Delete("c")], begun, is_last=True, request_id="r", asked="q")

    assert (first.last_key, first.deleted, first.is_done) == (keys["c"], 1, False)
    assert (second.deleted, second.is_done) == (2, True)
    assert second.sequence > first.sequence > 0
    assert third == second == await catalog.deletion(generation, "r", "q")
    assert await left(catalog, generation) == "cd"
    assert len(ear.commits) == 3


async def test_items_after_the_last_key_stay(catalog: Catalog, generation: Generation, keys: dict[str, int]) -> None:
    """They were put in after the request; what is recorded of the request counts."""
    given = {"request_id": "r", "asked": "q"}
    await catalog.delete_portion(generation, [], Deletion(keys["b"]), is_last=False, **given)
    deletes = [Delete(id_, key=keys[id_]) for id_ in "abc"]

    done = await catalog.delete_portion(generation, deletes, Deletion(keys["d"]), is_last=True, **given)

    assert (done.last_key, done.deleted) == (keys["b"], 2)
    assert await left(catalog, generation) == "cd"


async def test_without_a_request_id_nothing_is_recorded(
    catalog: Catalog, generation: Generation, keys: dict[str, int]
) -> None:
    """The caller keeps track of how far it is."""
    first = await catalog.delete_portion(generation, [Delete("a")], Deletion(keys["d"]), is_last=False)
    second = await catalog.delete_portion(generation, [Delete("b")], first, is_last=True)

    assert (first.deleted, second.deleted, second.is_done) == (1, 2, True)


async def test_only_what_has_changed_is_looked_at_again(
    catalog: Catalog, generation: Generation, keys: dict[str, int]
) -> None:
    """An item that was put in under that id since is another one."""
    before = await catalog.items(generation.collection, list("abcd"))
    await catalog.write(generation, [Upsert(id_, None, '{"x":2}') for id_ in "bc"])
    await catalog.write(generation, [Delete("d"), picture("d", b"d", '{"x":1}')])
    asked: list[str] = []

    def still(attributes: str) -> bool:
        asked.append(attributes)
        return len(asked) == 1

    deletes = [Delete(id_, still, keys[id_], before[id_].sequence) for id_ in "abcd"]
    outcomes = [one.outcome for one in await catalog.write(generation, deletes)]

    assert outcomes == [Outcome.DELETED, Outcome.DELETED, Outcome.ABSENT, Outcome.ABSENT]
    assert asked == ['{"x":2}'] * 2


async def test_a_request_id_is_of_one_call_and_of_a_day(
    catalog: Catalog, generation: Generation, keys: dict[str, int], clock: Clock
) -> None:
    """A deletion with the id of another call is refused, and the reverse too; after a day the id is free."""
    await catalog.write(generation, [Delete("a")], request_id="w", asked="other")
    await catalog.delete_portion(generation, [], Deletion(0), is_last=False, request_id="r", asked="q")

    for request_id, asked in (("w", "q"), ("r", "other")):
        with pytest.raises(InvalidRequest, match="was used for another call"):
            await catalog.deletion(generation, request_id, asked)
        with pytest.raises(InvalidRequest, match="was used for another call"):
            await catalog.delete_portion(
                generation, [Delete("b")], Deletion(keys["d"]), is_last=True, request_id=request_id, asked=asked
            )
    with pytest.raises(InvalidRequest, match="was used for another call"):
        await catalog.write(generation, [Delete("b")], request_id="r", asked="other")
    clock.advance(days=1)
    assert await catalog.deletion(generation, "r", "other") is None
    assert await left(catalog, generation) == "bcd"


async def test_a_collection_that_is_gone_is_not_found(catalog: Catalog, generation: Generation) -> None:
    """It may go between two portions."""
    await catalog.delete_collection(generation.collection)

    with pytest.raises(NotFound):
        await catalog.delete_portion(generation, [Delete("a")], Deletion(1), is_last=True)
