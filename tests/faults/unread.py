"""Streams whose callers read no answers, with answers as large as possible."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator

import grpc
import psutil

from pspsearch.client import AsyncClient, ItemInput
from pspsearch.errors import BadImage
from pspsearch.rpc.streams import MAX_STREAM_BYTES
from pspsearch.v1 import search_service_pb2, search_service_pb2_grpc
from tests.faults.excess import forget_peak, peak_bytes
from tests.faults.place import Place, become_idle
from tests.pictures import encode, load_photo

ITEMS, IMAGE_BYTES = 60, 1 << 20
QUERIES_EACH = 32
LEFT = 24
"""How many streams are left with waiting answers; they would hold three times what a caller may."""
BUDGET_BYTES = 512 << 20
LARGE_BYTES = 20 << 20
QUIET_S = 1.0
MAKING = 3
"""How often an answer is in memory while it is made: its pictures, the message, and what is sent."""


async def streams(place: Place, count: int) -> str:
    """Each stream sends as many queries as may be under way; each answer carries as many pictures as it may.

    Then many streams are left, some at a time; a large request of the same caller still finds room.
    """
    with place.serve(place.new_folder("unread"), "--max-bytes-under-way", str(BUDGET_BYTES)) as server:
        async with AsyncClient(server.address) as client:
            picture = encode(load_photo(64, 48))
            for number in range(ITEMS):
                padded = picture + number.to_bytes(4, "big") + bytes(IMAGE_BYTES - len(picture))
                await client.upsert([ItemInput(f"i{number}", padded)])
            await become_idle(client)
            process = psutil.Process(server.process.pid)
            forget_peak(process.pid)
            before = peak_bytes(process.pid)
            ended = threading.Event()
            narrow = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16))  # otherwise gRPC reads on
            with grpc.insecure_channel(server.address, narrow) as channel:
                stub = search_service_pb2_grpc.SearchServiceStub(channel)
                kept = [stub.SearchStream(_queries(ended)) for _ in range(count)]
                await _until_quiet(process)
                under_way = (await client.status()).requests_in_flight - 1
                grown = peak_bytes(process.pid) - before
                for call in kept:
                    call.cancel()
                for _ in range(LEFT // count):
                    kept = [stub.SearchStream(_queries(ended)) for _ in range(count)]
                    await _until_quiet(process)
                    for call in kept:
                        call.cancel()
                ended.set()
            await become_idle(client)
            with contextlib.suppress(BadImage):
                await client.search(bytes(LARGE_BYTES))
                raise AssertionError("zeros are an image")
    told = f"{under_way} streams of {QUERIES_EACH} queries, {ITEMS} MiB an answer: peak {grown >> 20:+d} MiB"
    assert under_way == count, told
    assert grown <= MAKING * count * MAX_STREAM_BYTES, told
    return f"{told}; {LEFT} were left, and a large request found room"


def _queries(ended: threading.Event) -> Iterator[search_service_pb2.SearchStreamRequest]:
    options = search_service_pb2.SearchOptions(limit=ITEMS, return_images=True)
    query = search_service_pb2.SearchRequest(query=search_service_pb2.Query(id="i0"), options=options)
    yield from itertools.repeat(search_service_pb2.SearchStreamRequest(request=query), QUERIES_EACH)
    ended.wait()


async def _until_quiet(process: psutil.Process) -> None:
    """Waits until the process is idle: everything that it makes before somebody reads is then made."""
    used, before = process.cpu_times(), None
    while before is None or used.user + used.system > before.user + before.system + 0.05:
        before = used
        await asyncio.sleep(QUIET_S)
        used = process.cpu_times()
