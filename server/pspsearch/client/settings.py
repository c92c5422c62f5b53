"""The defaults of both clients, their TLS settings, and the headers that say who calls."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from pspsearch.errors import BadSettings, InvalidRequest
from pspsearch.headers import AUTHORIZATION, CALLER_ID, is_sane

DEFAULT = "default"
"""The collection of a call that names none."""

MAX_UNACKNOWLEDGED = 128
"""How many items of an ingest may be under way: enough for the server to decode one batch and describe another."""

MAX_UNACKNOWLEDGED_BYTES = 256 << 20

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # the caller chooses how many images to request
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # else a retry within the first second meets the old failure
    ("grpc.max_reconnect_backoff_ms", 2000),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """How to make an encrypted connection to a server with a certificate. The files are PEM."""

    ca: Path | None = None
    """The authorities to trust; None for the public ones."""
    certificate: Path | None = None
    """The client's own certificate with its issuers, for a server that asks for one; None for no certificate."""
    key: Path | None = None
    """The key of that certificate."""
    server_name: str = ""
    """The name that the server's certificate must have; "" for the name or address in the client's address."""

    def credentials(self) -> grpc.ChannelCredentials:
        """The credentials for a gRPC channel. Raises BadSettings if a file cannot be read."""
        if (self.certificate is None) is not (self.key is None):
            raise BadSettings("a certificate and its key go together")
        return grpc.ssl_channel_credentials(*(_read(path) for path in (self.ca, self.key, self.certificate)))

    def options(self) -> tuple[tuple[str, str | int], ...]:
        """The options for a gRPC channel."""
        name = (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()
        return (*CHANNEL_OPTIONS, *name)


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}") from error


def call_metadata(caller: str, token: str) -> tuple[tuple[str, str], ...]:
    """The headers that tell the server who calls, without those that are empty. Raises InvalidRequest for a bad one."""
    if caller and not is_sane(caller):
        raise InvalidRequest(f"a caller's name is 1 to 64 visible ASCII characters, not {caller[:80]!r}")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidRequest("a token has visible ASCII characters only")  # the message must not repeat it
    headers = ((CALLER_ID, caller), (AUTHORIZATION, f"Bearer {token}" if token else ""))
    return tuple((name, value) for name, value in headers if value)
