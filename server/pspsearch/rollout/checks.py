"""The gate: what a new generation must show before it may answer."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from pspsearch.call import Call
from pspsearch.config import GateSettings
from pspsearch.describe.queries import QueryDescriber, normalise
from pspsearch.domain import Collection, Descriptors, Found, Inputs, Sequences, Urgency
from pspsearch.live.live import Live
from pspsearch.live.recent_images import RecentImages
from pspsearch.model.contract import InputShape
from pspsearch.ports import Describer, Items
from pspsearch.rollout.filling import CALL_S
from pspsearch.rollout.rollout import Check

HITS = 10
_ROUNDS = 15
"""How often each version describes one image, in turns with the other."""
_TWIN = 2e-3
"""Scores of fp16 rows this close count as equal: another item may come before the item itself."""
_LENGTH = 1e-2
"""How far an fp16 row may be from unit length."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """Some items that both generations have."""

    ids: list[str]
    sequences: Sequences
    new: Descriptors
    old: Descriptors


class Gate:
    """Measures a new generation against the active one, on a sample of items and on recent queries."""

    def __init__(self, settings: GateSettings, catalog: Items, describer: QueryDescriber, recent: RecentImages) -> None:
        self._settings = settings
        self._catalog = catalog
        self._describer = describer
        self._recent = recent

    def forget(self, collection: Collection) -> None:
        """Forgets the recent queries of a collection that is being deleted."""
        self._recent.forget(collection.name)

    async def check(self, old: Live, new: Live) -> tuple[Check, ...]:
        """Returns every check that can be measured here. All must pass."""
        sample = await self._draw(old, new)
        checks: list[Check] = []
        if sample.ids:
            checks += [_unit_length(sample.new), _spread(sample.new, self._settings.gate_spread)]
            if all(check.passed for check in checks):
                checks += await self._neighbours(old, new, sample)
        if images := self._recent.of(old.collection.name):
            checks += await self._recent_queries(old, new, images)
        checks.append(await self._latency(old, new))
        return tuple(checks)

    async def _draw(self, old: Live, new: Live) -> _Sample:
        """Draws items that both generations have, without those changed or deleted meanwhile."""
        drawn = await new.index.sample(self._settings.gate_sample)
        common = await old.index.contains(drawn.sequences)
        sequences = dict(zip(drawn.keys[common].tolist(), drawn.sequences[common].tolist(), strict=True))
        items = await self._catalog.items_by_key(old.collection.key, list(sequences))
        there = [sequences[item.key] for item in items]
        return _Sample(
            [item.id for item in items],
            np.array(there, np.int64),
            await new.index.descriptors(there),
            await old.index.descriptors(there),
        )

    async def _neighbours(self, old: Live, new: Live, sample: _Sample) -> list[Check]:
        now = await new.index.search(normalise(sample.new), HITS + 1)
        before = await old.index.search(normalise(sample.old), HITS + 1)
        still_there = await new.index.contains(sample.sequences)
        checks = [
            _self_retrieval(sample.ids, now, still_there.tolist(), self._settings.gate_self_retrieval),
            self._overlap("overlap", f"{len(now)} sampled items", now, before, sample.ids),
        ]
        name = self._settings.gate_label
        if name:
            ids = {id_ for found in (now, before) for one in found for id_ in one.ids} | set(sample.ids)
            items = await self._catalog.items(old.collection.key, list(ids))
            labels = {id_: json.loads(item.attributes).get(name) for id_, item in items.items()}
            after, earlier = (_recall(sample.ids, found, labels) for found in (now, before))
            bound = earlier - self._settings.gate_label_loss
            words = f"how often the nearest other item has the same {name}; it is {earlier:.3f} now"
            checks.append(Check("label recall", after, bound, after >= bound, words))
        return checks

    def _overlap(
        self, name: str, what: str, now: Sequence[Found], before: Sequence[Found], own: Sequence[str] = ()
    ) -> Check:
        """Compares the hits of both versions.

        `own` names the items that were searched for, whose own hits do not count.
        """
        pairs = [(set(one.ids), set(other.ids)) for one, other in zip(now, before, strict=True)]
        for (one, other), id_ in zip(pairs, own, strict=False):
            one.discard(id_)
            other.discard(id_)
        shares = [len(one & other) / len(other) for one, other in pairs if other]
        value, bound = float(np.mean(shares)) if shares else 1.0, self._settings.gate_overlap
        return Check(name, value, bound, value >= bound, f"the share of the nearest to {what} that both versions find")

    async def _recent_queries(self, old: Live, new: Live, images: Sequence[bytes]) -> list[Check]:
        found: list[list[Found]] = []
        for live in (new, old):
            descriptors = await self._describer.describe_images(
                live.describer, images, Call(CALL_S, urgency=Urgency.ROLLOUT)
            )
            rows = [descriptor for descriptor in descriptors if isinstance(descriptor, np.ndarray)]
            found.append(await live.index.search(np.stack(rows), HITS) if rows else [])
        if not found[0] or len(found[0]) != len(found[1]):
            return []
        return [self._overlap("overlap on queries", f"{len(found[0])} recent queries", found[0], found[1])]

    async def _latency(self, old: Live, new: Live) -> Check:
        times = {live.describer: list[float]() for live in (new, old)}
        for describer in [*times] * _ROUNDS:
            times[describer].append(await _time(describer))
        now_ms, before_ms = (1000 * float(np.median(times[live.describer])) for live in (new, old))
        bound = before_ms * self._settings.gate_slowdown
        words = f"milliseconds for one image; {before_ms:.1f} with the version that answers"
        return Check("latency", now_ms, bound, now_ms <= bound, words)


def grey_inputs(shape: InputShape | None) -> Inputs:
    """Returns one grey picture: pixels of the given shape, or an encoded image for a model that decodes by itself."""
    if shape is not None:
        return np.full((1, shape.height_px, shape.width_px, 3), 127, np.uint8)
    encoded = BytesIO()
    Image.new("RGB", (256, 256), (127, 127, 127)).save(encoded, "JPEG")
    return [encoded.getvalue()]


async def _time(describer: Describer) -> float:
    """Times the description of one grey image, in seconds; decoding counts only if the model does it."""
    inputs = grey_inputs(describer.version.contract.input)
    started = time.perf_counter()
    await describer.describe(inputs, timeout_s=CALL_S)
    return time.perf_counter() - started


def _unit_length(rows: Descriptors) -> Check:
    worst = float(np.abs(np.linalg.norm(rows, axis=1) - 1).max())  # NaN if a descriptor holds one
    return Check("unit length", worst, _LENGTH, worst <= _LENGTH, "how far the worst descriptor is from length 1")


def _spread(rows: Descriptors, bound: float) -> Check:
    """Checks the mean cosine between different rows, which is near 1 if all images look alike to the version."""
    count = len(rows)
    together = float(np.square(rows.sum(axis=0, dtype=np.float64)).sum())
    value = (together - count) / (count * (count - 1)) if count > 1 else 0.0
    return Check("collapse", value, bound, value <= bound, "the mean score of two items; 1 where all look alike")


def _self_retrieval(ids: Iterable[str], found: Iterable[Found], there: Iterable[bool], bound: float) -> Check:
    """Checks the share of items that find themselves.

    An item that was not found does not count if it is gone, or if it has more twins than there are hits.
    """
    own: list[bool] = []
    for id_, one, is_there in zip(ids, found, there, strict=True):
        twins = [hit for hit, score in zip(one.ids, one.scores, strict=True) if score >= one.scores[0] - _TWIN]
        if id_ in twins or (is_there and len(twins) <= HITS):
            own.append(id_ in twins)
    value = float(np.mean(own)) if own else 1.0
    return Check("self-retrieval", value, bound, value >= bound, "the share of sampled items that find themselves")


def _recall(ids: Iterable[str], found: Iterable[Found], labels: Mapping[str, object]) -> float:
    """Returns how often the nearest other item has the same label, over items with a label; 1 if there are none."""
    right: list[bool] = []
    for id_, one in zip(ids, found, strict=True):
        nearest = next((hit for hit in one.ids if hit != id_), None)
        if labels.get(id_) is not None and nearest is not None:
            right.append(labels[id_] == labels.get(nearest))
    return float(np.mean(right)) if right else 1.0
