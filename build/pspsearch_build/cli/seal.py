"""`pspsearch-build seal`."""

from pathlib import Path

import click

from pspsearch_build.seal import seal as seal_config


@click.command()
@click.option("--repository", type=click.Path(path_type=Path), default=Path("model_repository"), show_default=True)
@click.option("--model", default="pspnet", show_default=True, help="The model's name in Triton.")
def seal(repository: Path, model: str) -> None:
    """Write the digest of a config.pbtxt that you changed, or that an earlier release wrote.

    Without the right digest, the server does not use the model. Changes of batching, instances and warm-up need no new
    digest.
    """
    click.echo(f"{repository / model / 'config.pbtxt'} has the digest {seal_config(repository / model)}")
