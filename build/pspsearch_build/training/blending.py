"""Mixes networks, to keep most of what they learnt and forget less."""

from collections.abc import Sequence

import torch

from pspsearch_build.errors import BuildError
from pspsearch_build.network.batch_norm import round_weights
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network


def blend(start: DescriptorNetwork, trained: DescriptorNetwork, share: float) -> DescriptorNetwork:
    """The network whose weights and statistics are `share` of the way from `start` to `trained`.

    Raises BuildError if the two have different specs, or the share is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise BuildError(f"the share is {share}, and must be from 0 to 1")
    return _mix([start, trained], [1 - share, share])


def average(trained: Sequence[Checkpoint]) -> Checkpoint:
    """The mean of at least two networks trained from one start, with a provenance that says so.

    What the networks have in common is what the pictures taught; what each learnt by chance cancels out. Raises
    BuildError if their specs differ.
    """
    if len(trained) < 2:
        raise BuildError("a mean needs at least two networks")
    mean = _mix([one.network for one in trained], [1 / len(trained)] * len(trained))
    told = {"mean": f"of {len(trained)} networks that were trained from one start"}
    return Checkpoint(mean, {**trained[0].provenance, **told})


def _mix(networks: Sequence[DescriptorNetwork], shares: Sequence[float]) -> DescriptorNetwork:
    first, states = networks[0], [network.state_dict() for network in networks]
    if any(network.spec != first.spec for network in networks):
        raise BuildError("the networks have different specs, and nothing lies between them")
    mixed = build_network(first.spec)
    mixed.load_state_dict({name: _mean([state[name] for state in states], shares) for name in states[0]})
    round_weights(mixed)
    return mixed


def _mean(tensors: Sequence[torch.Tensor], shares: Sequence[float]) -> torch.Tensor:
    """The weighted mean; for whole numbers, such as BatchNorm's count of batches, the last network's."""
    if not tensors[-1].is_floating_point():
        return tensors[-1]
    return sum((share * tensor for share, tensor in zip(shares, tensors, strict=True)), torch.zeros_like(tensors[0]))
