"""`pspsearch-build export`."""

from pathlib import Path

import click

from pspsearch_build.cli.network_options import network_options
from pspsearch_build.export import export_onnx
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.onnx_facts import Precision


@click.command()
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The ONNX file to write.")
@click.option(
    "--precision",
    type=click.Choice([precision.value for precision in Precision]),
    default=Precision.FP16.value,
    show_default=True,
)
@click.option("--save-checkpoint", type=click.Path(path_type=Path), help="Also keep the network itself, for parity.")
@network_options
def export(checkpoint: Checkpoint, output: Path, precision: str, save_checkpoint: Path | None) -> None:
    """Write a network as ONNX: uint8 pixels in, unit descriptors out, any batch size."""
    if save_checkpoint is not None:
        checkpoint.save(save_checkpoint)
    export_onnx(checkpoint.network, output, Precision(precision), checkpoint.provenance)
    spec = checkpoint.network.spec
    click.echo(
        f"wrote {output}: {spec.backbone} at stride {spec.output_stride}, "
        f"{spec.input.height_px}x{spec.input.width_px} px to {spec.dimension} dimensions, "
        f"{precision}, {output.stat().st_size / 1e6:.1f} MB"
    )
