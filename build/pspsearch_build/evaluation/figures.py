"""The figures of an evaluation, as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from pspsearch_build.evaluation.groups import Groups
from pspsearch_build.evaluation.measuring import Evaluation, Task


def rows_of(evaluations: Sequence[Evaluation]) -> list[tuple[str, list[str]]]:
    """A row for every figure, with a cell per describer; one row shows each describer's gain in mAP over the first."""
    first = evaluations[0]
    estimates = [one.estimates() for one in evaluations]
    rows = [(name, [f"{figures[name]}" for figures in estimates]) for name in first.per_query]
    rows.append(("mAP over the first", ["", *(f"{one.gains_over(first)['mAP']:+}" for one in evaluations[1:])]))
    rows.append(("pairs: area under ROC", [f"{one.verification.area:.3f}" for one in evaluations]))
    rows.append(("pairs: equal error rate", [f"{one.verification.equal_error_rate:.3f}" for one in evaluations]))
    rows += [
        (f"{name} F1", [f"{one.classifications[name].f1:.3f}" for one in evaluations]) for name in first.classifications
    ]
    rows.append(("dimension", [str(one.dimension) for one in evaluations]))
    sizes = [one.size_bytes for one in evaluations]
    rows.append(("size, MB", ["" if size is None else f"{size / 1e6:.1f}" for size in sizes]))
    works = [one.gflop for one in evaluations]
    rows.append(("one picture, GFLOP", ["" if work is None else f"{work:.2f}" for work in works]))
    rows.append(("one picture, ms", [f"{one.latency_ms:.1f}" for one in evaluations]))
    return rows


def tabulate(task: Task, evaluations: Sequence[Evaluation]) -> Table:
    """The table of all figures, with a column per describer."""
    table = Table("", *(one.name for one in evaluations), title=title_of(task))
    for name, cells in rows_of(evaluations):
        table.add_row(name, *cells)
    return table


def title_of(task: Task) -> str:
    """What was searched for, among what."""
    where = "the others" if task.gallery is None else f"{len(task.gallery.pictures):,} of {task.gallery.name}"
    return f"{len(task.queries.pictures):,} of {task.queries.name} among {where}, {len(task.labels)} classes"


def to_json(task: Task, evaluations: Sequence[Evaluation], groups: Groups) -> dict[str, Any]:
    """Everything in the table and more, with the digests of the data."""
    first = evaluations[0]
    return {
        "queries": _describe(task.queries.name, len(task.queries.pictures), task.queries.digest()),
        "gallery": task.gallery and _describe(task.gallery.name, len(task.gallery.pictures), task.gallery.digest()),
        "classes": len(task.labels),
        "queries_without_an_answer": first.ranks.left_out,
        "describers": [_to_json(one, first) for one in evaluations],
        "groups": groups,
    }


def _to_json(one: Evaluation, first: Evaluation) -> dict[str, Any]:
    return {
        "name": one.name,
        "dimension": one.dimension,
        "size_bytes": one.size_bytes,
        "gflop": one.gflop,
        "latency_ms": one.latency_ms,
        "measures": {name: asdict(measure) for name, measure in one.estimates().items()},
        "gains_over_the_first": {name: asdict(gain) for name, gain in one.gains_over(first).items()},
        "verification": {
            "area_under_roc": one.verification.area,
            "equal_error_rate": one.verification.equal_error_rate,
            "equal_error_score": one.verification.equal_error_score,
        },
        "classification": {
            name: {"precision": judged.precision, "recall": judged.recall, "f1": judged.f1}
            for name, judged in one.classifications.items()
        },
    }


def _describe(name: str, count: int, digest: str) -> dict[str, Any]:
    return {"source": name, "pictures": count, "digest": digest}
