"""When catalogs acknowledge writes that their listener takes time to see: the fake and the real one."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import pytest

from pspsearch.domain import Commit, Delete, Deletion, Generation
from pspsearch.ports import Catalog
from tests.fakes.catalog import picture

A_WHILE_S = 0.1
"""How long to wait; anything that does not wait would be acknowledged by then."""


class Index:
    """A listener that sees a commit only when a test says so."""

    def __init__(self, catalog: Catalog) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[Future[None]] = asyncio.Queue()
        catalog.listen(self._hear)

    def _hear(self, _: Commit) -> Future[None]:
        """Called in whichever thread commits."""
        seen = Future[None]()
        self._loop.call_soon_threadsafe(self._heard.put_nowait, seen)
        return seen

    async def hear(self) -> Future[None]:
        """Returns the future of the next commit; the test completes it when the commit is seen."""
        return await asyncio.wait_for(self._heard.get(), 10)


async def waits(*calls: "asyncio.Task[Any]") -> bool:
    """Returns whether none of the calls has ended after a while."""
    done, _ = await asyncio.wait(calls, timeout=A_WHILE_S, return_when=asyncio.FIRST_COMPLETED)
    return not done


def write(catalog: Catalog, generation: Generation, id_: str, **named: str) -> "asyncio.Task[Any]":
    """Begins to write one item."""
    return asyncio.create_task(catalog.write(generation, [picture(id_, b"x")], **named))


async def test_a_write_is_acknowledged_when_it_is_seen(catalog: Catalog, generation: Generation) -> None:
    """It is not acknowledged before, and the catalog goes on with others meanwhile."""
    index = Index(catalog)
    first = write(catalog, generation, "first")
    first_seen = await index.hear()
    second = write(catalog, generation, "second")
    second_seen = await index.hear()
    assert await waits(first, second)

    first_seen.set_result(None)
    await first
    assert await waits(second)
    second_seen.set_result(None)
    await second

    assert (await catalog.items(generation.collection, ["first", "second"])).keys() == {"first", "second"}


REPEATED: dict[str, Callable[[Catalog, Generation], Awaitable[Any]]] = {
    "the same item": lambda catalog, generation: catalog.write(generation, [picture("it", b"x")]),
    "the same call": lambda catalog, generation: catalog.write(generation, [], request_id="once", asked="it"),
    "how far a deletion is": lambda catalog, generation: catalog.deletion(generation, "other", ""),
    "a deletion of nothing": lambda catalog, generation: catalog.delete_portion(
        generation, [Delete("nobody")], Deletion(1), is_last=True
    ),
    "no filling": lambda catalog, generation: catalog.fill(generation, [], renew=True),
    "a promotion": lambda catalog, generation: catalog.promote_generation(generation, 1 << 40, "{}"),
}


@pytest.mark.parametrize("name", REPEATED)
async def test_what_changes_nothing_does_not_overtake(catalog: Catalog, generation: Generation, name: str) -> None:
    """Its caller may rely on what it found being visible to searches."""
    index = Index(catalog)
    begun = write(catalog, generation, "it", request_id="once", asked="it")
    seen = await index.hear()
    again = asyncio.ensure_future(REPEATED[name](catalog, generation))
    assert await waits(begun, asyncio.ensure_future(again))

    seen.set_result(None)

    await begun
    await again


async def test_who_leaves_while_others_wait_disturbs_nobody(catalog: Catalog, generation: Generation) -> None:
    """The write is made and seen."""
    index = Index(catalog)
    leaving = write(catalog, generation, "it")
    seen = await index.hear()
    staying = write(catalog, generation, "it")
    assert await waits(leaving, staying)

    leaving.cancel()
    await asyncio.wait([leaving])
    assert await waits(staying)
    assert not seen.cancelled()
    seen.set_result(None)

    assert len(await staying) == 1
