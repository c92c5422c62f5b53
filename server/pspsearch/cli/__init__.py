"""`pspsearch`: the command line."""

import logging
import sys

import click

from pspsearch.cli.describe import describe
from pspsearch.cli.triton import triton
from pspsearch.errors import PspsearchError


@click.group()
@click.version_option(package_name="pspsearch")
@click.option("-v", "--verbose", count=True, help="Say more on standard error; twice for everything.")
def commands(verbose: int) -> None:
    """Find images by image."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


commands.add_command(describe)
commands.add_command(triton)


def main() -> None:
    """Runs the command line; an expected failure is one sentence and exit code 1."""
    try:
        commands()
    except PspsearchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
