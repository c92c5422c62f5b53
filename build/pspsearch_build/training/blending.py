"""Between a network and what it was trained from: much of what was learnt, and less of what was forgotten."""

import torch

from pspsearch_build.errors import BuildError
from pspsearch_build.network.batch_norm import round_weights
from pspsearch_build.network.descriptor_network import DescriptorNetwork, build_network


def blend(start: DescriptorNetwork, trained: DescriptorNetwork, share: float) -> DescriptorNetwork:
    """The network whose every weight and statistic is `share` of the way from the one to the other.

    BuildError where the two are not of one spec, or the share is not from 0 to 1.
    """
    if start.spec != trained.spec:
        raise BuildError("the two networks have different specs, and nothing lies between them")
    if not 0 <= share <= 1:
        raise BuildError(f"the share is {share}, and must be from 0 to 1")
    blended, ends = build_network(start.spec), trained.state_dict()
    blended.load_state_dict(
        {
            name: torch.lerp(tensor, ends[name], share) if tensor.is_floating_point() else ends[name]
            for name, tensor in start.state_dict().items()
        }
    )
    round_weights(blended)
    return blended
