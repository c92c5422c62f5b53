"""Deletes more items than one transaction should take, in portions."""

from collections.abc import Sequence
from dataclasses import replace

from pspsearch.catalog.changes import write_items
from pspsearch.catalog.requests import recall_deletion, record_deletion
from pspsearch.catalog.transaction import Transaction
from pspsearch.domain import Delete, Deletion, Generation, Outcome


def find_deletion(transaction: Transaction, generation: Generation, request_id: str, asked: str) -> Deletion | None:
    """How far the request came; read in a transaction, so that its time compares with that of what was recorded."""
    return recall_deletion(transaction, generation.collection, request_id, asked)


def delete_portion(
    transaction: Transaction,
    generation: Generation,
    deletes: Sequence[Delete],
    so_far: Deletion,
    *,
    is_last: bool,
    request_id: str = "",
    asked: str = "",
) -> Deletion:
    """Deletes one portion and returns how far the deletion has come; recorded progress overrides `so_far`."""
    if request_id:
        so_far = recall_deletion(transaction, generation.collection, request_id, asked) or so_far
    if so_far.is_done:
        return so_far
    meant = [one for one in deletes if one.key is None or one.key <= so_far.last_key]
    taken = [one for one in write_items(transaction, generation, meant) if one.outcome is Outcome.DELETED]
    now = replace(
        so_far,
        deleted=so_far.deleted + len(taken),
        sequence=max((one.sequence for one in taken), default=so_far.sequence),
        is_done=is_last,
    )
    if request_id:
        record_deletion(transaction, generation.collection, request_id, asked, now)
    return now
