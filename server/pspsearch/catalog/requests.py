"""What calls with a request id were answered, for a day."""

import json

from pspsearch.catalog.records import decoding
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Outcome, Written

_KEPT_US = 24 * 60 * 60 * 1_000_000

_SWEPT_AT_ONCE = 64
"""Old answers go as new ones come, a few at a time: faster than they come, and never in one long transaction."""


def recall_answer(transaction: Transaction, collection: int, request_id: str) -> list[Written] | None:
    """The answer to the same request within the last day; None where there was no such request."""
    recorded = transaction.connection.execute(
        "SELECT answer FROM requests WHERE collection = ? AND request_id = ? AND created_us > ?",
        (collection, request_id, transaction.now_us - _KEPT_US),
    ).fetchone()
    if recorded is None:
        return None
    with decoding(f"the answer to request {request_id!r}"):
        return [Written(Outcome(outcome), sequence) for outcome, sequence in json.loads(recorded[0])]


def record_answer(transaction: Transaction, collection: int, request_id: str, answer: list[Written]) -> None:
    """Keeps the answer, and forgets some that are older than a day."""
    transaction.connection.execute(
        "DELETE FROM requests WHERE rowid IN (SELECT rowid FROM requests WHERE created_us <= ? "
        "ORDER BY created_us LIMIT ?)",
        (transaction.now_us - _KEPT_US, _SWEPT_AT_ONCE),
    )
    text = json.dumps([(written.outcome, written.sequence) for written in answer], separators=(",", ":"))
    transaction.connection.execute(
        "INSERT OR REPLACE INTO requests (collection, request_id, answer, created_us) VALUES (?, ?, ?, ?)",
        (collection, request_id, text, transaction.now_us),
    )
