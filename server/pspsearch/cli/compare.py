"""`pspsearch compare`: says how similar two images are."""

from pathlib import Path

import click

from pspsearch.cli.connection import collection_option, json_option, with_client
from pspsearch.cli.output import print_json
from pspsearch.client import Client, ItemId

_ID = "id:"


@click.command()
@click.argument("left")
@click.argument("right")
@click.option("--threshold", type=float, help="Also say whether they are the same: whether the score reaches this.")
@json_option
@collection_option
@with_client
def compare(client: Client, left: str, right: str, threshold: float | None, as_json: bool, collection: str) -> None:
    """Print the score of LEFT and RIGHT. Each is an image file, or an item written `id:ID`."""
    comparison = client.compare(read_query(left), read_query(right), threshold=threshold, collection=collection)
    if as_json:
        print_json(comparison)
    else:
        verdict = {True: " same", False: " different", None: ""}[comparison.same]
        click.echo(f"{comparison.score:.4f}{verdict}")


def read_query(argument: str) -> Path | ItemId:
    """An image file, or an item written `id:ID`."""
    return ItemId(argument.removeprefix(_ID)) if argument.startswith(_ID) else Path(argument)
