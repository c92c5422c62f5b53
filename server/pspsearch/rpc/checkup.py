"""Checks whether the certificate is good and the ports are free. It changes nothing."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pspsearch.config import SecuritySettings, ServingSettings, join_address
from pspsearch.errors import PspsearchError
from pspsearch.findings import SOON, Finding, Grade, judge_secret
from pspsearch.rpc.tls import credentials, expiry


def examine_certificate(settings: SecuritySettings) -> Iterator[Finding]:
    """Examines the certificate and its key, if TLS is set."""
    if not settings.tls_certificate:
        return
    try:
        credentials(settings)
    except PspsearchError as error:
        yield Finding("certificate", Grade.BAD, str(error))
        return
    expires = expiry(Path(settings.tls_certificate))
    left = expires - datetime.now(UTC)
    if left < SOON:
        words = f"it expired on {expires:%Y-%m-%d}" if left < timedelta(0) else f"it expires on {expires:%Y-%m-%d}"
        grade = Grade.BAD if left < timedelta(0) else Grade.DOUBTFUL
        yield Finding("certificate", grade, f"{words}: put another in its place, also while the server runs")
    else:
        yield judge_secret("certificate", Path(settings.tls_key), f"the key fits, until {expires:%Y-%m-%d}")


def examine_ports(settings: ServingSettings, *, running: bool) -> Iterator[Finding]:
    """Examines each port that is set. `running` says that a server runs already, so its ports are taken rightly."""
    for what, host, port in (
        ("port", settings.host, settings.port),
        ("metrics", "127.0.0.1", settings.metrics_port),
    ):
        if port:
            finding = _examine_port(what, host, port)
            if running and finding.grade is Grade.BAD:
                finding = Finding(what, Grade.GOOD, f"{join_address(host, port)} is taken, as it should be")
            yield finding


def _examine_port(what: str, host: str, port: int) -> Finding:
    address = join_address(host, port)
    try:
        bare = host.strip("[]")
        family, kind, *_, place = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
    except OSError as error:
        words = f"{address} cannot be bound ({error.strerror}): is a server there already? Else name another"
        return Finding(what, Grade.BAD, words)
    return Finding(what, Grade.GOOD, f"{address} is free")
