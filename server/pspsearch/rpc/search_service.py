"""SearchService, translated to calls of the core."""

import asyncio
from collections.abc import Sequence

from pspsearch.attributes import MAX_BYTES as MAX_ATTRIBUTES_BYTES
from pspsearch.call import Call
from pspsearch.domain import Generation
from pspsearch.errors import InvalidRequest, PspsearchError, bare
from pspsearch.ingest.request import check_id
from pspsearch.live.collections import Collections
from pspsearch.query import MAX_LIMIT, Hit, Query
from pspsearch.rpc.admission import Admission, Visitor
from pspsearch.rpc.bounds import MAX_NUMBERS
from pspsearch.rpc.messages import (
    USUAL_LIMIT,
    prepare_filter,
    read_image_query,
    read_options,
    read_query,
    write_descriptor,
    write_hits,
    write_origin,
    write_pair,
    write_shares,
    write_timing,
)
from pspsearch.rpc.streams import Exchange, Requests, Turn
from pspsearch.search.pages import HITS_AT_ONCE, MAX_CARRIED_BYTES, aside, slices
from pspsearch.search.searcher import Searcher
from pspsearch.v1 import search_service_pb2 as searches

_UNDER_WAY = 32
"""How many queries of one stream may be read and not yet answered."""
_MAX_TAG_BYTES = 256

_HIT_BYTES = 1 << 10
"""The most bytes of a hit without attributes, image and descriptor: its id, its score, and the framing."""

_Exchange = Exchange[searches.SearchStreamRequest]


class SearchService:
    """Searches, compares and describes; writes nothing."""

    def __init__(self, admission: Admission, searcher: Searcher, collections: Collections) -> None:
        self._admission = admission
        self._searcher = searcher
        self._collections = collections

    async def Search(self, request: searches.SearchRequest, visitor: Visitor) -> searches.SearchResponse:
        return await self._search(request, visitor.call, searches.SearchResponse())

    async def BatchSearch(self, request: searches.BatchSearchRequest, visitor: Visitor) -> searches.BatchSearchResponse:
        queries = [_try_to_read(query) for query in request.queries]
        await prepare_filter(request.options.filter)
        options = read_options(request.options)
        answer = await self._searcher.search_batch(request.collection, queries, options, visitor.call)
        response = searches.BatchSearchResponse(origin=write_origin(answer.generation))
        size = sum(map(_size, answer.hits))
        for some in slices(answer.hits, max(1, HITS_AT_ONCE // options.limit)):
            await aside(size, self._write, some, answer.generation, visitor.call, response)
        response.timing.CopyFrom(write_timing(visitor.call))
        return response

    async def SearchStream(self, requests: Requests[searches.SearchStreamRequest], visitor: Visitor) -> None:
        exchange = _Exchange(requests, _UNDER_WAY, visitor.quota, lambda one: _most_bytes(one.request.options))
        await exchange.run(self._answer_all(exchange, visitor), visitor.context.write)

    async def Compare(self, request: searches.CompareRequest, visitor: Visitor) -> searches.CompareResponse:
        threshold = request.threshold if request.HasField("threshold") else None
        if threshold is not None and not -1 <= threshold <= 1:
            raise InvalidRequest(f"threshold is a score, from -1 to 1, not {threshold}")
        left, right = read_query(request.left), read_query(request.right)
        answer = await self._searcher.compare(request.collection, left, right, visitor.call)
        return searches.CompareResponse(
            score=answer.score,
            same=None if threshold is None else answer.score >= threshold,
            origin=write_origin(answer.generation),
            timing=write_timing(visitor.call),
        )

    async def Describe(self, request: searches.DescribeRequest, visitor: Visitor) -> searches.DescribeResponse:
        answer = await self._searcher.describe(request.collection, read_image_query(request), visitor.call)
        return searches.DescribeResponse(
            descriptor=write_descriptor(answer.descriptor, answer.generation),
            origin=write_origin(answer.generation),
            timing=write_timing(visitor.call),
        )

    async def Recommend(self, request: searches.RecommendRequest, visitor: Visitor) -> searches.RecommendResponse:
        await prepare_filter(request.options.filter)
        answer = await self._searcher.recommend(
            request.collection,
            [read_query(query) for query in request.positives],
            [read_query(query) for query in request.negatives],
            read_options(request.options),
            visitor.call,
        )
        response = searches.RecommendResponse(origin=write_origin(answer.generation), timing=write_timing(visitor.call))
        return await aside(_size(answer.hits), write_hits, answer.hits, answer.generation, response)

    async def Explain(self, request: searches.ExplainRequest, visitor: Visitor) -> searches.ExplainResponse:
        query = read_query(request.query)
        check_id(request.id)
        answer = await self._searcher.explain(request.collection, query, request.id, visitor.call)
        return searches.ExplainResponse(
            score=answer.score,
            query=None if answer.query is None else write_shares(answer.query),
            item=None if answer.item is None else write_shares(answer.item),
            pairs=[write_pair(pair) for pair in answer.pairs],
            origin=write_origin(answer.generation),
            timing=write_timing(visitor.call),
        )

    async def _search(
        self, request: searches.SearchRequest, call: Call, response: searches.SearchResponse
    ) -> searches.SearchResponse:
        await prepare_filter(request.options.filter)
        query, options = read_query(request.query), read_options(request.options)
        answer = await self._searcher.search(request.collection, query, options, call)
        await aside(_size(answer.hits), write_hits, answer.hits, answer.generation, response)
        response.origin.CopyFrom(write_origin(answer.generation))
        response.timing.CopyFrom(write_timing(call))
        return response

    def _write(
        self,
        some: Sequence[list[Hit] | PspsearchError],
        generation: Generation,
        call: Call,
        into: searches.BatchSearchResponse,
    ) -> None:
        for found in some:
            result = into.results.add()
            if isinstance(found, PspsearchError):
                result.status.CopyFrom(self._admission.explain("BatchSearch", found, call))
            else:
                write_hits(found, generation, result)

    async def _answer_all(self, exchange: _Exchange, visitor: Visitor) -> None:
        async with asyncio.TaskGroup() as group:
            async for turn in exchange.turns():
                group.create_task(self._answer(turn, exchange, visitor))

    async def _answer(self, turn: Turn[searches.SearchStreamRequest], exchange: _Exchange, visitor: Visitor) -> None:
        """Answers one query; an error becomes its answer, so the stream continues."""
        request, stream = turn.request, visitor.call
        answer = searches.SearchStreamResponse(tag=request.tag[:_MAX_TAG_BYTES])
        call = stream.within()
        try:
            if len(request.tag.encode()) > _MAX_TAG_BYTES:
                raise InvalidRequest(f"a tag has at most {_MAX_TAG_BYTES} bytes")  # noqa: TRY301 - answered like any other error
            await self._admission.check_next("SearchStream", visitor, request)
            call.begin(stream.remaining_s())
            await self._search(request.request, call, answer.response)
        except Exception as error:
            answer.status.CopyFrom(self._admission.explain("SearchStream", error, call))
        self._admission.metrics.count_stages(call)
        exchange.answer(turn, answer.SerializeToString())


def _size(found: Sequence[Hit] | PspsearchError) -> int:
    """The number of hits and duplicates."""
    return 0 if isinstance(found, PspsearchError) else len(found) + sum(len(hit.duplicates) for hit in found)


def _most_bytes(options: searches.SearchOptions) -> int:
    """An upper bound on the bytes of the answer, from the options alone."""
    if options.return_images or options.group_by or options.HasField("fold_above"):
        return MAX_CARRIED_BYTES
    each = _HIT_BYTES
    if options.return_attributes:
        each += MAX_ATTRIBUTES_BYTES
    if options.return_descriptors:
        each += 4 * MAX_NUMBERS
    limit = max(1, min(options.limit, MAX_LIMIT)) if options.HasField("limit") else USUAL_LIMIT
    return min(limit * each, MAX_CARRIED_BYTES)


def _try_to_read(query: searches.Query) -> Query | InvalidRequest:
    try:
        return read_query(query)
    except InvalidRequest as error:
        return bare(error)
