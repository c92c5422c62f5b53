"""`pspsearch-build adopt`."""

from pathlib import Path

import click

from pspsearch.model.contract import PRECISIONS, Fit
from pspsearch_build.errors import PublishRefused
from pspsearch_build.publish.adopt import Adoption
from pspsearch_build.publish.adopt import adopt as adopt_version


@click.command()
@click.argument("version", metavar="REPOSITORY/MODEL/N", type=click.Path(path_type=Path))
@click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True)
@click.option(
    "--fit",
    type=click.Choice([fit.value for fit in Fit]),
    help="How an image of any shape becomes the model's rectangle, if it takes pixels.",
)
@click.option("--bins", default="", metavar="B,B,...", help="The pyramid's bins, if the model has the output `cells`.")
@click.option("--space", default="", help="The space of its descriptors; if none is named, one of its own.")
def adopt(version: Path, precision: str, fit: str | None, bins: str, space: str) -> None:
    """Write a contract for another maker's Triton model, so that pspsearch can use it.

    The model must take `pixels` (UINT8, lines x columns x 3), `image` (an encoded image) or `text`, and answer with
    `descriptor` (FP32, unit length). Its own files stay unchanged.
    """
    try:
        sizes = tuple(int(one) for one in bins.split(",") if one)
    except ValueError as error:
        raise PublishRefused(f"the bins are numbers with commas between them, not {bins!r}") from error
    contract = adopt_version(version, Adoption(precision, Fit(fit) if fit else None, sizes, space))
    click.echo(f"{version} takes {contract.takes} and gives {contract.dimension} numbers; {contract.fingerprint}")
