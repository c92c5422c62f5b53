"""Searches: from a query to its hits."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from pspsearch.call import Call, Stage
from pspsearch.describe.queries import QueryDescriber, normalise
from pspsearch.domain import DEFAULT_COLLECTION, Descriptor, Descriptors, Found
from pspsearch.errors import InvalidRequest, ModelMismatch, PspsearchError
from pspsearch.live.collections import Collections
from pspsearch.live.latencies import Latencies
from pspsearch.live.live import Live
from pspsearch.live.recent_images import RecentImages
from pspsearch.ordering import expand
from pspsearch.ports import Items
from pspsearch.query import (
    MAX_BATCH_DEPTH,
    MAX_DEPTH,
    MAX_EXAMPLES,
    MAX_QUERIES,
    Answer,
    BatchAnswer,
    Comparison,
    Description,
    DescriptorQuery,
    Explanation,
    Hit,
    ImageQuery,
    ItemQuery,
    Options,
    Query,
)
from pspsearch.search.explainer import Explainer
from pspsearch.search.pages import (
    ATTRIBUTES_AT_ONCE,
    MAX_CARRIED_BYTES,
    Page,
    Room,
    aside,
    attributes_of,
    complete,
    slices,
)
from pspsearch.search.ranking import Ranked, cut, group_values, places, rank, take

T = TypeVar("T")

_DEEPER = 4
_GROUPED_AT_ONCE = 64
"""How many rows' groups are read in one go: up to 4 MiB of attributes, which are still read if the caller leaves."""


class Searcher:
    """Answers the calls that read. Every answer is of one generation. Only tasks of one event loop may use it."""

    def __init__(
        self,
        collections: Collections,
        catalog: Items,
        describer: QueryDescriber,
        latencies: Latencies,
        recent: RecentImages,
    ) -> None:
        """Single searches by image are reported to `latencies`, and those by a whole image to `recent`."""
        self._collections = collections
        self._catalog = catalog
        self._describer = describer
        self._explainer = Explainer(catalog, describer)
        self._latencies = latencies
        self._recent = recent

    async def search(self, collection: str, query: Query, options: Options, call: Call) -> Answer:
        """Returns the items nearest to one query."""
        answer = await self._search(collection, [query], options, call)
        (hits,) = answer.hits
        if isinstance(hits, PspsearchError):
            raise copy.copy(hits)
        if isinstance(query, ImageQuery):
            self._latencies.add(call.started, call.elapsed_s())
            if query.box is None:  # the whole image was searched for
                self._recent.add(collection or DEFAULT_COLLECTION, query.image)
        return Answer(hits, answer.generation)

    async def search_batch(
        self, collection: str, queries: Sequence[Query | PspsearchError], options: Options, call: Call
    ) -> BatchAnswer:
        """Returns the items nearest to each of several queries. One bad query does not fail the others.

        A query that is already an error is answered with it.
        """
        if not 1 <= len(queries) <= MAX_QUERIES:
            raise InvalidRequest(f"a batch has 1 to {MAX_QUERIES} queries, not {len(queries)}")
        if len(queries) * options.reach > MAX_BATCH_DEPTH:
            raise InvalidRequest(
                f"in a batch, queries times offset and limit together, or rerank, are at most {MAX_BATCH_DEPTH:,}, "
                f"not {len(queries)} times {options.reach:,}"
            )
        return await self._search(collection, queries, options, call)

    async def recommend(
        self, collection: str, positives: Sequence[Query], negatives: Sequence[Query], options: Options, call: Call
    ) -> Answer:
        """Returns the items nearest to the mean of the positives minus the mean of the negatives."""
        examples = [*positives, *negatives]
        if not positives or len(examples) > MAX_EXAMPLES:
            raise InvalidRequest(f"a recommendation takes at least one positive and at most {MAX_EXAMPLES} examples")

        async def recommend(live: Live) -> Answer:
            descriptors = _all_good(await self._describer.describe(live, examples, call))
            direction = np.mean(descriptors[: len(positives)], axis=0)
            if negatives:
                direction = direction - np.mean(descriptors[len(positives) :], axis=0)
            if not np.linalg.norm(direction) > 1e-6:
                raise InvalidRequest("the positives and the negatives cancel each other out")
            with call.stage(Stage.SEARCH):
                (hits,) = await self._find(live, [normalise(direction[None])[0]], options, [_excluded(examples)])
            return Answer(hits, live.generation)

        return await self._ask(collection, call, recommend)

    async def compare(self, collection: str, left: Query, right: Query, call: Call) -> Comparison:
        """Returns how alike two things are in the collection's space."""

        async def compare(live: Live) -> Comparison:
            one, other = _all_good(await self._describer.describe(live, [left, right], call))
            return Comparison(float(np.clip(one @ other, -1, 1)), live.generation)

        return await self._ask(collection, call, compare)

    async def explain(self, collection: str, query: Query, id: str, call: Call) -> Explanation:  # noqa: A002
        """Returns which cells of the query's picture and of an item's give their score."""
        return await self._ask(collection, call, lambda live: self._explainer.explain(live, query, id, call))

    async def describe(self, collection: str, image: ImageQuery, call: Call) -> Description:
        """Returns the descriptor of an image, or of its box, in the collection's space.

        Always uses the active generation, because the caller may store the descriptor.
        """
        async with self._collections.use(collection) as live:
            (descriptor,) = _all_good(await self._describer.describe(live, [image], call))
            return Description(descriptor, live.generation)

    async def _ask(self, collection: str, call: Call, ask: Callable[[Live], Awaitable[T]]) -> T:
        """Asks the generation that answers this caller; if the one on trial cannot, the active one answers."""
        trial = self._collections.trial(collection)
        if trial is not None and trial.takes(call):
            with trial.answering() as candidate:
                return await ask(candidate)
        async with self._collections.use(collection) as live:
            if call.version not in (None, live.generation.version):
                raise ModelMismatch(
                    f"the collection answers in version {live.generation.version}, and not in {call.version}"
                )
            return await ask(live)

    async def _search(
        self, collection: str, queries: Sequence[Query | PspsearchError], options: Options, call: Call
    ) -> BatchAnswer:
        trial = self._collections.trial(collection)

        async def search(live: Live, call: Call) -> BatchAnswer:
            descriptors = await self._describer.describe(live, queries, call)
            if trial is not None and live is trial.candidate:
                _all_good(descriptors)  # the candidate answers all of the call or nothing
            with call.stage(Stage.SEARCH):
                good = [
                    number
                    for number, descriptor in enumerate(descriptors)
                    if not isinstance(descriptor, PspsearchError)
                ]
                excluded = [_excluded([queries[number]]) for number in good]
                hits = iter(await self._find(live, _good(descriptors), options, excluded))
            answers = [
                descriptor if isinstance(descriptor, PspsearchError) else next(hits) for descriptor in descriptors
            ]
            return BatchAnswer(answers, live.generation)

        answer = await self._ask(collection, call, lambda live: search(live, call))
        if trial is not None and not any(isinstance(query, DescriptorQuery) for query in queries):
            trial.mirror(answer, call.elapsed_s(), search)
        return answer

    async def _find(
        self, live: Live, descriptors: Sequence[Descriptor], options: Options, excluded: Sequence[Sequence[str]]
    ) -> list[list[Hit]]:
        """Returns the hits of each descriptor, without the ids excluded for it.

        Grouping and folding may use up many rows, so it looks further down a ranking until the page is full.
        """
        if options.expand:
            descriptors = await self._expand(live, descriptors, options, excluded)
        depth = min(options.reach + max(map(len, excluded), default=0), MAX_DEPTH)
        pages: dict[int, Page] = {}
        while unfilled := [number for number in range(len(descriptors)) if number not in pages]:
            for some in slices(unfilled, max(1, MAX_BATCH_DEPTH // depth)):
                answers = await live.index.search(
                    np.stack([descriptors[number] for number in some]), depth, options.where
                )
                for number, found in zip(some, answers, strict=True):
                    if not options.sets_apart:
                        pages[number] = Page(cut(found, options, excluded[number]))
                        continue
                    exhausted = len(found.ids) < depth or depth == MAX_DEPTH or _below(found, options)
                    ranked = await self._rank(live, descriptors[number], found, options, excluded[number])
                    if ranked.is_full or exhausted:
                        pages[number] = Page(ranked.rows, ranked.picks)
            depth = min(_DEEPER * depth, MAX_DEPTH)
        return await complete(self._catalog, live, [pages[number] for number in range(len(descriptors))], options)

    async def _rank(
        self, live: Live, query: Descriptor, found: Found, options: Options, excluded: Sequence[str]
    ) -> Ranked:
        groups = await self._groups(live, found, options.group_by) if options.group_by else {}
        descriptors = await live.index.descriptors(found.sequences.tolist()) if options.compares else None
        return await asyncio.to_thread(rank, query, found, options, excluded, groups, descriptors)

    async def _expand(
        self, live: Live, descriptors: Sequence[Descriptor], options: Options, excluded: Sequence[Sequence[str]]
    ) -> list[Descriptor]:
        """Returns each descriptor moved towards the rows that are nearest to it."""
        depth = options.expand + max(map(len, excluded), default=0)
        answers = await live.index.search(np.stack(descriptors), depth, options.where)
        reaching = replace(options, min_score=options.expand_above)
        joining = [
            take(found, places(found, reaching, not_these)[: options.expand])
            for found, not_these in zip(answers, excluded, strict=True)
        ]
        sequences = np.concatenate([found.sequences for found in joining])
        rows = await live.index.descriptors(sequences.tolist())
        return await aside(len(sequences), _expand_all, descriptors, joining, rows)

    async def _groups(self, live: Live, found: Found, path: str) -> dict[int, str]:
        """Returns group values by sequence, reading in slices so that only one slice's attributes are in memory."""
        groups: dict[int, str] = {}
        room = Room(f"the values of {path} are more than {MAX_CARRIED_BYTES >> 20} MiB: group by a shorter attribute")
        for some in slices(zip(found.sequences.tolist(), found.ids, strict=True), ATTRIBUTES_AT_ONCE):
            attributes = await attributes_of(self._catalog, live, dict(some))
            for few in slices(attributes.items(), _GROUPED_AT_ONCE):
                values = await asyncio.to_thread(group_values, dict(few), path)
                room.take(sum(len(value.encode()) for value in values.values()))
                groups |= values
        return groups


def _expand_all(descriptors: Sequence[Descriptor], joining: Sequence[Found], rows: Descriptors) -> list[Descriptor]:
    """Moves each descriptor towards the rows that join it; all of these come one after the other."""
    parts = np.split(rows, np.cumsum([len(found.ids) for found in joining])[:-1])
    return [
        expand(descriptor, part, found.scores)
        for descriptor, part, found in zip(descriptors, parts, joining, strict=True)
    ]


def _below(found: Found, options: Options) -> bool:
    """Whether the last row is below the minimum score, so that looking deeper finds nothing."""
    return options.min_score is not None and len(found.ids) > 0 and bool(found.scores[-1] < options.min_score)


def _excluded(queries: Sequence[Query | PspsearchError]) -> list[str]:
    return [query.id for query in queries if isinstance(query, ItemQuery)]


def _all_good(descriptors: Sequence[Descriptor | PspsearchError]) -> list[Descriptor]:
    for descriptor in descriptors:
        if isinstance(descriptor, PspsearchError):
            raise copy.copy(descriptor)
    return _good(descriptors)


def _good(descriptors: Sequence[Descriptor | PspsearchError]) -> list[Descriptor]:
    return [descriptor for descriptor in descriptors if not isinstance(descriptor, PspsearchError)]
