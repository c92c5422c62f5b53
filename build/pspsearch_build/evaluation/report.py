"""The report: one HTML page with figures, curves, and what each query found."""

import base64
from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import Fit, InputShape
from pspsearch_build.data.pictures import Picture
from pspsearch_build.evaluation.figures import rows_of, title_of
from pspsearch_build.evaluation.groups import MEASURES, Groups
from pspsearch_build.evaluation.measuring import Evaluation, Task
from pspsearch_build.evaluation.plots import plot_confusion, plot_precision, plot_recall, plot_roc

_WORST, _BEST, _CHANGED = 8, 4, 4
"""How many queries of each kind the page shows."""
_THUMBNAIL = InputShape(96, 96, Fit.PAD)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .2rem 1rem .2rem 0; }
tr { border-bottom: 1px solid #ddd; } .plots { display: flex; flex-wrap: wrap; }
.plots svg { width: 36rem; height: auto; }
.row { display: flex; gap: .4rem; margin: .6rem 0; overflow-x: auto; } figure { margin: 0; width: 100px; flex: none; }
figcaption { font-size: 11px; line-height: 1.2; overflow-wrap: anywhere; } img { border: 2px solid #fff; }
.query img { border-color: #222; } .right img { border: 2px solid #178; } .wrong img { border: 2px dashed #c40; }
"""


def write_report(task: Task, evaluations: Sequence[Evaluation], groups: Groups) -> str:
    """The whole page, with no references to other files."""
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f"<title>{escape(title_of(task))}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(title_of(task))}</h1>",
            "<p>Means over queries, with 95 % bootstrap intervals.</p>",
            *_tabulate(evaluations, rows_of(evaluations)),
            *_tabulate_groups(evaluations, groups),
            '<h2>Curves</h2><div class="plots">',
            *(plot(evaluations) for plot in (plot_recall, plot_precision, plot_roc)),
            "</div>",
            *_show_confusions(task, evaluations),
            *(line for one in evaluations[1:] for line in _show_changes(task, evaluations[0], one)),
            *(line for one in evaluations for line in _show_queries(task, one)),
            "</body></html>",
        )
    )


def _tabulate_groups(evaluations: Sequence[Evaluation], groups: Groups) -> Iterator[str]:
    if groups:
        rows = [
            (f"{name}, {measure}, {told['queries']:,} queries", [f"{mean:.3f}" for mean in told[measure]])
            for name, told in groups.items()
            for measure in MEASURES
        ]
        yield "<h2>By kind of query</h2>"
        yield from _tabulate(evaluations, rows)


def _tabulate(evaluations: Sequence[Evaluation], rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    yield "<table><tr><th></th>" + "".join(f"<th>{escape(one.name)}</th>" for one in evaluations) + "</tr>"
    for name, cells in rows:
        yield f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    yield "</table>"


def _show_confusions(task: Task, evaluations: Sequence[Evaluation]) -> Iterator[str]:
    shown = [(one.name, one.classifications["kNN"]) for one in evaluations if "kNN" in one.classifications]
    if shown:
        yield '<h2>What is named what, by the nearest neighbours</h2><div class="plots">'
        for name, judged in shown:
            labels = [task.labels[int(number)] for number in judged.labels]
            yield f"<div><h3>{escape(name)}</h3>{plot_confusion(judged.confusion, labels)}</div>"
        yield "</div>"


def _show_queries(task: Task, one: Evaluation) -> Iterator[str]:
    """The queries with the lowest and the highest average precision."""
    order = one.ranks.queries[np.argsort(one.per_query["mAP"], kind="stable")]
    for heading, queries in (("Worst queries", order[:_WORST]), ("Best queries", order[::-1][:_BEST])):
        yield f"<h2>{heading} of {escape(one.name)}</h2>"
        for query in map(int, queries):
            yield from _show_row(task, one, query)


def _show_changes(task: Task, before: Evaluation, after: Evaluation) -> Iterator[str]:
    """The queries whose average precision changed most, each with both rows of hits."""
    gain = after.per_query["mAP"] - before.per_query["mAP"]
    for heading, change in (("better", gain), ("worse", -gain)):
        yield f"<h2>What got {heading} from {escape(before.name)} to {escape(after.name)}</h2>"
        places = np.argsort(-change, kind="stable")[: min(_CHANGED, int((change > 0).sum()))]
        for query in map(int, after.ranks.queries[places]):
            for one in (before, after):
                yield from _show_row(task, one, query)


def _show_row(task: Task, one: Evaluation, query: int) -> Iterator[str]:
    asked = task.queries.pictures[query]
    gallery = (task.gallery or task.queries).pictures
    yield '<div class="row">'
    yield _show(asked, "query", f"looked for: {asked.label}")
    for place, number in enumerate(map(int, one.hits[query]), 1):
        right = gallery[number].label == asked.label
        mark = "right" if right else "wrong"
        yield _show(gallery[number], mark, f"{place}, {mark}: {gallery[number].label}")
    yield "</div>"


def _show(picture: Picture, kind: str, words: str) -> str:
    caption = escape(words)
    return (
        f'<figure class="{kind}"><img src="{_thumbnail(picture.path)}" alt="{caption}" width="96" height="96">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


@lru_cache(maxsize=4096)
def _thumbnail(path: Path) -> str:
    """The thumbnail as a data URL."""
    encoded = BytesIO()
    Image.fromarray(decode_pixels(path.read_bytes(), _THUMBNAIL)).save(encoded, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
