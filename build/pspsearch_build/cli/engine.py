"""`pspsearch-build engine`."""

from pathlib import Path

import click

from pspsearch_build.engine import Batches, EngineSettings, build_engine

_SETTINGS = EngineSettings()


@click.command()
@click.argument("onnx", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="The plan to write.")
@click.option("--min-batch", default=_SETTINGS.batches.min, show_default=True)
@click.option("--opt-batch", default=_SETTINGS.batches.opt, show_default=True, help="The batch to tune for.")
@click.option("--max-batch", default=_SETTINGS.batches.max, show_default=True, help="At least Triton's max_batch_size.")
@click.option("--workspace-mib", default=_SETTINGS.workspace_mib, show_default=True, help="Device memory for a layer.")
@click.option("--timing-cache", type=click.Path(path_type=Path), help="Kept between builds, to build faster.")
@click.option("--version-compatible", is_flag=True, help="Later TensorRT versions may run the plan.")
@click.option("--hardware-compatible", is_flag=True, help="Any GPU from Ampere on may run the plan.")
@click.option("--optimization-level", default=_SETTINGS.optimization_level, show_default=True, help="0 to 5.")
@click.option("--force", is_flag=True, help="Replace an existing plan.")
def engine(
    onnx: Path,
    output: Path,
    min_batch: int,
    opt_batch: int,
    max_batch: int,
    workspace_mib: int,
    timing_cache: Path | None,
    version_compatible: bool,
    hardware_compatible: bool,
    optimization_level: int,
    force: bool,
) -> None:
    """Compile an FP16 network in ONNX to a TensorRT plan for this machine's GPU, and check that both answer alike."""
    settings = EngineSettings(
        batches=Batches(min_batch, opt_batch, max_batch),
        workspace_mib=workspace_mib,
        optimization_level=optimization_level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        timing_cache=timing_cache,
    )
    build_engine(onnx, output, settings, overwrite=force)
    click.echo(f"built {output}, which answers like {onnx} at batch {min_batch} and {max_batch}")
