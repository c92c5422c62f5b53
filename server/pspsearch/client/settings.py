"""What both clients take for granted, and how they show who they are."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from pspsearch.errors import BadSettings, InvalidRequest
from pspsearch.headers import AUTHORIZATION, CALLER_ID, is_sane

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


@dataclass(frozen=True, slots=True)
class Tls:
    """A connection that nobody else reads, to a server that shows a certificate; files are PEM."""

    ca: Path | None = None
    """Whose certificates are believed; None for the public authorities."""
    certificate: Path | None = None
    """What to show a server that asks for one, with its issuers; None for nothing."""
    key: Path | None = None
    """Of that certificate."""
    server_name: str = ""
    """What the server's certificate must say; empty for the name or address that is called."""

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC takes; BadSettings where a file cannot be read."""
        if (self.certificate is None) is not (self.key is None):
            raise BadSettings("a certificate and its key go together")
        return grpc.ssl_channel_credentials(*(_read(path) for path in (self.ca, self.key, self.certificate)))

    def options(self) -> tuple[tuple[str, str | int], ...]:
        """Of the channel."""
        name = (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()
        return (*CHANNEL_OPTIONS, *name)


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}") from error


def call_metadata(caller: str, token: str) -> tuple[tuple[str, str], ...]:
    """The headers by which the server knows who calls; none for what is empty."""
    if caller and not is_sane(caller):
        raise InvalidRequest(f"a caller's name is 1 to 64 visible ASCII characters, not {caller[:80]!r}")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidRequest("a token has visible ASCII characters only")  # and is not repeated here
    headers = ((CALLER_ID, caller), (AUTHORIZATION, f"Bearer {token}" if token else ""))
    return tuple((name, value) for name, value in headers if value)
