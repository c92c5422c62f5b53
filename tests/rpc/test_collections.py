"""CollectionService over a real channel."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest

from pspsearch.domain import CollectionSettings, Generation
from pspsearch.errors import IndexFailed, ModelMismatch, TritonUnavailable
from pspsearch.ports import RowSource
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from tests.fakes.catalog import MemoryCatalog
from tests.fakes.describer import VERSION, ColourDescriber
from tests.fakes.describer import version as model_version
from tests.fakes.index import MemoryEngine
from tests.servers.rollout_place import Place
from tests.servers.rpc_client import Api, item, open_api, refuse


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with an item in the default collection."""
    async with open_api() as api:
        await api.fill(item("photo"))
        yield api


async def create(api: Api, **settings: object) -> resources.Collection:
    """Creates a collection."""
    wanted = resources.Collection(**settings)  # pyright: ignore[reportArgumentType] - the test's own business
    request = collections.CreateCollectionRequest(collection=wanted)
    return (await api.collections.CreateCollection(request)).collection


async def test_new_collection_has_every_setting_filled_in(api: Api) -> None:
    """Settings that were not chosen have their defaults."""
    made = await create(api, name="birds")

    assert (made.name, made.model, made.keep_images) == ("birds", "colours", True)
    assert (made.index_kind, made.target_recall) == (resources.INDEX_KIND_AUTO, 0.95)
    assert made.create_time.ToDatetime().year > 2000
    assert made.state.origin.fingerprint == VERSION.contract.fingerprint


async def test_chosen_settings_are_kept(api: Api) -> None:
    """They are kept as given at creation."""
    made = await create(
        api, name="birds", model="colours", keep_images=False, index_kind=resources.INDEX_KIND_HNSW, target_recall=0.9
    )
    got = await api.collections.GetCollection(collections.GetCollectionRequest(name="birds"))

    assert (made.keep_images, made.index_kind, made.target_recall) == (False, resources.INDEX_KIND_HNSW, 0.9)
    assert got.collection == made


async def test_state_follows_the_items(api: Api) -> None:
    """An empty name means `default`."""
    got = (await api.collections.GetCollection(collections.GetCollectionRequest())).collection

    assert (got.name, got.state.item_count, got.state.sequence) == ("default", 1, 1)
    assert (got.state.index, got.state.measured_recall) == ("exact", 1.0)
    assert got.state.origin.generation > 0


async def test_list_is_by_name(api: Api) -> None:
    """The order of creation does not matter."""
    for name in ("zebras", "birds"):
        await create(api, name=name)
    listed = await api.collections.ListCollections(collections.ListCollectionsRequest())

    assert [one.name for one in listed.collections] == ["birds", "default", "zebras"]


async def test_deleted_collection_is_gone_with_its_items(api: Api) -> None:
    """Its name can then be used for a new, empty collection."""
    request = collections.DeleteCollectionRequest(name="default")
    answer = await api.collections.DeleteCollection(request)
    count = items.CountItemsRequest()

    assert answer.deleted_count == 1
    assert (await refuse(api.items.CountItems(count))).reason == "NOT_FOUND"
    assert len(api.server.dropped) == 1
    await create(api, name="default")
    assert (await api.items.CountItems(count)).count == 0


async def test_status_tells_how_the_server_stands(api: Api) -> None:
    """The status has versions, sizes, what the server serves and what it does."""
    status = await api.collections.GetServerStatus(collections.GetServerStatusRequest())

    assert (status.version, status.serving, status.triton) == (version("pspsearch"), True, "127.0.0.1:8001")
    assert [(one.model, one.model_version) for one in status.models] == [("colours", 1)]
    assert [one.name for one in status.collections] == ["default"]
    assert status.memory_bytes > 1 << 20
    assert status.catalog_bytes == api.server.catalog.size_bytes() > 0
    assert status.requests_in_flight == 1
    assert status.uptime_s > 0


async def test_status_is_told_while_triton_is_away(api: Api) -> None:
    """That is when operators ask for the status."""
    api.server.describer.failure = TritonUnavailable("Triton is away")
    status = await api.collections.GetServerStatus(collections.GetServerStatusRequest())

    assert (status.serving, list(status.models)) == (True, [])


async def test_status_is_told_before_the_server_serves() -> None:
    """So an operator can see why the start takes long; other calls are refused."""
    async with open_api(serving=False) as api:
        status = await api.collections.GetServerStatus(collections.GetServerStatusRequest())
        refusal = await refuse(api.collections.ListCollections(collections.ListCollectionsRequest()))

    assert (status.serving, refusal.reason) == (False, "NOT_SERVING")


@pytest.fixture
async def halved(tmp_path: Path) -> AsyncIterator[Api]:
    """A restarted server whose `default` has lost its model version, while `birds` still has its own."""
    place = Place(tmp_path)
    async with place.open() as api:
        await api.fill(item("photo"))
        await create(api, name="birds")
        await api.models.StartRollout(models.StartRolloutRequest(collection="birds", automatic=True))
        async for answer in api.models.WatchRollout(models.WatchRolloutRequest(collection="birds")):
            assert answer.rollout.stage != models.ROLLOUT_STAGE_FAILED
        await api.models.RetireGeneration(models.RetireGenerationRequest(collection="birds"))
    place.versions[1] = ColourDescriber(model_version(1))
    async with place.open() as api:
        yield api


async def test_one_collection_that_cannot_be_opened_is_no_hindrance(halved: Api) -> None:
    """Each call to it gets a new error with the reason, and the other collections serve."""
    await halved.items.UpsertItems(items.UpsertItemsRequest(collection="birds", items=[item("bird")]))

    refusal = await refuse(halved.items.CountItems(items.CountItemsRequest()))

    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISMATCH")
    depths: list[int] = []
    for _ in range(3):
        with pytest.raises(ModelMismatch) as caught:
            halved.server.collections.get("")
        depths.append(len(caught.traceback))
    assert depths == depths[:1] * 3
    listed = await halved.collections.ListCollections(collections.ListCollectionsRequest())
    assert [one.name for one in listed.collections] == ["birds"]


async def test_a_collection_that_cannot_be_opened_can_be_deleted(halved: Api) -> None:
    """It can be deleted even if its version is gone for good, and nothing is left of it."""
    answer = await halved.collections.DeleteCollection(collections.DeleteCollectionRequest(name="default"))

    assert answer.deleted_count == 1
    assert 1 in {generation.key for generation in halved.server.dropped}
    assert (await refuse(halved.items.CountItems(items.CountItemsRequest()))).reason == "NOT_FOUND"
    assert (await create(halved, name="default")).state.item_count == 0


class Part:
    """Of an index that is being opened."""


@dataclass
class FullEngine(MemoryEngine):
    """Cannot open an index, and says so when it is there in part."""

    parts: "list[weakref.ref[Part]]" = field(default_factory=list["weakref.ref[Part]"])

    async def open(self, generation: Generation, settings: CollectionSettings, rows: RowSource) -> NoReturn:
        """Until it has no room."""
        part = Part()
        self.parts.append(weakref.ref(part))
        raise IndexFailed("no room")


async def test_a_collection_whose_index_cannot_be_made_can_be_deleted(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, says what is wrong, and its name is free again."""
    with monkeypatch.context() as patched:
        patched.setattr(api.server.collections, "_engine", FullEngine())
        wanted = collections.CreateCollectionRequest(collection=resources.Collection(name="birds"))
        assert (await refuse(api.collections.CreateCollection(wanted))).code is grpc.StatusCode.INTERNAL
    got = collections.GetCollectionRequest(name="birds")
    assert (await refuse(api.collections.GetCollection(got))).reason == "INDEX_FAILED"

    await api.collections.DeleteCollection(collections.DeleteCollectionRequest(name="birds"))

    assert (await create(api, name="birds")).name == "birds"


async def test_of_what_cannot_be_opened_only_the_reason_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """A half-read index may be large, so it must not stay in memory."""
    caplog.set_level(logging.CRITICAL, "pspsearch.live.collections")  # pytest would keep the logged errors
    catalog, parts = MemoryCatalog(), list[weakref.ref[Part]]()
    async with open_api(catalog=catalog):
        pass

    async with open_api(catalog=catalog, engine=FullEngine(parts=parts)) as api:
        refusal = await refuse(api.items.CountItems(items.CountItemsRequest()))
        gc.collect()

        assert refusal.reason == "INDEX_FAILED"
        assert [part() for part in parts] == [None]


async def test_who_leaves_leaves_it_whole(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and disk agree, even if the caller leaves in the middle of a change."""
    on_disk, left, catalog = asyncio.Event(), asyncio.Event(), api.server.catalog

    def linger(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def lingering(*args: Any) -> Any:
            answer = await method(*args)
            on_disk.set()
            await left.wait()
            return answer

        return lingering

    monkeypatch.setattr(catalog, "create_collection", linger(catalog.create_collection))
    monkeypatch.setattr(catalog, "delete_collection", linger(catalog.delete_collection))
    changes = (
        api.server.collections.create("birds", CollectionSettings("colours")),
        api.server.rollouts.delete("birds"),
    )
    for names, change in zip(({"default", "birds"}, {"default"}), changes, strict=True):
        on_disk.clear()
        left.clear()
        call = asyncio.ensure_future(change)
        await on_disk.wait()
        call.cancel()
        await asyncio.wait([call])
        left.set()
        await api.server.collections.finished()
        assert call.cancelled()
        assert {collection.name for collection, _ in await catalog.collections()} == names
        assert {live.collection.name for live in api.server.collections.all()} == names
