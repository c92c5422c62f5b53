"""SearchService over the core."""

import asyncio
from collections.abc import AsyncIterator

from pspsearch.domain import Generation
from pspsearch.errors import InvalidRequest
from pspsearch.rpc.gate import Gate
from pspsearch.rpc.guard import Context
from pspsearch.rpc.messages import (
    prepare_filter,
    read_options,
    read_query,
    write_descriptor,
    write_hits,
    write_origin,
    write_timing,
)
from pspsearch.rpc.streams import Exchange
from pspsearch.search.call import Call
from pspsearch.search.collections import Collections
from pspsearch.search.query import Hit, Query
from pspsearch.search.searcher import Searcher
from pspsearch.v1 import search_service_pb2 as searches
from pspsearch.v1 import search_service_pb2_grpc

_UNDER_WAY = 32
"""Queries of one stream that are read and not answered."""
_MAX_TAG_BYTES = 256

_Exchange = Exchange[searches.SearchStreamRequest, searches.SearchStreamResponse]


class SearchService(search_service_pb2_grpc.SearchServiceServicer):
    """Reads only."""

    def __init__(self, gate: Gate, searcher: Searcher, collections: Collections) -> None:
        self._gate = gate
        self._searcher = searcher
        self._collections = collections

    async def Search(self, request: searches.SearchRequest, context: Context) -> searches.SearchResponse:
        async with self._gate.enter("Search", context, request) as call:
            return await self._search(request, call, searches.SearchResponse())

    async def BatchSearch(self, request: searches.BatchSearchRequest, context: Context) -> searches.BatchSearchResponse:
        async with self._gate.enter("BatchSearch", context, request) as call:
            queries = [_try_to_read(query) for query in request.queries]
            await prepare_filter(request.options.filter)
            options = read_options(request.options)
            answer = await self._searcher.search_batch(request.collection, queries, options, call)
            response = searches.BatchSearchResponse(origin=write_origin(answer.generation))
            for found in answer.hits:
                self._write(found, answer.generation, call, response.results.add())
            response.timing.CopyFrom(write_timing(call))
            return response

    async def SearchStream(  # pyright: ignore[reportIncompatibleMethodOverride] - grpc.aio lets a coroutine write, too
        self, request_iterator: AsyncIterator[searches.SearchStreamRequest], context: Context
    ) -> None:
        async with self._gate.enter("SearchStream", context) as call:
            exchange = _Exchange(request_iterator, _UNDER_WAY, self._gate.guard.share(context))
            await exchange.run(self._answer_all(exchange, call, context), context.write)

    async def Compare(self, request: searches.CompareRequest, context: Context) -> searches.CompareResponse:
        async with self._gate.enter("Compare", context, request) as call:
            threshold = request.threshold if request.HasField("threshold") else None
            if threshold is not None and not -1 <= threshold <= 1:
                raise InvalidRequest(f"threshold is a score, from -1 to 1, not {threshold}")
            left, right = read_query(request.left), read_query(request.right)
            answer = await self._searcher.compare(request.collection, left, right, call)
            return searches.CompareResponse(
                score=answer.score,
                same=None if threshold is None else answer.score >= threshold,
                origin=write_origin(answer.generation),
                timing=write_timing(call),
            )

    async def Describe(self, request: searches.DescribeRequest, context: Context) -> searches.DescribeResponse:
        async with self._gate.enter("Describe", context, request) as call:
            answer = await self._searcher.describe(request.collection, request.image, call)
            return searches.DescribeResponse(
                descriptor=write_descriptor(answer.descriptor, answer.generation),
                origin=write_origin(answer.generation),
                timing=write_timing(call),
            )

    async def Recommend(self, request: searches.RecommendRequest, context: Context) -> searches.RecommendResponse:
        async with self._gate.enter("Recommend", context, request) as call:
            await prepare_filter(request.options.filter)
            answer = await self._searcher.recommend(
                request.collection,
                [read_query(query) for query in request.positives],
                [read_query(query) for query in request.negatives],
                read_options(request.options),
                call,
            )
            response = searches.RecommendResponse(origin=write_origin(answer.generation), timing=write_timing(call))
            return write_hits(answer.hits, answer.generation, response)

    async def _search(
        self, request: searches.SearchRequest, call: Call, response: searches.SearchResponse
    ) -> searches.SearchResponse:
        await prepare_filter(request.options.filter)
        query, options = read_query(request.query), read_options(request.options)
        answer = await self._searcher.search(request.collection, query, options, call)
        write_hits(answer.hits, answer.generation, response)
        response.origin.CopyFrom(write_origin(answer.generation))
        response.timing.CopyFrom(write_timing(call))
        return response

    def _write(
        self, found: list[Hit] | Exception, generation: Generation, call: Call, into: searches.BatchSearchResult
    ) -> None:
        if isinstance(found, Exception):
            into.status.CopyFrom(self._gate.explain("BatchSearch", found, call))
        else:
            write_hits(found, generation, into)

    async def _answer_all(self, exchange: _Exchange, stream: Call, context: Context) -> None:
        async with asyncio.TaskGroup() as group:
            async for request in exchange.requests():
                group.create_task(self._answer(request, exchange, stream, context))

    async def _answer(
        self, request: searches.SearchStreamRequest, exchange: _Exchange, stream: Call, context: Context
    ) -> None:
        """Whatever becomes of this query, the stream goes on."""
        answer = searches.SearchStreamResponse(tag=request.tag[:_MAX_TAG_BYTES])
        call = stream.within()
        try:
            if len(request.tag.encode()) > _MAX_TAG_BYTES:
                raise InvalidRequest(f"a tag has at most {_MAX_TAG_BYTES} bytes")  # noqa: TRY301 - answered as any other
            await self._gate.check_next("SearchStream", context, request, stream)
            call.begin(stream.remaining_s())
            await self._search(request.request, call, answer.response)
        except Exception as error:
            answer.status.CopyFrom(self._gate.explain("SearchStream", error, call))
        self._gate.metrics.count_stages(call)
        exchange.answer(answer)


def _try_to_read(query: searches.Query) -> Query | InvalidRequest:
    try:
        return read_query(query)
    except InvalidRequest as error:
        return error
