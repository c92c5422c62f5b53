"""Takes training steps: one network, its losses and its average."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from pspsearch_build.data.batches import Batch
from pspsearch_build.data.masks import UNKNOWN
from pspsearch_build.errors import BuildError
from pspsearch_build.evaluation.retrieval import Descriptors
from pspsearch_build.forms import Pixels
from pspsearch_build.network.descriptor_network import DescriptorNetwork
from pspsearch_build.network.pooled_backbone import PooledBackbone
from pspsearch_build.training.blending import blend
from pspsearch_build.training.distillation import distil_scores
from pspsearch_build.training.losses import Loss, make_loss
from pspsearch_build.training.schedule import rate_at
from pspsearch_build.training.settings import DistillationSettings, LossSettings, Precision, TrainingSettings

Teacher = DescriptorNetwork | PooledBackbone
"""The network whose scores distillation keeps."""

_Network = TypeVar("_Network", bound=nn.Module)

_HALVES = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


_FIRST_SCALE = 1024.0
"""The first scale of FP16 losses. PyTorch's 65536 makes the first gradients infinite, so the first steps do nothing."""


class _Term(NamedTuple):
    """A loss with its settings."""

    name: str
    weight: float
    sources: Tensor
    """The numbers of the sources that it sees."""
    loss: Loss | None
    """None for the distillation."""


class Trainer:
    """Everything that changes in a run. The same batches and state give the same step, also after a restart."""

    def __init__(
        self, network: DescriptorNetwork, classes: int, settings: TrainingSettings, teacher: Teacher | None
    ) -> None:
        """Trains the network in place. The teacher answers in eval mode and never changes."""
        self._settings, self._device = settings, torch.device(settings.device)
        self._network = _place(network, self._device)
        self._teacher = teacher and _place(teacher, self._device).eval()
        places = {one.name: place for place, one in enumerate(settings.source)}
        self._terms = [self._make_term(one, classes, places) for one in settings.loss]
        if settings.distillation:
            self._terms.append(self._distil(settings.distillation, places))
        self._losses = nn.ModuleList(term.loss for term in self._terms if term.loss)
        self._average = AveragedModel(self._network, avg_fn=self._mix, use_buffers=True)
        self._moving = list(_freeze(self._network, settings.optimiser.frozen_blocks))
        self._optimiser = torch.optim.AdamW(self._groups(), weight_decay=0.0, fused=True)
        self._scaler = torch.amp.GradScaler(
            self._device.type, init_scale=_FIRST_SCALE, enabled=settings.precision is Precision.FP16
        )
        self.step = 0
        """How many steps have been made."""

    @property
    def averaged(self) -> DescriptorNetwork:
        """The network's moving average, in eval mode, which is validated and saved. Do not change it."""
        average = self._average.module
        assert isinstance(average, DescriptorNetwork)
        return average.eval()

    def go_back(self, start: DescriptorNetwork, share: float) -> DescriptorNetwork:
        """The network that is `share` of the way from `start` to the averaged network."""
        return _place(blend(start, copy.deepcopy(self.averaged).cpu(), share), self._device)

    @torch.inference_mode()
    def describe(self, network: DescriptorNetwork, pixels: Pixels) -> Descriptors:
        """Describes pixels [batch, height_px, width_px, 3] with a network in eval mode, in the run's precision."""
        rows = _describe(network, self._fuse(network, torch.from_numpy(pixels).to(self._device))[1])
        return np.asarray(rows.cpu().numpy(), np.float32)

    def take_step(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Learns from the batches together; returns each loss by its name, and the weighted sum as `loss`.

        Raises BuildError if the sum is not finite; no weight has changed then.
        """
        torch.manual_seed(hash((self._settings.seed, self.step)))
        self._network.train()
        if not self._settings.optimiser.train_statistics:
            _hold_statistics(self._network.trunk.backbone)
        self._set_rates()
        self._optimiser.zero_grad(set_to_none=True)
        parts = [self._learn(batch, 1 / len(batches)) for batch in batches]
        told = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
        if not math.isfinite(told["loss"]):
            raise BuildError(
                f"the loss became {told['loss']} in step {self.step}: lower the learning rates, and go on from the "
                "last checkpoint"
            )
        self._scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self._moving, self._settings.optimiser.clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._decay()
        self._average.update_parameters(self._network)
        self.step += 1
        return told

    def state(self) -> dict[str, Any]:
        """The whole state, in tensors and plain values."""
        return {
            "step": self.step,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned. Raises BuildError if it is of another network or has other losses."""
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.step = int(state["step"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise BuildError("the run's checkpoint is of another network, or of other losses or sources") from error

    def _parts(self) -> dict[str, Any]:
        return {
            "network": self._network,
            "average": self._average,
            "losses": self._losses,
            "optimiser": self._optimiser,
            "scaler": self._scaler,
        }

    def _make_term(self, settings: LossSettings, classes: int, places: Mapping[str, int]) -> _Term:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._settings.seed)
            loss = make_loss(settings.name, classes, self._network.spec.dimension, settings.options)
        name = " ".join((settings.name, *settings.on))
        return _Term(name, settings.weight, self._sources(settings.on, places), loss.to(self._device))

    def _distil(self, settings: DistillationSettings, places: Mapping[str, int]) -> _Term:
        assert self._teacher is not None, "a distillation without a teacher"
        return _Term("distillation", settings.weight, self._sources(settings.on, places), None)

    def _sources(self, names: Sequence[str], places: Mapping[str, int]) -> Tensor:
        return torch.tensor([places[name] for name in names or places], device=self._device)

    def _groups(self) -> list[dict[str, Any]]:
        """The parameter groups: the backbone, what comes after it, and the losses' own parameters."""
        backbone = {id(one) for one in self._network.trunk.backbone.parameters()}
        return [
            {"params": [one for one in self._moving if id(one) in backbone]},
            {"params": [one for one in self._moving if id(one) not in backbone]},
            {"params": list(self._losses.parameters())},
        ]

    def _set_rates(self) -> None:
        """Sets the rates from the settings, not from a checkpoint, because they may have changed since."""
        optimiser = self._settings.optimiser
        share = rate_at(self.step, self._settings.steps, optimiser.warm_up_steps)
        backbone = optimiser.backbone_learning_rate if self.step >= optimiser.head_steps else 0.0
        rates = (backbone, optimiser.learning_rate, optimiser.classes_learning_rate)
        for group, rate in zip(self._optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * share

    def _learn(self, batch: Batch, share: float) -> dict[str, float]:
        """Adds the gradient of `share` of the batch's losses; returns the losses."""
        pixels, labels, sources, masks = (part.to(self._device, non_blocking=True) for part in batch)
        early, fused = self._fuse(self._network, pixels)
        descriptors = _describe(self._network, fused)
        told: dict[str, Tensor] = {}
        total = torch.zeros((), device=self._device)
        if self._settings.segmentation:
            value = self._segment(self._settings.segmentation.auxiliary, early, fused, masks)
            total = total + self._settings.segmentation.weight * value
            told["segmentation"] = value.detach()
        for term in self._terms:
            rows = torch.isin(sources, term.sources)
            value = (
                term.loss(descriptors[rows], labels[rows])
                if term.loss
                else self._distillation(descriptors[rows], pixels[rows])
            )
            total = total + term.weight * value
            told[term.name] = told.get(term.name, 0) + value.detach()
        if torch.isfinite(total):
            self._scaler.scale(total * share).backward()
        return {name: float(value) for name, value in (told | {"loss": total.detach()}).items()}

    def _distillation(self, descriptors: Tensor, pixels: Tensor) -> Tensor:
        if len(pixels) < 3:
            return descriptors.sum() * 0
        return distil_scores(descriptors, self._teach(pixels))

    @torch.no_grad()
    def _teach(self, pixels: Tensor) -> Tensor:
        """The teacher's descriptors."""
        if isinstance(self._teacher, DescriptorNetwork):
            return _describe(self._teacher, self._fuse(self._teacher, pixels)[1])
        assert self._teacher is not None
        with self._autocast():
            return cast("Tensor", self._teacher(pixels))

    def _segment(self, auxiliary: float, early: Tensor, fused: Tensor, masks: Tensor) -> Tensor:
        """Cross-entropy over the pixels whose class is known."""
        assert self._network.segmentation is not None, "the spec has no segmentation classes"
        with self._autocast():
            logits = self._network.segmentation(fused, early)
        known = masks.long()
        count = (known != UNKNOWN).sum().clamp_min(1)
        late, soon = (
            nn.functional.cross_entropy(one.float(), known, ignore_index=UNKNOWN, reduction="sum") / count
            for one in logits
        )
        return late + auxiliary * soon

    def _fuse(self, network: DescriptorNetwork, pixels: Tensor) -> tuple[Tensor, Tensor]:
        with self._autocast():
            return network.fuse(pixels)

    def _autocast(self) -> AbstractContextManager[Any]:
        half = _HALVES.get(self._settings.precision)
        return torch.autocast(self._device.type, half or torch.bfloat16, enabled=half is not None)

    @torch.no_grad()
    def _decay(self) -> None:
        """Decays kernels and layers, but not biases or BatchNorm's parameters; independent of the gradients."""
        settings = self._settings.optimiser
        for group in self._optimiser.param_groups[:2]:
            strength = group["lr"] * settings.decay
            for weight in (one for one in group["params"] if one.ndim > 1 and strength > 0):
                if settings.penalty == "l2":
                    weight.mul_(1 - strength)
                else:
                    weight.copy_(nn.functional.softshrink(weight, strength))

    def _mix(self, average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        """Mixes with a faster average at first, which would otherwise keep the start for long."""
        kept = min(self._settings.optimiser.average, (1 + int(count)) / (10 + int(count)))
        return average.lerp(current, 1 - kept) if average.is_floating_point() else current


def _place(network: _Network, device: torch.device) -> _Network:
    network.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's types omit it
    return network


def _describe(network: DescriptorNetwork, fused: Tensor) -> Tensor:
    return network.head.describe(network.head.pool(fused))


def _freeze(network: DescriptorNetwork, blocks: int) -> Iterator[nn.Parameter]:
    """Freezes the first blocks of the backbone, and returns the parameters left to train."""
    backbone = network.trunk.backbone
    for block in [*backbone.early.children(), *backbone.late.children()][:blocks]:
        block.requires_grad_(False)
    return (one for one in network.parameters() if one.requires_grad)


def _hold_statistics(backbone: nn.Module) -> None:
    for layer in backbone.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
