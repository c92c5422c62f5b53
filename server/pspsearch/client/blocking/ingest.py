# Made from the client that awaits: see tools/blocking_client.py.
"""An ingest that blocks. The caller's items are read in a thread of their own, and a broken stream is replaced."""

import contextlib
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from functools import partial

import grpc

from pspsearch.client.blocking.threads import beside, is_callers, streaming
from pspsearch.client.failures import ServerUnavailable, call_error, may_pass, status_error
from pspsearch.client.messages import item_message
from pspsearch.client.retries import Attempts
from pspsearch.client.types import Acknowledgement, ItemInput
from pspsearch.client.window import Outgoing, Window
from pspsearch.errors import InvalidRequest, PspsearchError
from pspsearch.v1 import item_service_pb2 as items


class Ingest:
    """One ingest, from its first item to its last acknowledgement."""

    def __init__(
        self,
        method: "grpc.StreamStreamMultiCallable[items.IngestItemsRequest, items.IngestItemsResponse]",
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
        self._changed = threading.Condition()

    def run(self, inputs: Iterable[ItemInput]) -> Generator[Acknowledgement]:
        """Yields one acknowledgement for each item, as they come."""
        window = self._window
        with beside(partial(self._fill, inputs)):
            try:
                while not window.finished:
                    with contextlib.closing(self._stream()) as acknowledgements:
                        for acknowledgement in acknowledgements:
                            yield acknowledgement
                    self._pause()
                for acknowledgement in window.take_refused():
                    yield acknowledgement
                if window.failure is not None:
                    raise window.failure
            finally:
                with self._changed:
                    window.closed = True
                    self._changed.notify_all()

    def _pause(self) -> None:
        """Waits before the next stream if the last one broke, or raises its error if no more attempts are left."""
        broken, self._broken = self._broken, None
        if broken is not None:
            pause_s = self._attempts.pause_s()
            if pause_s is None:
                raise broken
            time.sleep(pause_s)

    def _fill(self, inputs: Iterable[ItemInput]) -> None:
        """Adds the caller's items to the window while there is room. Runs beside the streams."""
        window = self._window
        try:
            for item in inputs:
                self._take_in(item)
                if window.closed:
                    return
        except BaseException as error:
            if not is_callers(error):
                raise
            window.failure = error
        finally:
            with self._changed:
                window.exhausted = True
                self._changed.notify_all()

    def _take_in(self, item: ItemInput) -> None:
        window = self._window
        try:
            outgoing = Outgoing.of(item_message(item))
        except InvalidRequest as error:
            with self._changed:
                window.refuse(Acknowledgement(item.id, None, 0, error))
            return
        with self._changed:
            self._changed.wait_for(lambda: window.closed or window.has_room(outgoing))
            if not window.closed:
                window.add(outgoing)
            self._changed.notify_all()

    def _stream(self) -> Generator[Acknowledgement]:
        """Runs one stream to its end. If another stream may help, the error that ended this one goes to `_broken`."""
        window = self._window
        with self._changed:
            number = window.restart()
            self._changed.notify_all()
        try:
            with streaming(self._method, self._requests(number), self._metadata) as responses:
                for response in responses:
                    with self._changed:
                        given = window.acknowledge(response)
                        refused = window.take_refused()
                        self._changed.notify_all()
                    yield from refused
                    if given is None:
                        self._broken = status_error(response.result.status)
                        return
                    self._attempts.succeed()
                    yield given
        except grpc.RpcError as failure:
            error = call_error(failure, self._address)
            with self._changed:
                if window.drop_too_long(failure):
                    return
            if not may_pass(failure):
                raise error from failure
            self._broken = error
            return
        if not window.finished:
            self._broken = ServerUnavailable(f"the server at {self._address} ended the stream before it was done")

    def _requests(self, stream: int) -> Iterator[items.IngestItemsRequest]:
        """Yields what a stream sends, until it has nothing more to send or another stream replaces it."""
        window = self._window
        while True:
            with self._changed:
                self._changed.wait_for(lambda: window.is_over(stream) or window.sendable)
                if window.is_over(stream):
                    return
                request = window.take()
            yield request
