"""The items of an ingest that are not yet acknowledged, which must be sent again if a stream breaks."""

import dataclasses
from collections import deque
from dataclasses import dataclass
from typing import Self

import grpc
from google.rpc import code_pb2

from pspsearch.client.answers import read_acknowledgement
from pspsearch.client.failures import is_unexplained
from pspsearch.client.types import Acknowledgement
from pspsearch.errors import ImageTooLarge
from pspsearch.v1 import item_service_pb2 as items

_PASSING = (code_pb2.UNAVAILABLE, code_pb2.RESOURCE_EXHAUSTED)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An item and its size, which is needed often and which protobuf computes anew each time."""

    item: items.ItemInput
    size_bytes: int

    @classmethod
    def of(cls, item: items.ItemInput) -> Self:
        """Measures an item."""
        return cls(item, item.ByteSize())


class Window:
    """The items under way, bounded in number and bytes. It is not thread-safe: its user must lock it."""

    def __init__(self, collection: str, max_items: int, max_bytes: int) -> None:
        self._collection = collection
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._bytes = 0
        self._next_tag = 0
        self._unacknowledged: dict[int, Outgoing] = {}
        self._unsent: deque[int] = deque()
        self._ids: set[str] = set()
        self._refused: list[Acknowledgement] = []
        self._probing = False
        self.stream = 0
        """The number of the latest stream, which alone may send."""
        self.exhausted = False
        """Whether the caller has no more items."""
        self.closed = False
        """Whether the caller wants no more acknowledgements."""
        self.failure: BaseException | None = None
        """An error from the caller's own iterable, which must be raised again to the caller."""

    def has_room(self, outgoing: Outgoing) -> bool:
        """Whether an item may be added. One item always fits.

        Two items with the same id are never under way together, because one could overtake the other.
        """
        if not self._unacknowledged:
            return True
        fits = len(self._unacknowledged) < self._max_items and self._bytes + outgoing.size_bytes <= self._max_bytes
        return fits and outgoing.item.id not in self._ids

    def add(self, outgoing: Outgoing) -> None:
        """Adds an item, to be sent."""
        self._unacknowledged[self._next_tag] = outgoing
        self._unsent.append(self._next_tag)
        self._ids.add(outgoing.item.id)
        self._bytes += outgoing.size_bytes
        self._next_tag += 1

    def refuse(self, acknowledgement: Acknowledgement) -> None:
        """Records an item that could not even be sent."""
        self._refused.append(acknowledgement)

    def take_refused(self) -> list[Acknowledgement]:
        """Returns the items refused since the last call."""
        refused, self._refused = self._refused, []
        return refused

    @property
    def sendable(self) -> bool:
        """Whether there is an item that may be sent now."""
        probe_is_out = self._probing and len(self._unsent) < len(self._unacknowledged)
        return bool(self._unsent) and not probe_is_out

    def is_over(self, stream: int) -> bool:
        """Whether this stream has nothing more to send."""
        drained = self.exhausted and not self._unsent
        return self.closed or self.stream != stream or drained

    @property
    def finished(self) -> bool:
        """Whether the ingest has nothing more to send or to wait for."""
        return self.exhausted and not self._unacknowledged

    def take(self) -> items.IngestItemsRequest:
        """Takes the next item to send."""
        tag = self._unsent.popleft()
        return items.IngestItemsRequest(collection=self._collection, tag=tag, item=self._unacknowledged[tag].item)

    def restart(self) -> int:
        """Begins a new stream, on which all unacknowledged items are sent, oldest first. Returns its number.

        Only one item is sent until the first answer. So a server in trouble is not flooded, and if the server refuses
        the stream its message arrives: it would be lost if it crossed with a write.
        """
        self._unsent = deque(self._unacknowledged)
        self._probing = True
        self.stream += 1
        return self.stream

    def acknowledge(self, response: items.IngestItemsResponse) -> Acknowledgement | None:
        """Reads a response. Returns None if its item must be sent again; otherwise the item is no longer under way."""
        if response.result.status.code in _PASSING:
            return None
        self._probing = False
        item_id = self._forget(response.tag).item.id
        return dataclasses.replace(read_acknowledgement(response.result), id=item_id)

    def drop_too_long(self, failure: grpc.RpcError) -> bool:
        """Whether gRPC ended the stream because a message was too long for the server; then that item is refused.

        gRPC does not say which message it was, so the longest item under way is taken.
        """
        said = failure.details() or ""
        if "larger than max" not in said or not is_unexplained(failure) or not self._unacknowledged:
            return False
        longest = self._forget(max(self._unacknowledged, key=lambda tag: self._unacknowledged[tag].size_bytes))
        error = ImageTooLarge(f"the item has {longest.size_bytes} bytes, more than the server takes in one message")
        self._refused.append(Acknowledgement(longest.item.id, None, 0, error))
        return True

    def _forget(self, tag: int) -> Outgoing:
        outgoing = self._unacknowledged.pop(tag)
        self._ids.remove(outgoing.item.id)
        self._bytes -= outgoing.size_bytes
        return outgoing
