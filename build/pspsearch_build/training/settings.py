"""What a training run is told: one TOML file, read as a whole before anything starts."""

import json
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from pspsearch_build.data.augmentation import Augmentation
from pspsearch_build.errors import BuildError
from pspsearch_build.network.spec import NetworkSpec
from pspsearch_build.training.losses import LossName, LossOptions


class Precision(StrEnum):
    """What the trunk is computed in; the head, the losses and the weights are FP32 in any case."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    """On a GPU, with scaled losses."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; BuildError where a number is out of its range."""

    least: ClassVar[dict[str, float]] = {}
    """Of each number that has a bound, the bound; those in `above` must be above it."""
    above: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        for name, bound in self.least.items():
            value = getattr(self, name)
            fits, words = (value > bound, "above") if name in self.above else (value >= bound, "at least")
            if not fits:  # nor does NaN
                raise ValueError(f"{name} is {value}, and must be {words} {bound:g}")


class StartSettings(_Table, frozen=True, kw_only=True):
    """Which network the run begins with: one of the three, or random weights."""

    checkpoint: str = ""
    """A network that was trained before, whole; the spec is then its own."""
    weights: str = ""
    """Of the backbone: a file, or `download`."""
    pictures: int = 2048
    """From so many of the sources' pictures the first statistics and the first projection are taken."""
    least = {"pictures": 0}


class SourceSettings(_Table, frozen=True, kw_only=True):
    """Pictures to train on; what `Source` is made from."""

    name: str
    """By which losses and the distillation call it."""
    pictures: str
    """`DIR` or `FILE.csv[@SPLIT]`; a folder of any kind where they are not labelled."""
    labelled: bool = True
    weight: float = 1.0
    """Its share of every batch, beside the weights of the other sources."""
    classes: Literal["all", "odd", "even"] = "all"
    """Every other class, by name: the rest is for an evaluation on classes never seen."""
    least = {"weight": 0}
    above = frozenset({"weight"})


class ValidationSettings(_Table, frozen=True, kw_only=True):
    """Pictures that tell when the network was best; never those of a test."""

    name: str
    queries: str
    """`DIR` or `FILE.csv[@SPLIT]`."""
    gallery: str = ""
    """The same; without it every query looks among the others."""
    classes: Literal["all", "odd", "even"] = "all"
    """Every other class, by name, of those that queries and gallery have."""


class LossSettings(_Table, frozen=True, kw_only=True):
    """One loss; several are added up."""

    name: LossName
    weight: float = 1.0
    on: tuple[str, ...] = ()
    """The sources whose pictures it sees; all, where none is named."""
    options: LossOptions = LossOptions()
    least = {"weight": 0}
    above = frozenset({"weight"})


class DistillationSettings(_Table, frozen=True, kw_only=True):
    """Keeping what a frozen teacher knows."""

    weight: float = 10.0
    teacher: str = "start"
    """The network as it is when the run begins; or one spelt as for `evaluate`: `checkpoint:FILE`, `average:WEIGHTS`
    or `gem:WEIGHTS`, the last two for an input of 256x256 px, cropped."""
    on: tuple[str, ...] = ()
    """The sources on whose pictures it is asked; all, where none is named."""
    least = {"weight": 0}
    above = frozenset({"weight"})


class SegmentationSettings(_Table, frozen=True, kw_only=True):
    """Learning what each pixel shows beside the descriptor, as PSPNet did; see `data/masks.py` for the masks."""

    weight: float = 0.5
    auxiliary: float = 0.4
    """How much of that is learnt from the backbone's earlier map, too."""
    least = {"weight": 0, "auxiliary": 0}
    above = frozenset({"weight"})


class OptimiserSettings(_Table, frozen=True, kw_only=True):
    """AdamW under a cosine schedule."""

    learning_rate: float = 1e-3
    """Of all that comes after the backbone, at its highest."""
    backbone_learning_rate: float = 1e-4
    classes_learning_rate: float = 1e-2
    """Of the losses' own parameters: their points or layers."""
    warm_up_steps: int = 100
    """Over which the rates rise from 0."""
    head_steps: int = 50
    """In the first of which the backbone does not move yet."""
    penalty: Literal["l2", "l1"] = "l2"
    """How weights decay: in proportion, or all by the same, which makes the small ones 0."""
    decay: float = 1e-4
    clip: float = 5.0
    """The longest gradient."""
    average: float = 0.995
    """The share that the exponential moving average keeps in each step; 0 for no average."""
    frozen_blocks: int = 0
    """The first blocks of the backbone that are never trained: theirs are the largest maps."""
    train_statistics: bool = False
    """Whether the backbone's BatchNorm follows the batches; weights that came without statistics do not survive it."""
    least = {
        "learning_rate": 0, "backbone_learning_rate": 0, "classes_learning_rate": 0, "warm_up_steps": 0,
        "head_steps": 0, "decay": 0, "clip": 0, "average": 0, "frozen_blocks": 0,
    }  # fmt: skip
    above = frozenset({"learning_rate", "clip"})


class TrainingSettings(_Table, frozen=True, kw_only=True):
    """A whole run."""

    source: tuple[SourceSettings, ...]
    loss: tuple[LossSettings, ...] = ()
    distillation: DistillationSettings | None = None
    segmentation: SegmentationSettings | None = None
    """For a network with segmentation classes."""
    validation: tuple[ValidationSettings, ...] = ()
    floor: str = ""
    """Whose figures the best network may not fall below in any validation: a describer, spelt as for `evaluate`; the
    start where none is given."""
    may_lose: float = 0.005
    """By how much it may, since a few hundred queries say no more."""
    blends: tuple[float, ...] = (0.25, 0.5, 0.75)
    """In the end the networks that lie so far from the start towards the last one are validated, too."""
    start: StartSettings = StartSettings()
    network: dict[str, Any] = {}
    """Fields of NetworkSpec; not with a checkpoint to start from."""
    optimiser: OptimiserSettings = OptimiserSettings()
    augmentation: Augmentation = Augmentation()

    steps: int
    """Over which the rates rise and fall; with 0 the start is all there is."""
    until: int = 0
    """The step at which the run ends, before the rates have fallen; 0 for the last."""
    batch_size: int = 48
    views_per_class: int = 2
    """Pictures of one class that come together in a batch."""
    accumulate: int = 1
    """Batches in one step."""
    precision: Precision = Precision.BF16
    device: str = "cpu"
    """`cpu` or `cuda`."""
    workers: int = 2
    """Processes that make batches."""
    seed: int = 0
    validate_every: int = 200
    """Steps; then a checkpoint is written, too."""
    patience: int = 0
    """Validations without a better one, after which the run ends; 0 for as many as there are."""
    least = {
        "steps": 0, "until": 0, "batch_size": 2, "views_per_class": 1, "accumulate": 1, "workers": 0,
        "validate_every": 1, "patience": 0, "seed": 0, "may_lose": 0,
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [one.name for one in self.source]
        if len(set(names)) < len(names):
            raise ValueError("two sources have the same name")
        teachers = (self.distillation,) if self.distillation else ()
        if not self.loss and not teachers and not self.segmentation:
            raise ValueError("there is nothing to learn: neither a loss, nor a distillation, nor a segmentation")
        for name in (name for one in (*self.loss, *teachers) for name in one.on):
            if name not in names:
                raise ValueError(f"{name!r} is none of the sources: {', '.join(names)}")
        if self.until > self.steps:
            raise ValueError(f"until is {self.until}, and must be at most steps, which are {self.steps}")
        if not all(0 < share < 1 for share in self.blends):
            raise ValueError(f"blends {list(self.blends)} hold a share that does not lie between 0 and 1")
        if self.network and self.start.checkpoint:
            raise ValueError("a checkpoint to start from has its own network: leave out the table `network`")
        if self.start.checkpoint and self.start.weights:
            raise ValueError("start either from a checkpoint or from weights of the backbone")

    @property
    def last_step(self) -> int:
        """The step that the run ends with."""
        return self.until or self.steps

    @property
    def spec(self) -> NetworkSpec:
        """Of a network that is not out of a checkpoint; BuildError where there is no such network."""
        return NetworkSpec.from_json(json.dumps(self.network))


def read_settings(path: Path) -> TrainingSettings:
    """The settings of a TOML file; paths in them are relative to its folder. BuildError is one sentence."""
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
        settings = msgspec.convert(written, TrainingSettings)
        _ = settings.spec
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.ValidationError, ValueError, BuildError) as error:
        raise BuildError(f"{path} is no training run: {error}") from error
    return _place(settings, path.parent)


def _place(settings: TrainingSettings, folder: Path) -> TrainingSettings:
    """With all paths made relative to the folder."""

    def place(path: str, *words: str) -> str:
        return path if not path or path in words else str(folder / path)

    replace = msgspec.structs.replace
    distillation = settings.distillation
    return replace(
        settings,
        start=replace(
            settings.start,
            checkpoint=place(settings.start.checkpoint),
            weights=place(settings.start.weights, "download"),
        ),
        source=tuple(replace(one, pictures=place(one.pictures)) for one in settings.source),
        floor=_place_describer(settings.floor, folder),
        validation=tuple(
            replace(one, queries=place(one.queries), gallery=place(one.gallery)) for one in settings.validation
        ),
        distillation=distillation and replace(distillation, teacher=_place_describer(distillation.teacher, folder)),
    )


def _place_describer(spelling: str, folder: Path) -> str:
    kind, colon, where = spelling.partition(":")
    return f"{kind}:{folder / where}" if colon and kind != "server" else spelling
