"""A training run against its network on random tensors: `python -m tests.bench.bench_training`.

The run reads, augments and learns from JPEG files of 500x375, with everything in the shipped model's recipe except
distillation. The rival is the same network and losses on one batch of random pixels, over and over, before and after.
Trust the ratio.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import torch
from rich.console import Console
from rich.table import Table

from pspsearch_build.data.batches import Batch, Source, TrainingBatches
from pspsearch_build.data.pictures import read_pictures
from pspsearch_build.network.descriptor_network import build_network
from pspsearch_build.training.settings import TrainingSettings
from pspsearch_build.training.trainer import Trainer
from tests.pictures import encode, load_photo

AIM = 0.7
CLASSES, PICTURES = 40, 8
STEPS, AHEAD = 20, 10
"""How many steps are timed, and for how many steps before them batches may lie ready."""


def main() -> None:
    """Prints the table."""
    with TemporaryDirectory() as folder:
        _draw(Path(folder))
        settings = msgspec.convert(
            {
                "steps": 1000,
                "source": [{"name": "photographs", "pictures": folder}],
                "loss": [{"name": "normalised_softmax"}],
                "network": {"input": {"height_px": 192, "width_px": 192, "fit": "squash"}},
                "optimiser": {"frozen_blocks": 7},
            },
            TrainingSettings,
        )
        batches = TrainingBatches(
            [Source(read_pictures(folder))],
            settings.spec.input,
            settings.augmentation,
            settings.batch_size,
            settings.views_per_class,
            settings.seed,
        )
        trainer = Trainer(build_network(settings.spec), batches.classes, settings, None)
        before = _measure_random(trainer, batches)
        drawn = _measure_run(trainer, batches, settings.workers)
        random = (before + _measure_random(trainer, batches)) / 2
    table = Table(
        "", "pictures/s", title=f"Training at 192 px, batches of {batches.count}, bf16, two processes for data"
    )
    table.add_row("the run", f"{drawn:.1f}")
    table.add_row("the same network on random tensors", f"{random:.1f}")
    table.add_row(f"ratio (aim {AIM})", f"{drawn / random:.2f}")
    Console().print(table)


def _measure_run(trainer: Trainer, batches: TrainingBatches, workers: int) -> float:
    """Pictures per second, after the batches that were made ahead are used up."""
    with closing(batches.stream(0, workers)) as stream:
        _take(trainer, stream, AHEAD)
        return _take(trainer, stream, STEPS) * batches.count


def _measure_random(trainer: Trainer, batches: TrainingBatches) -> float:
    """Pictures per second without making batches."""
    first = batches[0]
    still = itertools.repeat(Batch(torch.randint_like(first.pixels, 256), first.labels, first.sources, first.masks))
    _take(trainer, still, 2)
    return _take(trainer, still, STEPS) * batches.count


def _take(trainer: Trainer, batches: Iterator[Batch], steps: int) -> float:
    """Steps per second."""
    began = time.perf_counter()
    for batch in islice(batches, steps):
        trainer.take_step([batch])
    return steps / (time.perf_counter() - began)


def _draw(root: Path) -> None:
    for label in range(CLASSES):
        (root / f"{label:02}").mkdir()
        for number in range(PICTURES):
            photo = load_photo(500, 375, number=(label + number) % 2).rotate(9 * label)
            (root / f"{label:02}" / f"{number}.jpg").write_bytes(encode(photo))


if __name__ == "__main__":
    main()
