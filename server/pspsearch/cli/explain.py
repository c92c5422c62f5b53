"""`pspsearch explain`: says which cells of two pictures give their score."""

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from pspsearch.cli.box import box_option
from pspsearch.cli.compare import read_query
from pspsearch.cli.connection import collection_option, json_option, with_client
from pspsearch.cli.items import image_of, write_file
from pspsearch.cli.output import print_json, print_table
from pspsearch.client import Client, Explanation, ItemId, Shares
from pspsearch.images.box import Box

_BEST = 5
"""How many cells of each picture are printed."""


@click.command()
@click.argument("query")
@click.argument("item_id", metavar="ID")
@click.option(
    "--picture", type=click.Path(path_type=Path), help="Draw both pictures and their cells into this PNG file."
)
@box_option("--box", "QUERY")
@json_option
@collection_option
@with_client
def explain(
    client: Client, query: str, item_id: str, picture: Path | None, box: Box | None, as_json: bool, collection: str
) -> None:
    """Print why the item ID has its score for QUERY: what the cells of each picture give to it.

    QUERY is an image file, or an item written `id:ID`.
    """
    asked = read_query(query, box)
    explanation = client.explain(asked, item_id, collection=collection)
    if picture is not None:
        from pspsearch.heat_maps import draw_explanation

        images = (image_of(client, one, collection) for one in (asked, ItemId(item_id)))
        write_file(picture, draw_explanation(explanation, item_id, *images))
    if as_json:
        print_json(_fields(explanation))
        return
    click.echo(f"score {explanation.score:.4f}")
    sides = (("query", explanation.query), ("item", explanation.item))
    rows = [(name, *row) for name, shares in sides if shares is not None for row in _rows(shares)]
    print_table(["picture", "cell", "share"], rows)


def _rows(shares: Shares) -> Iterator[tuple[str, float]]:
    """The best cells, what the others and the remainder give; together this is the score."""
    cells, across = shares.shares.ravel(), shares.shares.shape[1]
    best = np.argsort(-cells, kind="stable")[:_BEST]
    for cell in best:
        yield f"row {cell // across + 1}, column {cell % across + 1}", float(cells[cell])
    yield f"the other {len(cells) - len(best)}", float(np.delete(cells, best).sum())
    yield "remainder", shares.remainder


def _fields(explanation: Explanation) -> dict[str, object]:
    sides = {"query": explanation.query, "item": explanation.item}
    return {
        "score": explanation.score,
        **{name: None if side is None else _side(side) for name, side in sides.items()},
        "pairs": explanation.pairs,
        "origin": explanation.origin,
        "timing": explanation.timing,
    }


def _side(shares: Shares) -> dict[str, object]:
    return {"shares": shares.shares.tolist(), "remainder": shares.remainder, "seen": shares.seen}
