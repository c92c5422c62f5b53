"""`pspsearch-build parity`."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pspsearch.errors import BadImage
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import InputShape
from pspsearch_build.cli.network_options import network_options
from pspsearch_build.data.pictures import SUFFIXES
from pspsearch_build.errors import BuildError, ParityError
from pspsearch_build.export import export_onnx
from pspsearch_build.forms import Form, Pixels, onnxruntime_form, openvino_form, plan_form, torch_form
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.onnx_facts import Precision
from pspsearch_build.parity import Row, compare_forms, count_runs


@click.command()
@click.option("--images", type=click.Path(path_type=Path), required=True, help="A folder of photographs.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help="How many of them to use, evenly spread by name.",
)
@click.option("--plan", type=click.Path(path_type=Path), help="A TensorRT engine of the network, to compare as well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of the table.")
@network_options
def parity(checkpoint: Checkpoint, images: Path, limit: int, plan: Path | None, as_json: bool) -> None:
    """Compare torch, ONNX in FP32 and FP16, OpenVINO in bf16 and a TensorRT engine on photographs.

    Exits with code 1 if a form is out of bounds. A top-10 is the same if it is one by the reference's scores, up to
    the printed tolerance; `strict` is the share with exactly the same ten.
    """
    rows = _compare(checkpoint, read_pixels(images, checkpoint.network.spec.input, limit), plan)
    if as_json:
        for row in rows:
            click.echo(json.dumps(asdict(row) | {"passed": row.passed}))
    else:
        # rich assumes 80 columns for a pipe, and would fold the table.
        Console(width=None if Console().is_terminal else 120).print(_tabulate(rows))
    failed = [row for row in rows if not row.passed]
    if failed:
        raise ParityError(f"{len(failed)} of {len(rows)} comparisons are out of bounds, first {failed[0].form}")
    click.echo(f"all {len(rows)} comparisons are within the bounds", err=as_json)


def read_pixels(folder: Path, shape: InputShape, limit: int) -> Pixels:
    """The photographs below a folder as pixels: at most `limit`, evenly spread over the sorted names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise BuildError(f"{folder} holds no photographs (.jpg, .png or .webp)")
    places = sorted({number * len(paths) // limit for number in range(limit)})
    return np.stack([_read_photograph(paths[place], shape) for place in places])


def _read_photograph(path: Path, shape: InputShape) -> Pixels:
    try:
        return decode_pixels(path.read_bytes(), shape)
    except (OSError, BadImage) as error:
        raise BuildError(f"{path} cannot be used: {error}") from error


def _compare(checkpoint: Checkpoint, pixels: Pixels, plan: Path | None) -> list[Row]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        others = _make_forms(checkpoint, Path(folder), plan)
        task = progress.add_task("describing photographs", total=len(pixels) * count_runs(len(others)))
        advance = progress.advance
        return compare_forms(torch_form(checkpoint.network), others, pixels, lambda count: advance(task, count))


def _make_forms(checkpoint: Checkpoint, folder: Path, plan: Path | None) -> list[Form]:
    files = {precision: folder / f"{precision}.onnx" for precision in Precision}
    for precision, path in files.items():
        export_onnx(checkpoint.network, path, precision)
    outputs = checkpoint.network.spec.outputs
    forms = [
        onnxruntime_form(files[Precision.FP32], outputs, half=False),
        onnxruntime_form(files[Precision.FP16], outputs, half=True),
        openvino_form(files[Precision.FP16], outputs),
    ]
    return forms if plan is None else [*forms, plan_form(plan)]


def _tabulate(rows: Sequence[Row]) -> Table:
    table = Table("form", "batch", "output", "min cosine", "mean cosine", "same top-10", "strict", "overlap", "verdict")
    for row in rows:
        ranking = row.ranking
        shares = (
            (f"{ranking.same_share:.1%} ±{ranking.tolerance:.4f}", f"{ranking.strict_share:.1%}")
            if ranking
            else ("", "")
        )
        table.add_row(
            row.form,
            str(row.batch),
            row.output,
            f"{row.least_cosine:.6f}",
            f"{row.mean_cosine:.6f}",
            *shares,
            f"{ranking.mean_overlap:.3f}" if ranking else "",
            "ok" if row.passed else f"below {row.bound}" if not row.least_cosine >= row.bound else "other hits",
        )
    return table
