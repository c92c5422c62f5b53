"""What is refused: each case has its own code and one sentence, and changes nothing."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import DIMENSION
from tests.pictures import claim_size
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, descriptor, item, open_api, query, refuse

CODES = {
    "NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "ALREADY_EXISTS": grpc.StatusCode.ALREADY_EXISTS,
    "MODEL_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
}
"""The codes of errors that are not INVALID_ARGUMENT."""

LONG_ID, NUL_ID = "x" * 100_000, "a\0b"
UNIT = [1.0] + [0.0] * (DIMENSION - 1)
OPPOSITE = [-1.0] + [0.0] * (DIMENSION - 1)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with two items."""
    async with open_api() as api:
        await api.fill(item("temple", TEMPLE), item("flower", FLOWER))
        yield api


def by(**what: Any) -> searches.SearchRequest:
    """A search whose query alone may be wrong."""
    return searches.SearchRequest(query=query(**what))


def opt(**options: Any) -> searches.SearchRequest:
    """A search whose options alone may be wrong."""
    return searches.SearchRequest(query=query(id="temple"), options=searches.SearchOptions(**options))


def create(**settings: Any) -> collections.CreateCollectionRequest:
    """A request for a new collection."""
    return collections.CreateCollectionRequest(collection=resources.Collection(**settings))


CASES: dict[str, tuple[Message, str]] = {
    "unknown collection": (searches.SearchRequest(collection="x", query=query(id="a")), "NOT_FOUND"),
    "endless collection": (searches.SearchRequest(collection=LONG_ID, query=query(id="a")), "NOT_FOUND"),
    "unknown id": (by(id="nobody"), "NOT_FOUND"),
    "over-long id": (by(id=LONG_ID), "INVALID_REQUEST"),
    "NUL in an id": (by(id=NUL_ID), "INVALID_REQUEST"),
    "empty id": (by(id=""), "INVALID_REQUEST"),
    "no query": (searches.SearchRequest(), "INVALID_REQUEST"),
    "empty image": (by(image=b""), "EMPTY_IMAGE"),
    "not an image": (by(image=b"GIF89a"), "UNKNOWN_FORMAT"),
    "half an image": (by(image=TEMPLE[:500]), "DAMAGED_IMAGE"),
    "bomb": (by(image=claim_size("WEBP", 16_000, 16_000)), "IMAGE_TOO_LARGE"),
    "image of too many bytes": (searches.DescribeRequest(image=bytes(2 << 20)), "IMAGE_TOO_LARGE"),
    "wrong dimension": (by(descriptor=descriptor([1, 0])), "INVALID_REQUEST"),
    "no numbers": (by(descriptor=descriptor([])), "INVALID_REQUEST"),
    "NaN": (by(descriptor=descriptor([np.nan, *UNIT[1:]])), "INVALID_REQUEST"),
    "infinite": (by(descriptor=descriptor([np.inf, *UNIT[1:]])), "INVALID_REQUEST"),
    "zero": (by(descriptor=descriptor([0] * DIMENSION)), "INVALID_REQUEST"),
    "another space": (by(descriptor=descriptor(UNIT, "another")), "MODEL_MISMATCH"),
    "no fingerprint": (by(descriptor=descriptor(UNIT, "")), "MODEL_MISMATCH"),
    "limit 0": (opt(limit=0), "INVALID_REQUEST"),
    "limit -1": (opt(limit=-1), "INVALID_REQUEST"),
    "limit 100,000": (opt(limit=100_000), "INVALID_REQUEST"),
    "offset -1": (opt(offset=-1), "INVALID_REQUEST"),
    "offset too deep": (opt(offset=9_991), "INVALID_REQUEST"),
    "offset too deep to group": (opt(offset=991, group_by="kind"), "INVALID_REQUEST"),
    "offset too deep to fold": (opt(limit=1000, offset=1, fold_above=1), "INVALID_REQUEST"),
    "group_size -1": (opt(group_by="kind", group_size=-1), "INVALID_REQUEST"),
    "min_score NaN": (opt(min_score=np.nan), "INVALID_REQUEST"),
    "fold_above 2": (opt(fold_above=2), "INVALID_REQUEST"),
    "expand by fewer than none": (opt(expand=-1), "INVALID_REQUEST"),
    "expand by too many": (opt(expand=51), "INVALID_REQUEST"),
    "expand_above NaN": (opt(expand=1, expand_above=np.nan), "INVALID_REQUEST"),
    "rerank fewer than none": (opt(rerank=-1), "INVALID_REQUEST"),
    "rerank too many": (opt(rerank=301), "INVALID_REQUEST"),
    "offset too deep to rerank": (opt(limit=1000, offset=1, rerank=1), "INVALID_REQUEST"),
    "diversity 2": (opt(diversity=2), "INVALID_REQUEST"),
    "diversity NaN": (opt(diversity=np.nan), "INVALID_REQUEST"),
    "diversity on a second page": (opt(offset=1, diversity=0.5), "INVALID_REQUEST"),
    "diversity among too many": (opt(limit=201, diversity=0.5), "INVALID_REQUEST"),
    "filter": (opt(filter="price < "), "BAD_FILTER"),
    "endless filter": (opt(filter="a = 1 OR " * 10_000 + "a = 1"), "BAD_FILTER"),
    "model outside the repository": (create(name="new", model="../../etc"), "INVALID_REQUEST"),
    "model that is a folder": (create(name="new", model=".."), "INVALID_REQUEST"),
    "endless model": (models.ListModelVersionsRequest(model=LONG_ID), "INVALID_REQUEST"),
    "versions of what is outside": (models.ListModelVersionsRequest(model="/"), "INVALID_REQUEST"),
    "empty batch": (searches.BatchSearchRequest(), "INVALID_REQUEST"),
    "batch of 257": (searches.BatchSearchRequest(queries=257 * [query(id="a")]), "INVALID_REQUEST"),
    "threshold 2": (
        searches.CompareRequest(left=query(id="temple"), right=query(id="flower"), threshold=2),
        "INVALID_REQUEST",
    ),
    "half a comparison": (searches.CompareRequest(left=query(id="temple")), "INVALID_REQUEST"),
    "explanation without a query": (searches.ExplainRequest(id="temple"), "INVALID_REQUEST"),
    "explanation of an empty id": (searches.ExplainRequest(query=query(id="temple")), "INVALID_REQUEST"),
    "explanation without cells": (searches.ExplainRequest(query=query(id="temple"), id="flower"), "MODEL_MISMATCH"),
    "only negatives": (searches.RecommendRequest(negatives=[query(id="temple")]), "INVALID_REQUEST"),
    "65 examples": (searches.RecommendRequest(positives=65 * [query(id="a")]), "INVALID_REQUEST"),
    "nowhere to go": (
        searches.RecommendRequest(
            positives=[query(descriptor=descriptor(UNIT)), query(descriptor=descriptor(OPPOSITE))]
        ),
        "INVALID_REQUEST",
    ),
    "no items": (items.UpsertItemsRequest(), "INVALID_REQUEST"),
    "257 items": (items.UpsertItemsRequest(items=[item(str(number)) for number in range(257)]), "INVALID_REQUEST"),
    "items for nobody": (items.UpsertItemsRequest(collection="x", items=[item("a")]), "NOT_FOUND"),
    "over-long request_id": (items.UpsertItemsRequest(items=[item("a")], request_id="x" * 129), "INVALID_REQUEST"),
    "item unknown": (items.GetItemRequest(id="nobody"), "NOT_FOUND"),
    "item over-long": (items.GetItemRequest(id=LONG_ID), "INVALID_REQUEST"),
    "item NUL": (items.GetItemRequest(id=NUL_ID), "INVALID_REQUEST"),
    "image unknown": (items.GetItemImageRequest(id="nobody"), "NOT_FOUND"),
    "nothing to delete": (items.DeleteItemsRequest(), "INVALID_REQUEST"),
    "ids and filter": (items.DeleteItemsRequest(ids=["temple"], filter="*"), "INVALID_REQUEST"),
    "10,001 ids": (items.DeleteItemsRequest(ids=10_001 * ["temple"]), "INVALID_REQUEST"),
    "deletion's filter": (items.DeleteItemsRequest(filter="* OR"), "BAD_FILTER"),
    "page_size -1": (items.ListItemsRequest(page_size=-1), "INVALID_REQUEST"),
    "page_size 1001": (items.ListItemsRequest(page_size=1001), "INVALID_REQUEST"),
    "page_token": (items.ListItemsRequest(page_token="AAAA"), "INVALID_REQUEST"),  # noqa: S106 - not a password
    "count's filter": (items.CountItemsRequest(filter="("), "BAD_FILTER"),
    "name with a slash": (create(name="a/b"), "INVALID_REQUEST"),
    "over-long name": (create(name=LONG_ID), "INVALID_REQUEST"),
    "no name": (create(), "INVALID_REQUEST"),
    "taken name": (create(name="default"), "ALREADY_EXISTS"),
    "unknown model": (create(name="a", model="resnet"), "MODEL_MISMATCH"),
    "target_recall 2": (create(name="a", target_recall=2), "INVALID_REQUEST"),
    "unknown index kind": (create(name="a", index_kind=99), "INVALID_REQUEST"),
    "no collection to delete": (collections.DeleteCollectionRequest(), "INVALID_REQUEST"),
    "unknown collection to get": (collections.GetCollectionRequest(name=LONG_ID), "NOT_FOUND"),
}


@pytest.mark.parametrize(("request_", "reason"), CASES.values(), ids=CASES.keys())
async def test_bad_request_is_one_sentence_and_changes_nothing(api: Api, request_: Message, reason: str) -> None:
    """The code says what to do, and a program can read the reason."""
    before = await api.list_all()
    refusal = await refuse(api.send(request_))

    assert (refusal.code, refusal.reason) == (CODES.get(reason, grpc.StatusCode.INVALID_ARGUMENT), reason)
    assert 10 < len(refusal.status.message) <= 512
    assert "\n" not in refusal.status.message
    assert await api.list_all() == before
    listed = await api.collections.ListCollections(collections.ListCollectionsRequest())
    assert [one.name for one in listed.collections] == ["default"]


async def test_bad_filter_is_told_with_its_position(api: Api) -> None:
    """The position is where an editor would put its mark."""
    refusal = await refuse(api.search.Search(opt(filter="price < 3 AND ) ")))

    (violation,) = refusal.detail(error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.description) == ("filter", refusal.status.message)
    assert refusal.detail(error_details_pb2.ErrorInfo).metadata["position"] == "14"


async def test_message_beyond_the_limit_is_refused_by_its_size() -> None:
    """It is refused before it is read, and the next call succeeds."""
    async with open_api(max_message_bytes=1 << 16) as api:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await api.search.Search(by(image=bytes(1 << 17)))
        answer = await api.search.Search(by(descriptor=descriptor(UNIT)))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert list(answer.hits) == []


NO_MESSAGE = b"\x0a\xff\xff\xff\xff\x0f"
"""A field that is longer than everything that follows."""


@pytest.mark.parametrize("method", ["SearchService/Search", "ItemService/UpsertItems", "ModelService/WatchRollout"])
async def test_bytes_that_are_no_message_are_bad_input(api: Api, method: str) -> None:
    """gRPC would call this a failure of the server."""
    channel: Any = api.channel
    path = f"/pspsearch.v1.{method}"
    if "Watch" in method:
        refusal = await refuse(anext(aiter(channel.unary_stream(path)(NO_MESSAGE))))
    else:
        refusal = await refuse(channel.unary_unary(path)(NO_MESSAGE))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert refusal.status.message.startswith("the request is not a message of its kind")
    assert [one.id for one in await api.list_all()] == ["temple", "flower"]


@pytest.mark.parametrize("method", ["SearchService/SearchStream", "ItemService/IngestItems"])
@pytest.mark.parametrize("before", [0, 1])
async def test_bytes_that_are_no_message_end_a_stream(api: Api, method: str, before: int) -> None:
    """The status says what is wrong, and the requests before it are answered."""
    good = items.IngestItemsRequest(item=item("new")) if "Ingest" in method else searches.SearchStreamRequest(tag="a")
    channel: Any = api.channel
    stream = channel.stream_stream(f"/pspsearch.v1.{method}")()
    for _ in range(before):
        await stream.write(good.SerializeToString())
        assert await stream.read()
    await stream.write(NO_MESSAGE)

    async def read() -> None:
        while await stream.read() != grpc.aio.EOF:
            pass

    refusal = await refuse(read())

    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.status.message.startswith("the request is not a message of its kind")
