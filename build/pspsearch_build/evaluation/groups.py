"""Groups of queries that the overall mean hides: by shape, by brightness, and by how busy the picture is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspsearch.images.pixels import decode_pixels, read_facts
from pspsearch.model.contract import Fit, InputShape
from pspsearch_build.evaluation.measuring import Evaluation, Task

Groups = Mapping[str, Mapping[str, Any]]
"""For each group, how many `queries` it has and, for each measure, the means of all describers."""

MEASURES = ("R@1", "mAP")

_LOOKED_AT = InputShape(64, 64, Fit.SQUASH)
_LONG = 1.25
"""The ratio of the longer side to the shorter from which a picture is tall or wide."""
_LEAST = 20
"""The fewest queries whose mean says something."""


def judge_groups(task: Task, evaluations: Sequence[Evaluation], advance: Callable[[int], None]) -> Groups:
    """Judges the groups that have enough queries. Dark and light, and plain and busy, are the outer thirds."""
    answered = [task.queries.pictures[int(number)].path for number in evaluations[0].ranks.queries]
    if len(answered) < _LEAST:
        return {}
    looks: list[tuple[float, float, float]] = []
    for path in answered:
        looks.append(_look(path))
        advance(1)
    ratio, light, busy = np.array(looks).T
    members: dict[str, NDArray[np.bool_]] = {
        "tall": ratio <= 1 / _LONG,
        "square": (ratio > 1 / _LONG) & (ratio < _LONG),
        "wide": ratio >= _LONG,
        "dark": light < np.quantile(light, 1 / 3),
        "light": light > np.quantile(light, 2 / 3),
        "plain": busy < np.quantile(busy, 1 / 3),
        "busy": busy > np.quantile(busy, 2 / 3),
    }
    return {
        name: {"queries": int(chosen.sum())}
        | {measure: [float(one.per_query[measure][chosen].mean()) for one in evaluations] for measure in MEASURES}
        for name, chosen in members.items()
        if chosen.sum() >= _LEAST
    }


def _look(path: Path) -> tuple[float, float, float]:
    """Width over height, mean brightness, and how much neighbouring pixels of a small copy differ."""
    encoded = path.read_bytes()
    width, height = read_facts(encoded).upright
    grey = decode_pixels(encoded, _LOOKED_AT).mean(axis=-1)
    busy = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    return width / height, float(grey.mean()), float(busy)
