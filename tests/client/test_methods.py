"""Every method of both clients, against a server that keeps everything in memory."""

import asyncio
import contextlib
import doctest
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import pytest
from PIL import Image

import pspsearch
from pspsearch import client as clients
from pspsearch.client import (
    Acknowledgement,
    Area,
    AsyncClient,
    CellPair,
    Client,
    Descriptor,
    Hit,
    ItemId,
    ItemInput,
    Region,
    SearchResult,
)
from pspsearch.domain import IndexKind, Outcome
from pspsearch.errors import AlreadyExists, DamagedImage, InvalidRequest, NotFound, PspsearchError
from tests.pictures import encode, load_photo
from tests.servers.either_client import EitherClient, connected
from tests.servers.memory_server import FINGERPRINT, MemoryServer

T = TypeVar("T")

TEMPLE, FLOWER = (encode(load_photo(160, 120, number)) for number in (0, 1))
TEMPLE_AGAIN = encode(load_photo(150, 110, 0))


@pytest.fixture
def server() -> Iterator[MemoryServer]:
    """A server for one test."""
    with MemoryServer() as server:
        yield server


@pytest.fixture(params=[Client, AsyncClient])
async def ask(server: MemoryServer, request: pytest.FixtureRequest) -> AsyncIterator[EitherClient]:
    """Calls each of the clients, connected to a server with three items."""
    with Client(server.address) as filler:
        filler.upsert(
            [
                ItemInput("temple", TEMPLE, {"kind": "building", "price": 3}),
                ItemInput("flower", FLOWER, {"kind": "plant"}),
                ItemInput("temple again", TEMPLE_AGAIN, {"kind": "building"}),
            ]
        )
    async with connected(request.param(server.address)) as ask:
        yield ask


async def test_search_takes_every_kind_of_query(ask: EitherClient, tmp_path: Path) -> None:
    """A file, its bytes, an item and a descriptor find the same items; an item does not find itself."""
    (tmp_path / "temple.jpg").write_bytes(TEMPLE)
    descriptor = (await ask("describe", TEMPLE)).descriptor

    results = [await ask("search", query) for query in (tmp_path / "temple.jpg", TEMPLE, descriptor, ItemId("temple"))]

    ids = [[hit.id for hit in result.hits] for result in results]
    assert ids == [["temple", "temple again", "flower"]] * 3 + [["temple again", "flower"]]
    assert results[0].hits[0].score == pytest.approx(1, abs=1e-5)  # float32 sums of 192 products
    assert results[0].origin.model == "thumbnails"
    assert results[0].timing.inference_ms == 3


async def test_a_region_is_a_query_by_a_part_of_an_image(ask: EitherClient, tmp_path: Path) -> None:
    """Every method that takes an image for a query takes one, of a file or of bytes, in fractions or in pixels."""
    both = Image.new("RGB", (320, 120))
    both.paste(load_photo(160, 120, 0), (0, 0))
    both.paste(load_photo(160, 120, 1), (160, 0))
    both.save(tmp_path / "both.png")
    temple = Region(tmp_path / "both.png", (0, 0, 0.5, 1))
    flower = Region((tmp_path / "both.png").read_bytes(), (160, 0, 320, 120), in_px=True)

    assert [hit.id for hit in (await ask("search", flower, limit=1)).hits] == ["flower"]
    batch = await ask("search_batch", [temple, flower], limit=1)
    assert [[hit.id for hit in hits] for hits in batch.results] == [["temple"], ["flower"]]
    streamed = dict(await ask("search_stream", [("a", temple), ("b", flower)], limit=1))
    assert [streamed[tag].hits[0].id for tag in "ab"] == ["temple", "flower"]
    assert (await ask("compare", temple, TEMPLE)).score > 0.99
    assert (await ask("recommend", [flower], [temple])).hits[0].id == "flower"
    assert (await ask("compare", (await ask("describe", flower)).descriptor, FLOWER)).score > 0.99


async def test_search_returns_what_was_asked_for(ask: EitherClient) -> None:
    """By default hits have only ids and scores."""
    (bare,) = (await ask("search", TEMPLE, limit=1)).hits
    (full,) = (
        await ask("search", TEMPLE, limit=1, return_attributes=True, return_images=True, return_descriptors=True)
    ).hits

    assert (bare.attributes, bare.image, bare.descriptor, bare.group, bare.duplicates) == (None, None, None, None, ())
    assert full.attributes == {"kind": "building", "price": 3}
    assert full.image == TEMPLE
    assert full.descriptor.fingerprint == FINGERPRINT
    assert np.linalg.norm(full.descriptor.values) == pytest.approx(1, abs=1e-5)  # float32


async def test_search_options_reach_the_server(ask: EitherClient) -> None:
    """None means the same as leaving the option out."""
    by_kind = await ask("search", TEMPLE, group_by="kind", limit=None, filter=None)
    plants = await ask("search", TEMPLE, filter='kind = "plant"')
    near = await ask("search", TEMPLE, min_score=0.99)
    second = await ask("search", TEMPLE, offset=1, limit=1)

    assert [(hit.id, hit.group) for hit in by_kind.hits] == [("temple", "building"), ("flower", "plant")]
    assert [hit.id for hit in plants.hits] == ["flower"]
    assert [hit.id for hit in near.hits] == ["temple", "temple again"]
    assert [hit.id for hit in second.hits] == ["temple again"]


async def test_batch_has_a_result_or_an_error_per_query(ask: EitherClient) -> None:
    """They are in the order of the queries."""
    batch = await ask("search_batch", [TEMPLE, b"no image", ItemId("flower")], limit=1)

    first, second, third = batch.results
    assert [hit.id for hit in first] == ["temple"]
    assert isinstance(second, DamagedImage)
    assert [hit.id for hit in third] == ["temple"]
    assert batch.origin.fingerprint == FINGERPRINT


async def test_stream_answers_by_tag(ask: EitherClient) -> None:
    """A bad query gets an answer too, and the stream continues."""
    queries = [("a", TEMPLE), ("b", ItemId("nobody")), ("c", FLOWER)]

    answers = dict(await ask("search_stream", queries, limit=1))

    assert isinstance(answers["b"], NotFound)
    found = {tag: answer.hits[0].id for tag, answer in answers.items() if isinstance(answer, SearchResult)}
    assert found == {"a": "temple", "c": "flower"}


async def test_stream_raises_what_its_queries_raise(ask: EitherClient, tmp_path: Path) -> None:
    """An unreadable file ends the stream."""
    with pytest.raises(InvalidRequest, match="cannot be read"):
        await ask("search_stream", [("a", TEMPLE), ("b", tmp_path / "nothing.jpg")])


async def all_of(stream: AsyncIterator[T], into: list[T]) -> None:
    """Reads everything to the end, which must come within a minute."""
    async with asyncio.timeout(60):
        async for one in stream:
            into.append(one)  # noqa: PERF401 - keeps the items before an error


async def failing(error: type[BaseException]) -> None:
    """Fails in the caller's own code, in a way that gRPC or an awaited task could fail."""
    if error is not asyncio.CancelledError:
        raise error
    other = asyncio.create_task(asyncio.Event().wait())
    other.cancel()
    await other


@pytest.mark.parametrize("error", [grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError])
async def test_awaited_stream_tells_its_queries_from_itself(server: MemoryServer, error: type[BaseException]) -> None:
    """An error from the queries is raised, even one that looks like the end of the stream, which would never come."""
    answers: list[tuple[str, object]] = []

    async def queries() -> AsyncIterator[tuple[str, bytes]]:
        yield "a", TEMPLE
        await failing(error)

    async with AsyncClient(server.address) as client:
        with pytest.raises(error):
            await all_of(client.search_stream(queries()), answers)

    assert [tag for tag, _ in answers] == ["a"]


@pytest.mark.parametrize("error", [grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError])
async def test_awaited_ingest_raises_what_its_items_raise(server: MemoryServer, error: type[BaseException]) -> None:
    """The items before it are acknowledged, and the ingest does not end as if all were well."""
    acknowledgements: list[Acknowledgement] = []

    async def inputs() -> AsyncIterator[ItemInput]:
        yield ItemInput("before", TEMPLE)
        await failing(error)

    async with AsyncClient(server.address) as client:
        with pytest.raises(error):
            await all_of(client.ingest(inputs()), acknowledgements)

    assert [one.id for one in acknowledgements] == ["before"]


async def test_awaited_ingest_that_is_left_ends_its_items(server: MemoryServer) -> None:
    """If the caller takes no more acknowledgements, the task that reads its items is cancelled."""
    ended = asyncio.Event()

    async def inputs() -> AsyncIterator[ItemInput]:
        yield ItemInput("first", TEMPLE)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    async with (
        AsyncClient(server.address) as client,
        asyncio.timeout(60),
        contextlib.aclosing(client.ingest(inputs())) as acknowledgements,
    ):
        first = await anext(acknowledgements)

    assert (first.id, ended.is_set()) == ("first", True)


async def test_awaited_stream_that_breaks_ends_its_queries() -> None:
    """The remaining queries will not be sent, so the task that waits for them is cancelled."""
    ended = asyncio.Event()

    async def queries() -> AsyncIterator[tuple[str, bytes]]:
        yield "a", TEMPLE
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    with contextlib.ExitStack() as place:
        server = place.enter_context(MemoryServer())
        async with AsyncClient(server.address) as client, asyncio.timeout(60):
            answers = client.search_stream(queries())
            await anext(answers)
            await asyncio.to_thread(place.close)
            with pytest.raises(PspsearchError):
                await anext(answers)

    assert ended.is_set()


async def test_awaited_stream_takes_queries_as_they_come(server: MemoryServer) -> None:
    """The next query may depend on the last answer."""

    async def queries() -> AsyncIterator[tuple[str, bytes]]:
        for number in range(3):
            yield str(number), TEMPLE

    async with AsyncClient(server.address) as client:
        tags = [tag async for tag, _ in client.search_stream(queries())]

    assert tags == ["0", "1", "2"]


async def test_compare_gives_a_score_and_a_verdict(ask: EitherClient) -> None:
    """The verdict comes only with a threshold."""
    alike = await ask("compare", TEMPLE, ItemId("temple again"), threshold=0.9)
    different = await ask("compare", ItemId("temple"), ItemId("flower"), threshold=0.9)
    unjudged = await ask("compare", TEMPLE, FLOWER)

    assert alike.score > 0.99
    assert (alike.same, different.same, unjudged.same) == (True, False, None)


async def test_explain_shares_the_score_among_cells(ask: EitherClient) -> None:
    """A side without a picture is None."""
    explanation = await ask("explain", TEMPLE, "flower")
    descriptor = (await ask("describe", TEMPLE)).descriptor
    blind = await ask("explain", descriptor, "flower")

    assert explanation.query.shares.shape == (8, 8)
    assert explanation.query.shares.sum() + explanation.query.remainder == pytest.approx(explanation.score, abs=1e-5)
    assert explanation.item.seen == Area(0, 0, 1, 1)
    assert explanation.pairs == (CellPair(Area(0, 0, 1, 1), Area(0.5, 0.25, 1, 0.5), 0.75),)
    assert (blind.query, blind.item.shares.shape) == (None, (8, 8))
    assert (blind.origin.model, blind.timing.inference_ms) == ("thumbnails", 3)
    with pytest.raises(NotFound, match="there is no item 'nobody'"):
        await ask("explain", TEMPLE, "nobody")


async def test_recommend_takes_positives_and_negatives(ask: EitherClient) -> None:
    """Hits are near to some examples and far from others."""
    result = await ask("recommend", [ItemId("temple")], [FLOWER])

    assert [hit.id for hit in result.hits] == ["temple again", "flower"]


async def test_upsert_acknowledges_in_order(ask: EitherClient, tmp_path: Path) -> None:
    """The items are new, the same again, changed, and refused."""
    (tmp_path / "new.jpg").write_bytes(FLOWER)
    descriptor = Descriptor(np.ones(192, np.float32), FINGERPRINT)
    given = [
        ItemInput("new", tmp_path / "new.jpg"),
        ItemInput("temple", TEMPLE),
        ItemInput("flower", TEMPLE),
        ItemInput("bad", b"no image"),
        ItemInput("point", descriptor, {"kind": "point"}),
    ]

    acknowledgements = await ask("upsert", given)

    assert [one.outcome for one in acknowledgements] == [
        Outcome.CREATED,
        Outcome.UNCHANGED,
        Outcome.REPLACED,
        None,
        Outcome.CREATED,
    ]
    assert [one.id for one in acknowledgements] == [one.id for one in given]
    assert isinstance(acknowledgements[3].error, DamagedImage)


async def test_ingest_puts_everything_in(ask: EitherClient) -> None:
    """Each item gets one acknowledgement."""
    acknowledgements = await ask("ingest", (ItemInput(f"{number}", TEMPLE) for number in range(50)))

    assert len({one.id for one in acknowledgements if one.outcome is Outcome.CREATED}) == 50
    assert await ask("count") == 53


async def test_get_returns_an_item(ask: EitherClient) -> None:
    """It has facts about its image, and its descriptor only on request."""
    item = await ask("get", "temple")
    described = await ask("get", "temple", descriptor=True)

    assert (item.id, item.attributes, item.descriptor) == ("temple", {"kind": "building", "price": 3}, None)
    assert (item.image.media_type, item.image.width_px, item.image.size_bytes) == ("image/jpeg", 160, len(TEMPLE))
    assert described.descriptor.values.shape == (192,)
    assert await ask("get_image", "temple") == TEMPLE


async def test_unknown_things_are_not_found(ask: EitherClient) -> None:
    """This goes for items, images and collections; the message is the server's."""
    for method in ("get", "get_image"):
        with pytest.raises(NotFound, match="there is no item 'nobody'"):
            await ask(method, "nobody")
    with pytest.raises(NotFound, match="there is no collection 'nowhere'"):
        await ask("count", collection="nowhere")


async def test_list_reads_all_pages(ask: EitherClient) -> None:
    """It lists each item once, whatever the page size."""
    for page_size in (1, 2, 3, 100):
        assert [item.id for item in await ask("list", page_size=page_size)] == ["temple", "flower", "temple again"]
    assert [item.id for item in await ask("list", filter='kind = "plant"')] == ["flower"]


async def test_delete_takes_ids_or_a_filter(ask: EitherClient) -> None:
    """Unknown ids are not an error."""
    assert await ask("delete", ["flower", "nobody"]) == 1
    assert await ask("count", filter='kind = "building"') == 2
    assert await ask("delete", filter='kind = "building"') == 2
    assert await ask("count") == 0


async def test_collections_come_and_go(ask: EitherClient) -> None:
    """They have the requested settings."""
    made = await ask("create_collection", "shoes", model="resnet", keep_images=False, index_kind=IndexKind.HNSW)

    assert (made.name, made.model, made.keep_images, made.index_kind) == ("shoes", "resnet", False, IndexKind.HNSW)
    assert [one.name for one in await ask("list_collections")] == ["default", "shoes"]
    assert (await ask("get_collection")).state.item_count == 3
    with pytest.raises(AlreadyExists, match="shoes"):
        await ask("create_collection", "shoes")
    assert await ask("delete_collection", "shoes") == 0


async def test_status_tells_how_the_server_stands(ask: EitherClient) -> None:
    """The status has health, versions and sizes."""
    status = await ask("status")

    assert (status.version, status.serving, status.memory_bytes) == ("1.2.3", True, 3 << 30)
    assert [collection.state.index for collection in status.collections] == ["exact fp16"]


@pytest.mark.parametrize(
    ("method", "argument", "words"),
    [
        ("search", "temple.jpg", "an item's id is an ItemId"),
        ("search", Path("nothing.jpg"), "nothing.jpg cannot be read: No such file"),
        ("search", Region(Path("nothing.jpg"), (0, 0, 1, 1)), "nothing.jpg cannot be read: No such file"),
        ("search", Region(TEMPLE, (0, 1)), "the request cannot be sent: not enough values"),  # type: ignore[arg-type]
        ("describe", ItemId("temple"), "an item's id is an ItemId"),
        ("get", "\udcff", "the request cannot be sent"),
        ("upsert", [ItemInput("a", TEMPLE, {"price": float("nan")})], "the item 'a' cannot be sent"),
    ],
)
async def test_what_cannot_be_sent_is_a_sentence(ask: EitherClient, method: str, argument: object, words: str) -> None:
    """The client raises before it sends anything."""
    with pytest.raises(InvalidRequest, match=words):
        await ask(method, argument)


def test_five_lines_index_a_folder_and_search_it(
    server: MemoryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the example of the documentation, with another address."""
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "temple.jpg").write_bytes(TEMPLE)
    (tmp_path / "photographs" / "flower.jpg").write_bytes(FLOWER)
    (tmp_path / "query.jpg").write_bytes(TEMPLE_AGAIN)
    monkeypatch.chdir(tmp_path)
    assert clients.__doc__ is not None
    example = clients.__doc__.replace("127.0.0.1:8500", server.address)
    said: list[tuple[Hit, ...]] = []

    lines = "".join(part.source for part in doctest.DocTestParser().get_examples(example))
    exec(lines, {"print": said.append})  # noqa: S102 - the project's own documentation

    ((first, second),) = said
    assert (first.id, second.id) == ("temple.jpg", "flower.jpg")
    assert first.score > 0.99


def test_importing_pspsearch_is_cheap() -> None:
    """gRPC is imported only when a client is first used."""
    code = "import sys, pspsearch; assert 'grpc' not in sys.modules; pspsearch.Client; assert 'grpc' in sys.modules"

    subprocess.run([sys.executable, "-c", code], check=True)

    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        _ = pspsearch.Klient  # type: ignore[attr-defined]
