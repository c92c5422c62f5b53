"""`pspsearch search`: finds the items that look like an image."""

from pathlib import Path

import click

from pspsearch.cli.box import box_option, part_of
from pspsearch.cli.connection import collection_option, filter_option, json_option, with_client
from pspsearch.cli.items import image_of, write_file
from pspsearch.cli.output import attribute_words, print_json, print_table
from pspsearch.client import Client, Hit, ItemId, SearchResult
from pspsearch.images.box import Box


@click.command()
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option("--id", "item_id", help="Search with the image of this item instead of a file.")
@box_option("--box", "the image")
@filter_option
@click.option("--limit", default=10, show_default=True, help="How many hits.")
@click.option("--group-by", metavar="ATTRIBUTE", help="Only the best hit for each value of this attribute.")
@click.option("--min-score", type=float, help="Only hits with at least this score.")
@click.option("--fold", type=float, metavar="SCORE", help="Fold hits that are at least this similar into one.")
@click.option("--expand", default=0, metavar="HITS", help="Widen the query by so many of its nearest hits.")
@click.option("--rerank", default=0, metavar="HITS", help="Order so many hits by the neighbours that they share.")
@click.option("--diversity", default=0.0, metavar="SHARE", help="Prefer hits unlike one another, from 0 to 1.")
@click.option("--montage", type=click.Path(path_type=Path), help="Draw the query and its hits into this PNG file.")
@json_option
@collection_option
@with_client
def search(
    client: Client,
    image: Path | None,
    item_id: str | None,
    box: Box | None,
    matching: str,
    limit: int,
    group_by: str | None,
    min_score: float | None,
    fold: float | None,
    expand: int,
    rerank: int,
    diversity: float,
    montage: Path | None,
    as_json: bool,
    collection: str,
) -> None:
    """Find the items that look like IMAGE, the nearest first.

    A score is the cosine of two descriptors, from -1 to 1.
    """
    if (image is None) == (item_id is None):
        raise click.UsageError("give either an image or --id")
    if image is None and box is not None:
        raise click.UsageError("--box is for an image, not for --id")
    query = ItemId(item_id or "") if image is None else part_of(image, box)
    result = client.search(
        query,
        collection=collection,
        filter=matching,
        limit=limit,
        group_by=group_by,
        min_score=min_score,
        fold_above=fold,
        expand=expand,
        rerank=rerank,
        diversity=diversity,
        return_attributes=True,
        return_images=montage is not None,
    )
    if montage is not None:
        _write_montage(montage, image_of(client, query, collection), box, result)
    if as_json:
        print_json(
            {"hits": [_hit_fields(hit) for hit in result.hits], "origin": result.origin, "timing": result.timing}
        )
    else:
        _print_hits(result, grouped=group_by is not None)


def _write_montage(path: Path, query: bytes | None, box: Box | None, result: SearchResult) -> None:
    from pspsearch.montage import MontageHit, draw_montage

    write_file(path, draw_montage(query, [MontageHit(hit.id, hit.score, hit.image) for hit in result.hits], box))


def _print_hits(result: SearchResult, *, grouped: bool) -> None:
    folded = any(hit.duplicates for hit in result.hits)
    headings = ["rank", "score", "id", "attributes", *["group"] * grouped, *["near-duplicates"] * folded]
    rows = (
        [
            rank,
            hit.score,
            hit.id,
            attribute_words(hit.attributes),
            *[hit.group if hit.group is not None else ""] * grouped,
            *[" ".join(hit.duplicates)] * folded,
        ]
        for rank, hit in enumerate(result.hits, 1)
    )
    print_table(headings, rows)


def _hit_fields(hit: Hit) -> dict[str, object]:
    return {
        "id": hit.id,
        "score": hit.score,
        "attributes": hit.attributes,
        "group": hit.group,
        "duplicates": hit.duplicates,
    }
