"""`pspsearch import`: puts image files into a collection."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from pspsearch.cli.attribute_files import AttributeTable, read_attributes
from pspsearch.cli.connection import collection_option, json_option, with_client
from pspsearch.cli.image_files import IMAGE_SUFFIXES, Found, ImageFile, Refusal, find_images
from pspsearch.cli.import_progress import ImportProgress
from pspsearch.cli.interrupt import until_interrupted
from pspsearch.cli.items import write_file
from pspsearch.cli.output import plural, print_json
from pspsearch.client import Acknowledgement, Client, ItemInput
from pspsearch.domain import Outcome
from pspsearch.errors import AlreadyExists, InvalidRequest

_REFUSALS_SHOWN = 20
_INTERRUPTED = 130


@dataclass(slots=True)
class Tally:
    """The results of an import so far."""

    total: int
    refused: list[Refusal]
    outcomes: Counter[Outcome] = field(default_factory=Counter[Outcome])
    elapsed_s: float = 0.0
    interrupted: bool = False

    @property
    def done(self) -> int:
        """How many files were imported or refused."""
        return self.outcomes.total() + len(self.refused)

    def add(self, acknowledgement: Acknowledgement, path: str) -> None:
        """Counts one file."""
        if acknowledgement.outcome is None:
            self.refused.append(Refusal(path, str(acknowledgement.error)))
        else:
            self.outcomes[acknowledgement.outcome] += 1


@click.command("import")
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--attributes",
    "table_file",
    type=click.Path(path_type=Path),
    help="A .csv or .jsonl of attributes; its rows name an `id`, or a `file` relative to the table's folder.",
)
@click.option("--attribute-from-folder", "folder_attribute", metavar="NAME", help="Set NAME to each file's folder.")
@click.option("--create", is_flag=True, help="Create the collection if it does not exist.")
@click.option("--all-files", is_flag=True, help="Also take hidden files, and names without an image's ending.")
@click.option("--report", type=click.Path(path_type=Path), help="Write refused files into this file, as JSON lines.")
@json_option
@collection_option
@with_client
def import_(
    client: Client,
    paths: tuple[str, ...],
    table_file: Path | None,
    folder_attribute: str | None,
    create: bool,
    all_files: bool,
    report: Path | None,
    as_json: bool,
    collection: str,
) -> None:
    """Put image files into a collection. PATHS are files, folders with everything below them, or patterns in quotes.

    An item's id is its file's path relative to the path that was given. Repeat the command to continue where it
    stopped: unchanged items cost next to nothing. The exit code is 1 if a file was refused, and 130 after Ctrl-C.
    """
    table = read_attributes(table_file) if table_file else AttributeTable()
    found = find_images(paths, all_files=all_files)
    if not found.files and not found.refused:
        raise InvalidRequest(f"no file's name ends in {', '.join(IMAGE_SUFFIXES)}; --all-files takes every file")
    if create:
        _create(client, collection)
    tally = Tally(len(found.files) + len(found.refused), found.refused)
    try:
        _import(client, collection, found, table, folder_attribute, tally)
    except KeyboardInterrupt:
        tally.interrupted = True
    finally:
        _report(tally, table, report, as_json=as_json)
    if tally.interrupted:
        sys.exit(_INTERRUPTED)
    if tally.refused:
        sys.exit(1)


def _create(client: Client, collection: str) -> None:
    try:
        client.create_collection(collection)
    except AlreadyExists:
        return


def _import(
    client: Client, collection: str, found: Found, table: AttributeTable, folder_attribute: str | None, tally: Tally
) -> None:
    paths = {file.id: file.path for file in found.files}
    with ImportProgress(len(found.files)) as progress:
        try:
            inputs = _inputs(found.files, table, folder_attribute)
            for acknowledgement in until_interrupted(client.ingest(inputs, collection=collection)):
                tally.add(acknowledgement, paths[acknowledgement.id])
                progress.advance()
        finally:
            tally.elapsed_s = progress.elapsed_s


def _inputs(files: list[ImageFile], table: AttributeTable, folder_attribute: str | None) -> Iterator[ItemInput]:
    for file in files:
        path = Path(file.path)
        attributes = table.of(file)
        if folder_attribute is not None:
            attributes = {folder_attribute: path.absolute().parent.name, **(attributes or {})}
        yield ItemInput(file.id, path, attributes)


def _report(tally: Tally, table: AttributeTable, report: Path | None, *, as_json: bool) -> None:
    for refusal in tally.refused[:_REFUSALS_SHOWN]:
        click.echo(f"refused: {refusal.path}: {refusal.reason}", err=True)
    if len(tally.refused) > _REFUSALS_SHOWN:
        click.echo(f"... and {len(tally.refused) - _REFUSALS_SHOWN} more; --report names them all", err=True)
    if table.unused and not tally.interrupted:
        click.echo(f"{plural(table.unused, 'row')} of attributes found no file", err=True)
    if report is not None:
        lines = (json.dumps(asdict(refusal), ensure_ascii=False) + "\n" for refusal in tally.refused)
        write_file(report, "".join(lines).encode())
    if as_json:
        print_json(_fields(tally))
    else:
        click.echo(_sentence(tally))


def _fields(tally: Tally) -> dict[str, object]:
    return {
        "total": tally.total,
        "created": tally.outcomes[Outcome.CREATED],
        "replaced": tally.outcomes[Outcome.REPLACED],
        "unchanged": tally.outcomes[Outcome.UNCHANGED],
        "refused": [asdict(refusal) for refusal in tally.refused],
        "elapsed_s": round(tally.elapsed_s, 3),
        "interrupted": tally.interrupted,
    }


def _sentence(tally: Tally) -> str:
    rate = tally.outcomes.total() / tally.elapsed_s if tally.elapsed_s else 0.0
    counts = ", ".join(
        f"{tally.outcomes[outcome]:,} {outcome}" for outcome in (Outcome.CREATED, Outcome.REPLACED, Outcome.UNCHANGED)
    )
    stopped = "stopped after " if tally.done < tally.total else ""
    return (
        f"{stopped}{tally.done:,} of {plural(tally.total, 'image')} in {tally.elapsed_s:.1f} s ({rate:.0f}/s): "
        f"{counts}, {len(tally.refused):,} refused"
    )
