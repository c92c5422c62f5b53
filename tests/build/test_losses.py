"""The losses of training, and the distillation of a teacher's knowledge."""

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor
from torch.nn import functional

from pspsearch_build.training.distillation import distil_scores
from pspsearch_build.training.losses import ON_PAIRS, LossName, LossOptions, make_loss

CLASSES, EACH, DIMENSION = 4, 4, 8
LABELS = torch.arange(CLASSES).repeat_interleave(EACH)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seeds torch, because every loss draws new class directions."""
    torch.manual_seed(0)


def bunches(spread: float) -> Tensor:
    """Rows around one axis per class."""
    noise = torch.randn(CLASSES * EACH, DIMENSION, generator=torch.Generator().manual_seed(1))
    return functional.normalize(torch.eye(CLASSES, DIMENSION)[LABELS] + spread * noise, dim=1)


@pytest.mark.parametrize("name", list(LossName))
def test_descent_brings_classes_together(name: LossName) -> None:
    """Scores within a class rise above those between classes, and every gradient is finite."""
    rows = torch.nn.Parameter(bunches(1.5))
    loss = make_loss(name, CLASSES, DIMENSION)
    optimiser = torch.optim.Adam([rows, *loss.parameters()], lr=0.02)
    before = contrast(rows)

    values: list[float] = []
    for _ in range(150):
        value = loss(functional.normalize(rows, dim=1), LABELS)
        optimiser.zero_grad()
        value.backward()
        assert rows.grad is not None
        assert torch.isfinite(rows.grad).all()
        optimiser.step()
        values.append(value.item())

    assert values[-1] < values[0]
    assert contrast(rows) > before + 0.3


def contrast(rows: Tensor) -> float:
    """The mean score within classes minus the mean between classes."""
    unit = functional.normalize(rows.detach(), dim=1)
    scores, same = unit @ unit.T, LABELS[:, None] == LABELS
    return float(scores[same & ~torch.eye(len(unit), dtype=torch.bool)].mean() - scores[~same].mean())


@pytest.mark.parametrize("name", list(LossName))
def test_rows_of_no_known_class_matter_to_pairs_alone(name: LossName) -> None:
    """Losses on pairs attract two views of one picture; losses on classes ignore them."""
    loss = make_loss(name, CLASSES, DIMENSION, replace(LossOptions(), triplets="all"))
    known = bunches(0.5)
    strangers = torch.nn.Parameter(functional.normalize(torch.randn(2, DIMENSION), dim=1))
    labels = torch.cat([LABELS, torch.tensor([CLASSES + 7, CLASSES + 7])])

    value = loss(torch.cat([known, strangers]), labels)
    value.backward()

    assert strangers.grad is not None
    if name in ON_PAIRS:
        assert strangers.grad.abs().max() > 0
    else:
        assert strangers.grad.abs().max() == 0
        assert value.item() == pytest.approx(loss(known, LABELS).item(), rel=1e-6)  # float32
        assert loss(strangers, labels[-2:]).item() == 0


def test_loss_is_computed_in_full_precision() -> None:
    """Descriptors may come from half precision."""
    loss = make_loss(LossName.ARCFACE, CLASSES, DIMENSION)

    assert loss(bunches(0.5).bfloat16(), LABELS).dtype is torch.float32


def test_distillation_is_nothing_where_scores_agree() -> None:
    """Rotations, other dimensions, and a teacher whose scores are all high carry the same information."""
    rows = functional.normalize(torch.randn(12, DIMENSION), dim=1)
    turning = torch.randn(DIMENSION, DIMENSION)
    rotation = torch.matrix_exp(turning - turning.T)
    raised = torch.cat([0.5 * rows, torch.full((12, 1), 0.75**0.5)], dim=1)

    assert distil_scores(rows, rows @ rotation).item() == pytest.approx(0, abs=1e-5)  # float32
    assert distil_scores(rows, raised).item() == pytest.approx(0, abs=1e-5)
    assert distil_scores(rows, functional.normalize(torch.randn(12, 5), dim=1)).item() > 0.5


def test_distillation_brings_scores_to_those_of_the_teacher() -> None:
    """The gradient alone does it; the teacher does not change."""
    teacher = torch.nn.Parameter(functional.normalize(torch.randn(12, 20), dim=1))
    rows = torch.nn.Parameter(torch.randn(12, DIMENSION))
    optimiser = torch.optim.Adam([rows], lr=0.05)
    for _ in range(200):
        value = distil_scores(functional.normalize(rows, dim=1), teacher)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    assert distil_scores(functional.normalize(rows, dim=1), teacher).item() < 0.1
    assert teacher.grad is None
