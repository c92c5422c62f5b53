"""The items to write, checked as they are built, and their acknowledgements."""

import re
from dataclasses import dataclass

from pspsearch.attributes import validate_attributes
from pspsearch.domain import Outcome
from pspsearch.errors import InvalidRequest, PspsearchError
from pspsearch.query import DescriptorQuery

MAX_ITEMS = 256
MAX_DELETES = 10_000
MAX_ID_BYTES = 256
MAX_REQUEST_ID_BYTES = 128
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class ItemInput:
    """An item to add or change. Raises InvalidRequest if the id or the attributes are not valid."""

    id: str
    source: bytes | DescriptorQuery | None
    """An encoded image, a descriptor, or None if only the attributes change."""
    attributes: str | None
    """A JSON object, in canonical form once this is built; None leaves the attributes as they are."""

    def __post_init__(self) -> None:
        check_id(self.id)
        if self.attributes is not None:
            object.__setattr__(self, "attributes", validate_attributes(self.attributes))


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The outcome for one item: it is durable and the next search finds it, or the error says why not."""

    id: str
    outcome: Outcome | None = None
    sequence: int = 0
    error: PspsearchError | None = None


def check_id(text: str) -> None:
    """Raises InvalidRequest for an id that no item can have."""
    if not text or len(text) > MAX_ID_BYTES or len(text.encode()) > MAX_ID_BYTES:
        raise InvalidRequest(
            f"an item's id is 1 to {MAX_ID_BYTES} bytes of UTF-8, this one has {len(text):,} characters"
        )
    if _CONTROL.search(text):
        raise InvalidRequest(f"an item's id has no control characters, and {text[:80]!r} has")


def check_request_id(text: str) -> None:
    """Raises InvalidRequest for a request id that is too long."""
    if len(text.encode()) > MAX_REQUEST_ID_BYTES:
        raise InvalidRequest(f"a request_id is at most {MAX_REQUEST_ID_BYTES} bytes")
