"""`pspsearch backup`, `restore` and `salvage`: copy the data that cannot be made again, or what is left of it."""

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
    """Copy the folder DATA into the new file DESTINATION, even while a server writes to DATA."""
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
    """Copy what is undamaged in the folder DATA into the folder TARGET, which must be new or empty.

    Prints a line for each item that has lost something: what it lost (item, image or descriptor), its collection and
    its id. If a damaged log has lost writes to unknown items, one more line says so.
    """
    from pspsearch.app import copies

    rows = copies.salvage(data, target, lambda loss, collection, id_: click.echo(f"{loss}\t{collection}\t{id_}"))
    there = ", ".join(f"{count:,} {table}" for table, count in rows.items() if table != "requests")
    click.echo(f"{target} holds what was whole in {data}: {there}", err=True)


@contextlib.contextmanager
def _progress(what: str) -> Generator[Callable[[float], None]]:
    """Shows a progress bar if standard error is a terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=1.0)
        yield lambda share: progress.update(task, completed=share)
