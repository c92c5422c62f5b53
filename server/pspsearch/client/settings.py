"""What both clients take for granted."""

from pspsearch.errors import InvalidRequest
from pspsearch.headers import CALLER_ID, is_sane

DEFAULT = "default"
"""The collection where none is named."""

MAX_UNACKNOWLEDGED = 128
"""Items under way in an ingest: enough for the server to decode one batch while it describes another."""

MAX_UNACKNOWLEDGED_BYTES = 256 << 20

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # the caller chose how many images to ask for
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # else a retry within the first second would find the old failure
    ("grpc.max_reconnect_backoff_ms", 2000),
)


def caller_metadata(caller: str) -> tuple[tuple[str, str], ...]:
    """The header by which the server knows a caller from others at the same address; none for an empty name."""
    if caller and not is_sane(caller):
        raise InvalidRequest(f"a caller's name is 1 to 64 visible ASCII characters, not {caller[:80]!r}")
    return ((CALLER_ID, caller),) if caller else ()
