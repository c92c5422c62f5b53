"""`pspsearch-build evaluate`."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pspsearch_build.atomic_file import replacing
from pspsearch_build.data.pictures import read_pictures
from pspsearch_build.evaluation.figures import tabulate, to_json
from pspsearch_build.evaluation.groups import Groups, judge_groups
from pspsearch_build.evaluation.measuring import Task, count_pictures, measure, select_classes
from pspsearch_build.evaluation.report import write_report
from pspsearch_build.evaluation.sources import KINDS, open_describer

_SPELLINGS = ", ".join(f"{kind}:{place}" if place else kind for kind, (place, _) in KINDS.items())


@click.command(
    epilog=f"DESCRIBER is one of {_SPELLINGS}. PICTURES is a folder of class folders, or FILE.csv[@SPLIT] with the "
    "columns path, label[, split].",
)
@click.argument("describers", nargs=-1, required=True, metavar="DESCRIBER...")
@click.option("--queries", required=True, metavar="PICTURES", help="The pictures to search for.")
@click.option(
    "--gallery", metavar="PICTURES", help="The pictures to search; without it, each query searches the others."
)
@click.option(
    "--classes",
    type=click.Choice(["odd", "even"]),
    help="Only every other class, by name: train on one half, evaluate on the other.",
)
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write all figures here.")
@click.option(
    "--html", "html_path", type=click.Path(path_type=Path), help="Write a page with curves and pictures here."
)
def evaluate(
    describers: tuple[str, ...],
    queries: str,
    gallery: str | None,
    classes: str | None,
    json_path: Path | None,
    html_path: Path | None,
) -> None:
    """Measure how well descriptors find pictures of the same class, side by side, with 95 % intervals."""
    task = _read_task(queries, gallery, classes)
    opened = [open_describer(spelling) for spelling in describers]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("describing pictures", total=len(opened) * count_pictures(task))
        evaluations = [measure(one, task, lambda count: progress.advance(bar, count)) for one in opened]
        groups: Groups = {}
        if json_path or html_path:
            bar = progress.add_task("looking at queries", total=len(evaluations[0].ranks.queries))
            groups = judge_groups(task, evaluations, lambda count: progress.advance(bar, count))
    # rich assumes 80 columns for a pipe, and would fold the table.
    Console(width=None if Console().is_terminal else 60 + 40 * len(opened)).print(tabulate(task, evaluations))
    if json_path:
        with replacing(json_path) as temporary:
            temporary.write_text(json.dumps(to_json(task, evaluations, groups), indent=2) + "\n")
    if html_path:
        with replacing(html_path) as temporary:
            temporary.write_text(write_report(task, evaluations, groups))


def _read_task(queries: str, gallery: str | None, classes: str | None) -> Task:
    task = Task(read_pictures(queries), None if gallery is None else read_pictures(gallery))
    return task if classes is None else select_classes(task, classes)
