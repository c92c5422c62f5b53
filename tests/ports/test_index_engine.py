"""What every index engine does: the fake, and the one over FAISS."""

from dataclasses import replace
from pathlib import Path

import pytest

from pspsearch.domain import CollectionSettings
from pspsearch.index.engine import FaissEngine
from pspsearch.ports import IndexEngine
from tests.fakes.index import GENERATION, Gallery, MemoryEngine, match_all
from tests.indexes import NEVER, ROOM

SETTINGS = CollectionSettings("pspnet")


@pytest.fixture(params=["memory", "faiss"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> IndexEngine:
    """An engine without indexes."""
    return MemoryEngine() if request.param == "memory" else FaissEngine(tmp_path / "indexes", ROOM, NEVER)


@pytest.fixture
def gallery() -> Gallery:
    """A few items."""
    gallery = Gallery()
    for number in range(50):
        gallery.put(f"item-{number}", number=number)
    return gallery


async def test_an_index_has_the_rows_of_its_generation(engine: IndexEngine, gallery: Gallery) -> None:
    """Each has its own, although the other's are beside it."""
    other = Gallery(seed=1)
    other.put("other")
    index = await engine.open(GENERATION, SETTINGS, gallery.source)
    beside = await engine.open(replace(GENERATION, key=GENERATION.key + 1), SETTINGS, other.source)

    assert (await match_all(index)).sequences.tolist() == sorted(gallery.by_sequence())
    assert (await match_all(beside)).sequences.tolist() == sorted(other.by_sequence())
    await index.close()
    await beside.close()


@pytest.mark.parametrize("dropped", [False, True])
async def test_an_index_that_is_opened_again_has_the_rows_of_then(
    engine: IndexEngine, gallery: Gallery, *, dropped: bool
) -> None:
    """This holds whether anything was left of it or not."""
    index = await engine.open(GENERATION, SETTINGS, gallery.source)
    index.apply(gallery.put("seen"))
    await index.close()
    gallery.put("unseen")
    gallery.drop("item-7")
    if dropped:
        await engine.drop(GENERATION)

    again = await engine.open(GENERATION, SETTINGS, gallery.source)

    assert (await match_all(again)).sequences.tolist() == sorted(gallery.by_sequence())
    await again.close()


async def test_other_rows_after_a_drop(engine: IndexEngine, gallery: Gallery) -> None:
    """Nothing is left that could be mistaken for them, and an index that never existed can be dropped, too."""
    await engine.drop(GENERATION)
    index = await engine.open(GENERATION, SETTINGS, gallery.source)
    await index.close()
    other = Gallery(seed=1)
    for number in range(60):
        other.put(f"other-{number}")

    await engine.drop(GENERATION)
    index = await engine.open(GENERATION, SETTINGS, other.source)
    query = other.rows["other-5"].descriptor.astype("f4")[None]
    (found,) = await index.search(query, 1)

    assert found.ids == ["other-5"]
    await index.close()
