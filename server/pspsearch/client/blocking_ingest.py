"""An ingest that blocks: the caller's items are read in a thread of their own, and streams come and go."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol

import grpc

from pspsearch.client.failures import ServerUnavailable, call_error, may_pass, status_error
from pspsearch.client.messages import item_message
from pspsearch.client.retries import Attempts
from pspsearch.client.types import Acknowledgement, ItemInput
from pspsearch.client.window import Outgoing, Window
from pspsearch.errors import InvalidRequest, PspsearchError
from pspsearch.v1 import item_service_pb2 as items


class Responses(Protocol):
    """A stream under way."""

    def __iter__(self) -> Iterator[items.IngestItemsResponse]:
        """The acknowledgements as they come."""
        ...

    def cancel(self) -> object:
        """Ends it; no harm where it has ended."""
        ...


class BlockingIngest:
    """One ingest, from its first item to its last acknowledgement."""

    def __init__(
        self,
        begin: Callable[[Iterator[items.IngestItemsRequest]], Responses],
        window: Window,
        attempts: Attempts,
        address: str,
    ) -> None:
        self._begin = begin
        self._window = window
        self._attempts = attempts
        self._address = address
        self._changed = threading.Condition()

    def run(self, inputs: Iterable[ItemInput]) -> Iterator[Acknowledgement]:
        """One acknowledgement for each item, as they come."""
        threading.Thread(target=self._fill, args=(inputs,), name="ingest", daemon=True).start()
        window = self._window
        try:
            while not window.finished:
                broken = yield from self._stream()
                if broken is not None:
                    pause_s = self._attempts.pause_s()
                    if pause_s is None:
                        raise broken
                    time.sleep(pause_s)
            yield from window.take_refused()
            if window.failure is not None:
                raise window.failure
        finally:
            with self._changed:
                window.closed = True
                self._changed.notify_all()

    def _fill(self, inputs: Iterable[ItemInput]) -> None:
        """In the thread: takes items in while there is room."""
        window = self._window
        try:
            for item in inputs:
                if not self._take_in(item):
                    return
        except BaseException as error:
            window.failure = error
        finally:
            with self._changed:
                window.exhausted = True
                self._changed.notify_all()

    def _take_in(self, item: ItemInput) -> bool:
        """False where nobody waits for it any more."""
        window = self._window
        try:
            outgoing = Outgoing.of(item_message(item))
        except InvalidRequest as error:
            with self._changed:
                window.refuse(Acknowledgement(item.id, None, 0, error))
            return not window.closed
        with self._changed:
            self._changed.wait_for(lambda: window.closed or window.has_room(outgoing))
            if not window.closed:
                window.add(outgoing)
            self._changed.notify_all()
            return not window.closed

    def _stream(self) -> Generator[Acknowledgement, None, PspsearchError | None]:
        """One stream to its end; what ended it, where it is worth another."""
        window = self._window
        with self._changed:
            number = window.restart()
            self._changed.notify_all()
        call = self._begin(self._requests(number))
        try:
            for response in call:
                with self._changed:
                    given = window.acknowledge(response)
                    refused = window.take_refused()
                    self._changed.notify_all()
                yield from refused
                if given is None:
                    return status_error(response.result.status)
                self._attempts.succeed()
                yield given
        except grpc.RpcError as failure:
            error = call_error(failure, self._address)
            with self._changed:
                if window.drop_too_long(failure):
                    return None
            if not may_pass(failure):
                raise error from failure
            return error
        finally:
            call.cancel()
        if window.finished:
            return None
        return ServerUnavailable(f"the server at {self._address} ended the stream before it was done")

    def _requests(self, stream: int) -> Iterator[items.IngestItemsRequest]:
        """In a thread of gRPC's: what the stream sends, until there is another one."""
        window = self._window
        while True:
            with self._changed:
                self._changed.wait_for(lambda: window.is_over(stream) or window.sendable)
                if window.is_over(stream):
                    return
                request = window.take()
            yield request
