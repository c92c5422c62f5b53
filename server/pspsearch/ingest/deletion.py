"""Deletes by filter, in portions so that other writes come in between.

The filter is evaluated before the writer's turn where possible.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence

import numpy as np

from pspsearch.domain import Delete, Deletion, Item, Matched
from pspsearch.filters import Filter
from pspsearch.live.live import Live
from pspsearch.ports import WritableItems

PORTION = 256
"""Items deleted in one transaction; the writer serves other calls between two."""

MATCHED_AT_ONCE = 10_000
"""Rows in one answer of the index: 160 kB."""


async def delete_matching(
    catalog: WritableItems, live: Live, where: Filter, *, request_id: str, asked: str
) -> Deletion:
    """Deletes every item that matches the filter at one moment and still matches when its turn comes.

    Items without a descriptor in the active generation are included. Each portion is durable. If one fails, the earlier
    ones stay deleted, and the same request id continues the deletion: items first put in after the first request stay,
    and the result counts everything that was deleted.
    """
    so_far = await catalog.deletion(live.generation, request_id, asked) if request_id else None
    if so_far is not None and so_far.is_done:
        return so_far
    found = await _find(catalog, live, where)
    if so_far is None:
        so_far = Deletion(int(found.keys[-1]) if len(found.keys) else 0)
    count = int(np.searchsorted(found.keys, so_far.last_key, side="right"))
    for start in range(0, max(count, 1), PORTION):
        part = slice(start, min(start + PORTION, count))
        sequences = dict(zip(found.keys[part].tolist(), found.sequences[part].tolist(), strict=True))
        items = await catalog.items_by_key(live.collection.key, list(sequences))
        deletes = await asyncio.to_thread(_look_at, items, sequences, where)
        is_last = start + PORTION >= count
        so_far = await catalog.delete_portion(
            live.generation, deletes, so_far, is_last=is_last, request_id=request_id, asked=asked
        )
    return so_far


async def _find(catalog: WritableItems, live: Live, where: Filter) -> Matched:
    """Returns the items that match the filter, with a descriptor or without.

    Items without one are read first, so that the index finds those that get one meanwhile.
    """
    lacking: dict[int, int] = {}
    after = 0
    while items := await catalog.lacking(live.generation, after, PORTION):
        lacking |= {item.key: item.sequence for item in await asyncio.to_thread(_choose, items, where)}
        after = items[-1].key
    pages = [page async for page in live.index.match(where, MATCHED_AT_ONCE)]
    matched = np.concatenate([page.keys for page in pages])
    for key in matched[np.isin(matched, list(lacking))].tolist():
        del lacking[key]
    keys = np.concatenate([matched, np.array(list(lacking), np.int64)])
    order = np.argsort(keys, kind="stable")
    sequences = np.concatenate([*(page.sequences for page in pages), np.array(list(lacking.values()), np.int64)])
    return Matched(keys[order], sequences[order])


def _look_at(items: Sequence[Item], sequences: Mapping[int, int], where: Filter) -> list[Delete]:
    """Returns the deletions to make: items that changed since they were found are dropped if they no longer match.

    The writer evaluates the filter again only for an item that changes once more.
    """
    changed = [item for item in items if item.sequence != sequences[item.key]]
    spared = {item.key for item in changed} - {item.key for item in _choose(changed, where)}

    def still(attributes: str) -> bool:
        return where.matches(json.loads(attributes))

    return [Delete(item.id, still, item.key, item.sequence) for item in items if item.key not in spared]


def _choose(items: Sequence[Item], where: Filter) -> list[Item]:
    return [item for item in items if where.matches(json.loads(item.attributes))]
