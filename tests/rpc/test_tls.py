"""TLS: whom each side trusts, and certificates that change while the server runs."""

import asyncio
import errno
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from pspsearch.client import AsyncClient, Client, Retries, ServerUnavailable, Tls
from pspsearch.config import SecuritySettings, ServingSettings, Settings
from pspsearch.errors import BadSettings
from pspsearch.rpc.tls import credentials, expiry
from tests.servers.rpc_client import TEMPLE, assert_nothing_escaped
from tests.servers.rpc_server import Parts, open_server

AT_ONCE = Retries(attempts=1)


@dataclass(frozen=True)
class Place:
    """Files of certificates, and the authorities that signed them."""

    folder: Path
    authority: trustme.CA
    other_authority: trustme.CA

    @property
    def settings(self) -> SecuritySettings:
        """Settings for a server with TLS only."""
        return SecuritySettings(tls_certificate=self.file("server.pem"), tls_key=self.file("server.key"))

    @property
    def mutual(self) -> SecuritySettings:
        """Settings for callers with certificates."""
        return SecuritySettings(
            tls_certificate=self.file("server.pem"),
            tls_key=self.file("server.key"),
            tls_client_ca=self.file("ca.pem"),
            audit_log=self.file("audit.jsonl"),
        )

    def file(self, name: str) -> str:
        """The path of one of the files."""
        return str(self.folder / name)

    def issue(self, name: str, authority: trustme.CA, identity: str = "127.0.0.1") -> None:
        """Replaces a certificate and its key."""
        leaf = authority.issue_cert(identity)
        for suffix, blobs in (("key", [leaf.private_key_pem]), ("pem", leaf.cert_chain_pems)):
            incoming = self.folder / f"incoming.{suffix}"
            incoming.write_bytes(b"".join(blob.bytes() for blob in blobs))
            incoming.rename(self.folder / f"{name}.{suffix}")

    def tls(self, name: str = "", ca: str = "ca.pem") -> Tls:
        """The TLS settings of a client."""
        own = (self.folder / f"{name}.pem", self.folder / f"{name}.key") if name else (None, None)
        return Tls(self.folder / ca, *own)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A server and a caller that trust each other, and a stranger."""
    place = Place(tmp_path, trustme.CA(), trustme.CA())
    place.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    place.other_authority.cert_pem.write_to_path(tmp_path / "other.pem")
    place.issue("server", place.authority)
    place.issue("caller", place.authority, "shop.example.org")
    place.issue("stranger", place.other_authority, "shop.example.org")
    return place


@pytest.fixture(autouse=True)
def nothing_escapes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may let an exception escape."""
    yield
    assert_nothing_escaped(caplog)


async def describe(server: Parts, tls: Tls | None) -> None:
    """Makes a call over a new connection."""
    async with AsyncClient(server.address, tls=tls, retries=AT_ONCE, timeout_s=20) as client:
        assert len((await client.describe(TEMPLE)).descriptor.values) > 0


@pytest.fixture
async def server(place: Place) -> AsyncIterator[Parts]:
    """A server with TLS."""
    async with open_server(security=place.settings) as server:
        yield server


async def test_client_believes_the_authority_that_it_was_given(server: Parts, place: Place) -> None:
    """It trusts no other authority, no other name, and no connection without TLS."""
    await describe(server, place.tls())

    def block() -> None:
        with Client(server.address, tls=place.tls()) as client:
            assert client.status().serving

    await asyncio.to_thread(block)
    for tls in (place.tls(ca="other.pem"), Tls(place.folder / "ca.pem", server_name="other.example.org"), Tls(), None):
        with pytest.raises(ServerUnavailable):
            await describe(server, tls)


async def test_caller_without_a_certificate_that_is_believed_is_not_heard(place: Place) -> None:
    """A caller without a certificate, or with a stranger's, is refused. A trusted one is named in the audit log."""
    async with open_server(security=place.mutual) as server:
        await describe(server, place.tls("caller"))
        for tls in (place.tls(), place.tls("stranger")):
            with pytest.raises(ServerUnavailable):
                await describe(server, tls)
        async with AsyncClient(server.address, tls=place.tls("caller")) as client:
            await client.create_collection("photos")

    (line,) = (place.folder / "audit.jsonl").read_text().splitlines()
    assert '"holder": "shop.example.org"' in line


def serial(address: str, place: Place) -> int:
    """The serial number of the certificate that a new connection gets."""
    host, _, port = address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), ca_certs=place.file("ca.pem"), timeout=20)
    (place.folder / "shown.pem").write_text(pem)
    decoded = ssl._ssl._test_decode_cert(place.file("shown.pem"))  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType] - the only decoder here
    return int(decoded["serialNumber"], 16)  # pyright: ignore[reportUnknownArgumentType]


async def test_new_certificate_is_shown_to_new_connections_and_no_call_is_dropped(server: Parts, place: Place) -> None:
    """The certificate changes ten times, while calls run on an old connection and on new ones."""
    calls, stop = 0, asyncio.Event()

    async def go_on(client: AsyncClient) -> None:
        nonlocal calls
        while not stop.is_set():
            await client.describe(TEMPLE)
            await describe(server, place.tls())
            calls += 1

    shown: list[int] = []
    async with AsyncClient(server.address, tls=place.tls(), retries=AT_ONCE) as client:
        calling = asyncio.create_task(go_on(client))
        for _ in range(10):
            place.issue("server", place.authority)
            shown.append(await asyncio.to_thread(serial, server.address, place))
        stop.set()
        await calling

    assert len(set(shown)) == 10
    assert calls > 0


@pytest.mark.parametrize("file", ["server.pem", "server.key"])
async def test_half_a_change_is_waited_out(
    server: Parts, place: Place, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the certificate or the key is not there yet, or both are not, the old pair stays in use."""
    before = await asyncio.to_thread(serial, server.address, place)
    kept = {name: (place.folder / name).read_bytes() for name in ("server.pem", "server.key")}
    place.issue("next", place.authority)
    shutil.copy(place.folder / file.replace("server", "next"), place.folder / file)

    assert await asyncio.to_thread(serial, server.address, place) == before
    await describe(server, place.tls())
    assert "the certificate stays what it was" in caplog.text

    (place.folder / file).write_text("nothing")
    assert await asyncio.to_thread(serial, server.address, place) == before
    (place.folder / file).unlink()
    assert await asyncio.to_thread(serial, server.address, place) == before
    assert "cannot be read" in caplog.text

    for name, content in kept.items():
        (place.folder / name).write_bytes(content)
    await describe(server, place.tls())
    place.issue("server", place.authority)
    assert await asyncio.to_thread(serial, server.address, place) != before


async def test_file_that_may_be_read_only_later_is_read_then(
    server: Parts, place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its owner changed after it was put in place, but not its content."""
    before = await asyncio.to_thread(serial, server.address, place)
    place.issue("server", place.authority)
    refused: list[Path] = []

    def refuse(path: Path) -> bytes:
        refused.append(path)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        assert await asyncio.to_thread(serial, server.address, place) == before
    certificate = place.folder / "server.pem"
    changed = certificate.stat().st_ctime_ns
    while certificate.stat().st_ctime_ns == changed:  # file timestamps have a coarse clock
        certificate.chmod(0o640)

    assert await asyncio.to_thread(serial, server.address, place) != before
    assert refused
    assert "server.pem cannot be read: Permission denied" in caplog.text


async def test_files_that_do_not_fit_are_a_sentence_at_the_start(place: Place) -> None:
    """The sentence names the files."""
    shutil.copy(place.file("caller.key"), place.file("server.key"))
    with pytest.raises(BadSettings, match=r"server\.pem and .*server\.key are not a certificate with its key"):
        async with open_server(security=place.settings):
            pass
    (place.folder / "server.key").unlink()
    with pytest.raises(BadSettings, match=r"server\.key cannot be read: No such file"):
        async with open_server(security=place.settings):
            pass
    with pytest.raises(BadSettings, match=r"nowhere cannot be read"):
        AsyncClient("127.0.0.1:1", tls=Tls(Path("nowhere")))
    with pytest.raises(BadSettings, match="a certificate and its key go together"):
        Client("127.0.0.1:1", tls=Tls(certificate=place.folder / "caller.pem"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"])
def test_loopback_needs_nothing(host: str) -> None:
    """`make serve` does this."""
    assert Settings(ServingSettings(host=host)).security.is_open


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])  # noqa: S104 - must be refused
def test_other_machines_are_served_only_with_tls_and_callers_who_are_known(host: str) -> None:
    """The exception is an operator who states explicitly that something else protects the server."""
    serving = ServingSettings(host=host)
    tls = SecuritySettings(tls_certificate="c", tls_key="k")
    for security in (SecuritySettings(), SecuritySettings(tokens="t"), tls):
        with pytest.raises(BadSettings, match="anybody who reaches it could read and change everything"):
            Settings(serving, security)

    for security in (
        replace(tls, tokens="t"),
        replace(tls, tls_client_ca="a"),
        SecuritySettings(insecure=True),
    ):
        assert Settings(serving, security).serving.host == host


def test_half_of_tls_is_refused() -> None:
    """This is so whichever half is missing."""
    for security in (SecuritySettings(tls_certificate="c"), SecuritySettings(tls_key="k")):
        with pytest.raises(BadSettings, match="tls_certificate and tls_key go together"):
            Settings(security=security)
    with pytest.raises(BadSettings, match="tls_client_ca needs tls_certificate"):
        Settings(security=SecuritySettings(tls_client_ca="a"))


def test_key_with_a_password_is_a_sentence(place: Place) -> None:
    """No one sits at the server's terminal to type it."""
    key = load_pem_private_key((place.folder / "server.key").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (place.folder / "server.key").write_bytes(locked)

    with pytest.raises(BadSettings, match="is encrypted, and there is nobody to ask"):
        credentials(place.settings)


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2345])
def test_end_of_a_certificate_is_read(tmp_path: Path, year: int) -> None:
    """The year has two digits until 2049, and four from then on."""
    end = datetime(year, 12, 31, 23, 59, 58, tzinfo=UTC)
    start = datetime(1998, 1, 1, tzinfo=UTC)
    leaf = trustme.CA().issue_cert("localhost", not_before=start, not_after=end)
    (tmp_path / "pem").write_bytes(b"A comment.\n" + b"".join(blob.bytes() for blob in leaf.cert_chain_pems))

    assert expiry(tmp_path / "pem") == end
