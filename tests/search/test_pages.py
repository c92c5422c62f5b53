"""How much the hits of one answer may carry."""

from collections.abc import AsyncIterator, Sequence
from typing import cast

import numpy as np
import pytest

from pspsearch.client import AsyncClient, ItemInput
from pspsearch.domain import Found
from pspsearch.errors import InvalidRequest
from pspsearch.query import Options
from pspsearch.search.pages import MAX_CARRIED_BYTES, Page, complete
from pspsearch.search.ranking import Pick
from tests.fakes.catalog import MemoryCatalog
from tests.fakes.describer import DIMENSION
from tests.servers.rpc_client import TEMPLE, Api, open_api

MEBI = 1 << 20
MOST = MAX_CARRIED_BYTES // MEBI


class HeavyCatalog(MemoryCatalog):
    """A catalog that has whatever is asked for: images of 1 MiB, and attributes of 1 MiB in half as many characters."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.rows: list[int] = []

    async def image(self, collection: int, id: str) -> bytes | None:  # noqa: A002 - the domain's word
        """Returns an image of 1 MiB."""
        self.images.append(id)
        return bytes(MEBI)

    async def attributes(self, collection: int, sequences: Sequence[int]) -> dict[int, str]:
        """Returns texts that are no JSON, because nobody parses them."""
        self.rows += sequences
        return dict.fromkeys(sequences, "é" * (MEBI // 2))


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server over such a catalog."""
    async with open_api(catalog=HeavyCatalog()) as api:
        yield api


def page(*rows: int, group: str = "", duplicates: Sequence[str] = ()) -> Page:
    """Makes a page with these rows as hits."""
    found = Found(np.array(rows, np.int64), [f"item {row}" for row in rows], np.ones(len(rows), np.float32))
    return Page(found, [Pick(place, group, list(duplicates)) for place in range(len(rows))])


async def hits(api: Api, pages: Sequence[Page], options: Options) -> int:
    """Completes the pages, and returns how many hits there are."""
    catalog = cast(HeavyCatalog, api.server.catalog)
    return sum(map(len, await complete(catalog, api.server.collections.get(""), pages, options)))


@pytest.mark.parametrize("options", [Options(images=True), Options(attributes=True)])
async def test_hits_carry_no_more_than_one_answer_may(api: Api, options: Options) -> None:
    """A row in several pages counts in each, although it is loaded once."""
    assert await hits(api, [page(*range(MOST))], options) == MOST
    assert await hits(api, [page(1)] * MOST, options) == MOST
    for pages in ([page(*range(MOST + 1))], [page(1)] * (MOST + 1), [page(*range(MOST)), page(1)]):
        with pytest.raises(InvalidRequest, match="more than the 64 MiB that one answer may have: ask for fewer hits"):
            await hits(api, pages, options)


async def test_all_that_hits_carry_counts_together(api: Api) -> None:
    """Half of it is images and half attributes; one more byte of a group's name or of a duplicate's id is too much."""
    half = range(MOST // 2)

    assert await hits(api, [page(*half)], Options(images=True, attributes=True)) == len(half)
    for one in (page(*half, group="g"), page(*half, duplicates=["d"])):
        with pytest.raises(InvalidRequest, match="64 MiB"):
            await hits(api, [one], Options(images=True, attributes=True, group_by="a", fold_above=0.9))


async def test_descriptors_count_four_bytes_a_number(api: Api) -> None:
    """The refusal comes before they are fetched: there is no such row."""
    most = MAX_CARRIED_BYTES // 4 // DIMENSION

    with pytest.raises(InvalidRequest, match="64 MiB"):
        await hits(api, [page(*range(1024))] * (most // 1024 + 1), Options(descriptors=True))


async def test_excess_is_noticed_before_everything_is_loaded(api: Api) -> None:
    """Of a possible 51 GB hardly more than one answer may hold is loaded, and one slice of attributes."""
    catalog = cast(HeavyCatalog, api.server.catalog)

    with pytest.raises(InvalidRequest):
        await hits(api, [page(*range(1000))], Options(images=True))
    with pytest.raises(InvalidRequest):
        await hits(api, [page(*range(1000)), page(*range(1000, 2000))], Options(attributes=True))

    assert MOST < len(catalog.images) <= MOST + 16
    assert len(catalog.rows) == 1000


async def test_batch_is_one_answer() -> None:
    """All queries of a batch share what an answer may carry."""
    async with open_api() as api, AsyncClient(api.server.address) as client:
        await client.upsert([ItemInput("temple", TEMPLE.ljust(MEBI, b"\0"))])

        answer = await client.search_batch([TEMPLE] * MOST, return_images=True)
        with pytest.raises(InvalidRequest, match="fetch each image with GetItemImage"):
            await client.search_batch([TEMPLE] * (MOST + 1), return_images=True)

    carried = [hit.image or b"" for hits in answer.results if isinstance(hits, tuple) for hit in hits]
    assert [len(image) for image in carried] == [MEBI] * MOST
