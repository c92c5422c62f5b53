"""`pspsearch collections`: lists, creates, shows and deletes collections."""

import click

from pspsearch.cli.connection import json_option, with_client
from pspsearch.cli.output import plural, print_facts, print_json, print_table, size
from pspsearch.client import Client, Collection
from pspsearch.domain import IndexKind


@click.group()
def collections() -> None:
    """List, create, show and delete collections."""


@collections.command("list")
@json_option
@with_client
def list_(client: Client, as_json: bool) -> None:
    """List all collections."""
    found = client.list_collections()
    if as_json:
        print_json(found)
    else:
        print_collections(found)


@collections.command()
@click.argument("name")
@click.option("--model", default="", help="The Triton model that describes images, if not the server's default.")
@click.option("--keep-images/--drop-images", default=True, show_default=True, help="Keep the bytes of images.")
@click.option("--index", type=click.Choice([kind.value for kind in IndexKind]), default="auto", show_default=True)
@click.option("--target-recall", default=0.95, show_default=True, help="The share of the true ten nearest to find.")
@with_client
def create(client: Client, name: str, model: str, keep_images: bool, index: str, target_recall: float) -> None:
    """Make an empty collection."""
    collection = client.create_collection(
        name, model=model, keep_images=keep_images, index_kind=IndexKind(index), target_recall=target_recall
    )
    click.echo(f"created {collection.name} under {collection.model}")


@collections.command()
@click.argument("name")
@json_option
@with_client
def show(client: Client, name: str, as_json: bool) -> None:
    """Print one collection and its state."""
    collection = client.get_collection(name)
    if as_json:
        print_json(collection)
    else:
        print_facts(_facts(collection))


@collections.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_client
def delete(client: Client, name: str, yes: bool) -> None:
    """Delete a collection and everything in it."""
    if not yes:
        items = plural(client.get_collection(name).state.item_count, "item")
        click.confirm(f"Delete {name} with {items}?", abort=True)
    click.echo(f"deleted {name} with {plural(client.delete_collection(name), 'item')}")


def print_collections(found: tuple[Collection, ...]) -> None:
    """Prints a table with one row for each collection."""
    print_table(
        ["collection", "items", "model", "index", "recall", "memory", "background"],
        (
            (
                one.name,
                one.state.item_count,
                f"{one.model}/{one.state.origin.model_version}",
                one.state.index,
                one.state.measured_recall,
                size(one.state.index_bytes),
                one.state.background,
            )
            for one in found
        ),
    )


def _facts(collection: Collection) -> dict[str, object]:
    state = collection.state
    return {
        "name": collection.name,
        "items": state.item_count,
        "model": f"{collection.model}/{state.origin.model_version}",
        "new versions": "followed" if collection.follows else "when a rollout is begun",
        "fingerprint": state.origin.fingerprint,
        "keeps images": "yes" if collection.keep_images else "no",
        "index": f"{state.index} ({collection.index_kind})",
        "recall": f"{state.measured_recall:.4f} measured, {collection.target_recall:g} wanted",
        "memory": size(state.index_bytes),
        "fresh": state.fresh_count,
        "tombstones": state.tombstone_count,
        "background": state.background or "nothing",
        "sequence": state.sequence,
        "created": collection.created,
    }
