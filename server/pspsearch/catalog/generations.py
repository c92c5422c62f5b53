"""The SQL of generations: how one begins, becomes active, and ends."""

from collections.abc import Mapping
from dataclasses import dataclass

from pspsearch.catalog.records import GENERATION_COLUMNS
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Generation, GenerationState, ModelVersion
from pspsearch.errors import AlreadyExists, NotFound

_SWEPT_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Living:
    """The generations of a collection that writes reach: the active one, and those being built or kept."""

    generations: Mapping[int, Generation]
    """By key, as are the states."""
    states: Mapping[int, GenerationState]

    def __bool__(self) -> bool:
        return bool(self.generations)

    @property
    def active(self) -> int:
        """The key of the active one; 0 if there is none."""
        return self.find(GenerationState.ACTIVE)

    def find(self, state: GenerationState) -> int:
        """The key of the one in that state; 0 if there is none."""
        return next((key for key, one in self.states.items() if one is state), 0)


def find_living(transaction: Transaction, collection: int) -> Living:
    """Reads the living generations of a collection; none if it is gone."""
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
    """Begins to build a generation; NotFound if the collection is gone, AlreadyExists if it is building one already."""
    living = find_living(transaction, collection)
    if not living:
        raise NotFound("the collection has been deleted")
    built = living.generations.get(living.find(GenerationState.BUILDING))
    if built is not None:
        raise AlreadyExists(
            f"the collection already has a generation under {built.model}/{built.version} that is not active yet: "
            "promote it or abort it first"
        )
    return insert_generation(transaction, collection, version, GenerationState.BUILDING, details)


def insert_generation(
    transaction: Transaction, collection: int, version: ModelVersion, state: GenerationState, details: str = "{}"
) -> Generation:
    """Inserts a generation in the given state."""
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
    """Makes the generation active and the active one kept; retires the one that was kept until now.

    Returns False and changes nothing if an item that changed after `since` has no descriptor in it, unless `lacking`
    allows that. Raises NotFound if the generation has ended.
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
        _change(transaction, living.active, GenerationState.RETIRED)  # briefly: two are never active or kept
        _change(transaction, generation.key, GenerationState.ACTIVE)
        _change(transaction, living.active, GenerationState.KEPT)
    note_generation(transaction, generation, details)
    return True


def end_generation(transaction: Transaction, generation: Generation, state: GenerationState, details: str) -> None:
    """Ends a generation that is being built or kept, whose descriptors are removed later; NotFound for any other."""
    assert state in (GenerationState.RETIRED, GenerationState.FAILED), state
    now = find_living(transaction, generation.collection).states.get(generation.key)
    if now not in (GenerationState.BUILDING, GenerationState.KEPT):
        raise NotFound(f"the generation {generation.key} is neither being built nor kept")
    _change(transaction, generation.key, state)
    note_generation(transaction, generation, details)


def note_generation(transaction: Transaction, generation: Generation, details: str) -> None:
    """Stores the JSON object that tells of the generation's rollout."""
    transaction.connection.execute("UPDATE generations SET details = ? WHERE key = ?", (details, generation.key))


def sweep_slice(transaction: Transaction) -> bool:
    """Removes some descriptors of ended generations; returns whether there may be more."""
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
    """Sets the state; if the generation ends with it, also begins its sweep."""
    ended = state in (GenerationState.RETIRED, GenerationState.FAILED)
    transaction.connection.execute(
        "UPDATE generations SET state = ?, changed_us = ?, swept = ? WHERE key = ?",
        (state.value, transaction.now_us, 0 if ended else None, key),
    )
