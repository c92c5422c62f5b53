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
    help="How an image of any shape becomes its rectangle, where it takes pixels.",
)
@click.option("--bins", default="", metavar="B,B,...", help="Of the pyramid of its `cells`, where it has that output.")
@click.option("--space", default="", help="The space that its descriptors are of; one of its own where none is named.")
def adopt(version: Path, precision: str, fit: str | None, bins: str, space: str) -> None:
    """Write the contract of a Triton model of another maker, so that pspsearch can use it.

    It takes `pixels` (UINT8, lines x columns x 3), `image` (an encoded image) or `text`, and answers with `descriptor`
    (FP32, unit length). Its own files are left as they are.
    """
    try:
        sizes = tuple(int(one) for one in bins.split(",") if one)
    except ValueError as error:
        raise PublishRefused(f"the bins are numbers with commas between them, not {bins!r}") from error
    contract = adopt_version(version, Adoption(precision, Fit(fit) if fit else None, sizes, space))
    click.echo(f"{version} takes {contract.takes} and gives {contract.dimension} numbers; {contract.fingerprint}")
