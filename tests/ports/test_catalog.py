"""What every catalog does with a write: the fake and the real one."""

from dataclasses import replace

import numpy as np
import pytest

from pspsearch.domain import Delete, Generation, IndexKind, Outcome, Upsert, Written
from pspsearch.errors import AlreadyExists, InvalidRequest, NotFound
from pspsearch.ports import Catalog
from tests.fakes.catalog import SETTINGS, VERSION, Clock, Ear, describe, picture

pytestmark = pytest.mark.usefixtures("ear")  # every catalog has a listener, as in a server


async def write(catalog: Catalog, generation: Generation, *writes: Upsert | Delete) -> list[Written]:
    """Makes all writes in one call."""
    return await catalog.write(generation, writes)


async def test_collection_is_what_was_created(catalog: Catalog, clock: Clock) -> None:
    """Every setting comes back, and the generation names the version's space."""
    settings = replace(SETTINGS, keep_images=False, index_kind=IndexKind.HNSW, target_recall=0.9)

    created = await catalog.create_collection("b", settings, VERSION)
    other = await catalog.create_collection("a", SETTINGS, VERSION)

    assert await catalog.collections() == [other, created]
    collection, generation = created
    assert (collection.name, collection.settings, collection.created) == ("b", settings, clock.moment)
    assert generation.collection == collection.key
    assert (generation.model, generation.version) == ("pspnet", 1)
    assert (generation.fingerprint, generation.dimension) == (VERSION.contract.fingerprint, VERSION.contract.dimension)


async def test_taken_name_is_refused(catalog: Catalog, generation: Generation) -> None:
    """The existing collection stays as it is."""
    with pytest.raises(AlreadyExists, match="'pictures'"):
        await catalog.create_collection("pictures", SETTINGS, VERSION)

    assert [pair[1] for pair in await catalog.collections()] == [generation]


async def test_deleted_collection_is_gone_at_once_and_its_name_is_free(
    catalog: Catalog, generation: Generation
) -> None:
    """Nothing of it can be read or written, and one of the same name starts empty under another key."""
    await write(catalog, generation, picture("a", b"a"), picture("b", b"b"))

    count = await catalog.delete_collection(generation.collection)

    assert count == 2
    assert await catalog.collections() == []
    assert await catalog.items(generation.collection, ["a"]) == {}
    assert await catalog.page(generation.collection, 0, 10) == []
    assert await catalog.image(generation.collection, "a") is None
    assert await catalog.descriptor(generation, "a") is None
    with pytest.raises(NotFound):
        await write(catalog, generation, picture("a", b"a"))
    with pytest.raises(NotFound):
        await catalog.delete_collection(generation.collection)
    collection, again = await catalog.create_collection("pictures", SETTINGS, VERSION)
    assert collection.key > generation.collection
    assert await catalog.page(collection.key, 0, 10) == []
    assert list(catalog.rows_of(again).after(0)) == []


async def test_item_is_what_was_put_in(catalog: Catalog, generation: Generation, clock: Clock) -> None:
    """Id, attributes, image and descriptor come back as they came."""
    upsert = picture("a/ü", b"content", '{"x": 1}')

    (written,) = await write(catalog, generation, upsert)

    item = (await catalog.items(generation.collection, ["a/ü", "b"]))["a/ü"]
    assert written == Written(Outcome.CREATED, item.sequence)
    assert (item.id, item.attributes, item.image) == ("a/ü", '{"x": 1}', upsert.info)
    assert item.created == item.updated == clock.moment
    assert item.created.tzinfo is not None
    assert await catalog.image(generation.collection, "a/ü") == b"content"
    descriptor = await catalog.descriptor(generation, "a/ü")
    assert descriptor is not None
    assert descriptor.dtype == np.float16
    assert np.array_equal(descriptor, describe(b"content"))


async def test_request_is_known_by_what_it_asked(catalog: Catalog, generation: Generation) -> None:
    """A retry has no effect; another request with that id is refused, and changes nothing."""
    first = await catalog.write(generation, [picture("a", b"a")], request_id="r", asked="put a")

    assert await catalog.write(generation, [picture("b", b"b")], request_id="r", asked="put a") == first
    with pytest.raises(InvalidRequest, match="the request_id 'r' was used for another call"):
        await catalog.write(generation, [picture("c", b"c")], request_id="r", asked="put c")
    assert [item.id for item in await catalog.page(generation.collection, 0, 10)] == ["a"]


async def test_item_without_attributes_has_none(catalog: Catalog, generation: Generation) -> None:
    """They are the empty object."""
    await write(catalog, generation, picture("a", b"a"))

    assert (await catalog.items(generation.collection, ["a"]))["a"].attributes == "{}"


async def test_image_that_is_not_kept_leaves_its_facts(catalog: Catalog, generation: Generation) -> None:
    """The digest still recognises the image, but there are no bytes, although another item kept the same ones."""
    await write(catalog, generation, picture("kept", b"same"), picture("a", b"same", kept=False))

    (again,) = await write(catalog, generation, picture("a", b"same", kept=False))

    image = (await catalog.items(generation.collection, ["a"]))["a"].image
    assert image is not None
    assert not image.kept
    assert again.outcome is Outcome.UNCHANGED
    assert await catalog.image(generation.collection, "a") is None
    assert await catalog.image(generation.collection, "kept") == b"same"


@pytest.mark.parametrize("kept", [True, False])
async def test_same_image_can_be_kept_or_let_go(catalog: Catalog, generation: Generation, *, kept: bool) -> None:
    """The same bytes, once kept and once not, are a change."""
    await write(catalog, generation, picture("a", b"same", kept=not kept))

    (written,) = await write(catalog, generation, picture("a", b"same", kept=kept))

    assert written.outcome is Outcome.REPLACED
    assert await catalog.image(generation.collection, "a") == (b"same" if kept else None)


async def test_item_put_in_as_a_descriptor_has_no_image(catalog: Catalog, generation: Generation) -> None:
    """This holds even if it had one before."""
    await write(catalog, generation, picture("a", b"a"))

    (written,) = await write(catalog, generation, Upsert("a", describe(b"b"), None))

    assert written.outcome is Outcome.REPLACED
    assert (await catalog.items(generation.collection, ["a"]))["a"].image is None
    assert await catalog.image(generation.collection, "a") is None


async def test_change_keeps_the_key_and_takes_a_new_sequence(
    catalog: Catalog, generation: Generation, clock: Clock
) -> None:
    """It stays the same item, with its creation time."""
    (first,) = await write(catalog, generation, picture("a", b"old", '{"x": 1}'))
    before = (await catalog.items(generation.collection, ["a"]))["a"]
    clock.advance(seconds=1)

    (second,) = await write(catalog, generation, picture("a", b"new"))

    after = (await catalog.items(generation.collection, ["a"]))["a"]
    assert second == Written(Outcome.REPLACED, after.sequence)
    assert second.sequence > first.sequence
    assert (after.key, after.created, after.attributes) == (before.key, before.created, '{"x": 1}')
    assert after.updated == clock.moment
    assert await catalog.image(generation.collection, "a") == b"new"


async def test_attributes_alone_can_change(catalog: Catalog, generation: Generation, ear: Ear) -> None:
    """The row that listeners hear of carries the descriptor that was there."""
    (first,) = await write(catalog, generation, picture("a", b"a", '{"x": 1}'))

    (second,) = await write(catalog, generation, Upsert("a", None, '{"x": 2}'))

    assert second.outcome is Outcome.REPLACED
    assert await catalog.image(generation.collection, "a") == b"a"
    commit = ear.commits[-1]
    assert commit.removed == (first.sequence,)
    (row,) = commit.added
    assert (row.sequence, row.id, row.attributes) == (second.sequence, "a", '{"x": 2}')
    assert np.array_equal(row.descriptor, describe(b"a"))


@pytest.mark.parametrize(
    "again",
    [
        picture("a", b"a", '{"x": 1}'),
        picture("a", b"a"),
        replace(picture("a", b"a"), descriptor=describe(b"computed in another batch")),
        Upsert("a", None, '{"x": 1}'),
        Upsert("a", None, None),
    ],
    ids=["all of it", "image", "image described otherwise", "attributes", "nothing"],
)
async def test_nothing_new_changes_nothing(catalog: Catalog, generation: Generation, ear: Ear, again: Upsert) -> None:
    """The answer is the item's last change, and no listener hears of it."""
    (first,) = await write(catalog, generation, picture("a", b"a", '{"x": 1}'))

    (second,) = await write(catalog, generation, again)

    assert second == Written(Outcome.UNCHANGED, first.sequence)
    assert len(ear.commits) == 1


async def test_same_descriptor_without_an_image_changes_nothing(catalog: Catalog, generation: Generation) -> None:
    """Without a digest the numbers decide."""
    upsert = Upsert("a", describe(b"a"), None)
    (first,) = await write(catalog, generation, upsert)

    (same,) = await write(catalog, generation, upsert)
    (other,) = await write(catalog, generation, replace(upsert, descriptor=describe(b"b")))

    assert same == Written(Outcome.UNCHANGED, first.sequence)
    assert other.outcome is Outcome.REPLACED


async def test_attributes_can_be_bound_to_an_image(catalog: Catalog, generation: Generation) -> None:
    """They change while the item has it; an item with another image is left alone."""
    await write(catalog, generation, picture("a", b"a", '{"x": 1}'))

    (same,) = await write(catalog, generation, replace(picture("a", b"a", '{"x": 2}'), descriptor=None))
    (other,) = await write(catalog, generation, replace(picture("a", b"b", '{"x": 3}'), descriptor=None))

    assert (same.outcome, other) == (Outcome.REPLACED, Written(Outcome.ABSENT, 0))
    items = await catalog.items(generation.collection, ["a"])
    assert items["a"].attributes == '{"x": 2}'


async def test_an_image_that_is_to_be_kept_has_to_be_there(catalog: Catalog, generation: Generation) -> None:
    """A caller who gives only its digest hears that there is none, and sends the bytes."""
    await write(catalog, generation, picture("a", b"a", kept=False))
    whole = picture("a", b"a")

    (told,) = await write(catalog, generation, replace(whole, descriptor=None, image=None))

    assert told == Written(Outcome.ABSENT, 0)
    (given,) = await write(catalog, generation, whole)
    assert given.outcome is Outcome.REPLACED
    assert await catalog.image(generation.collection, "a") == b"a"
    (again,) = await write(catalog, generation, replace(whole, descriptor=None, image=None))
    assert again == Written(Outcome.UNCHANGED, given.sequence)


async def test_what_has_changed_can_be_spared(catalog: Catalog, generation: Generation) -> None:
    """A deletion can name a condition for an item at the moment when it goes."""
    await write(catalog, generation, picture("a", b"a", '{"x": 1}'), picture("b", b"b", '{"x": 1}'))
    await write(catalog, generation, Upsert("b", None, '{"x": 2}'))

    answers = await write(catalog, generation, *(Delete(id_, lambda text: text == '{"x": 1}') for id_ in "ab"))

    assert [answer.outcome for answer in answers] == [Outcome.DELETED, Outcome.ABSENT]
    assert (await catalog.items(generation.collection, ["a", "b"])).keys() == {"b"}


@pytest.mark.parametrize("nothing", [Delete("a"), Upsert("a", None, '{"x": 1}')], ids=["delete", "attributes"])
async def test_what_is_not_there_is_absent(
    catalog: Catalog, generation: Generation, ear: Ear, nothing: Upsert | Delete
) -> None:
    """It is no error, and nothing is created."""
    assert await write(catalog, generation, nothing) == [Written(Outcome.ABSENT, 0)]

    assert await catalog.items(generation.collection, ["a"]) == {}
    assert ear.commits == []


async def test_deleted_item_is_gone_and_its_key_with_it(catalog: Catalog, generation: Generation, ear: Ear) -> None:
    """A deletion is a change with a sequence; the same id put in again is another item."""
    (first,) = await write(catalog, generation, picture("a", b"a"))
    before = (await catalog.items(generation.collection, ["a"]))["a"]

    (deleted,) = await write(catalog, generation, Delete("a"))

    assert deleted.outcome is Outcome.DELETED
    assert deleted.sequence > first.sequence
    assert (ear.commits[-1].added, ear.commits[-1].removed) == ((), (first.sequence,))
    assert await catalog.items(generation.collection, ["a"]) == {}
    assert await catalog.image(generation.collection, "a") is None
    (again,) = await write(catalog, generation, picture("a", b"a"))
    assert again.outcome is Outcome.CREATED
    assert again.sequence > deleted.sequence
    assert (await catalog.items(generation.collection, ["a"]))["a"].key > before.key


async def test_id_written_twice_in_a_call_is_told_once(catalog: Catalog, generation: Generation, ear: Ear) -> None:
    """The later write wins; listeners do not hear of a row that came and went within the call."""
    (old,) = await write(catalog, generation, picture("a", b"0"))

    answers = await write(
        catalog,
        generation,
        *(picture("a", b"1"), picture("a", b"2"), picture("b", b"3"), Delete("b"), Delete("c"), picture("c", b"4")),
    )

    assert [answer.outcome.value for answer in answers] == (
        ["replaced", "replaced", "created", "deleted", "absent", "created"]
    )
    changed = [answer.sequence for answer in answers if answer.outcome is not Outcome.ABSENT]
    assert changed == sorted(set(changed))
    commit = ear.commits[-1]
    assert [(row.id, row.sequence) for row in commit.added] == [("a", changed[1]), ("c", changed[4])]
    assert commit.removed == (old.sequence,)


async def test_item_that_came_and_went_is_not_told(catalog: Catalog, generation: Generation, ear: Ear) -> None:
    """There is nothing to tell, so listeners hear of no commit."""
    await write(catalog, generation, picture("a", b"a"), Delete("a"))

    assert ear.commits == []


async def test_request_sent_again_has_no_second_effect(
    catalog: Catalog, generation: Generation, ear: Ear, clock: Clock
) -> None:
    """It gets the first answer, although the item has gone since."""
    first = await catalog.write(generation, [picture("a", b"a"), Delete("b")], request_id="r")
    await write(catalog, generation, Delete("a"))
    clock.advance(hours=23)

    second = await catalog.write(generation, [picture("a", b"a"), Delete("b")], request_id="r")

    assert second == first
    assert await catalog.items(generation.collection, ["a"]) == {}
    assert len(ear.commits) == 2


async def test_request_id_is_forgotten_after_a_day(catalog: Catalog, generation: Generation, clock: Clock) -> None:
    """After that it is a new request."""
    (first,) = await catalog.write(generation, [picture("a", b"a")], request_id="r")
    clock.advance(days=1)

    (second,) = await catalog.write(generation, [picture("a", b"b")], request_id="r")
    (third,) = await catalog.write(generation, [picture("a", b"c")], request_id="r")

    assert (first.outcome, second.outcome) == (Outcome.CREATED, Outcome.REPLACED)
    assert third == second


async def test_request_id_belongs_to_its_collection(catalog: Catalog, generation: Generation) -> None:
    """The same id in another collection is another request."""
    other = (await catalog.create_collection("other", SETTINGS, VERSION))[1]
    await catalog.write(generation, [picture("a", b"a")], request_id="r")

    await catalog.write(other, [picture("a", b"a")], request_id="r")

    assert await catalog.items(other.collection, ["a"]) != {}
