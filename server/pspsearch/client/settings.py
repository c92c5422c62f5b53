"""What both clients take for granted."""

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
