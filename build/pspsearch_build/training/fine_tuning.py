"""A whole run: trains from settings to the best network, and continues wherever it stopped."""

import copy
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from pspsearch_build.data.batches import Source, TrainingBatches
from pspsearch_build.data.pictures import read_pictures, read_unlabelled
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.describers import PixelDescriber
from pspsearch_build.evaluation.measuring import select_labels
from pspsearch_build.evaluation.sources import open_describer
from pspsearch_build.network.batch_norm import round_weights
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import DescriptorNetwork
from pspsearch_build.network.pooled_backbone import PooledBackbone, Pooling
from pspsearch_build.training.leaks import find_leaks
from pspsearch_build.training.run_folder import BLEND, RunFolder
from pspsearch_build.training.settings import SourceSettings, TrainingSettings
from pspsearch_build.training.start import make_start
from pspsearch_build.training.trainer import Teacher, Trainer
from pspsearch_build.training.validation import gains, read_tasks, standing, validate

log = logging.getLogger(__name__)

Figures = Mapping[str, float]
"""A network's figures: `step`, `blend` if it lies between the start and that step, losses, recalls and speed."""


@dataclass(slots=True)
class Outcome:
    """What a run has achieved so far."""

    figures: dict[str, float] = field(default_factory=dict[str, float])
    """The figures of the best network so far."""
    waited: int = 0
    """How many steps have been validated since then."""
    floor: dict[str, float] = field(default_factory=dict[str, float])
    """The validation figures below which no network may fall; empty without validations."""

    def hear(self, figures: Figures, may_lose: float) -> bool:
        """Records the figures and returns whether they are the best so far; without validations, the latest are."""
        better = not self.figures or not self.floor or self._is_better(figures, may_lose)
        if better:
            self.figures = dict(figures)
        if BLEND not in figures:
            self.waited = 0 if better else self.waited + 1
        return better

    def _is_better(self, figures: Figures, may_lose: float) -> bool:
        return standing(figures, self.floor, may_lose) > standing(self.figures, self.floor, may_lose)


def fine_tune(
    settings: TrainingSettings,
    folder: RunFolder,
    tell: Callable[[int, Figures], None],
    show: Callable[[Figures], None],
) -> Outcome:
    """Trains from the folder's last checkpoint, or from the start, to the last step or until patience runs out.

    The folder then holds the network that the validations judge best, see `standing`. The candidates include the start
    and the networks between the start and the last one.

    After every step, `tell` receives the number of steps and the losses; `show` receives the figures of every
    validation. On the same machine, with as many threads, a run that was stopped ends like one that was not. Raises
    BuildError if it cannot continue; the folder's last checkpoint is then intact.
    """
    sources, tasks = [read_source(one) for one in settings.source], read_tasks(settings.validation)
    names = [one.name for one in settings.source]
    saved = folder.load()
    start = _start(settings, sources, folder, resumed=saved is not None)
    if settings.segmentation and not start.spec.segmentation_classes:
        raise BuildError("a segmentation needs a network with `segmentation_classes`")
    batches = TrainingBatches(
        sources,
        start.spec.input,
        settings.augmentation,
        settings.batch_size,
        settings.views_per_class,
        settings.seed,
        start.spec.segmentation_classes if settings.segmentation else 0,
    )
    digest, teacher = batches.digest(), _teacher(settings, start)
    provenance = _provenance(settings, digest)
    trainer, outcome = Trainer(start, batches.classes, settings, teacher), Outcome()
    if saved is not None:
        if saved["data"] != digest:
            raise BuildError(f"the pictures are not those that the run in {folder.path} began with")
        _restore(trainer, saved["trainer"], settings.last_step)
        outcome = Outcome(**saved["outcome"])

    def keep(network: DescriptorNetwork, told: Figures) -> Figures:
        """Records the network's figures, and saves the network if it is the best so far."""
        describer = PixelDescriber("the network so far", network.spec.input, partial(trainer.describe, network))
        validated = validate(describer, tasks)
        outcome.floor = outcome.floor or validated
        figures = {"step": trainer.step, **told, **validated}
        if validated:
            figures["least gain"] = min(gains(validated, outcome.floor))
        if outcome.hear(figures, settings.may_lose):
            made = {name: str(figures[name]) for name in ("step", BLEND) if name in figures}
            _save_network(network, provenance | made, folder.best)
        folder.save({"trainer": trainer.state(), "outcome": asdict(outcome), "data": digest}, figures)
        show(figures)
        return figures

    def keep_step(told: Figures) -> None:
        for name, value in keep(trainer.averaged, told).items():
            board.add_scalar(name, value, trainer.step)

    stream = batches.stream(trainer.step * settings.accumulate, settings.workers)
    with SummaryWriter(str(folder.logs), purge_step=trainer.step) as board, closing(stream):
        if saved is None:
            if settings.floor:
                outcome.floor = validate(open_describer(settings.floor), tasks)
            known = settings.start.checkpoint or settings.start.weights  # random weights find all pictures much alike
            if tasks and known:
                look, by_name = partial(trainer.describe, trainer.averaged), dict(zip(names, sources, strict=True))
                for leak in find_leaks(look, start.spec.input, by_name, tasks):
                    log.warning("%s", leak)
            keep_step({})
        pace = _Pace()
        while trainer.step < settings.last_step and not 0 < settings.patience <= outcome.waited:
            told = trainer.take_step(list(islice(stream, settings.accumulate)))
            pace.count(told, batches.count * settings.accumulate)
            tell(trainer.step, told)
            if trainer.step % settings.validate_every == 0 or trainer.step == settings.last_step:
                keep_step(pace.figures())
                pace = _Pace()
    for share in sorted(settings.blends) if tasks and trainer.step else ():
        keep(trainer.go_back(Checkpoint.load(folder.start).network, share), {BLEND: share})
    return outcome


class _Pace:
    """The losses and the speed since the last validation."""

    def __init__(self) -> None:
        self._began, self._pictures, self._told = time.monotonic(), 0, list[Figures]()

    def count(self, told: Figures, pictures: int) -> None:
        self._told.append(told)
        self._pictures += pictures

    def figures(self) -> Figures:
        means = {name: sum(told[name] for told in self._told) / len(self._told) for name in self._told[0]}
        return means | {"pictures/s": self._pictures / (time.monotonic() - self._began)}


def _restore(trainer: Trainer, state: dict[str, Any], last_step: int) -> None:
    trainer.restore(state)
    if trainer.step > last_step:
        raise BuildError(f"the run is at step {trainer.step} already, and was to end at {last_step}")


def read_source(settings: SourceSettings) -> Source:
    """Reads the source's pictures. Raises BuildError if they cannot be read."""
    pictures = read_pictures(settings.pictures) if settings.labelled else read_unlabelled(Path(settings.pictures))
    if settings.classes != "all":
        pictures = select_labels(pictures, settings.classes, pictures.labels)
    return Source(pictures, settings.weight, settings.labelled)


def _start(settings: TrainingSettings, sources: list[Source], folder: RunFolder, *, resumed: bool) -> DescriptorNetwork:
    """The start, kept in the folder, because it may be the teacher and takes a while to make."""
    if not resumed:
        start = make_start(settings, sources)
        Checkpoint(start, _provenance(settings, "")).save(folder.start)
    return Checkpoint.load(folder.start).network


def _teacher(settings: TrainingSettings, start: DescriptorNetwork) -> Teacher | None:
    if settings.distillation is None:
        return None
    spelling = settings.distillation.teacher
    kind, _, where = spelling.partition(":")
    match kind:
        case "start":
            return copy.deepcopy(start)
        case "checkpoint":
            teacher = Checkpoint.load(Path(where)).network
            shape = teacher.spec.input
        case Pooling.AVERAGE | Pooling.GEM:
            teacher = PooledBackbone(Path(where), Pooling(kind))
            shape = teacher.shape
        case _:
            raise BuildError(f"{spelling!r} is no teacher: use start, checkpoint:FILE, average:WEIGHTS or gem:WEIGHTS")
    if shape != start.spec.input:
        raise BuildError(f"the teacher {spelling} takes other pixels than the network")
    return teacher


def _save_network(averaged: DescriptorNetwork, provenance: Mapping[str, str], path: Path) -> None:
    """Saves the network with weights that half precision holds exactly."""
    network = copy.deepcopy(averaged).cpu()
    round_weights(network)
    Checkpoint(network, provenance).save(path)


def _provenance(settings: TrainingSettings, digest: str) -> dict[str, str]:
    """Describes the run in words, for people who find the file."""
    losses = [f"{one.weight:g} {one.name}" for one in settings.loss]
    if settings.distillation:
        losses.append(f"{settings.distillation.weight:g} distillation")
    if settings.segmentation:
        losses.append(f"{settings.segmentation.weight:g} segmentation")
    start = settings.start
    return {
        "start": Path(start.checkpoint or start.weights).name or "random",
        "sources": ", ".join(f"{one.name} ({one.classes} classes)" for one in settings.source),
        "losses": " + ".join(losses),
        "pictures": digest,
        "torch": torch.__version__,
    }
