"""Remembers for a day what calls with a request id were answered, or how far they came."""

import json
from collections.abc import Mapping
from typing import Any, cast

from pspsearch.catalog.records import decoding
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Deletion, Outcome, Written
from pspsearch.errors import InvalidRequest

_KEPT_US = 24 * 60 * 60 * 1_000_000

_SWEPT_AT_ONCE = 64
"""How many old answers each new one removes: enough to keep up, and few enough to keep transactions short."""


def recall_answer(transaction: Transaction, collection: int, request_id: str, asked: str) -> list[Written] | None:
    """The answer to the same request within the last day; None if there was no such request.

    Raises InvalidRequest if the request id was used for something else.
    """
    kept = _find(transaction, collection, request_id, asked)
    if kept is None:
        return None
    with decoding(f"the answer to request {request_id!r}"):
        return [Written(Outcome(outcome), sequence) for outcome, sequence in kept["answer"]]


def record_answer(
    transaction: Transaction, collection: int, request_id: str, asked: str, answer: list[Written]
) -> None:
    """Stores the answer and forgets some that are older than a day."""
    told = [(written.outcome, written.sequence) for written in answer]
    _keep(transaction, collection, request_id, {"asked": asked, "answer": told})


def recall_deletion(transaction: Transaction, collection: int, request_id: str, asked: str) -> Deletion | None:
    """How far the same deletion came within the last day; None and InvalidRequest as in `recall_answer`."""
    kept = _find(transaction, collection, request_id, asked)
    if kept is None:
        return None
    with decoding(f"the answer to request {request_id!r}"):
        if "deletion" in kept:
            return Deletion(*kept["deletion"])
        taken = [
            sequence for outcome, sequence in kept["answer"] if outcome == Outcome.DELETED
        ]  # as an earlier release recorded it, at once
        return Deletion(0, len(taken), max(taken, default=0), is_done=True)


def record_deletion(transaction: Transaction, collection: int, request_id: str, asked: str, deletion: Deletion) -> None:
    """Stores how far the deletion came."""
    told = (deletion.last_key, deletion.deleted, deletion.sequence, deletion.is_done)
    _keep(transaction, collection, request_id, {"asked": asked, "deletion": told})


def _find(transaction: Transaction, collection: int, request_id: str, asked: str) -> Mapping[str, Any] | None:
    recorded = transaction.connection.execute(
        "SELECT answer FROM requests WHERE collection = ? AND request_id = ? AND created_us > ?",
        (collection, request_id, transaction.now_us - _KEPT_US),
    ).fetchone()
    if recorded is None:
        return None
    with decoding(f"the answer to request {request_id!r}"):
        kept = cast("dict[str, Any] | list[Any]", json.loads(recorded[0]))
        if isinstance(kept, list):  # as an earlier release recorded it
            return {"answer": kept}
        known = kept["asked"]
    if known != asked:
        raise InvalidRequest(f"the request_id {request_id!r} was used for another call")
    return kept


def _keep(transaction: Transaction, collection: int, request_id: str, kept: Mapping[str, Any]) -> None:
    transaction.connection.execute(
        "DELETE FROM requests WHERE rowid IN (SELECT rowid FROM requests WHERE created_us <= ? "
        "ORDER BY created_us LIMIT ?)",
        (transaction.now_us - _KEPT_US, _SWEPT_AT_ONCE),
    )
    transaction.connection.execute(
        "INSERT OR REPLACE INTO requests (collection, request_id, answer, created_us) VALUES (?, ?, ?, ?)",
        (collection, request_id, json.dumps(kept, separators=(",", ":")), transaction.now_us),
    )
