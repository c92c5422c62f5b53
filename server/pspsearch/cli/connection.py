"""The options that every command has that talks to a server."""

import functools
from collections.abc import Callable

import click

from pspsearch.client import Client, ServerUnavailable

_TIMEOUT_S = 120.0
"""A deletion by filter may take its time."""

collection_option = click.option(
    "--collection", envvar="PSPSEARCH_COLLECTION", default="default", show_default=True, help="Whose items."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
filter_option = click.option(
    "--filter", "matching", default="", metavar="EXPRESSION", help="""Only items like 'category = "shoes"'."""
)


def with_client(command: Callable[..., None]) -> Callable[..., None]:
    """Gives the command a client of the server at `--address`."""

    @click.option(
        "--address", envvar="PSPSEARCH_ADDRESS", default="127.0.0.1:8500", show_default=True, help="The server."
    )
    @functools.wraps(command)
    def connected(*, address: str, **options: object) -> None:
        try:
            with Client(address, timeout_s=_TIMEOUT_S) as client:
                command(client, **options)
        except ServerUnavailable as error:
            raise ServerUnavailable(
                f"{error}; start a server with `pspsearch serve`, or name another with --address"
            ) from error

    return connected
