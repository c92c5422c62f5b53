"""An ingest that awaits: the caller's items are read by a task of their own, and streams come and go."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import grpc
from grpc.aio import StreamStreamCall

from pspsearch.client.failures import ServerUnavailable, call_error, may_pass, status_error
from pspsearch.client.messages import item_message, load_item
from pspsearch.client.retries import Attempts
from pspsearch.client.types import Acknowledgement, ItemInput
from pspsearch.client.window import Outgoing, Window
from pspsearch.errors import InvalidRequest, PspsearchError
from pspsearch.v1 import item_service_pb2 as items

Begin = Callable[
    [AsyncIterator[items.IngestItemsRequest]], "StreamStreamCall[items.IngestItemsRequest, items.IngestItemsResponse]"
]


class AsynchronousIngest:
    """One ingest, from its first item to its last acknowledgement."""

    def __init__(self, begin: Begin, window: Window, attempts: Attempts, address: str) -> None:
        self._begin = begin
        self._window = window
        self._attempts = attempts
        self._address = address
        self._broken: PspsearchError | None = None
        self._changed = asyncio.Condition()

    async def run(self, inputs: AsyncIterator[ItemInput]) -> AsyncGenerator[Acknowledgement]:
        """One acknowledgement for each item, as they come."""
        window = self._window
        filling = asyncio.create_task(self._fill(inputs))
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
            window.closed = True
            await self._notify()
            filling.cancel()
            await asyncio.wait([filling])

    async def _pause(self) -> None:
        """After a stream that broke; raises what broke it where it is not worth another."""
        broken, self._broken = self._broken, None
        if broken is not None:
            pause_s = self._attempts.pause_s()
            if pause_s is None:
                raise broken
            await asyncio.sleep(pause_s)

    async def _fill(self, inputs: AsyncIterator[ItemInput]) -> None:
        """The task: takes items in while there is room."""
        try:
            async for item in inputs:
                await self._take_in(item)
        except asyncio.CancelledError as error:
            if is_to_end():
                raise
            self._window.failure = error
        except Exception as error:
            self._window.failure = error
        finally:
            self._window.exhausted = True
            await self._notify()

    async def _take_in(self, item: ItemInput) -> None:
        window = self._window
        try:
            outgoing = Outgoing.of(item_message(await load_item(item)))
        except InvalidRequest as error:
            window.refuse(Acknowledgement(item.id, None, 0, error))
            return
        async with self._changed:
            await self._changed.wait_for(lambda: window.has_room(outgoing))
            window.add(outgoing)
            self._changed.notify_all()

    async def _stream(self) -> AsyncGenerator[Acknowledgement]:
        """One stream to its end; leaves in `_broken` what ended it, where it is worth another."""
        window = self._window
        number = window.restart()
        await self._notify()
        call = self._begin(self._requests(number))
        try:
            async for response in call:
                given = window.acknowledge(response)
                await self._notify()
                for acknowledgement in window.take_refused():
                    yield acknowledgement
                if given is None:
                    self._broken = status_error(response.result.status)
                    return
                self._attempts.succeed()
                yield given
        except grpc.RpcError as failure:
            error = call_error(failure, self._address)
            if window.drop_too_long(failure):
                return
            if not may_pass(failure):
                raise error from failure
            self._broken = error
            return
        finally:
            call.cancel()
        if not window.finished:
            self._broken = ServerUnavailable(f"the server at {self._address} ended the stream before it was done")

    async def _requests(self, stream: int) -> AsyncIterator[items.IngestItemsRequest]:
        """What the stream sends, until there is another one."""
        window = self._window
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: window.is_over(stream) or window.sendable)
                if window.is_over(stream):
                    return
                request = window.take()
            yield request

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def is_to_end() -> bool:
    """Whether a CancelledError is meant for the task that runs, and does not come out of one that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
