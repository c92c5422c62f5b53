"""Generations of a collection, in every catalog: the fake and the real one."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from pspsearch.domain import Filling, Generation, GenerationState, Lacking, Outcome, Upsert
from pspsearch.errors import AlreadyExists, ModelChanged, NotFound
from pspsearch.ports import Catalog
from tests.fakes.catalog import VERSION, Clock, Ear, describe, picture, plain

NEXT = replace(VERSION, version=2, contract=replace(VERSION.contract, digest="cd" * 32))


def both(upsert: Upsert, other: Generation) -> Upsert:
    """Returns the upsert with a descriptor for the other generation, too."""
    assert upsert.descriptor is not None
    return replace(upsert, others={other.key: upsert.descriptor[::-1].copy()})


def filling(key: int, content: bytes) -> Filling:
    """Returns the descriptor of an item that has this image, to fill in."""
    return Filling(key, hashlib.sha256(content).hexdigest(), describe(content))


async def states(catalog: Catalog, generation: Generation) -> dict[int, GenerationState]:
    """Returns the states of all generations of the collection."""
    return {record.generation.key: record.state for record in await catalog.generations(generation.collection)}


@pytest.fixture
async def built(catalog: Catalog, generation: Generation) -> Generation:
    """A second generation of the collection, which is being built."""
    return await catalog.begin_generation(generation.collection, NEXT, '{"share": 0.5}')


async def test_a_generation_is_begun_beside_the_active_one(
    catalog: Catalog, generation: Generation, built: Generation, clock: Clock
) -> None:
    """It names the version's space, and searches do not notice it."""
    first, second = await catalog.generations(generation.collection)

    assert (first.generation, first.state) == (generation, GenerationState.ACTIVE)
    assert (second.generation, second.state, second.details) == (built, GenerationState.BUILDING, '{"share": 0.5}')
    assert second.created == second.changed == clock.moment
    assert (built.version, built.fingerprint) == (2, NEXT.contract.fingerprint)
    assert [active for _, active in await catalog.collections()] == [generation]


async def test_a_collection_follows_or_does_not(catalog: Catalog, generation: Generation) -> None:
    """The last setting counts."""
    assert [collection.follows for collection, _ in await catalog.collections()] == [False]
    for follows in (True, False):
        await catalog.set_follows(generation.collection, follows=follows)
        assert [collection.follows for collection, _ in await catalog.collections()] == [follows]
    await catalog.delete_collection(generation.collection)
    with pytest.raises(NotFound):
        await catalog.set_follows(generation.collection, follows=True)


async def test_only_one_generation_is_built_at_a_time(
    catalog: Catalog, generation: Generation, built: Generation
) -> None:
    """When it has ended another can begin, unless the collection is gone."""
    with pytest.raises(AlreadyExists):
        await catalog.begin_generation(generation.collection, NEXT, "{}")
    await catalog.end_generation(built, GenerationState.FAILED, "{}")

    again = await catalog.begin_generation(generation.collection, NEXT, "{}")

    assert again.key > built.key
    await catalog.delete_collection(generation.collection)
    with pytest.raises(NotFound):
        await catalog.begin_generation(generation.collection, NEXT, "{}")
    assert await catalog.generations(generation.collection) == []


async def test_a_write_reaches_every_generation_that_it_is_described_for(
    catalog: Catalog, generation: Generation, built: Generation, ear: Ear
) -> None:
    """It is the same row, with each generation's own descriptor; listeners hear of both."""
    (written,) = await catalog.write(generation, [both(picture("a", b"a"), built)])

    (row,) = catalog.rows_of(generation).after(0)
    (other,) = catalog.rows_of(built).after(0)
    assert row.sequence == other.sequence == written.sequence
    assert np.array_equal(row.descriptor, other.descriptor[::-1])
    assert plain(ear.rows(generation)) == plain([row])
    assert plain(ear.rows(built)) == plain([other])


async def test_what_is_changed_or_deleted_is_so_in_every_generation(
    catalog: Catalog, generation: Generation, built: Generation, ear: Ear
) -> None:
    """Attributes need no descriptors."""
    await catalog.write(generation, [both(picture("a", b"a"), built), both(picture("b", b"b"), built)])

    await catalog.write(generation, [Upsert("a", None, '{"x": 1}')])
    (renamed,) = await catalog.write(generation, [both(picture("b", b"c"), built)])

    for one in (generation, built):
        rows = list(catalog.rows_of(one).after(0))
        assert [(row.id, row.attributes) for row in rows] == [("a", '{"x": 1}'), ("b", "{}")]
        assert rows[1].sequence == renamed.sequence
        assert plain(ear.rows(one)) == plain(rows)


async def test_an_image_that_is_replaced_takes_its_other_descriptors_along(
    catalog: Catalog, generation: Generation, built: Generation, ear: Ear
) -> None:
    """A generation without a descriptor of the new image lacks it, and never keeps the old one's."""
    await catalog.write(generation, [both(picture("a", b"a"), built)])

    (written,) = await catalog.write(generation, [picture("a", b"b")])

    assert list(catalog.rows_of(built).after(0)) == ear.rows(built) == []
    assert await catalog.descriptor(built, "a") is None
    assert [item.id for item in await catalog.lacking(built, 0, 10)] == ["a"]
    assert await catalog.count_lacking(built) == Lacking(1, 0, written.sequence)


async def test_lacking_items_come_by_key_and_are_counted(
    catalog: Catalog, generation: Generation, built: Generation
) -> None:
    """Those without a kept image are counted apart."""
    await catalog.write(
        generation,
        [
            picture("a", b"a"),
            both(picture("b", b"b"), built),
            picture("c", b"c", kept=False),
            Upsert("d", describe(b"d"), None),
        ],
    )

    items = await catalog.lacking(built, 0, 2)
    more = await catalog.lacking(built, items[-1].key, 2)

    assert [item.id for item in (*items, *more)] == ["a", "c", "d"]
    counted = await catalog.count_lacking(built)
    assert (counted.with_image, counted.without_image) == (1, 2)
    assert (await catalog.count_lacking(generation)).with_image == 0


async def test_what_is_filled_is_there_and_nobody_hears_of_it(
    catalog: Catalog, generation: Generation, built: Generation, ear: Ear
) -> None:
    """It is filled only if the item still has the image that was described, and lacks its descriptor."""
    written = await catalog.write(generation, [picture(id_, id_.encode()) for id_ in "abc"])
    items = await catalog.lacking(built, 0, 10)
    await catalog.write(generation, [picture("b", b"another")])
    heard = len(ear.commits)

    count = await catalog.fill(built, [filling(item.key, item.id.encode()) for item in items], renew=False)
    again = await catalog.fill(built, [filling(items[0].key, b"a")], renew=False)

    assert (count, again) == (2, 0)
    assert [row.sequence for row in catalog.rows_of(built).after(0)] == [written[0].sequence, written[2].sequence]
    assert len(ear.commits) == heard


async def test_what_is_filled_anew_gets_another_row_in_every_generation(
    catalog: Catalog, generation: Generation, built: Generation, ear: Ear
) -> None:
    """An index takes only rows later than those that it has."""
    (old, last) = await catalog.write(generation, [picture("a", b"a"), both(picture("b", b"b"), built)])
    (item,) = await catalog.lacking(built, 0, 10)

    assert await catalog.fill(built, [filling(item.key, b"a")], renew=True) == 1

    for one in (generation, built):
        rows = list(catalog.rows_of(one).after(0))
        assert [row.id for row in rows] == ["b", "a"]
        assert rows[1].sequence > last.sequence > old.sequence
        assert plain(ear.rows(one)) == plain(rows)


async def test_the_same_image_put_in_again_fills_what_it_lacks(
    catalog: Catalog, generation: Generation, built: Generation, ear: Ear
) -> None:
    """This is how an item without a kept image can be described for a generation: its image comes again."""
    await catalog.write(generation, [picture("a", b"a", kept=False)])

    (written,) = await catalog.write(generation, [both(picture("a", b"a", kept=False), built)])

    assert written.outcome is Outcome.UNCHANGED
    (row,) = catalog.rows_of(built).after(0)
    assert row.sequence == written.sequence
    assert plain(ear.rows(built)) == plain([row])
    (again,) = await catalog.write(generation, [both(picture("a", b"a", kept=False), built)])
    assert again == written


async def test_an_item_that_was_not_described_has_no_image_to_go_by(
    catalog: Catalog, generation: Generation, built: Generation, ear: Ear
) -> None:
    """Its image must come again, or nothing would ever find it."""
    await catalog.write(generation, [picture("a", b"a", kept=False)])
    assert await catalog.promote_generation(built, 0, "{}")
    known = replace(picture("a", b"a", kept=False), descriptor=None)

    (told,) = await catalog.write(built, [known])

    assert told.outcome is Outcome.ABSENT
    (given,) = await catalog.write(built, [picture("a", b"a", kept=False)])
    assert given.outcome is Outcome.UNCHANGED
    assert [row.id for row in catalog.rows_of(built).after(0)] == ["a"]
    assert plain(ear.rows(built)) == plain(catalog.rows_of(built).after(0))
    assert await catalog.write(built, [known]) == [given]


async def test_a_descriptor_for_another_generation_is_another_thing(
    catalog: Catalog, generation: Generation, built: Generation, ear: Ear
) -> None:
    """There is no image to show that both are the same, so a rollback must not find the old descriptor."""
    await catalog.write(generation, [Upsert("a", describe(b"a"), None)])
    await catalog.promote_generation(built, 0, "{}")

    (written,) = await catalog.write(built, [Upsert("a", describe(b"b"), None)])

    assert written.outcome is Outcome.REPLACED
    assert list(catalog.rows_of(generation).after(0)) == ear.rows(generation) == []
    assert [row.sequence for row in ear.rows(built)] == [written.sequence]
    (again,) = await catalog.write(built, [Upsert("a", describe(b"b"), None)])
    assert (again.outcome, again.sequence) == (Outcome.UNCHANGED, written.sequence)


async def test_promotion_makes_one_active_and_keeps_the_other(
    catalog: Catalog, generation: Generation, built: Generation, clock: Clock
) -> None:
    """It works in reverse, too: a rollback is a promotion of the kept generation."""
    clock.advance(hours=1)

    assert await catalog.promote_generation(built, 0, '{"passed": true}')

    records = {record.generation.key: record for record in await catalog.generations(generation.collection)}
    assert records[generation.key].state is GenerationState.KEPT
    assert records[built.key].state is GenerationState.ACTIVE
    assert records[built.key].details == '{"passed": true}'
    assert records[built.key].changed == clock.moment
    assert [active for _, active in await catalog.collections()] == [built]
    assert await catalog.promote_generation(generation, 0, "{}")
    assert await states(catalog, generation) == {
        generation.key: GenerationState.ACTIVE,
        built.key: GenerationState.KEPT,
    }


async def test_promotion_retires_the_one_that_was_kept_until_then(
    catalog: Catalog, generation: Generation, built: Generation
) -> None:
    """Writes no longer reach it."""
    await catalog.promote_generation(built, 0, "{}")
    third = await catalog.begin_generation(generation.collection, NEXT, "{}")

    await catalog.promote_generation(third, 0, "{}")

    assert await states(catalog, generation) == {
        generation.key: GenerationState.RETIRED,
        built.key: GenerationState.KEPT,
        third.key: GenerationState.ACTIVE,
    }
    await catalog.write(third, [both(picture("a", b"a"), generation)])
    assert list(catalog.rows_of(generation).after(0)) == []
    with pytest.raises(NotFound):
        await catalog.promote_generation(generation, 0, "{}")
    with pytest.raises(NotFound):
        await catalog.fill(generation, [], renew=False)


async def test_promotion_waits_for_what_changed_since_and_lacks_a_descriptor(
    catalog: Catalog, generation: Generation, built: Generation
) -> None:
    """It does not wait if the generation may lack some."""
    (early,) = await catalog.write(generation, [picture("a", b"a")])

    assert await catalog.promote_generation(built, early.sequence, "{}")
    assert await catalog.promote_generation(generation, 0, "{}")
    assert not await catalog.promote_generation(built, 0, "{}")
    assert (await states(catalog, generation))[built.key] is GenerationState.KEPT
    assert await catalog.promote_generation(built, 0, "{}", lacking=True)


async def test_a_writer_that_has_not_noticed_a_promotion_loses_nothing(
    catalog: Catalog, generation: Generation, built: Generation
) -> None:
    """It is written if it has a descriptor for the new one, or needs none; otherwise it is refused as a whole."""
    await catalog.write(generation, [both(picture("a", b"a"), built)])
    await catalog.promote_generation(built, 0, "{}")

    with pytest.raises(ModelChanged):
        await catalog.write(generation, [Upsert("a", None, '{"x": 1}'), picture("b", b"b")])
    (written,) = await catalog.write(generation, [both(picture("b", b"b"), built)])
    await catalog.write(generation, [Upsert("a", None, '{"x": 2}')])

    assert [row.attributes for row in catalog.rows_of(built).after(written.sequence)] == ['{"x": 2}']
    assert [row.id for row in catalog.rows_of(generation).after(0)] == ["b", "a"]


async def test_what_has_ended_stays_known_and_cannot_end_again(
    catalog: Catalog, generation: Generation, built: Generation
) -> None:
    """The active one cannot end at all."""
    await catalog.end_generation(built, GenerationState.FAILED, '{"reason": "too slow"}')

    with pytest.raises(NotFound):
        await catalog.end_generation(built, GenerationState.RETIRED, "{}")
    with pytest.raises(NotFound):
        await catalog.end_generation(generation, GenerationState.RETIRED, "{}")
    _, ended = await catalog.generations(generation.collection)
    assert (ended.state, ended.details) == (GenerationState.FAILED, '{"reason": "too slow"}')
    await catalog.note_generation(built, '{"reason": "far too slow"}')
    assert (await catalog.generations(generation.collection))[1].details == '{"reason": "far too slow"}'
