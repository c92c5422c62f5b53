"""Slow, many, or excessive callers; a healthy one beside them must get its answers as before.

`python -m tests.faults.crowd KIND HOST PORT TOKEN` is such a crowd until it is ended.
"""

import asyncio
import contextlib
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil

from pspsearch.callers.access import Access, Right
from pspsearch.callers.tokens import create_token
from pspsearch.client import AsyncClient, Descriptor
from pspsearch.headers import AUTHORIZATION
from pspsearch.v1 import search_service_pb2, search_service_pb2_grpc
from tests.faults.place import ONCE, Place, become_idle, fingerprint_of, item, point

CONNECTIONS, SLOW_SENDERS, STREAMS, ITEMS = 800, 200, 100, 250
MOST_STREAMS, QUERIES_EACH = 32, 50
OVERSIZE_BYTES = 65 << 20
PAUSE_S = 0.01
SLOWER = 2.0
MEMORY_BYTES = 256 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
"""The bytes that begin a connection."""

Metadata = tuple[tuple[str, str], ...]


def _connections(address: tuple[str, int], _: Metadata) -> None:
    """Opens many connections that say nothing after their greeting."""
    opened = [socket.create_connection(address) for _ in range(CONNECTIONS)]
    for one in opened:
        one.sendall(PREFACE)
    time.sleep(3600)


def _slow_senders(address: tuple[str, int], _: Metadata) -> None:
    """Sends a byte now and then, and reconnects when thrown out."""
    opened = {socket.create_connection(address): 0 for _ in range(SLOW_SENDERS)}
    while True:
        for one, sent in list(opened.items()):
            try:
                one.sendall(PREFACE[sent % len(PREFACE) :][:1])
                opened[one] = sent + 1
            except OSError:
                del opened[one]
                with contextlib.suppress(OSError):
                    opened[socket.create_connection(address)] = 0
        time.sleep(0.5)


def _slow_readers(address: tuple[str, int], metadata: Metadata) -> None:
    """Sends streams of queries and reads no answers."""
    query = search_service_pb2.Query(id="i0")
    options = search_service_pb2.SearchOptions(limit=ITEMS, return_attributes=True)
    request = search_service_pb2.SearchStreamRequest(
        request=search_service_pb2.SearchRequest(query=query, options=options)
    )

    def many() -> Iterator[search_service_pb2.SearchStreamRequest]:
        yield from itertools.repeat(request, QUERIES_EACH)
        time.sleep(3600)

    narrow = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16))  # otherwise gRPC reads on by itself
    with grpc.insecure_channel(f"{address[0]}:{address[1]}", narrow) as channel:
        stub = search_service_pb2_grpc.SearchServiceStub(channel)
        kept = [stub.SearchStream(many(), metadata=metadata) for _ in range(STREAMS)]
        time.sleep(3600)
        del kept


def _stream_flood(address: tuple[str, int], metadata: Metadata) -> None:
    """Opens streams and cancels them at once."""

    def nothing() -> Iterator[search_service_pb2.SearchStreamRequest]:
        time.sleep(1)
        yield from ()

    with grpc.insecure_channel(f"{address[0]}:{address[1]}") as channel:
        stub = search_service_pb2_grpc.SearchServiceStub(channel)
        while True:
            stub.SearchStream(nothing(), metadata=metadata).cancel()
            time.sleep(PAUSE_S)


def _oversize(address: tuple[str, int], metadata: Metadata) -> None:
    """Sends messages that are too large, one after the other."""
    request = search_service_pb2.SearchRequest(query=search_service_pb2.Query(image=bytes(OVERSIZE_BYTES)))
    options = (("grpc.max_send_message_length", -1),)
    with grpc.insecure_channel(f"{address[0]}:{address[1]}", options) as channel:
        stub = search_service_pb2_grpc.SearchServiceStub(channel)
        while True:
            with contextlib.suppress(grpc.RpcError):
                stub.Search(request, metadata=metadata)
                raise AssertionError("it was taken")
            time.sleep(1)


KINDS: dict[str, Callable[[tuple[str, int], Metadata], None]] = {
    "connections": _connections,
    "slow senders": _slow_senders,
    "slow readers": _slow_readers,
    "stream flood": _stream_flood,
    "oversize messages": _oversize,
}


async def crowds(place: Place, seconds: int) -> str:
    """Runs each crowd for so long; the healthy caller has its own token, and so its own share."""
    folder = place.new_folder("crowds")
    tokens = folder / "tokens.json"
    healthy, other = (create_token(tokens, Access(name, Right.ADMIN), None) for name in ("healthy", "crowd"))
    told: list[str] = []
    flags = ("--tokens", str(tokens), "--caller-calls", str(MOST_STREAMS), "--log-level", "error")
    with place.serve(folder / "data", *flags) as server:
        process = psutil.Process(server.process.pid)
        async with AsyncClient(server.address, token=healthy, retries=ONCE) as client:
            fingerprint = await fingerprint_of(client)
            await client.upsert([item(f"i{number}", number, fingerprint) for number in range(ITEMS)])
            before_ms, memory = await _p99_ms(client, fingerprint, seconds), process.memory_info().rss
            for kind in KINDS:
                with _crowd(kind, server.address, other) as crowd:
                    during_ms = await _p99_ms(client, fingerprint, seconds)
                    assert crowd.poll() is None, f"{kind}: the crowd ended with {crowd.returncode}"
                grown = process.memory_info().rss - memory
                told.append(f"{kind} {during_ms:.1f} ms, {grown >> 20:+d} MiB")
                assert during_ms <= SLOWER * before_ms, f"p99 was {before_ms:.1f} ms before: {'; '.join(told)}"
                assert grown < MEMORY_BYTES, told[-1]
            await become_idle(client)
    return f"p99 of a healthy caller {before_ms:.1f} ms; beside {'; '.join(told)}"


@contextlib.contextmanager
def _crowd(kind: str, address: str, token: str) -> Generator["subprocess.Popen[bytes]"]:
    host, _, port = address.rpartition(":")
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-m", "tests.faults.crowd", kind, host, port, token], cwd=root) as process:
        time.sleep(2.0)  # the crowd has gathered by now
        try:
            yield process
        finally:
            process.kill()


async def _p99_ms(client: AsyncClient, fingerprint: str, seconds: int) -> float:
    times: list[float] = []
    until = time.perf_counter() + seconds
    for number in itertools.count():
        started = time.perf_counter()
        if started > until and len(times) >= 100:
            return 1000 * float(np.percentile(times, 99))
        answer = await client.search(Descriptor(point(f"i{number % ITEMS}", number % ITEMS), fingerprint), limit=1)
        times.append(time.perf_counter() - started)
        assert answer.hits[0].id == f"i{number % ITEMS}"
        await asyncio.sleep(PAUSE_S)
    raise AssertionError


if __name__ == "__main__":
    kind, host, port, token = sys.argv[1:]
    KINDS[kind]((host, int(port)), ((AUTHORIZATION, f"Bearer {token}"),))
