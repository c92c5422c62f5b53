"""Explain over a real channel; the model is a fake that looks at colours, cell by cell."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pspsearch.model.contract import Fit, InputShape
from pspsearch.v1 import collection_service_pb2 as collections
from pspsearch.v1 import item_service_pb2 as items
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import resources_pb2 as resources
from pspsearch.v1 import search_service_pb2 as searches
from tests.fakes.catalog import MemoryCatalog
from tests.fakes.describer import DIMENSION, ColourCells, ColourDescriber, version
from tests.pictures import encode
from tests.servers.rollout_place import Place, reach
from tests.servers.rpc_client import Api, descriptor, item, open_api, query, refuse

RED, BLUE, GREEN = "#c02020", "#2030c0", "#20a040"
ROUNDING = 1e-6
"""float32's of a few dozen shares."""
NOTHING = 2e-3
"""What a linear head may leave: float16's rounding of the stored descriptor, and the loading of the weights."""


def halves(left: str, right: str, size: tuple[int, int] = (64, 64)) -> bytes:
    """A picture of two colours."""
    image = Image.new("RGB", size, left)
    image.paste(right, (size[0] // 2, 0, *size))
    return encode(image, "PNG")


def plain(colour: str) -> bytes:
    """A picture of one colour."""
    return halves(colour, colour)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A server with a few pictures of two colours, and an item without a picture."""
    async with open_api(versions={1: ColourCells()}) as api:
        known = ColourCells().version.contract.fingerprint
        await api.fill(
            item("red and blue", halves(RED, BLUE)),
            item("blue and red", halves(BLUE, RED)),
            item("green", plain(GREEN)),
            items.ItemInput(id="point", descriptor=descriptor(np.eye(DIMENSION)[0], known)),
        )
        yield api


async def explain(api: Api, by: searches.Query, id_: str, **metadata: str) -> searches.ExplainResponse:
    """Explains, and checks that everything adds up to what a search says."""
    request = searches.ExplainRequest(query=by, id=id_)
    answer = await api.search.Explain(request, metadata=tuple(metadata.items()))
    for side in (answer.query, answer.item):
        if side.shares:
            assert sum(side.shares) + side.remainder == pytest.approx(answer.score, abs=ROUNDING)
    found = await api.search.Search(searches.SearchRequest(query=by), metadata=tuple(metadata.items()))
    assert by.id == id_ or {hit.id: hit.score for hit in found.hits}[id_] == pytest.approx(answer.score, abs=ROUNDING)
    return answer


def grid(shares: searches.Shares) -> NDArray[np.float64]:
    """The shares as rows and columns."""
    return np.reshape(shares.shares, (-1, shares.columns))


async def test_shares_are_in_the_half_that_was_asked_for(api: Api) -> None:
    """Both pictures have the grid of the finest level, and a linear head leaves no remainder."""
    answer = await explain(api, query(image=plain(RED)), "red and blue")
    other = await explain(api, query(image=plain(RED)), "blue and red")

    shares = grid(answer.item)
    assert shares.shape == (4, 4)
    assert shares[:, :2].min() > 0 > shares[:, 2:].max()
    assert np.allclose(grid(other.item), shares[:, ::-1], atol=NOTHING)
    assert grid(answer.query).std() < 0.05 * grid(answer.query).mean()
    assert abs(answer.query.remainder) < NOTHING
    assert abs(answer.item.remainder) < NOTHING
    assert answer.origin.generation == 1
    assert min(answer.timing.decode_ms, answer.timing.inference_ms, answer.timing.search_ms) > 0


async def test_pairs_join_what_is_alike(api: Api) -> None:
    """The red half is on the left of the query, and on the right of the item."""
    answer = await explain(api, query(image=halves(RED, BLUE)), "blue and red")

    assert answer.pairs
    for pair in answer.pairs:
        assert pair.score == pytest.approx(1, abs=ROUNDING)
        assert (pair.query.left < 0.5) is (pair.item.left >= 0.5)
        assert pair.query.right - pair.query.left == pair.item.bottom - pair.item.top == 0.25


async def test_query_may_be_an_item_or_a_descriptor(api: Api) -> None:
    """An item's picture is explained like any; a descriptor has none, and an item may have none."""
    by_id = await explain(api, query(id="red and blue"), "blue and red")
    same = await explain(api, query(id="green"), "green")
    given = (await api.search.Describe(searches.DescribeRequest(image=plain(BLUE)))).descriptor
    blind = await explain(api, query(descriptor=given), "red and blue")
    pictureless = await explain(api, query(image=plain(BLUE)), "point")

    assert (by_id.HasField("query"), by_id.HasField("item")) == (True, True)
    assert same.score == pytest.approx(1, abs=2e-3)  # float16
    assert (blind.HasField("query"), blind.HasField("item"), list(blind.pairs)) == (False, True, [])
    assert grid(blind.item)[:, 2:].min() > 0
    assert (pictureless.HasField("query"), pictureless.HasField("item")) == (True, False)


async def test_cells_lie_on_the_part_that_the_model_saw() -> None:
    """Of a wide picture, that is the middle with CROP, and more than the picture with PAD."""
    boxes: dict[Fit, tuple[float, float, float, float]] = {}
    wide = halves(RED, BLUE, (128, 64))
    for fit in Fit:
        async with open_api(
            versions={1: ColourCells(version(1, input=InputShape(32, 32, fit), bins=ColourCells.BINS))}
        ) as api:
            await api.fill(item("wide", wide))
            seen = (await explain(api, query(image=plain(RED)), "wide")).item.seen
            boxes[fit] = (seen.left, seen.top, seen.right, seen.bottom)

    assert boxes == {Fit.SQUASH: (0, 0, 1, 1), Fit.CROP: (0.25, 0, 0.75, 1), Fit.PAD: (0, -0.5, 1, 1.5)}


async def test_only_the_box_of_the_query_is_explained(api: Api) -> None:
    """Its cells lie in the box, and it is like the half of the item that has its colour."""
    by = searches.Query(image=halves(RED, BLUE), box=resources.Box(left=0.5, right=1, bottom=0.5))

    answer = await explain(api, by, "red and blue")

    seen = answer.query.seen
    assert (seen.left, seen.top, seen.right, seen.bottom) == (0.5, 0, 1, 0.5)
    assert grid(answer.item)[:, 2:].min() > 0 > grid(answer.item)[:, :2].max()
    assert all(pair.query.left >= 0.5 and pair.query.bottom <= 0.5 for pair in answer.pairs)


async def test_what_cannot_be_explained_is_one_sentence(api: Api) -> None:
    """Each has the code that says what to do."""
    point = query(id="point")

    nobody = await refuse(api.search.Explain(searches.ExplainRequest(query=query(image=plain(RED)), id="nobody")))
    unknown = await refuse(api.search.Explain(searches.ExplainRequest(query=query(id="nobody"), id="green")))
    blind = await refuse(api.search.Explain(searches.ExplainRequest(query=point, id="point")))
    damaged = await refuse(api.search.Explain(searches.ExplainRequest(query=query(image=b"no image"), id="green")))

    assert nobody.reason == unknown.reason == "NOT_FOUND"
    assert (blind.code, blind.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_PICTURE")
    assert "neither the query nor the item has a picture" in blind.status.message
    assert damaged.reason == "UNKNOWN_FORMAT"


async def test_image_that_was_not_kept_is_no_picture(api: Api) -> None:
    """The query's side is still there."""
    made = resources.Collection(name="lean", keep_images=False)
    await api.collections.CreateCollection(collections.CreateCollectionRequest(collection=made))
    await api.items.UpsertItems(items.UpsertItemsRequest(collection="lean", items=[item("a", plain(RED))]))
    request = searches.ExplainRequest(collection="lean", query=query(image=plain(RED)), id="a")

    answer = await api.search.Explain(request)

    assert (answer.HasField("query"), answer.HasField("item")) == (True, False)


async def test_model_without_cells_says_what_to_do() -> None:
    """No picture is described in vain."""
    async with open_api() as api:
        await api.fill(item("a", plain(RED)))
        described = api.server.describer.images

        refusal = await refuse(api.search.Explain(searches.ExplainRequest(query=query(image=plain(RED)), id="a")))

        assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISMATCH")
        assert "publish a version with cells" in refusal.status.message
        assert api.server.describer.images == described


class _Hurried(MemoryCatalog):
    """A catalog in which somebody is quicker: what is `due` is done once, before an image is read."""

    due: Any = None

    async def image(self, collection: int, id: str) -> bytes | None:  # noqa: A002
        if self.due is not None:
            due, self.due = self.due, None
            await due
        return await super().image(collection, id)


async def test_item_that_changes_meanwhile_is_explained_as_it_is_afterwards() -> None:
    """Its new picture is never explained with its old descriptor."""
    catalog = _Hurried()
    async with open_api(versions={1: ColourCells()}, catalog=catalog) as api:
        await api.fill(item("a", plain(BLUE)))
        catalog.due = api.fill(item("a", halves(RED, GREEN)))

        answer = await explain(api, query(image=plain(RED)), "a")

        assert abs(answer.item.remainder) < NOTHING
        assert grid(answer.item)[:, :2].sum() > 0.5 * answer.score


@pytest.mark.parametrize("is_real", [False, True], ids=["memory", "real"])
async def test_rollout_is_explained_by_one_version(tmp_path: Path, is_real: bool) -> None:
    """The one that answers the caller: its cells, and its descriptors, which another version's would not fit."""
    versions: dict[int, ColourDescriber] = {
        1: ColourCells(),
        2: ColourCells(version(2, bins=ColourCells.BINS), shift=5),
    }
    async with Place(tmp_path if is_real else None, versions).open() as api:
        await api.fill(*(item(str(n), halves(RED, colour)) for n, colour in enumerate((RED, BLUE, GREEN))))
        await api.models.StartRollout(models.StartRolloutRequest())
        await reach(api, models.ROLLOUT_STAGE_READY)
        for canary in (0.0, 1.0):
            await api.models.TryRollout(models.TryRolloutRequest(canary=canary))
            for by in (query(image=plain(BLUE)), query(id="1")):
                answer = await explain(api, by, "2")
                assert answer.origin.model_version == 1 + canary
                assert abs(answer.query.remainder) < NOTHING
                assert abs(answer.item.remainder) < NOTHING


async def test_a_candidate_without_cells_passes_the_call_on() -> None:
    """The active version explains it."""
    lacking = ColourDescriber(version(2), shift=5)
    async with Place(None, {1: ColourCells(), 2: lacking}).open() as api:
        await api.fill(*(item(str(n), halves(RED, colour)) for n, colour in enumerate((RED, BLUE, GREEN))))
        await api.models.StartRollout(models.StartRolloutRequest())
        await reach(api, models.ROLLOUT_STAGE_READY)
        await api.models.TryRollout(models.TryRolloutRequest(canary=1))

        answer = await api.search.Explain(searches.ExplainRequest(query=query(id="1"), id="2"))

        assert answer.origin.model_version == 1
