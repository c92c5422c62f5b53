"""Bearer tokens: a file that holds their digests, with what each may do and until when.

The file is read again whenever it has changed, so that a revoked token is refused from the next call on. Tokens are
random, and so long that their digest needs no salt and no slow hash.
"""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pspsearch.callers.access import Access, Right
from pspsearch.errors import AlreadyExists, BadSettings, InvalidRequest, NotFound, Unauthenticated

PREFIX = "pspsearch_"
"""What every token begins with, so that scanners for leaked secrets can find them."""

_KEY = 16
"""How many digits of its digest a token is looked up by; the rest is compared in constant time."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token: everything but its text, which is the secret."""

    sha256: str
    """The digest of its text, in hexadecimal digits."""
    access: Access
    """What it lets its holder do; the holder is the token's name."""
    created: datetime
    expires: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return self.expires is None or now < self.expires


def _now() -> datetime:
    return datetime.now(UTC)


class Tokens:
    """The tokens of a file, as they are at each moment. Only one thread at a time may use it."""

    def __init__(self, path: Path, now: Callable[[], datetime] = _now) -> None:
        """Reads the file; BadSettings if it cannot be read, because then nobody could come in."""
        self._path = path
        self._now = now
        self._seen: tuple[int, int, int] | None = None
        self._by_digest: dict[str, Token] = {}
        self._refresh()

    def find(self, text: str) -> Token:
        """Returns the token with this text; Unauthenticated if there is none, or if it has expired."""
        digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()
        try:
            self._refresh()
        except BadSettings as error:
            raise Unauthenticated("no token is taken: the server cannot read its file of tokens") from error
        token = self._by_digest.get(digest[:_KEY])
        if token is None or not hmac.compare_digest(token.sha256, digest):
            raise Unauthenticated("the token is not one that the server knows")
        if not token.is_good(self._now()):
            raise Unauthenticated(f"the token {token.access.holder} has expired")
        return token

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
        except OSError as error:
            self._seen = None
            raise BadSettings(f"the file of tokens {self._path} cannot be read: {error.strerror}") from error
        seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        if seen != self._seen:
            self._seen = None
            self._by_digest = {token.sha256[:_KEY]: token for token in read_tokens(self._path)}
            self._seen = seen


def read_tokens(path: Path) -> list[Token]:
    """Reads all tokens of a file; BadSettings if it is no file of tokens."""
    try:
        return [_decode(one) for one in json.loads(path.read_text())["tokens"]]
    except OSError as error:
        raise BadSettings(f"the file of tokens {path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadSettings(f"{path} is no file of tokens: `pspsearch token create` makes one") from error


def create_token(path: Path, access: Access, expires: datetime | None) -> str:
    """Adds a token to the file, which is created if missing; returns the token's text, which is stored nowhere."""
    if not _NAME.fullmatch(access.holder):
        raise InvalidRequest(
            f"a token's name is 1 to 64 letters, digits and '._@-', the first a letter or a digit, "
            f"not {access.holder[:80]!r}"
        )
    text = PREFIX + secrets.token_urlsafe(32)
    token = Token(hashlib.sha256(text.encode()).hexdigest(), access, _now(), expires)
    with _locked(path):
        there = read_tokens(path) if path.exists() else []
        if any(one.access.holder == access.holder for one in there):
            raise AlreadyExists(f"there is a token {access.holder} in {path} already: revoke it first")
        _write(path, [*there, token])
    return text


def revoke_token(path: Path, name: str) -> None:
    """Removes a token from the file; NotFound if there is none of that name."""
    with _locked(path):
        there = read_tokens(path)
        left = [one for one in there if one.access.holder != name]
        if len(left) == len(there):
            raise NotFound(f"there is no token {name} in {path}")
        _write(path, left)


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    """Keeps other changes out for the block. The folder is locked, because the file itself is replaced."""
    try:
        folder = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise BadSettings(f"the folder of {path} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, tokens: Iterable[Token]) -> None:
    """Replaces the file, in one step, by one that only its owner can read."""
    content = json.dumps({"tokens": [_encode(one) for one in tokens]}, indent=2) + "\n"
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.absolute().parent)  # with mode 0600
        incoming = Path(name)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            incoming.rename(path)
        finally:
            incoming.unlink(missing_ok=True)
    except OSError as error:
        raise BadSettings(f"{path} cannot be written: {error.strerror}") from error


def _encode(token: Token) -> dict[str, Any]:
    access = token.access
    optional = {
        "collections": sorted(access.collections) or None,
        "expires": token.expires.isoformat() if token.expires else None,
        "calls_per_s": access.calls_per_s,
        "max_request_bytes": access.max_request_bytes,
    }
    return {
        "name": access.holder,
        "sha256": token.sha256,
        "right": access.right.name.lower(),
        "created": token.created.isoformat(),
        **{name: value for name, value in optional.items() if value is not None},
    }


def _decode(encoded: dict[str, Any]) -> Token:
    """Reads what `_encode` wrote; ValueError, KeyError, TypeError or AttributeError if it is something else."""
    known = {"name", "sha256", "right", "created", "collections", "expires", "calls_per_s", "max_request_bytes"}
    if unknown := encoded.keys() - known:  # a misspelt bound must not become no bound
        raise ValueError(f"a token has no {', '.join(unknown)}")
    collections: Sequence[str] = encoded.get("collections", ())
    if "collections" in encoded and not (isinstance(collections, list) and collections):
        raise ValueError("an empty list would be all collections")
    access = Access(
        str(encoded["name"]),
        Right[encoded["right"].upper()],
        frozenset(map(str, collections)),
        float(encoded["calls_per_s"]) if "calls_per_s" in encoded else None,
        int(encoded["max_request_bytes"]) if "max_request_bytes" in encoded else None,
    )
    if access.calls_per_s is not None and not access.calls_per_s >= 0:
        raise ValueError("a negative rate would be none")
    expires = _time(encoded["expires"]) if "expires" in encoded else None
    return Token(str(encoded["sha256"]), access, _time(encoded["created"]), expires)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
