"""Finds pictures that are both trained on and asked about: figures with them measure memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pspsearch.model.contract import InputShape
from pspsearch_build.data.batches import Source
from pspsearch_build.data.pictures import PictureSet, read_pixels
from pspsearch_build.evaluation.measuring import Task
from pspsearch_build.evaluation.retrieval import Descriptors
from pspsearch_build.forms import Pixels

_SAME = 0.985
"""Two pictures that score more are one picture, saved again or made smaller."""
_MOST = 10_000
"""How many pictures of a set are compared; a larger set is sampled."""
_QUERIES = 1000
"""How many queries are compared with a source at a time, which bounds the memory for their scores."""
_BATCH = 32


@dataclass(frozen=True, slots=True)
class Leak:
    """A validation whose queries occur in a source."""

    validation: str
    source: str
    queries: int
    """How many of the validation's queries have their like in the source."""
    example: tuple[Path, Path]
    """The query that is most similar to a picture of the source, and that picture."""

    def __str__(self) -> str:
        query, learnt = self.example
        return (
            f"{self.queries} of the queries of {self.validation!r} are nearly the same as pictures that are trained on "
            f"({self.source}), such as {query} and {learnt}"
        )


def find_leaks(
    describe: Callable[[Pixels], Descriptors],
    shape: InputShape,
    sources: Mapping[str, Source],
    tasks: Mapping[str, Task],
) -> Iterator[Leak]:
    """One leak for every validation and source that share pictures, judged by these descriptors."""
    asked = {name: _describe(describe, shape, task.queries) for name, task in tasks.items()}
    for source, learnt in sources.items():
        paths, rows = _describe(describe, shape, learnt.pictures)
        for validation, (queries, looks) in asked.items():
            if not paths or not queries:
                continue
            best = np.concatenate([(part @ rows.T).max(axis=1) for part in np.split(looks, _blocks(len(looks)))])
            if best.max() > _SAME:
                query = int(best.argmax())
                example = queries[query], paths[int((looks[query] @ rows.T).argmax())]
                yield Leak(validation, source, int((best > _SAME).sum()), example)


def _blocks(count: int) -> list[int]:
    return list(range(_QUERIES, count, _QUERIES))


def _describe(
    describe: Callable[[Pixels], Descriptors], shape: InputShape, pictures: PictureSet
) -> tuple[Sequence[Path], Descriptors]:
    """The paths of the readable pictures, and their unit descriptors."""
    paths: list[Path] = []
    rows: list[Descriptors] = []
    drawn = np.random.default_rng(0).permutation(len(pictures.pictures))[:_MOST]
    looked = [pictures.pictures[place].path for place in map(int, np.sort(drawn))]
    for start in range(0, len(looked), _BATCH):
        read = [(path, read_pixels(path, shape)) for path in looked[start : start + _BATCH]]
        seen = [(path, pixels) for path, pixels in read if pixels is not None]
        if seen:
            paths += [path for path, _ in seen]
            rows.append(describe(np.stack([pixels for _, pixels in seen])))
    return paths, np.concatenate(rows) if rows else np.empty((0, 0), np.float32)
