"""`pspsearch backup`, `restore` and `salvage`: copies of all that cannot be made again, or of what is left of it."""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
def backup(data: Path, destination: Path) -> None:
    """Copy what is in the folder DATA into the new file DESTINATION, also while a server writes there."""
    from pspsearch.app import copies

    with _progress("backup") as advance:
        copies.back_up(data, destination, advance)
    click.echo(f"{destination} holds what was in {data}")


@click.command()
@click.argument("backup", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
def restore(backup: Path, data: Path) -> None:
    """Make the folder DATA, which must be new or empty, from the file BACKUP."""
    from pspsearch.app import copies

    with _progress("restore") as advance:
        copies.restore(backup, data, advance)
    click.echo(f"{data} holds what was in {backup}")


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
def salvage(data: Path, target: Path) -> None:
    """Make the folder TARGET, which must be new or empty, of what is whole in the damaged folder DATA.

    Prints a line for every item that has lost something: what (item, image or descriptor), collection and id; and one
    for writes that a damaged log has lost, of items that nothing tells of.
    """
    from pspsearch.app import copies

    rows = copies.salvage(data, target, lambda loss, collection, id_: click.echo(f"{loss}\t{collection}\t{id_}"))
    there = ", ".join(f"{count:,} {table}" for table, count in rows.items() if table != "requests")
    click.echo(f"{target} holds what was whole in {data}: {there}", err=True)


@contextlib.contextmanager
def _progress(what: str) -> Generator[Callable[[float], None]]:
    """A bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda share: progress.update(task, completed=share)
