"""The command line, `pspsearch`."""

import importlib
import logging
from typing import IO

import click

from pspsearch.errors import PspsearchError

_COMMANDS = {
    "serve": "serve:serve",
    "import": "import_:import_",
    "search": "search:search",
    "compare": "compare:compare",
    "explain": "explain:explain",
    "get": "items:get",
    "list": "items:list_",
    "delete": "items:delete",
    "count": "items:count",
    "collections": "collections:collections",
    "status": "status:status",
    "model": "model:model",
    "doctor": "doctor:doctor",
    "token": "token:token",
    "backup": "backup:backup",
    "restore": "backup:restore",
    "salvage": "backup:salvage",
    "describe": "describe:describe",
    "triton": "triton:triton",
    "completion": "completion:completion",
}
"""The module and function of each command, which is imported only when it is called."""


class _Failure(click.ClickException):
    """An expected failure, shown as one sentence on standard error; the exit code is 1."""

    def show(self, file: IO[str] | None = None) -> None:
        click.echo(f"error: {self.message}", file=file, err=True)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        return getattr(importlib.import_module(f"pspsearch.cli.{module}"), name)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except PspsearchError as error:
            raise _Failure(str(error)) from error
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("pspsearch"):
                raise
            raise _Failure(f"a server needs {error.name}: pip install 'pspsearch[cpu]', or 'pspsearch[gpu]'") from error


@click.group(cls=_Commands)
@click.version_option(package_name="pspsearch")
@click.option("-v", "--verbose", count=True, help="Say more on standard error; twice for everything.")
def commands(verbose: int) -> None:
    """Find images by image."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Runs the command line. An expected failure prints one sentence and exits with code 1."""
    commands(prog_name="pspsearch")
