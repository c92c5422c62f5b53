"""What calls with a request id were answered, for a day."""

import json
from typing import Any, cast

from pspsearch.catalog.records import decoding
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Outcome, Written
from pspsearch.errors import InvalidRequest

_KEPT_US = 24 * 60 * 60 * 1_000_000

_SWEPT_AT_ONCE = 64
"""Old answers go as new ones come, a few at a time: faster than they come, and never in one long transaction."""


def recall_answer(transaction: Transaction, collection: int, request_id: str, asked: str) -> list[Written] | None:
    """The answer to the same request within the last day; None where there was no such request.

    InvalidRequest where something else was asked under that name.
    """
    recorded = transaction.connection.execute(
        "SELECT answer FROM requests WHERE collection = ? AND request_id = ? AND created_us > ?",
        (collection, request_id, transaction.now_us - _KEPT_US),
    ).fetchone()
    if recorded is None:
        return None
    with decoding(f"the answer to request {request_id!r}"):
        kept = cast("dict[str, Any] | list[Any]", json.loads(recorded[0]))
        known, answer = (asked, kept) if isinstance(kept, list) else (kept["asked"], kept["answer"])  # as it once was
        written = [Written(Outcome(outcome), sequence) for outcome, sequence in answer]
    if known != asked:
        raise InvalidRequest(f"the request_id {request_id!r} was used for another call")
    return written


def record_answer(
    transaction: Transaction, collection: int, request_id: str, asked: str, answer: list[Written]
) -> None:
    """Keeps the answer, and forgets some that are older than a day."""
    transaction.connection.execute(
        "DELETE FROM requests WHERE rowid IN (SELECT rowid FROM requests WHERE created_us <= ? "
        "ORDER BY created_us LIMIT ?)",
        (transaction.now_us - _KEPT_US, _SWEPT_AT_ONCE),
    )
    told = [(written.outcome, written.sequence) for written in answer]
    text = json.dumps({"asked": asked, "answer": told}, separators=(",", ":"))
    transaction.connection.execute(
        "INSERT OR REPLACE INTO requests (collection, request_id, answer, created_us) VALUES (?, ?, ?, ?)",
        (collection, request_id, text, transaction.now_us),
    )
