"""`pspsearch-build adapt`."""

from pathlib import Path

import click

from pspsearch.model.contract import Fit
from pspsearch_build.adapt import Colours
from pspsearch_build.adapt import adapt as adapt_network

_USUAL = Colours()
_CHANNELS = (float, float, float)


@click.command()
@click.argument("onnx", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The ONNX file to write.")
@click.option(
    "--fit",
    type=click.Choice([fit.value for fit in Fit]),
    required=True,
    help="How an image of any shape becomes the network's rectangle.",
)
@click.option("--side", type=click.IntRange(min=1), help="The square's side in px, if the network takes any size.")
@click.option("--mean", type=_CHANNELS, default=_USUAL.mean, show_default=True, help="The colours' mean, from 0 to 1.")
@click.option("--std", type=_CHANNELS, default=_USUAL.std, show_default=True, help="Their deviation.")
@click.option("--descriptor", metavar="NAME", help="The output that is the descriptor, if there are several.")
def adapt(
    onnx: Path,
    output: Path,
    fit: str,
    side: int | None,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    descriptor: str | None,
) -> None:
    """Give another maker's network our interface: pixels in, unit descriptors out.

    `publish` and `evaluate` take the file that it writes like one of our own exports.
    """
    promise = adapt_network(onnx, output, fit=Fit(fit), side_px=side, colours=Colours(mean, std), output=descriptor)
    shape = promise.input
    click.echo(f"wrote {output}: {shape.height_px}x{shape.width_px} px to {promise.dimension} dimensions")
