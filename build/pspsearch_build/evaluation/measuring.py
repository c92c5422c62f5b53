"""Measures one describer on one task: its quality and its cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pspsearch_build.data.pictures import PictureSet
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.bootstrap import Estimate, estimate, estimate_difference
from pspsearch_build.evaluation.classification import Classification, classify_by_neighbours, classify_by_softmax
from pspsearch_build.evaluation.describers import Describer
from pspsearch_build.evaluation.retrieval import (
    Descriptors,
    Labels,
    RightRanks,
    Values,
    nearest,
    rank,
    rank_leaving_one_out,
)
from pspsearch_build.evaluation.verification import Verification, verify

SHOWN_HITS = 10


@dataclass(frozen=True, slots=True)
class Task:
    """Which pictures must find which."""

    queries: PictureSet
    gallery: PictureSet | None
    """None if every query searches the other queries."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of queries and gallery, sorted."""
        return tuple(sorted({*self.queries.labels, *(self.gallery.labels if self.gallery else ())}))

    def number(self, pictures: PictureSet) -> Labels:
        """The class of each picture, as its place in `labels`."""
        places = {label: place for place, label in enumerate(self.labels)}
        return np.array([places[picture.label] for picture in pictures.pictures], np.int64)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of one describer."""

    name: str
    dimension: int
    size_bytes: int | None
    gflop: float | None
    latency_ms: float
    per_query: Mapping[str, Values]
    """Every measure that is a mean over queries, by name."""
    ranks: RightRanks
    hits: Labels
    """For each query, the row numbers of the nearest gallery pictures."""
    verification: Verification
    classifications: Mapping[str, Classification]
    """By kNN and by a softmax layer on the gallery; empty without a gallery."""

    def estimates(self) -> dict[str, Estimate]:
        """Every measure with its interval."""
        return {name: estimate(values) for name, values in self.per_query.items()}

    def gains_over(self, other: "Evaluation") -> dict[str, Estimate]:
        """How much higher each measure is than another describer's on the same task, query by query."""
        return {name: estimate_difference(self.per_query[name], other.per_query[name]) for name in self.per_query}


def count_pictures(task: Task) -> int:
    """How many pictures one evaluation describes."""
    return len(task.queries.pictures) + (len(task.gallery.pictures) if task.gallery else 0)


def measure(describer: Describer, task: Task, advance: Callable[[int], None]) -> Evaluation:
    """Describes every picture and measures. Raises BuildError if the task has no right answers."""
    paths = [picture.path for picture in task.queries.pictures]
    queries, labels = describer.describe(paths, advance), task.number(task.queries)
    classifications: dict[str, Classification] = {}
    if task.gallery is None:
        ranks, hits = rank_leaving_one_out(queries, labels), nearest(queries, queries, SHOWN_HITS, leave_one_out=True)
    else:
        gallery = describer.describe([picture.path for picture in task.gallery.pictures], advance)
        gallery_labels = task.number(task.gallery)
        ranks, hits = rank(queries, labels, gallery, gallery_labels), nearest(queries, gallery, SHOWN_HITS)
        classifications = _classify(gallery, gallery_labels, queries, labels)
    if not ranks.ranks:
        raise BuildError("no query has a picture of its own class to find")
    return Evaluation(
        describer.name,
        queries.shape[1],
        describer.size_bytes,
        describer.gflop,
        describer.latency_ms(paths[0]),
        _per_query(ranks) | {f"{name} accuracy": one.right for name, one in classifications.items()},
        ranks,
        hits,
        verify(queries, labels),
        classifications,
    )


def _per_query(ranks: RightRanks) -> dict[str, Values]:
    recalls = {f"R@{count}": ranks.recall_at(count) for count in (1, 5, 10)}
    precision = {"P@10": ranks.precision_at(10)}
    return recalls | precision | {"mAP": ranks.average_precision(), "R-precision": ranks.r_precision()}


def _classify(train: Descriptors, train_labels: Labels, test: Descriptors, labels: Labels) -> dict[str, Classification]:
    """Classifies by kNN and, if the gallery has at least two classes, by a softmax layer."""
    by_neighbours = {"kNN": classify_by_neighbours(train, train_labels, test, labels)}
    if len(np.unique(train_labels)) < 2:
        return by_neighbours
    return by_neighbours | {"softmax": classify_by_softmax(train, train_labels, test, labels)}


def select_labels(pictures: PictureSet, which: str, labels: Sequence[str]) -> PictureSet:
    """The pictures whose class is at an odd (or even) place in `labels`, counted from 0."""
    return pictures.only(labels[1::2] if which == "odd" else labels[::2])


def select_classes(task: Task, which: str) -> Task:
    """The same selection for queries and gallery, by the classes of both."""
    gallery = task.gallery and select_labels(task.gallery, which, task.labels)
    return Task(select_labels(task.queries, which, task.labels), gallery)
