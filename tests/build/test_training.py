"""Training: it learns, continues where it stopped, and says in a sentence why it cannot."""

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2, resnet18

from pspsearch_build.data.masks import SUFFIX
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.describers import read_batches
from pspsearch_build.network.batch_norm import round_weights
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import DescriptorNetwork
from pspsearch_build.training.distillation import distil_scores
from pspsearch_build.training.fine_tuning import read_source
from pspsearch_build.training.losses import LossName
from pspsearch_build.training.settings import SourceSettings, ValidationSettings
from pspsearch_build.training.validation import read_tasks, standing
from tests.build.training_pictures import draw_patterns
from tests.build.training_runs import SMALL, Run

CLASSES = 8


@pytest.fixture(scope="module")
def patterns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight classes, with 18 pictures each to learn from (`train`) and six others (`new`)."""
    root = tmp_path_factory.mktemp("patterns")
    draw_patterns(root / "train", CLASSES, range(18))
    draw_patterns(root / "new", CLASSES, range(18, 24))
    return root


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that has not begun."""
    return Run(tmp_path / "run")


@pytest.fixture
def unlimited_files() -> Iterator[None]:
    """Removes the limit on the length of files at the end."""
    yield
    _unlimit_files()


def source(patterns: Path, **more: Any) -> dict[str, Any]:
    """The pictures to learn from."""
    return {"name": "patterns", "pictures": str(patterns / "train"), **more}


def validation(patterns: Path) -> dict[str, Any]:
    """The pictures that validate."""
    return {"name": "new", "queries": str(patterns / "new"), "gallery": str(patterns / "train")}


def figures(run: Run) -> list[dict[str, float]]:
    """The figures of every validation, without the speed."""
    lines = [json.loads(line) for line in (run.path / "figures.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "pictures/s"} for line in lines]


def test_training_finds_more(patterns: Path, run: Run) -> None:
    """New views of the patterns find their own class at least 0.15 more often than before training."""
    outcome = run.go(
        source=[source(patterns)],
        validation=[validation(patterns)],
        start={"pictures": 144},
        steps=80,
        batch_size=24,
        validate_every=40,
    )

    untrained, *_ = figures(run)
    assert untrained["step"] == 0
    assert outcome.figures["new R@1"] >= untrained["new R@1"] + 0.15
    assert outcome.figures["new mAP"] >= untrained["new mAP"] + 0.1


def test_a_gain_here_does_not_pay_for_a_loss_there() -> None:
    """The better network falls nowhere below its floor; among such networks, the higher mean gain wins."""
    floor = {"shoes R@1": 0.6, "shoes mAP": 0.5, "birds R@1": 0.6, "birds mAP": 0.5}
    networks = {
        "forgets": {"shoes R@1": 0.9, "shoes mAP": 0.9, "birds R@1": 0.58, "birds mAP": 0.5},
        "forgets less": {"shoes R@1": 0.7, "shoes mAP": 0.6, "birds R@1": 0.59, "birds mAP": 0.5},
        "start": floor,
        "learns": {"shoes R@1": 0.7, "shoes mAP": 0.6, "birds R@1": 0.598, "birds mAP": 0.5},
    }

    assert sorted(networks, key=lambda name: standing(networks[name], floor, 0.005)) == list(networks)


def test_a_run_can_end_before_its_rates_have_fallen(patterns: Path, run: Run, tmp_path: Path) -> None:
    """It makes the same steps as the longer run, and validates the last one whatever `validate_every` says."""
    what: dict[str, Any] = {"source": [source(patterns)], "validation": [validation(patterns)], "steps": 4}
    run.go(**what, validate_every=3, until=2)
    whole = Run(tmp_path / "whole")
    whole.go(**what, validate_every=2)

    assert figures(run) == figures(whole)[:2]
    with pytest.raises(BuildError, match="the run is at step 4 already, and was to end at 2"):
        whole.go(**what, until=2)
    assert [line["step"] for line in figures(whole)] == [0, 2, 4]


def test_no_steps_leave_the_start(patterns: Path, run: Run) -> None:
    """The start is validated once, and is the best."""
    outcome = run.go(source=[source(patterns)], validation=[validation(patterns)], steps=0)

    assert [line["step"] for line in figures(run)] == [0]
    assert outcome.figures["step"] == 0
    start = Checkpoint.load(run.path / "start.safetensors").network.state_dict()
    best = Checkpoint.load(run.path / "best.safetensors").network.state_dict()
    assert all(torch.allclose(best[name], start[name], rtol=2**-7, atol=1e-6) for name in start)


def test_a_validation_has_every_other_class_as_a_source_has(patterns: Path) -> None:
    """So classes that are not learnt do not influence which network is best, either."""
    settings = ValidationSettings(
        name="odd", queries=str(patterns / "new"), gallery=str(patterns / "train"), classes="odd"
    )

    task = read_tasks([settings])["odd"]

    learnt = read_source(SourceSettings(name="odd", pictures=str(patterns / "train"), classes="odd"))
    assert task.gallery is not None
    assert task.labels == learnt.pictures.labels
    assert task.gallery.labels == task.queries.labels == task.labels
    assert len(task.labels) == CLASSES / 2


def test_floor_is_of_whoever_is_named(patterns: Path, run: Run) -> None:
    """Here it is the floor of colours; by default it is the start's own."""
    what: dict[str, Any] = {"source": [source(patterns)], "validation": [validation(patterns)], "steps": 2}

    against_colours = run.go(**what, floor="hsv")
    against_itself = Run(run.path / "other").go(**what)

    untrained, *_ = figures(run)
    assert against_colours.floor.keys() == against_itself.floor.keys() == {"new R@1", "new mAP"}
    assert against_itself.floor["new mAP"] == untrained["new mAP"]
    assert against_colours.floor["new mAP"] != untrained["new mAP"]
    assert untrained["least gain"] == pytest.approx(
        min(untrained[name] - floor for name, floor in against_colours.floor.items())
    )


def test_networks_towards_the_start_are_candidates(patterns: Path, run: Run) -> None:
    """They are validated last and do not set the floor; the best of all is kept, also if the run starts again."""
    what: dict[str, Any] = {"source": [source(patterns)], "validation": [validation(patterns)]}

    outcome = run.go(**what, blends=[0.75, 0.25])
    once = figures(run)
    again = run.go(**what, blends=[0.75, 0.25])

    assert [(line["step"], line.get("blend")) for line in once] == [
        (0, None), (2, None), (4, None), (4, 0.25), (4, 0.75),
    ]  # fmt: skip
    assert len({line["new mAP"] for line in once}) > 2
    best = max(once, key=lambda line: standing(line, outcome.floor, 0.005))
    assert {name: value for name, value in outcome.figures.items() if name != "pictures/s"} == best
    assert figures(run) == once
    assert again.figures == outcome.figures


def test_best_may_be_on_the_way_back(patterns: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file then holds the blend, and says so; steps that were no better still count as waited."""
    found = iter([0.5, 0.4, 0.3, 0.6])  # the start, two steps, and a quarter of the way back

    def validate(*_: object) -> dict[str, float]:
        return {"new R@1": next(found)}

    monkeypatch.setattr("pspsearch_build.training.fine_tuning.validate", validate)

    outcome = run.go(source=[source(patterns)], validation=[validation(patterns)], blends=[0.25])

    start, trained, name = run.start.state_dict(), run.folder.load(), "head.projection.weight"
    assert trained is not None
    expected = torch.lerp(start[name], trained["trainer"]["average"][f"module.{name}"], 0.25)
    kept = Checkpoint.load(run.folder.best)
    torch.testing.assert_close(kept.network.state_dict()[name], expected, atol=1e-6, rtol=2**-7)  # rounded to bf16
    assert (kept.provenance["step"], kept.provenance["blend"]) == ("4", "0.25")
    assert outcome.waited == 2


def test_run_begins_with_what_the_weights_know(patterns: Path, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """With a trained backbone, its own channels count at first and the fusion's do not; leaks are logged."""
    weights = run.path.with_name("resnet18.safetensors")
    torch.manual_seed(0)
    save_file(resnet18(weights=None).state_dict(), weights)
    same = {"name": "same", "queries": str(patterns / "train")}

    run.go(source=[source(patterns)], validation=[same], start={"weights": str(weights), "pictures": 144}, steps=2)

    projection = run.start.head.projection.weight.reshape(128, 2, -1)  # parts and GeM
    assert not projection[:, :, :32].any()
    assert projection[:, :, 32:].any(dim=2).all()
    assert "of the queries of 'same' are nearly the same as pictures that are trained on (patterns)" in caplog.text
    assert run.best.head.projection.weight.isfinite().all()


def test_resuming_equals_not_stopping(patterns: Path, run: Run, tmp_path: Path) -> None:
    """A run that broke off after a checkpoint ends with the same bits, dropout and average included."""
    what: dict[str, Any] = {
        "source": [source(patterns)],
        "validation": [validation(patterns)],
        "loss": [{"name": "proxy_anchor"}, {"name": "triplet", "options": {"triplets": "hard"}}],
        "distillation": {"weight": 0.5},
        "accumulate": 2,
        "steps": 4,
        "blends": [0.5],
    }
    broken = Run(tmp_path / "broken")
    run.go(**what)

    with pytest.raises(_PulledPlug):
        broken.go(_PullsPlug(after=3), **what)
    broken.go(**what)

    assert figures(broken) == figures(run)
    whole, resumed = run.folder.load(), broken.folder.load()
    assert whole is not None
    assert resumed is not None
    assert resumed["trainer"]["step"] == 4
    torch.testing.assert_close(resumed["trainer"], whole["trainer"], rtol=0, atol=0)


def test_workers_change_nothing(patterns: Path, run: Run, tmp_path: Path) -> None:
    """However many processes make the batches, each step learns the same."""
    alone: list[dict[str, float]] = []
    helped: list[dict[str, float]] = []

    run.go(alone, source=[source(patterns)], steps=3)
    Run(tmp_path / "helped").go(helped, source=[source(patterns)], steps=3, workers=2)

    assert helped == alone


@pytest.mark.parametrize("name", LossName)
def test_every_loss_runs(name: LossName, patterns: Path, run: Run) -> None:
    """Each gives a finite number and changes the network."""
    told: list[dict[str, float]] = []

    run.go(told, source=[source(patterns)], loss=[{"name": name.value}], steps=3, validate_every=3)

    assert all(0 < one[name.value] < 1000 for one in told)
    assert not torch.equal(run.best.head.projection.weight, run.start.head.projection.weight)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_alike(precision: str, patterns: Path, run: Run, tmp_path: Path) -> None:
    """At each step the loss is within a twentieth of FP32's: eight bits of precision, through eighteen layers."""
    half: list[dict[str, float]] = []
    full: list[dict[str, float]] = []
    what: dict[str, Any] = {"source": [source(patterns)], "batch_size": 8, "steps": 5, "validate_every": 5}

    run.go(half, **what, precision=precision)
    Run(tmp_path / "full").go(full, **what)

    assert [one["loss"] for one in half] == pytest.approx([one["loss"] for one in full], rel=0.05)


def test_pictures_without_labels_are_pairs(patterns: Path, run: Run) -> None:
    """Two views of one picture are drawn together, beside labelled classes."""
    unlabelled = {"name": "loose", "pictures": str(patterns / "new"), "labelled": False}
    loss = [{"name": "multi_similarity"}, {"name": "proxy_anchor", "on": ["patterns"]}]
    told: list[dict[str, float]] = []

    run.go(told, source=[source(patterns), unlabelled], loss=loss, steps=2)

    assert told[0].keys() == {"multi_similarity", "proxy_anchor patterns", "loss"}
    assert all(one["multi_similarity"] > 0 for one in told)


def test_distillation_keeps_what_the_start_knew(patterns: Path, run: Run, tmp_path: Path) -> None:
    """Distillation keeps the scores of new pictures nearer to those of the start, by at least a tenth."""
    loose, held = Run(tmp_path / "loose"), run
    what: dict[str, Any] = {
        "source": [source(patterns)],
        "batch_size": 16,
        "steps": 24,
        "validate_every": 24,
        "start": {"pictures": 144},
        "network": {**SMALL, "dropout": 0.0},
        "optimiser": {"train_statistics": False, "backbone_learning_rate": 1e-4},
    }

    loose.go(**what)
    held.go(**what, distillation={"weight": 20.0})

    assert _drift(held, patterns) < 0.9 * _drift(loose, patterns)


def test_teacher_may_be_a_bare_backbone(patterns: Path, run: Run, tmp_path: Path) -> None:
    """Its vectors are longer than descriptors, and it sees the same views."""
    save_file(mobilenet_v2().state_dict(), tmp_path / "weights.safetensors")
    told: list[dict[str, float]] = []

    run.go(
        told,
        source=[source(patterns)],
        loss=[],
        distillation={"teacher": f"average:{tmp_path}/weights.safetensors"},
        network={**SMALL, "input": {"height_px": 256, "width_px": 256, "fit": "crop"}},
        steps=1,
    )

    assert told[0].keys() == {"distillation", "loss"}
    assert 0 < told[0]["distillation"] < 1.5


@pytest.mark.parametrize(
    ("teacher", "sentence"),
    [
        ("hsv", "'hsv' is no teacher: use start, checkpoint:FILE"),
        ("average:weights.safetensors", "the teacher average:weights.safetensors takes other pixels than the network"),
    ],
)
def test_not_everybody_is_a_teacher(
    patterns: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: str, sentence: str
) -> None:
    """A teacher that gives no scores for these pixels is refused in a sentence."""
    save_file(mobilenet_v2().state_dict(), tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(BuildError) as raised:
        run.go(source=[source(patterns)], distillation={"teacher": teacher})

    assert sentence in str(raised.value)


def test_segmentation_is_learnt_beside(run: Run, tmp_path: Path) -> None:
    """With masks that separate dark from bright, the pixels' loss falls; pictures without a mask change nothing."""
    masked = draw_patterns(tmp_path / "masked", CLASSES, range(6))
    for path in sorted(masked.rglob("*.png"))[::2]:
        grey = np.asarray(Image.open(path).convert("L"))
        Image.fromarray((grey > 128).astype(np.uint8)).save(path.with_suffix(SUFFIX))
    told: list[dict[str, float]] = []

    run.go(
        told,
        source=[{"name": "masked", "pictures": str(masked)}],
        segmentation={"weight": 1.0},
        network={**SMALL, "segmentation_classes": 2},
        batch_size=16,
        steps=16,
        validate_every=16,
    )

    losses = [one["segmentation"] for one in told]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_segmentation_needs_classes(patterns: Path, run: Run) -> None:
    """The network must have them."""
    with pytest.raises(BuildError, match="needs a network with `segmentation_classes`"):
        run.go(source=[source(patterns)], segmentation={"weight": 1.0})


def test_frozen_blocks_and_held_statistics_stay(patterns: Path, run: Run) -> None:
    """The first blocks keep every bit; without `train_statistics`, so do the backbone's means."""
    run.go(source=[source(patterns)], optimiser={"frozen_blocks": 5, "train_statistics": False})

    before, after = _rounded(run.start), run.best.state_dict()
    for name in after:
        if name.startswith("trunk.backbone") and "running" in name:
            assert torch.equal(after[name], before[name]), name
        if name.startswith("trunk.backbone.early.layer1") and name.endswith("conv1.weight"):
            assert torch.equal(after[name], before[name]), name
    moved = "trunk.backbone.late.layer4.0.conv1.weight"
    assert not torch.equal(after[moved], before[moved])


def test_head_moves_first(patterns: Path, run: Run) -> None:
    """During `head_steps` the backbone's weights stay the same."""
    run.go(source=[source(patterns)], optimiser={"head_steps": 4, "train_statistics": False})

    before, after = _rounded(run.start), run.best.state_dict()
    assert torch.equal(after["trunk.backbone.early.conv1.weight"], before["trunk.backbone.early.conv1.weight"])
    assert not torch.equal(after["head.projection.weight"], before["head.projection.weight"])


@pytest.mark.parametrize(("penalty", "decay", "zeros"), [("l1", 20.0, True), ("l2", 1000.0, False)])
def test_decay(penalty: str, decay: float, zeros: bool, patterns: Path, run: Run) -> None:
    """Both make weights smaller; only L1 makes some of them 0."""
    optimiser = {"penalty": penalty, "decay": decay, "learning_rate": 1e-4, "average": 0.0}

    run.go(source=[source(patterns)], optimiser=optimiser)

    weight = run.best.head.projection.weight
    assert weight.abs().mean() < 0.95 * run.start.head.projection.weight.abs().mean()
    assert bool((weight == 0).any()) is zeros


def test_patience_ends_a_run(patterns: Path, run: Run) -> None:
    """If nothing improves, the best network is the start, and the run stops early."""
    told: list[dict[str, float]] = []
    still = {"learning_rate": 1e-30, "backbone_learning_rate": 0.0, "train_statistics": False}
    same = {"pictures": str(patterns / "train")}

    outcome = run.go(
        told,
        source=[source(patterns, **same)],
        validation=[validation(patterns)],
        optimiser=still,
        steps=20,
        validate_every=2,
        patience=2,
    )

    assert len(told) < 20
    assert outcome.waited == 2


def test_nan_is_a_sentence_and_the_run_goes_on(patterns: Path, run: Run) -> None:
    """The last checkpoint holds no NaN; with a lower rate the run continues from it."""
    what: dict[str, Any] = {"source": [source(patterns)], "steps": 30}

    with pytest.raises(BuildError, match=r"the loss became nan in step .*: lower the learning rates"):
        run.go(**what, optimiser={"learning_rate": 1e30, "warm_up_steps": 0, "clip": 1e30})

    saved = run.folder.load()
    assert saved is not None
    reached = saved["trainer"]["step"]
    told: list[dict[str, float]] = []
    run.go(told, **{**what, "steps": reached + 2})
    assert len(told) == 2


@pytest.mark.usefixtures("unlimited_files")
def test_full_disk_is_a_sentence_and_the_run_goes_on(patterns: Path, run: Run) -> None:
    """If a checkpoint finds no room, the one before it stays whole."""
    what: dict[str, Any] = {"source": [source(patterns)], "steps": 4}

    with pytest.raises(BuildError, match=r"cannot be written: File too large"):
        run.go(_FillsDisk(after=3), **what)
    _unlimit_files()

    saved = run.folder.load()
    assert saved is not None
    assert saved["trainer"]["step"] == 2
    run.go(**what)
    assert [line["step"] for line in figures(run)] == [0, 2, 4]


def test_other_pictures_are_refused(patterns: Path, run: Run) -> None:
    """A run does not continue with data that it did not begin with."""
    run.go(source=[source(patterns)], steps=2)

    with pytest.raises(BuildError, match=r"the pictures are not those that the run in .* began with"):
        run.go(source=[{"name": "patterns", "pictures": str(patterns / "new")}], steps=4)


def test_other_losses_are_refused(patterns: Path, run: Run) -> None:
    """A run does not continue with losses whose parameters it does not have."""
    run.go(source=[source(patterns)], steps=2)

    with pytest.raises(BuildError, match="of another network, or of other losses or sources"):
        run.go(source=[source(patterns)], loss=[{"name": "contrastive"}], steps=4)


def test_damaged_checkpoint_is_a_sentence(patterns: Path, run: Run) -> None:
    """The error names it."""
    run.go(source=[source(patterns)], steps=2)
    (run.path / "last.pt").write_bytes(b"not a checkpoint")

    with pytest.raises(BuildError, match=r"last\.pt cannot be read as a checkpoint"):
        run.go(source=[source(patterns)], steps=4)


class _PulledPlug(Exception):
    """The end of a process, as far as the run can tell."""


class _PullsPlug(list[dict[str, float]]):
    """Raises after so many steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def append(self, told: dict[str, float]) -> None:
        super().append(told)
        if len(self) == self._after:
            raise _PulledPlug


class _FillsDisk(list[dict[str, float]]):
    """Limits files to a megabyte after so many steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def append(self, told: dict[str, float]) -> None:
        super().append(told)
        if len(self) == self._after:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))


def _unlimit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _drift(run: Run, patterns: Path) -> float:
    """How far the scores of new pictures are from those of the start."""
    paths = sorted((patterns / "new").rglob("*.png"))
    pixels = torch.from_numpy(next(read_batches(paths, run.start.spec.input)))
    with torch.inference_mode():
        before, after = (network(pixels)[0] for network in (run.start, run.best))
    return float(distil_scores(after, before))


def _rounded(network: DescriptorNetwork) -> dict[str, torch.Tensor]:
    """The network's tensors as they are saved."""
    round_weights(network)
    return network.state_dict()
