"""`pspsearch compare`: says how similar two images are."""

from pathlib import Path

import click

from pspsearch.cli.box import box_option, part_of
from pspsearch.cli.connection import collection_option, json_option, with_client
from pspsearch.cli.output import print_json
from pspsearch.client import Client, ItemId, Region
from pspsearch.images.box import Box

_ID = "id:"


@click.command()
@click.argument("left")
@click.argument("right")
@click.option("--threshold", type=float, help="Also say whether they are the same: whether the score reaches this.")
@box_option("--box", "LEFT")
@box_option("--other-box", "RIGHT")
@json_option
@collection_option
@with_client
def compare(
    client: Client,
    left: str,
    right: str,
    threshold: float | None,
    box: Box | None,
    other_box: Box | None,
    as_json: bool,
    collection: str,
) -> None:
    """Print the score of LEFT and RIGHT. Each is an image file, or an item written `id:ID`."""
    comparison = client.compare(
        read_query(left, box), read_query(right, other_box), threshold=threshold, collection=collection
    )
    if as_json:
        print_json(comparison)
    else:
        verdict = {True: " same", False: " different", None: ""}[comparison.same]
        click.echo(f"{comparison.score:.4f}{verdict}")


def read_query(argument: str, box: Box | None = None) -> Path | Region | ItemId:
    """An image file, or its box, or an item written `id:ID`."""
    if not argument.startswith(_ID):
        return part_of(Path(argument), box)
    if box is not None:
        raise click.UsageError(f"a box is for an image, not for {argument}")
    return ItemId(argument.removeprefix(_ID))
