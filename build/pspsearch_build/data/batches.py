"""Training batches from several sources. The same seed gives the same batches, however many workers make them."""

import hashlib
import itertools
import logging
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pspsearch.errors import BadImage
from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import InputShape
from pspsearch_build.data.augmentation import Augmentation, Pixels, augment, augment_with_mask
from pspsearch_build.data.masks import Mask, read_mask
from pspsearch_build.data.pictures import PictureSet
from pspsearch_build.errors import BuildError

log = logging.getLogger(__name__)

MARGIN = 8 / 7
"""How much larger than a view a picture is decoded, per side, so that a view of half of it is not enlarged much."""

_PREFETCHED = 4
"""How many batches each worker keeps ready."""


@dataclass(frozen=True, slots=True)
class Source:
    """Pictures to train on. Raises BuildError if they cannot form pairs."""

    pictures: PictureSet
    weight: float = 1.0
    """Its share of every batch, relative to the weights of the other sources."""
    labelled: bool = True
    """Whether the labels count. Without them each picture is its own class, seen in two views."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise BuildError(f"the weight of {self.pictures.name} is {self.weight}, and must be above 0")
        if self.labelled and len(self.pictures.labels) < 2:
            raise BuildError(f"{self.pictures.name} has one class only: there is nothing to tell apart")


class Batch(NamedTuple):
    """What one step learns from."""

    pixels: Tensor
    """uint8 [count, height_px, width_px, 3]"""
    labels: Tensor
    """int64 [count]. Pictures without labels have numbers from `classes` on; two views of one picture share theirs."""
    sources: Tensor
    """int64 [count]: which source each row is from."""
    masks: Tensor
    """uint8 [count, height_px, width_px], 255 where the class is unknown; [count, 0, 0] if no masks were asked for."""


@dataclass(frozen=True, slots=True)
class _View:
    source: int
    place: int
    """The place of the class among those of the source."""
    picture: int


class TrainingBatches(Dataset[Batch]):
    """Batches by step number. A label that occurs in two sources is one class."""

    def __init__(
        self,
        sources: Sequence[Source],
        shape: InputShape,
        augmentation: Augmentation,
        batch_size: int,
        views_per_class: int,
        seed: int,
        mask_classes: int = 0,
    ) -> None:
        """Divides `batch_size` into whole classes of `views_per_class` pictures; `count` is the size that results.

        `mask_classes` is how many classes the masks have; 0 for no masks.
        """
        if not sources:
            raise BuildError("there is nothing to train on: no source is given")
        self._sources, self._shape, self._augmentation = tuple(sources), shape, augmentation
        self._larger = InputShape(round(MARGIN * shape.height_px), round(MARGIN * shape.width_px), shape.fit)
        self._views_per_class, self._seed, self._mask_classes = views_per_class, seed, mask_classes
        labels = sorted({label for one in sources if one.labelled for label in one.pictures.labels})
        self.labels = tuple(labels)
        """The labels of all labelled sources; a row's label is its place here."""
        self._members = [_Members.of(one, self.labels) for one in sources]
        total = sum(one.weight for one in sources)
        self._groups = [max(1, round(batch_size * one.weight / total / self._group_size(one))) for one in self._sources]
        sizes = [groups * self._group_size(one) for groups, one in zip(self._groups, sources, strict=True)]
        self.count = sum(sizes)
        """How many rows every batch has."""

    @property
    def classes(self) -> int:
        """How many labelled classes there are."""
        return len(self.labels)

    def digest(self) -> str:
        """The sha256, in hexadecimal, of all pictures with their classes and weights."""
        lines = [f"{one.pictures.digest()} {one.weight!r} {one.labelled}" for one in self._sources]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def stream(self, first_step: int, workers: int) -> Generator[Batch]:
        """The batches of this step and all later ones, made ahead by `workers` processes, or in this process if 0.

        The processes end with the iterator.
        """
        # Workers forked from a process with threads may hang.
        context = "forkserver" if workers else None
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=itertools.count(first_step),
            num_workers=workers,
            multiprocessing_context=context,
            prefetch_factor=_PREFETCHED if workers else None,
        )
        yield from loader

    def __getitem__(self, step: int) -> Batch:
        """The batch of one step."""
        random = np.random.default_rng((self._seed, step))
        views = [view for number in range(len(self._sources)) for view in self._choose(number, random)]
        made = [self._make(view, np.random.default_rng(random.integers(0, 1 << 63))) for view in views]
        pixels, masks = (torch.from_numpy(np.stack(parts)) for parts in zip(*made, strict=True))
        labels = [self._members[view.source].labels[view.place] for view in views]
        return Batch(pixels, torch.tensor(labels), torch.tensor([view.source for view in views]), masks)

    def _group_size(self, source: Source) -> int:
        return self._views_per_class if source.labelled else 2

    def _choose(self, number: int, random: np.random.Generator) -> Iterator[_View]:
        """Chooses the views from one source; every class is equally likely."""
        members, groups = self._members[number], self._groups[number]
        wanted = self._group_size(self._sources[number])
        for place in map(int, random.choice(len(members.labels), groups, replace=groups > len(members.labels))):
            pictures = members.pictures[place]
            for picture in random.choice(pictures, wanted, replace=len(pictures) < wanted):
                yield _View(number, place, int(picture))

    def _make(self, view: _View, random: np.random.Generator) -> tuple[Pixels, Mask]:
        """A view and its mask; if the picture cannot be read, another of its class takes its place."""
        members, source = self._members[view.source], self._sources[view.source].pictures
        others = random.permutation(members.pictures[view.place])
        for picture in (view.picture, *map(int, others)):
            path = source.pictures[picture].path
            pixels = members.read(path, self._larger)
            if pixels is None:
                continue
            if not self._mask_classes:
                return augment(pixels, self._shape, self._augmentation, random), np.empty((0, 0), np.uint8)
            mask = read_mask(path, self._larger, self._mask_classes)
            return augment_with_mask(pixels, mask, self._shape, self._augmentation, random)
        raise BuildError(f"no picture of {source.pictures[view.picture].label!r} in {source.name} can be read")


@dataclass(frozen=True, slots=True)
class _Members:
    """The classes of one source."""

    labels: list[int]
    """The label of each class."""
    pictures: list[NDArray[np.int64]]
    """For each class, the places of its pictures in the source."""
    unreadable: set[Path] = field(default_factory=set[Path])

    @classmethod
    def of(cls, source: Source, labels: Sequence[str]) -> "_Members":
        if not source.labelled:
            places = range(len(source.pictures.pictures))
            return cls([len(labels) + place for place in places], [np.array([place]) for place in places])
        numbers = source.pictures.numbers
        known = {label: number for number, label in enumerate(labels)}
        own = source.pictures.labels
        return cls([known[label] for label in own], [np.flatnonzero(numbers == place) for place in range(len(own))])

    def read(self, path: Path, shape: InputShape) -> Pixels | None:
        """The pixels, or None if the picture cannot be read, which is logged once."""
        try:
            return decode_pixels(path.read_bytes(), shape)
        except (OSError, BadImage) as error:
            if path not in self.unreadable:
                self.unreadable.add(path)
                log.warning("%s is left out: %s", path, error)
            return None
