"""`pspsearch serve`: runs the search server in the foreground."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pspsearch.cli.interrupt import run_until_signal
from pspsearch.config import Settings, Value, all_settings, load_settings
from pspsearch.logs import set_up_logs
from pspsearch.memory import share_heaps


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the option `--config`, and a flag for each setting.

    The help shows a setting's default, but the flag has none, so an absent flag stays absent.
    """
    for one in reversed(list(all_settings())):
        shown = f"{one.what} [{one.variable}; {one.default!r}]"
        kind: dict[str, Any] = {"is_flag": True, "flag_value": True} if one.default is False else {"type": str}
        name = f"--{one.name.replace('_', '-')}"
        command = click.option(name, one.name, default=None, help=shown, **kind)(command)
    config = click.Path(path_type=Path)
    return click.option("--config", envvar="PSPSEARCH_CONFIG", type=config, help="A TOML file, a table per group.")(
        command
    )


@click.command()
@settings_options
def serve(config: Path | None, **flags: Value | None) -> None:
    """Serve searches over gRPC, until interrupted.

    Flags override the environment, which overrides the file, which overrides the defaults. The result is printed at the
    start.
    """
    settings = load_settings(config, os.environ, flags)
    set_up_logs(settings.log)
    share_heaps()
    run_until_signal(_serve(settings))


async def _serve(settings: Settings) -> None:
    from pspsearch.app.server import open_server

    click.echo(settings.to_toml() + "\n")
    async with open_server(settings) as server:
        click.echo(f"pspsearch serves at {server.address}; Ctrl-C stops it")
        await server.go_on()
