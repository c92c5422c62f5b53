"""`pspsearch token`: creates, lists and revokes the tokens that a server accepts."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from pspsearch.callers import tokens
from pspsearch.callers.access import Access, Right
from pspsearch.cli.connection import json_option
from pspsearch.cli.output import print_json, print_table


def _tokens_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--tokens",
        "path",
        envvar="PSPSEARCH_TOKENS",
        type=click.Path(path_type=Path),
        required=True,
        metavar="FILE",
        help="The server's token file.",
    )(command)


@click.group()
def token() -> None:
    """Create, list and revoke tokens. A running server follows at once."""


@token.command()
@click.argument("name")
@click.option(
    "--right",
    type=click.Choice([right.name.lower() for right in Right]),
    default="read",
    show_default=True,
    help="Writing includes reading, and administering includes both.",
)
@click.option("--collection", "collections", multiple=True, help="Only this one; may be repeated. Default: all.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="How long it is valid; for ever by default.")
@click.option("--calls-per-s", type=click.FloatRange(min=0), help="Instead of the server's limit; 0 for none.")
@click.option("--max-request-bytes", type=click.IntRange(min=1), help="The largest request.")
@_tokens_option
def create(
    path: Path,
    name: str,
    right: str,
    collections: tuple[str, ...],
    days: float | None,
    calls_per_s: float | None,
    max_request_bytes: int | None,
) -> None:
    """Print a new token, which cannot be shown again: only its digest is kept."""
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    access = Access(name, Right[right.upper()], frozenset(collections), calls_per_s, max_request_bytes)
    click.echo(tokens.create_token(path, access, expires))


@token.command("list")
@json_option
@_tokens_option
def list_(path: Path, as_json: bool) -> None:
    """List all tokens, without their secrets."""
    now = datetime.now(UTC)
    found = tokens.read_tokens(path)
    if as_json:
        print_json([_facts(one, now) for one in found])
    else:
        print_table(
            ["token", "right", "collections", "created", "expires"],
            (
                (
                    one.access.holder,
                    one.access.right.name.lower(),
                    ", ".join(sorted(one.access.collections)) or "all",
                    one.created,
                    (one.expires or "never") if one.is_good(now) else f"{one.expires}, expired",
                )
                for one in found
            ),
        )


@token.command()
@click.argument("name")
@_tokens_option
def revoke(path: Path, name: str) -> None:
    """Refuse the token from now on."""
    tokens.revoke_token(path, name)
    click.echo(f"revoked {name}")


def _facts(one: tokens.Token, now: datetime) -> dict[str, object]:
    access = one.access
    return {
        "name": access.holder,
        "right": access.right.name.lower(),
        "collections": sorted(access.collections),
        "created": one.created,
        "expires": one.expires,
        "good": one.is_good(now),
    }
