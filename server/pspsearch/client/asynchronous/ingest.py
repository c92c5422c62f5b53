"""An ingest that awaits. The caller's items are read by a task of their own, and a broken stream is replaced."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from functools import partial

import grpc

from pspsearch.client.asynchronous.tasks import beside, each, is_callers, load_item, streaming
from pspsearch.client.failures import ServerUnavailable, call_error, may_pass, status_error
from pspsearch.client.messages import item_message
from pspsearch.client.retries import Attempts
from pspsearch.client.types import Acknowledgement, ItemInput
from pspsearch.client.window import Outgoing, Window
from pspsearch.errors import InvalidRequest, PspsearchError
from pspsearch.v1 import item_service_pb2 as items


class AsyncIngest:
    """One ingest, from its first item to its last acknowledgement."""

    def __init__(
        self,
        method: "grpc.aio.StreamStreamMultiCallable[items.IngestItemsRequest, items.IngestItemsResponse]",
        metadata: tuple[tuple[str, str], ...],
        window: Window,
        attempts: Attempts,
        address: str,
    ) -> None:
        self._method = method
        self._metadata = metadata
        self._window = window
        self._attempts = attempts
        self._address = address
        self._broken: PspsearchError | None = None
        self._changed = asyncio.Condition()

    async def run(self, inputs: AsyncIterable[ItemInput] | Iterable[ItemInput]) -> AsyncGenerator[Acknowledgement]:
        """Yields one acknowledgement for each item, as they come."""
        window = self._window
        async with beside(partial(self._fill, inputs)):
            try:
                while not window.finished:
                    async with contextlib.aclosing(self._stream()) as acknowledgements:
                        async for acknowledgement in acknowledgements:
                            yield acknowledgement
                    await self._pause()
                for acknowledgement in window.take_refused():
                    yield acknowledgement
                if window.failure is not None:
                    raise window.failure
            finally:
                async with self._changed:
                    window.closed = True
                    self._changed.notify_all()

    async def _pause(self) -> None:
        """Waits before the next stream if the last one broke, or raises its error if no more attempts are left."""
        broken, self._broken = self._broken, None
        if broken is not None:
            pause_s = self._attempts.pause_s()
            if pause_s is None:
                raise broken
            await asyncio.sleep(pause_s)

    async def _fill(self, inputs: AsyncIterable[ItemInput] | Iterable[ItemInput]) -> None:
        """Adds the caller's items to the window while there is room. Runs beside the streams."""
        window = self._window
        try:
            async for item in each(inputs):
                await self._take_in(item)
                if window.closed:
                    return
        except BaseException as error:
            if not is_callers(error):
                raise
            window.failure = error
        finally:
            async with self._changed:
                window.exhausted = True
                self._changed.notify_all()

    async def _take_in(self, item: ItemInput) -> None:
        window = self._window
        try:
            outgoing = Outgoing.of(item_message(await load_item(item)))
        except InvalidRequest as error:
            async with self._changed:
                window.refuse(Acknowledgement(item.id, None, 0, error))
            return
        async with self._changed:
            await self._changed.wait_for(lambda: window.closed or window.has_room(outgoing))
            if not window.closed:
                window.add(outgoing)
            self._changed.notify_all()

    async def _stream(self) -> AsyncGenerator[Acknowledgement]:
        """Runs one stream to its end. If another stream may help, the error that ended this one goes to `_broken`."""
        window = self._window
        async with self._changed:
            number = window.restart()
            self._changed.notify_all()
        try:
            async with streaming(self._method, self._requests(number), self._metadata) as responses:
                async for response in responses:
                    async with self._changed:
                        given = window.acknowledge(response)
                        refused = window.take_refused()
                        self._changed.notify_all()
                    for acknowledgement in refused:
                        yield acknowledgement
                    if given is None:
                        self._broken = status_error(response.result.status)
                        return
                    self._attempts.succeed()
                    yield given
        except grpc.RpcError as failure:
            error = call_error(failure, self._address)
            async with self._changed:
                if window.drop_too_long(failure):
                    return
            if not may_pass(failure):
                raise error from failure
            self._broken = error
            return
        if not window.finished:
            self._broken = ServerUnavailable(f"the server at {self._address} ended the stream before it was done")

    async def _requests(self, stream: int) -> AsyncIterator[items.IngestItemsRequest]:
        """Yields what a stream sends, until it has nothing more to send or another stream replaces it."""
        window = self._window
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: window.is_over(stream) or window.sendable)
                if window.is_over(stream):
                    return
                request = window.take()
            yield request
