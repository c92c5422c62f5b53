"""What a load test measured: as tables on the console, and as Markdown with plots."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from tests.bench.perf_analyzer import Load

_COLUMNS = ("answers/s", "p50 ms", "p95 ms", "p99 ms")
_SEARCH_STAGES = {
    "queue": "wait for a thread",
    "input": "decode",
    "inference": "Triton",
    "output": "index and answer",
    "network": "network and client",
}
_PANELS = 3
"""How many panels a row has."""
_COLOURS = ("#9aa0a6", "#e8a33d", "#3b6fb6", "#4a9c6d", "#c9c9c9")


@dataclass(frozen=True, slots=True)
class Run:
    """One kind of request at growing loads."""

    name: str
    unit: str
    loads: dict[int, Load | None]
    """The loads by how many requests were under way or due per second."""


def print_tables(runs: Sequence[Run], console: Console) -> None:
    """Prints one table for each run."""
    for run in runs:
        table = Table(title=run.name, title_justify="left")
        for heading in (run.unit, *_COLUMNS):
            table.add_column(heading, justify="right")
        for asked, load in run.loads.items():
            table.add_row(str(asked), *_figures(load))
        console.print(table)


def write_report(runs: Sequence[Run], folder: Path) -> Path:
    """Writes `report.md` and the pictures that it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    mpl.use("agg")
    _plot_latency(runs, folder / "latency.png")
    lines = [
        "# Load test",
        "",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, client and servers on the same ones.",
        "",
        "![Latency against load](latency.png)",
        "",
    ]
    searches = [run for run in runs if run.name.startswith("search") and run.unit == "under way"]
    for run in searches:
        _plot_stages(run, folder / "stages.png")
        lines += ["![Where the time of a search goes](stages.png)", ""]
    for run in runs:
        lines += [f"## {run.name}", "", f"| {run.unit} | {' | '.join(_COLUMNS)} |", "|---" * 5 + "|"]
        lines += [f"| {asked} | {' | '.join(_figures(load))} |" for asked, load in run.loads.items()]
        lines.append("")
    path = folder / "report.md"
    path.write_text("\n".join(lines), "utf-8")
    return path


def _figures(load: Load | None) -> list[str]:
    if load is None:
        return ["unstable", "", "", ""]
    return [f"{load.per_s:.0f}", *(f"{ms:.2f}" for ms in (load.p50_ms, load.p95_ms, load.p99_ms))]


def _plot_latency(runs: Sequence[Run], path: Path) -> None:
    """A panel for each run: percentiles by answers per second, which shows the knee."""
    rows = -(-len(runs) // _PANELS)
    figure = Figure(figsize=(4 * _PANELS, 3.5 * rows), layout="constrained")
    for place, run in enumerate(runs, 1):
        axes = figure.add_subplot(rows, _PANELS, place)
        loads = [load for load in run.loads.values() if load is not None]
        for label, colour, values in (
            ("p99", "#b5403a", [load.p99_ms for load in loads]),
            ("p95", "#e8a33d", [load.p95_ms for load in loads]),
            ("p50", "#3b6fb6", [load.p50_ms for load in loads]),
        ):
            axes.plot([load.per_s for load in loads], values, "o-", color=colour, label=label)
        axes.set_title(run.name, fontsize=10)
        axes.set_xlabel("answers per second")
        axes.set_ylabel("ms")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def _plot_stages(run: Run, path: Path) -> None:
    """A bar for each load, showing how the server says its searches spent their time."""
    loads = {str(asked): load for asked, load in run.loads.items() if load is not None}
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    bottom = [0.0] * len(loads)
    for (stage, label), colour in zip(_SEARCH_STAGES.items(), _COLOURS, strict=True):
        heights = [load.stages_ms[stage] for load in loads.values()]
        axes.bar(list(loads), heights, bottom=bottom, label=label, color=colour)
        bottom = [below + height for below, height in zip(bottom, heights, strict=True)]
    axes.set_title(f"{run.name}: mean time by stage", fontsize=10)
    axes.set_xlabel("searches under way")
    axes.set_ylabel("ms")
    axes.legend()
    figure.savefig(path, dpi=120)
