"""Requests that hold as much as they may, a little more, and a thousand times more; also from strangers."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pspsearch.callers.access import Access, Right
from pspsearch.callers.tokens import create_token
from pspsearch.headers import AUTHORIZATION
from tests.excesses import Target, targets
from tests.faults.place import Place

MESSAGE_BYTES = 42 << 20
BUDGET_BYTES = 512 << 20
AT_ONCE = 4
SLOWEST_S = 0.5
WRONG = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


async def fields(place: Place, every: int) -> str:
    """Tries each repeated, text and bytes field of every method, or every so many of them."""
    folder = place.new_folder("excess")
    tokens = folder / "tokens.json"
    known = ((AUTHORIZATION, f"Bearer {create_token(tokens, Access('known', Right.ADMIN), None)}"),)
    flags = ("--tokens", str(tokens), "--max-bytes-under-way", str(BUDGET_BYTES), "--log-level", "error")
    codes = Counter[str]()
    with place.serve(folder / "data", *flags) as server:
        forget_peak(server.process.pid)
        before = peak_bytes(server.process.pid)
        options = (("grpc.max_send_message_length", -1),)
        with _Health(server.address) as health, grpc.insecure_channel(server.address, options) as channel:
            for target in list(targets())[::every]:
                for amount in _amounts(target):
                    content = target.write(amount)
                    for metadata in (known, None):
                        calls = [asyncio.to_thread(_send, channel, target, content, metadata) for _ in range(AT_ONCE)]
                        for code in await asyncio.gather(*calls):
                            _check(target, amount, len(content), code, is_known=metadata is not None)
                            codes[code.name] += 1
        grown = peak_bytes(server.process.pid) - before
    told = f"{codes.total()} requests: {dict(codes)}; {health.answers} answers of health, the slowest "
    told += f"{1000 * health.slowest_s:.0f} ms; peak {grown >> 20:+d} MiB with a budget of {BUDGET_BYTES >> 20}"
    assert health.slowest_s < SLOWEST_S, told
    assert grown <= BUDGET_BYTES, told
    return told


def _amounts(target: Target) -> Iterator[int]:
    """The bound, one more, and a thousand times the bound; or, if less, the most that a message holds, and more."""
    most, bound = target.most(MESSAGE_BYTES), target.bound
    if bound is not None and bound < most:
        yield from (bound, bound + 1)
    if bound is not None and 1000 * bound < most:
        yield 1000 * bound
    else:
        yield from (most, most + 100)


def _check(target: Target, amount: int, size_bytes: int, code: grpc.StatusCode, *, is_known: bool) -> None:
    told = f"{target.method.name} {target.name} {amount}, {size_bytes} bytes: {code}"
    assert code not in WRONG, told
    if not is_known:
        assert code is grpc.StatusCode.UNAUTHENTICATED, told
    elif size_bytes > MESSAGE_BYTES:
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, told
    elif target.bound is not None and amount > target.bound:
        assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED), told


def _send(channel: grpc.Channel, target: Target, content: bytes, metadata: Any) -> grpc.StatusCode:
    anything: Any = channel
    path = f"/{target.method.containing_service.full_name}/{target.method.name}"
    try:
        if target.method.client_streaming:
            list(anything.stream_stream(path)(iter([content]), metadata=metadata, timeout=60))
        elif target.method.server_streaming:
            list(anything.unary_stream(path)(content, metadata=metadata, timeout=60))
        else:
            anything.unary_unary(path)(content, metadata=metadata, timeout=60)
    except grpc.RpcError as error:
        failed: Any = error
        return failed.code()
    return grpc.StatusCode.OK


class _Health:
    """Asks for the server's health all the time, in a thread."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.answers, self.slowest_s = 0, 0.0

    def __enter__(self) -> "_Health":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while not self._ended.wait(0.02):
                started = time.perf_counter()
                stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
                self.slowest_s = max(self.slowest_s, time.perf_counter() - started)
                self.answers += 1


def peak_bytes(pid: int) -> int:
    """The peak memory of a process since `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def forget_peak(pid: int) -> None:
    """Resets the peak memory of a process."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
