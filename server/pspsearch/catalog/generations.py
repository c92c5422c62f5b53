"""The SQL of generations: how one begins, becomes the active one, and ends."""

from collections.abc import Mapping
from dataclasses import dataclass

from pspsearch.catalog.records import GENERATION_COLUMNS
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Generation, GenerationState, ModelVersion
from pspsearch.errors import AlreadyExists, NotFound

_SWEPT_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Living:
    """The generations of a collection that writes reach: the active one, one that is built, one that is kept."""

    generations: Mapping[int, Generation]
    """By key, as the next."""
    states: Mapping[int, GenerationState]

    def __bool__(self) -> bool:
        return bool(self.generations)

    @property
    def active(self) -> int:
        """Its key; 0 where there is none."""
        return self.find(GenerationState.ACTIVE)

    def find(self, state: GenerationState) -> int:
        """The key of the one in that state; 0 where there is none."""
        return next((key for key, one in self.states.items() if one is state), 0)


def find_living(transaction: Transaction, collection: int) -> Living:
    """Of a collection; none of one that is gone."""
    found = transaction.connection.execute(
        f"SELECT {GENERATION_COLUMNS}, state FROM generations "  # noqa: S608 - constants
        "JOIN collections ON collections.key = generations.collection AND NOT gone "
        "WHERE collection = ? AND state IN ('building', 'active', 'kept')",
        (collection,),
    ).fetchall()
    return Living(
        {key: Generation(key, *space) for key, *space, _ in found},
        {key: GenerationState(state) for key, *_, state in found},
    )


def begin_generation(transaction: Transaction, collection: int, version: ModelVersion, details: str) -> Generation:
    """One that is being built; NotFound where the collection is gone, AlreadyExists where one is built already."""
    living = find_living(transaction, collection)
    if not living:
        raise NotFound("the collection has been deleted")
    built = living.generations.get(living.find(GenerationState.BUILDING))
    if built is not None:
        raise AlreadyExists(
            f"the collection has a generation under {built.model}/{built.version} already that is not active yet: "
            "promote it or abort it first"
        )
    return insert_generation(transaction, collection, version, GenerationState.BUILDING, details)


def insert_generation(
    transaction: Transaction, collection: int, version: ModelVersion, state: GenerationState, details: str = "{}"
) -> Generation:
    """A new one, in whatever state."""
    space = (version.model, version.version, version.contract.fingerprint, version.contract.dimension)
    now_us = transaction.now_us
    key: int = transaction.connection.execute(
        "INSERT INTO generations (collection, model, version, fingerprint, dimension, state, details, created_us, "
        "changed_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING key",
        (collection, *space, state.value, details, now_us, now_us),
    ).get
    return Generation(key, collection, *space)


def promote_generation(
    transaction: Transaction, generation: Generation, since: int, details: str, *, lacking: bool
) -> bool:
    """Makes it the active one, and the active one the kept one; one that was kept until now is retired.

    False, with nothing changed, where an item that changed after `since` has no descriptor in it, unless it may lack
    some. NotFound where it has ended.
    """
    execute = transaction.connection.execute
    living = find_living(transaction, generation.collection)
    if generation.key not in living.generations:
        raise NotFound(f"the generation {generation.key} has ended")
    lacks = execute(
        "SELECT 1 FROM items WHERE collection = ? AND sequence > ? AND image IS NOT NULL AND NOT EXISTS "
        "(SELECT 1 FROM descriptors WHERE item = items.key AND generation = ?) LIMIT 1",
        (generation.collection, since, generation.key),
    ).fetchone()
    if lacks is not None and not lacking:
        return False
    kept = living.find(GenerationState.KEPT)
    if kept not in (0, generation.key):
        _change(transaction, kept, GenerationState.RETIRED)
    if living.active != generation.key:
        _change(transaction, living.active, GenerationState.RETIRED)  # for a moment: no two are ever active, or kept
        _change(transaction, generation.key, GenerationState.ACTIVE)
        _change(transaction, living.active, GenerationState.KEPT)
    note_generation(transaction, generation, details)
    return True


def end_generation(transaction: Transaction, generation: Generation, state: GenerationState, details: str) -> None:
    """One that is built or kept takes no more part; its descriptors are taken out by and by. NotFound for others."""
    assert state in (GenerationState.RETIRED, GenerationState.FAILED), state
    now = find_living(transaction, generation.collection).states.get(generation.key)
    if now not in (GenerationState.BUILDING, GenerationState.KEPT):
        raise NotFound(f"the generation {generation.key} is neither being built nor kept")
    _change(transaction, generation.key, state)
    note_generation(transaction, generation, details)


def note_generation(transaction: Transaction, generation: Generation, details: str) -> None:
    """Keeps what there is to tell of it."""
    transaction.connection.execute("UPDATE generations SET details = ? WHERE key = ?", (details, generation.key))


def sweep_slice(transaction: Transaction) -> bool:
    """Takes out some descriptors of generations that have ended; whether there may be more."""
    execute = transaction.connection.execute
    ended = execute("SELECT key, swept FROM generations WHERE swept IS NOT NULL LIMIT 1").fetchone()
    if ended is None:
        return False
    key, swept = ended
    rows = execute(
        "SELECT rowid, generation FROM descriptors WHERE rowid > ? ORDER BY rowid LIMIT ?", (swept, _SWEPT_AT_ONCE)
    ).fetchall()
    transaction.connection.executemany(
        "DELETE FROM descriptors WHERE rowid = ?", ((rowid,) for rowid, generation in rows if generation == key)
    )
    execute("UPDATE generations SET swept = ? WHERE key = ?", (rows[-1][0] if rows else None, key))
    return True


def _change(transaction: Transaction, key: int, state: GenerationState) -> None:
    """With the beginning of its sweep, where it ends."""
    ended = state in (GenerationState.RETIRED, GenerationState.FAILED)
    transaction.connection.execute(
        "UPDATE generations SET state = ?, changed_us = ?, swept = ? WHERE key = ?",
        (state.value, transaction.now_us, 0 if ended else None, key),
    )
