"""ItemService and its pages over a real channel."""

import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest

from pspsearch.client import AsyncClient, ItemInput, Retries
from pspsearch.domain import Delete, Item, Upsert
from pspsearch.errors import MemoryFull
from pspsearch.memory import MemoryBound
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.catalog import MemoryCatalog
from tests.fakes.describer import DIMENSION, VERSION
from tests.pictures import claim_size
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, Refusal, descriptor, item, open_api, query, refuse

CREATED, REPLACED, UNCHANGED = (
    items.UPSERT_OUTCOME_CREATED,
    items.UPSERT_OUTCOME_REPLACED,
    items.UPSERT_OUTCOME_UNCHANGED,
)
FLOAT16_STEP = 2**-10
"""The largest step between stored values up to 1."""


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with an empty collection."""
    async with open_api() as api:
        yield api


def point(number: int, attributes: str | None = None) -> items.ItemInput:
    """An item without an image."""
    axis = descriptor(np.eye(DIMENSION)[number % DIMENSION])
    return items.ItemInput(id=f"point {number}", descriptor=axis, attributes_json=attributes)


async def test_outcome_says_what_became_of_an_item(api: Api) -> None:
    """It is created, then unchanged and not described again, then replaced by new attributes or a new image."""
    outcomes: list[items.UpsertOutcome.ValueType] = []
    for given in (
        item("photo", TEMPLE, '{"price": 3}'),
        item("photo", TEMPLE, '{"price":3}'),
        items.ItemInput(id="photo", attributes_json='{"price": 4}'),
        item("photo", FLOWER),
    ):
        answer = await api.items.UpsertItems(items.UpsertItemsRequest(items=[given]))
        outcomes.append(answer.results[0].outcome)

    assert outcomes == [CREATED, UNCHANGED, REPLACED, REPLACED]
    assert api.server.describer.images == 2
    (kept,) = await api.list_all()
    assert (kept.attributes_json, kept.image.sha256) == ('{"price":4}', hashlib.sha256(FLOWER).hexdigest())


class HastyCatalog(MemoryCatalog):
    """A catalog in which another caller makes one change just after items were looked up."""

    change: Delete | Upsert | None = None

    async def items(self, collection: int, ids: Sequence[str]) -> dict[str, Item]:
        """Returns the items as they were before the change."""
        found = await super().items(collection, ids)
        change, self.change = self.change, None
        if change is not None:
            (_, generation), *_ = await self.collections()
            await self.write(generation, [change])
        return found


@pytest.mark.parametrize(
    ("change", "outcome"),
    [(Delete("photo"), CREATED), (Upsert("photo", np.eye(DIMENSION, dtype=np.float16)[0], "{}"), REPLACED)],
    ids=["deleted", "replaced"],
)
async def test_image_that_is_changed_while_it_is_put_in_again_is_put_in(
    change: Delete | Upsert, outcome: items.UpsertOutcome.ValueType
) -> None:
    """At the look-up the image was there, so it was not described. It must still be stored afterwards."""
    catalog = HastyCatalog()
    request = items.UpsertItemsRequest(items=[item("photo", TEMPLE, '{"price":3}')])
    async with open_api(catalog=catalog) as api:
        await api.items.UpsertItems(request)
        catalog.change = change
        answer = await api.items.UpsertItems(request)
        (kept,) = await api.list_all()

    assert catalog.change is None
    assert answer.results[0].outcome == outcome
    assert (kept.attributes_json, kept.image.sha256) == ('{"price":3}', hashlib.sha256(TEMPLE).hexdigest())


async def test_acknowledged_item_is_found_by_the_next_search(api: Api) -> None:
    """It is found at once, also under an id with slashes and letters of any script."""
    await api.fill(item("shop/shoes/größe 38", TEMPLE))
    answer = await api.search.Search(searches.SearchRequest(query=query(image=TEMPLE)))

    assert [hit.id for hit in answer.hits] == ["shop/shoes/größe 38"]


BAD_ITEMS = {
    "over-long id": (item("x" * 257), "INVALID_REQUEST"),
    "no id": (item(""), "INVALID_REQUEST"),
    "NUL in the id": (item("a\0b"), "INVALID_REQUEST"),
    "attributes are not JSON": (item("bad", attributes="{"), "INVALID_REQUEST"),
    "number beyond all": (item("bad", attributes='{"a": [1, {"b": 1e999}]}'), "INVALID_REQUEST"),
    "whole number beyond 64 bits": (item("bad", attributes='{"a": 18446744073709551616}'), "INVALID_REQUEST"),
    "attributes are a list": (item("bad", attributes="[]"), "INVALID_REQUEST"),
    "attributes of 10 MB": (item("bad", attributes='{"a": "' + 10_000_000 * "x" + '"}'), "INVALID_REQUEST"),
    "empty image": (item("bad", b""), "EMPTY_IMAGE"),
    "no image": (item("bad", b"<svg/>"), "UNKNOWN_FORMAT"),
    "half an image": (item("bad", TEMPLE[: len(TEMPLE) // 2]), "DAMAGED_IMAGE"),
    "bomb": (item("bad", claim_size("PNG", 60_000, 60_000)), "IMAGE_TOO_LARGE"),
    "too many bytes": (item("bad", TEMPLE + bytes(1 << 20)), "IMAGE_TOO_LARGE"),
    "wrong dimension": (items.ItemInput(id="bad", descriptor=descriptor([1.0, 2.0])), "INVALID_REQUEST"),
    "NaN": (items.ItemInput(id="bad", descriptor=descriptor([np.nan] * DIMENSION)), "INVALID_REQUEST"),
    "zero": (items.ItemInput(id="bad", descriptor=descriptor([0.0] * DIMENSION)), "INVALID_REQUEST"),
    "another space": (items.ItemInput(id="bad", descriptor=descriptor([1.0] * DIMENSION, "other")), "MODEL_MISMATCH"),
    "nothing to describe": (items.ItemInput(id="bad", attributes_json="{}"), "NOT_FOUND"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD_ITEMS.values(), ids=BAD_ITEMS.keys())
async def test_bad_item_is_refused_alone(api: Api, bad: items.ItemInput, reason: str) -> None:
    """The other items are stored. The bad one leaves no trace, and its status is one sentence."""
    request = items.UpsertItemsRequest(items=[item("before"), bad, item("after", FLOWER)])
    answer = await api.items.UpsertItems(request)

    first, refused, last = answer.results
    assert (first.outcome, last.outcome) == (CREATED, CREATED)
    assert (refused.id, refused.outcome) == (bad.id[:256], items.UPSERT_OUTCOME_UNSPECIFIED)
    assert Refusal(refused.status).reason == reason
    assert 10 < len(refused.status.message) < 300
    assert "\n" not in refused.status.message
    assert [one.id for one in await api.list_all()] == ["before", "after"]


async def test_call_that_is_sent_again_has_no_second_effect(api: Api) -> None:
    """A request id makes writes safe to repeat: the first answer comes again, even if the item has changed since."""
    request = items.UpsertItemsRequest(items=[item("photo", TEMPLE)], request_id="once")
    first = await api.items.UpsertItems(request)
    await api.fill(item("photo", FLOWER))
    again = await api.items.UpsertItems(request)

    assert again == first
    (kept,) = await api.list_all()
    assert kept.image.sha256 == hashlib.sha256(FLOWER).hexdigest()


async def test_call_that_is_sent_again_does_not_write_over_what_came_since(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds even if the item had the image at the look-up but not at the write, so that it is written twice."""
    await api.fill(item("photo", TEMPLE))
    look_up = api.server.catalog.items

    async def look_up_and_change(collection: int, ids: Sequence[str]) -> Any:
        known = await look_up(collection, ids)
        monkeypatch.setattr(api.server.catalog, "items", look_up)
        await api.fill(item("photo", FLOWER, '{"by": "another"}'))
        return known

    monkeypatch.setattr(api.server.catalog, "items", look_up_and_change)
    request = items.UpsertItemsRequest(items=[item("photo", TEMPLE, '{"by": "one"}')], request_id="once")
    first = await api.items.UpsertItems(request)
    (written,) = await api.list_all()
    assert (written.attributes_json, first.results[0].status.code) == ('{"by":"one"}', 0)
    await api.fill(item("photo", FLOWER, '{"by": "a third"}'))

    again = await api.items.UpsertItems(request)

    assert again == first
    (kept,) = await api.list_all()
    assert kept.attributes_json == '{"by":"a third"}'
    assert kept.image.sha256 == hashlib.sha256(FLOWER).hexdigest()


async def test_item_and_its_image_come_back(api: Api) -> None:
    """The image is the same byte for byte; the descriptor comes on request, as it was stored."""
    await api.fill(item("photo", TEMPLE, '{"price": 3}'))
    plain = await api.items.GetItem(items.GetItemRequest(id="photo"))
    full = await api.items.GetItem(items.GetItemRequest(id="photo", return_descriptor=True))
    image = await api.items.GetItemImage(items.GetItemImageRequest(id="photo"))
    described = await api.search.Describe(searches.DescribeRequest(image=TEMPLE))

    assert (plain.item.id, plain.item.attributes_json, plain.HasField("descriptor")) == ("photo", '{"price":3}', False)
    assert plain.item.image == image.info
    assert (image.info.media_type, image.info.width_px, image.info.height_px) == ("image/jpeg", 96, 64)
    assert (image.info.size_bytes, image.info.kept, image.image) == (len(TEMPLE), True, TEMPLE)
    assert plain.item.create_time.ToDatetime().year > 2000
    assert full.descriptor.fingerprint == VERSION.contract.fingerprint
    np.testing.assert_allclose(full.descriptor.values, described.descriptor.values, atol=FLOAT16_STEP)


async def test_image_that_was_not_kept_is_not_found(api: Api) -> None:
    """The item exists, can be found, and says that its image was not kept."""
    wanted = resources.Collection(name="lean", keep_images=False)
    await api.collections.CreateCollection(collections.CreateCollectionRequest(collection=wanted))
    request = items.UpsertItemsRequest(collection="lean", items=[item("photo")])
    await api.items.UpsertItems(request)
    kept = (await api.items.GetItem(items.GetItemRequest(collection="lean", id="photo"))).item.image.kept
    refusal = await refuse(api.items.GetItemImage(items.GetItemImageRequest(collection="lean", id="photo")))

    assert (kept, refusal.reason) == (False, "NOT_FOUND")
    assert "not kept" in refusal.status.message


async def test_request_id_is_of_one_call(api: Api) -> None:
    """A second use for another call is refused and changes nothing. A deletion by filter may be repeated too."""
    await api.fill(item("photo", TEMPLE))
    delete = items.DeleteItemsRequest(filter="*", request_id="once")
    first = await api.items.DeleteItems(delete)
    await api.fill(item("photo", TEMPLE), item("other", FLOWER))

    assert await api.items.DeleteItems(delete) == first
    for request in (
        items.DeleteItemsRequest(ids=["photo"], request_id="once"),
        items.DeleteItemsRequest(filter="NOT a:b", request_id="once"),
        items.UpsertItemsRequest(items=[item("photo", FLOWER)], request_id="once"),
    ):
        refusal = await refuse(api.send(request))
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "the request_id 'once' was used for another call" in refusal.status.message
    photo, _ = await api.list_all()
    assert photo.image.sha256 == hashlib.sha256(TEMPLE).hexdigest()


async def test_deletion_by_ids_counts_those_that_were_there(api: Api) -> None:
    """Unknown ids are not an error, and the same request id gives the first answer again."""
    await api.fill(*(point(number) for number in range(4)))
    request = items.DeleteItemsRequest(ids=["point 1", "unknown", "point 3"], request_id="once")
    answer = await api.items.DeleteItems(request)

    assert answer.deleted_count == 2
    assert await api.items.DeleteItems(request) == answer
    assert [one.id for one in await api.list_all()] == ["point 0", "point 2"]


@pytest.mark.parametrize(("matching", "left"), [("even = true", ["point 1", "point 3"]), ("*", []), ("even:1", None)])
async def test_deletion_by_filter_takes_what_it_holds_for(api: Api, matching: str, left: list[str] | None) -> None:
    """`*` matches everything; a filter that matches nothing deletes nothing."""
    numbers = range(4)
    await api.fill(*(point(number, f'{{"even": {str(number % 2 == 0).lower()}}}') for number in numbers))
    answer = await api.items.DeleteItems(items.DeleteItemsRequest(filter=matching))

    expected = [f"point {number}" for number in numbers] if left is None else left
    assert [one.id for one in await api.list_all()] == expected
    assert answer.deleted_count == len(numbers) - len(expected)


@pytest.mark.parametrize(("user", "other"), [(2**53 + 1, 2**53), (-(2**63), 1 - 2**63), (2**64 - 1, 2**64 - 2)])
async def test_deletion_by_a_long_number_takes_nobody_elses_items(api: Api, user: int, other: int) -> None:
    """64-bit whole numbers are told apart, however close they are."""
    await api.fill(point(1, f'{{"user": {user}}}'), point(2, f'{{"user": {other}}}'))
    answer = await api.items.DeleteItems(items.DeleteItemsRequest(filter=f"user = {user}"))

    assert answer.deleted_count == 1
    assert [one.attributes_json for one in await api.list_all()] == [f'{{"user":{other}}}']


async def test_count_is_that_of_the_filter(api: Api) -> None:
    """Without a filter it counts all items."""
    await api.fill(*(point(number, f'{{"price": {number}}}') for number in range(5)))
    counts = [
        (await api.items.CountItems(items.CountItemsRequest(filter=matching))).count
        for matching in ("", "*", "price < 2", "price > 10")
    ]

    assert counts == [5, 5, 2, 0]


@pytest.mark.parametrize("matching", ["", "live = true"])
async def test_pages_stay_valid_while_items_change(api: Api, matching: str) -> None:
    """Every item that exists all the time is listed exactly once, in the order of creation."""
    attributes = '{"live": true}'
    await api.fill(*(point(number, attributes) for number in range(10)))
    listed: list[str] = []
    request = items.ListItemsRequest(filter=matching, page_size=3)
    for number in range(100):
        page = await api.items.ListItems(request)
        listed += [one.id for one in page.items]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        await api.items.DeleteItems(items.DeleteItemsRequest(ids=[f"point {2 * number}"]))
        await api.fill(items.ItemInput(id="point 9", attributes_json=f'{{"live": true, "n": {number}}}'))
        await api.fill(point(number + 20, attributes))

    staying = [f"point {number}" for number in (1, 3, 5, 7, 8, 9)]
    assert [id_ for id_ in listed if id_ in staying] == staying
    assert len(set(listed)) == len(listed)


async def test_token_of_another_list_is_refused(api: Api) -> None:
    """A token is refused for another filter or collection, and if it was made up."""
    await api.fill(*(point(number) for number in range(3)))
    token = (await api.items.ListItems(items.ListItemsRequest(page_size=1))).next_page_token

    for request in (
        items.ListItemsRequest(page_token=token, filter="*"),
        items.ListItemsRequest(page_token="made up"),  # noqa: S106 - not a password
    ):
        assert (await refuse(api.items.ListItems(request))).reason == "INVALID_REQUEST"


async def test_last_page_has_no_token(api: Api) -> None:
    """This holds even if the last page is full, so that no caller fetches an empty page."""
    await api.fill(*(point(number) for number in range(4)))

    for matching in ("", "*"):
        page = await api.items.ListItems(items.ListItemsRequest(page_size=4, filter=matching))
        assert (len(page.items), page.next_page_token) == (4, "")


async def test_full_memory_takes_nothing_in() -> None:
    """An upsert must be retried later. Searches continue, and so do deletions, which make room, and streams."""
    taken = [0]
    async with open_api(memory=MemoryBound(1_000, lambda: taken[0], clock=itertools.count().__next__)) as api:
        await api.fill(item("temple"))
        taken[0] = 901
        refusal = await refuse(api.items.UpsertItems(items.UpsertItemsRequest(items=[item("flower", FLOWER)])))
        async with AsyncClient(api.server.address, retries=Retries(attempts=1)) as client:
            with pytest.raises(MemoryFull):
                await anext(aiter(client.ingest([ItemInput("flower", FLOWER)])))
            assert [hit.id for hit in (await client.search(TEMPLE)).hits] == ["temple"]
            assert await client.delete(["temple"]) == 1

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "MEMORY_FULL")
