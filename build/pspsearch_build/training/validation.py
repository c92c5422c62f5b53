"""Measures how good a network is during training."""

from collections.abc import Mapping, Sequence

from pspsearch_build.data.pictures import PictureSet, read_pictures
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.describers import Describer
from pspsearch_build.evaluation.measuring import Task, select_classes
from pspsearch_build.evaluation.retrieval import Descriptors, rank, rank_leaving_one_out
from pspsearch_build.training.settings import ValidationSettings

_RECALL, _PRECISION = "R@1", "mAP"


def read_tasks(settings: Sequence[ValidationSettings]) -> dict[str, Task]:
    """The tasks by name. Raises BuildError if their pictures cannot be read."""
    return {one.name: _read_task(one) for one in settings}


def _read_task(settings: ValidationSettings) -> Task:
    task = Task(read_pictures(settings.queries), read_pictures(settings.gallery) if settings.gallery else None)
    return task if settings.classes == "all" else select_classes(task, settings.classes)


def validate(describer: Describer, tasks: Mapping[str, Task]) -> dict[str, float]:
    """R@1 and mAP of every task. Raises BuildError if a task has nothing to find."""
    figures: dict[str, float] = {}
    for name, task in tasks.items():
        queries, labels = _describe(describer, task.queries), task.number(task.queries)
        if task.gallery is None:
            ranks = rank_leaving_one_out(queries, labels)
        else:
            ranks = rank(queries, labels, _describe(describer, task.gallery), task.number(task.gallery))
        if not ranks.ranks:
            raise BuildError(f"no query of the validation {name!r} has a picture of its own class to find")
        figures[f"{name} {_RECALL}"] = float(ranks.recall_at(1).mean())
        figures[f"{name} {_PRECISION}"] = float(ranks.average_precision().mean())
    return figures


def gains(figures: Mapping[str, float], floor: Mapping[str, float]) -> list[float]:
    """How far each validation figure is above its floor."""
    return [figures[name] - least for name, least in floor.items()]


def standing(figures: Mapping[str, float], floor: Mapping[str, float], may_lose: float) -> tuple[float, float]:
    """Ranks networks, higher is better: no figure may be more than `may_lose` below its floor; then the mean counts.

    So a gain in one validation never pays for a loss in another.
    """
    gained = gains(figures, floor)
    return min(min(gained) + may_lose, 0.0), sum(gained) / len(gained)


def _describe(describer: Describer, pictures: PictureSet) -> Descriptors:
    return describer.describe([picture.path for picture in pictures.pictures], lambda _: None)
