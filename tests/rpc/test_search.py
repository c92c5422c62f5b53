"""SearchService over a real channel; the model is a fake that looks at colours."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.describer import DIMENSION, VERSION
from tests.pictures import claim_size, encode, load_photo
from tests.servers.rpc_client import FLOWER, TEMPLE, Api, Refusal, descriptor, item, open_api, query

ROUNDING = 2e-3
"""Descriptors are stored as float16, whose steps are 2^-11 of a value, so a cosine of 1 may be lower by this."""

ORIGIN = resources.Origin(model="colours", model_version=1, fingerprint=VERSION.contract.fingerprint, generation=1)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with two photographs, and a smaller copy of one of them."""
    async with open_api() as api:
        again = encode(load_photo(80, 60, 0))
        await api.fill(
            item("temple", TEMPLE, '{"kind": "building"}'),
            item("flower", FLOWER, '{"kind": "plant"}'),
            item("temple/again", again, '{"kind": "building"}'),
        )
        yield api


async def search(api: Api, by: searches.Query, **options: Any) -> list[searches.Hit]:
    """Searches, and returns the hits."""
    request = searches.SearchRequest(query=by, options=searches.SearchOptions(**options))
    return list((await api.search.Search(request)).hits)


async def test_search_by_image_finds_it_and_says_where_the_answer_comes_from(api: Api) -> None:
    """The hits are best first, with the model version, the space and the timing."""
    answer = await api.search.Search(searches.SearchRequest(query=query(image=TEMPLE)))

    assert [hit.id for hit in answer.hits] == ["temple", "temple/again", "flower"]
    assert answer.hits[0].score == pytest.approx(1, abs=ROUNDING)
    assert answer.origin == ORIGIN
    timing = answer.timing
    stages = (timing.decode_ms, timing.inference_ms, timing.search_ms)
    assert min(stages) > 0
    assert timing.total_ms >= sum(stages) + timing.queue_ms


async def test_search_by_id_leaves_the_item_itself_out(api: Api) -> None:
    """It would otherwise always be the best hit."""
    hits = await search(api, query(id="temple"))

    assert [hit.id for hit in hits] == ["temple/again", "flower"]


async def test_described_image_can_be_sent_back_as_a_query(api: Api) -> None:
    """Describe and then search by descriptor gives the same as search by image."""
    described = await api.search.Describe(searches.DescribeRequest(image=FLOWER))
    hits = await search(api, query(descriptor=described.descriptor))

    assert described.origin == ORIGIN
    assert np.linalg.norm(described.descriptor.values) == pytest.approx(1, abs=1e-6)  # float32
    assert hits == await search(api, query(image=FLOWER))


async def test_options_choose_hits(api: Api) -> None:
    """Limit and offset page through the ranking; filter, minimum score and groups leave hits out."""
    by = query(image=TEMPLE)

    assert [hit.id for hit in await search(api, by, limit=1, offset=1)] == ["temple/again"]
    assert [hit.id for hit in await search(api, by, filter='kind = "plant"')] == ["flower"]
    assert [hit.id for hit in await search(api, by, min_score=0.9)] == ["temple", "temple/again"]
    grouped = await search(api, by, group_by="kind")
    assert [(hit.id, hit.group) for hit in grouped] == [("temple", '"building"'), ("flower", '"plant"')]
    folded = await search(api, by, fold_above=0.9)
    assert [(hit.id, list(hit.duplicates)) for hit in folded] == [("temple", ["temple/again"]), ("flower", [])]
    diverse = await search(api, by, limit=2, diversity=0.9)
    assert [hit.id for hit in diverse] == ["temple", "flower"]
    reranked = await search(api, query(id="temple"), rerank=300)
    assert sorted(hit.id for hit in reranked) == ["flower", "temple/again"]


async def test_query_is_widened_by_its_nearest_hits(api: Api) -> None:
    """The score is the cosine with the sum of the query and the hits, each times its score."""
    axes = np.eye(DIMENSION, dtype=np.float32)
    near = (axes[0] + axes[1]) / np.sqrt(2)
    await api.fill(
        items.ItemInput(id="near", descriptor=descriptor(near)),
        items.ItemInput(id="side", descriptor=descriptor(axes[1])),
    )
    by = query(descriptor=descriptor(axes[0]))

    plain = {hit.id: hit.score for hit in await search(api, by)}
    wider = {hit.id: hit.score for hit in await search(api, by, expand=1, expand_above=0.6)}
    unmoved = {hit.id: hit.score for hit in await search(api, by, expand=1, expand_above=0.99)}
    moved = axes[0] + plain["near"] * near

    assert plain["side"] == pytest.approx(0, abs=1e-3)
    assert wider["side"] == pytest.approx(moved[1] / np.linalg.norm(moved), abs=1e-3)  # float16
    assert unmoved == pytest.approx(plain, abs=1e-6)


async def test_hits_carry_what_was_asked_for(api: Api) -> None:
    """They carry nothing by default, and attributes, images and descriptors on request."""
    bare = (await search(api, query(image=TEMPLE), limit=1))[0]
    full = (
        await search(
            api,
            query(image=TEMPLE),
            limit=1,
            return_attributes=True,
            return_images=True,
            return_descriptors=True,
        )
    )[0]

    assert (bare.attributes_json, bare.image, bare.HasField("descriptor")) == ("", b"", False)
    assert (full.attributes_json, full.image) == ('{"kind":"building"}', TEMPLE)
    assert (len(full.descriptor.values), full.descriptor.fingerprint) == (DIMENSION, ORIGIN.fingerprint)


async def test_score_is_a_cosine_whatever_the_rounding(api: Api) -> None:
    """1 / sqrt(5) is rounded up in float16, which makes the stored descriptor longer than 1 by 1e-4."""
    long = descriptor([1.0] * 5 + [0.0] * (DIMENSION - 5))
    await api.fill(items.ItemInput(id="long", descriptor=long))
    (stored,) = await api.server.collections.get("").index.descriptors([4])
    (hit,) = await search(api, query(descriptor=long), limit=1)

    assert np.linalg.norm(stored) > 1.0001
    assert (hit.id, hit.score) == ("long", 1.0)


async def test_absent_limit_means_ten(api: Api) -> None:
    """A limit of 0, in contrast, is an error."""
    await api.fill(*(items.ItemInput(id=f"point {n}", descriptor=descriptor(np.eye(DIMENSION)[n])) for n in range(12)))

    assert len(await search(api, query(image=TEMPLE))) == 10


async def test_batch_answers_each_query_for_itself(api: Api) -> None:
    """A broken image, an unknown id, a decompression bomb and an empty query fail alone, each with its own status."""
    queries = [
        query(image=TEMPLE),
        query(image=TEMPLE[:500]),
        query(id="unknown"),
        query(image=claim_size("PNG", 60_000, 60_000)),
        searches.Query(),
        query(id="temple"),
    ]
    answer = await api.search.BatchSearch(
        searches.BatchSearchRequest(queries=queries, options=searches.SearchOptions(limit=1))
    )

    assert [[hit.id for hit in one.hits] for one in answer.results] == [["temple"], [], [], [], [], ["temple/again"]]
    refusals = [Refusal(one.status) for one in answer.results[1:5]]
    assert [refusal.reason for refusal in refusals] == [
        "DAMAGED_IMAGE",
        "NOT_FOUND",
        "IMAGE_TOO_LARGE",
        "INVALID_REQUEST",
    ]
    assert answer.results[0].status.code == grpc.StatusCode.OK.value[0]
    assert answer.origin == ORIGIN


async def test_batch_of_bad_queries_is_an_answer_too(api: Api) -> None:
    """Even if no query is left to search for, every status says why."""
    answer = await api.search.BatchSearch(searches.BatchSearchRequest(queries=[searches.Query(), query(id="\0")]))

    assert [Refusal(one.status).reason for one in answer.results] == ["INVALID_REQUEST"] * 2
    assert answer.origin == ORIGIN


async def test_batch_gives_what_single_searches_give(api: Api) -> None:
    """The same hits with the same scores."""
    queries = [query(image=TEMPLE), query(image=FLOWER), query(id="temple")]
    batch = await api.search.BatchSearch(searches.BatchSearchRequest(queries=queries))

    assert [list(one.hits) for one in batch.results] == [await search(api, one) for one in queries]


async def test_compare_gives_a_score_and_a_verdict_on_request(api: Api) -> None:
    """Images, items and descriptors can be compared with each other."""
    request = searches.CompareRequest(left=query(image=TEMPLE), right=query(id="temple"))
    without = await api.search.Compare(request)
    request.threshold = 0.9
    same = await api.search.Compare(request)
    request.right.CopyFrom(query(id="flower"))
    other = await api.search.Compare(request)

    assert without.score == pytest.approx(1, abs=ROUNDING)
    assert not without.HasField("same")
    assert (same.same, other.same) == (True, False)
    assert other.origin == ORIGIN


async def test_recommend_goes_towards_positives_and_away_from_negatives(api: Api) -> None:
    """The examples themselves are not hits."""
    request = searches.RecommendRequest(positives=[query(id="temple")], negatives=[query(image=FLOWER)])
    answer = await api.search.Recommend(request)

    assert [hit.id for hit in answer.hits] == ["temple/again", "flower"]
    assert answer.hits[1].score < 0
    assert answer.origin == ORIGIN
