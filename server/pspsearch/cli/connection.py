"""The options that are common to all commands that call a server."""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import click

from pspsearch.client import Client, ServerUnavailable, Tls
from pspsearch.errors import BadSettings

_TIMEOUT_S = 120.0
"""Long, because a deletion by filter may take a while."""

collection_option = click.option(
    "--collection", envvar="PSPSEARCH_COLLECTION", default="default", show_default=True, help="The collection to use."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
filter_option = click.option(
    "--filter", "matching", default="", metavar="EXPRESSION", help="""Only items like 'category = "shoes"'."""
)


def _file_option(name: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    variable = "PSPSEARCH_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, envvar=variable, type=click.Path(path_type=Path), metavar="FILE", help=what)


def _token(file: Path | None) -> str:
    """The token from the file or the environment; never from an argument, which every user of the machine can read."""
    try:
        return file.read_text().strip() if file else os.environ.get("PSPSEARCH_TOKEN", "")
    except OSError as error:
        raise BadSettings(f"{file} cannot be read: {error.strerror}") from error


def with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Passes the command a client of the server at `--address`."""

    @click.option(
        "--address", envvar="PSPSEARCH_ADDRESS", default="127.0.0.1:8500", show_default=True, help="The server."
    )
    @click.option("--tls", is_flag=True, envvar="PSPSEARCH_TLS", help="Encrypt; implied by the three below.")
    @_file_option("--ca", "The authorities to trust, as a PEM file; the public ones if not given.")
    @_file_option("--certificate", "The client certificate, for a server that asks for one.")
    @_file_option("--key", "The key of that certificate.")
    @_file_option("--token-file", "A file with the token; PSPSEARCH_TOKEN may hold the token itself.")
    @functools.wraps(command)
    def connected(
        *,
        address: str,
        tls: bool,
        ca: Path | None,
        certificate: Path | None,
        key: Path | None,
        token_file: Path | None,
        **options: object,
    ) -> None:
        files = Tls(ca, certificate, key) if tls or ca or certificate or key else None
        try:
            with Client(address, timeout_s=_TIMEOUT_S, token=_token(token_file), tls=files) as client:
                command(client, **options)
        except ServerUnavailable as error:
            raise ServerUnavailable(
                f"{error}; start a server with `pspsearch serve`, or name another with --address"
            ) from error

    return connected
