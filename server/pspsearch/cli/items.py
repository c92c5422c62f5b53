"""`pspsearch get`, `list`, `delete` and `count`: read and delete the items of a collection."""

import itertools
from pathlib import Path

import click

from pspsearch.cli.connection import collection_option, filter_option, json_option, with_client
from pspsearch.cli.output import attribute_words, plural, print_facts, print_json, print_table, size
from pspsearch.client import Client, Item, ItemId, Region
from pspsearch.errors import InvalidRequest, NotFound


@click.command()
@click.argument("item_id", metavar="ID")
@click.option("--image", type=click.Path(path_type=Path), help="Write the image's bytes into this file.")
@json_option
@collection_option
@with_client
def get(client: Client, item_id: str, image: Path | None, as_json: bool, collection: str) -> None:
    """Print one item."""
    item = client.get(item_id, collection=collection)
    if image is not None:
        write_file(image, client.get_image(item_id, collection=collection))
    if as_json:
        print_json(item)
    else:
        print_facts(_facts(item))


@click.command("list")
@filter_option
@click.option("--limit", default=100, show_default=True, help="How many; 0 for all.")
@json_option
@collection_option
@with_client
def list_(client: Client, matching: str, limit: int, as_json: bool, collection: str) -> None:
    """List items in the order in which they were first added; with --json, one JSON object per line."""
    items = itertools.islice(client.list(filter=matching, collection=collection), limit or None)
    if as_json:
        for item in items:
            print_json(item)
    else:
        print_table(
            ["id", "image", "updated", "attributes"],
            ((item.id, _picture(item), item.updated, attribute_words(item.attributes)) for item in items),
        )


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--filter", "matching", default="", metavar="EXPRESSION", help="Delete what matches; * matches all.")
@click.option("--yes", is_flag=True, help="Do not ask before a deletion by filter.")
@collection_option
@with_client
def delete(client: Client, ids: tuple[str, ...], matching: str, yes: bool, collection: str) -> None:
    """Delete items by id or by filter. Unknown ids are not an error."""
    if bool(ids) == bool(matching):
        raise click.UsageError("give either ids or --filter")
    if matching and not yes:
        count = client.count(filter="" if matching == "*" else matching, collection=collection)
        click.confirm(f"Delete {plural(count, 'item')} of {collection}?", abort=True)
    count = client.delete(ids, filter=matching, collection=collection)
    click.echo(f"deleted {plural(count, 'item')}")


@click.command()
@filter_option
@collection_option
@with_client
def count(client: Client, matching: str, collection: str) -> None:
    """Print how many items there are."""
    click.echo(client.count(filter=matching, collection=collection))


def write_file(path: Path, content: bytes) -> None:
    """Writes a file. Raises InvalidRequest if it cannot be written."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from error


def _facts(item: Item) -> dict[str, object]:
    return {
        "id": item.id,
        "attributes": attribute_words(item.attributes),
        "image": _picture(item),
        "created": item.created,
        "updated": item.updated,
    }


def _picture(item: Item) -> str:
    image = item.image
    if image is None:
        return ""
    kept = "" if image.kept else ", not kept"
    return f"{image.media_type} {image.width_px}x{image.height_px}, {size(image.size_bytes)}{kept}"


def image_of(client: Client, query: Path | bytes | Region | ItemId, collection: str) -> bytes | None:
    """The bytes of a query's whole image; None if the item's image was not kept."""
    if isinstance(query, Region):
        query = query.image
    if not isinstance(query, ItemId):
        return query if isinstance(query, bytes) else query.read_bytes()
    try:
        return client.get_image(query.id, collection=collection)
    except NotFound:
        return None
