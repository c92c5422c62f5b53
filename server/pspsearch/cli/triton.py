"""`pspsearch triton`: runs the bundled Triton alone, in the foreground."""

import asyncio
from pathlib import Path

import click

from pspsearch.cli.interrupt import run_until_signal
from pspsearch.config import BundledTritonSettings
from pspsearch.model.repository import default_repository


@click.command()
@click.option(
    "--repository",
    envvar="PSPSEARCH_REPOSITORY",
    type=click.Path(path_type=Path),
    help="The model repository; the shipped models if not given.",
)
@click.option("--port", default=8001, show_default=True, help="The gRPC port on 127.0.0.1; 0 takes a free one.")
def triton(repository: Path | None, port: int) -> None:
    """Serve a model repository with the bundled Triton, until interrupted."""
    run_until_signal(_serve(BundledTritonSettings(repository or default_repository(), port)))


async def _serve(settings: BundledTritonSettings) -> None:
    from pspsearch.app.describer import bundled_triton

    async with bundled_triton(settings) as server:
        for model, reason in server.failures.items():
            click.echo(f"error: model {model} is not served: {reason}", err=True)
        click.echo(f"Triton serves {settings.repository} at {server.address}; Ctrl-C stops it")
        await asyncio.Event().wait()
