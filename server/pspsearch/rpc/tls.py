"""The server's certificate, which may be replaced while the server runs."""

import logging
import re
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import grpc

from pspsearch.config import SecuritySettings
from pspsearch.errors import BadSettings

log = logging.getLogger(__name__)

_TIME = rb"(?:\x17\x0d%sZ|\x18\x0f%sZ)"
_VALIDITY = re.compile(_TIME % (rb"\d{12}", rb"\d{14}") + _TIME % (rb"(\d{12})", rb"(\d{14})"))
"""A certificate's validity in DER: its start and its end, each with a year of two or four digits."""

_Stamp = tuple[tuple[int, int, int], ...]
"""A value that changes when one of the files changes."""


def credentials(settings: SecuritySettings) -> grpc.ServerCredentials | None:
    """Credentials that follow the files: each new connection uses their present content. None without TLS.

    Existing connections continue. Raises BadSettings if the files are not a certificate with its key.
    """
    if not settings.tls_certificate:
        return None
    files = _Files(settings)
    again = cast("Callable[[], grpc.ServerCertificateConfiguration]", files.read_again)  # may return None
    return grpc.dynamic_ssl_server_credentials(files.read(), again, bool(settings.tls_client_ca))


def expiry(certificate: Path) -> datetime:
    """When the first certificate in the file expires.

    Only the validity has two adjacent times in DER, so the second of them is the end.
    """
    pem = certificate.read_text()
    end = "-----END CERTIFICATE-----"
    begun = pem.index("-----BEGIN CERTIFICATE-----")
    found = _VALIDITY.search(ssl.PEM_cert_to_DER_cert(pem[begun : pem.index(end) + len(end)]))
    assert found is not None, "a certificate has two times"
    short, long = found[1], found[2]
    text = long.decode() if long else ("19" if short >= b"50" else "20") + short.decode()
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)


class _Files:
    """The certificate files. gRPC reads them in its own threads."""

    def __init__(self, settings: SecuritySettings) -> None:
        self._certificate, self._key = Path(settings.tls_certificate), Path(settings.tls_key)
        self._client_ca = Path(settings.tls_client_ca) if settings.tls_client_ca else None
        self._stamp: _Stamp = ()

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Reads the files. Raises BadSettings if they do not belong together."""
        self._stamp = self._look()
        try:
            certificate, key = self._certificate.read_bytes(), self._key.read_bytes()
            client_ca = self._client_ca.read_bytes() if self._client_ca else None
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
            if self._client_ca:
                context.load_verify_locations(self._client_ca)
        except ssl.SSLError as error:
            raise BadSettings(
                f"{' and '.join(map(str, self._all()))} are not a certificate with its key: {error.reason or error}"
            ) from error
        except OSError as error:
            raise BadSettings(f"{error.filename or self._certificate} cannot be read: {error.strerror}") from error
        return grpc.ssl_server_certificate_configuration([(key, certificate)], client_ca)

    def read_again(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificate, or None to keep the old one: nothing has changed, or not all files have changed yet."""
        try:
            if self._look() == self._stamp:
                return None
            found = self.read()
        except BadSettings as error:
            log.error("the certificate stays what it was: %s", error)  # noqa: TRY400 - a sentence
            return None
        log.info("the certificate in %s is used for new connections", self._certificate)
        return found

    def _all(self) -> Iterator[Path]:
        yield from filter(None, (self._certificate, self._key, self._client_ca))

    def _look(self) -> _Stamp:
        try:
            stats = [path.stat() for path in self._all()]
        except OSError as error:
            raise BadSettings(f"{error.filename} cannot be read: {error.strerror}") from error
        return tuple((stat.st_ctime_ns, stat.st_ino, stat.st_size) for stat in stats)


def _no_password() -> str:
    """Refuses an encrypted key, which OpenSSL would otherwise ask a password for on the terminal."""
    raise BadSettings("the key in tls_key is encrypted, and there is nobody to ask for its password")
