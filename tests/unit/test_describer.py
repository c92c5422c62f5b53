"""The Describer over Triton, where what Triton says is made up; with a real one it is held to the port's suite."""

from typing import Any

import numpy as np
import pytest

from pspsearch.errors import Overloaded
from pspsearch.triton.describer import TritonDescriber
from tests.fakes.describer import VERSION


class BusyClient:
    """Of a Triton whose queue is full."""

    async def infer(self, _request: Any, _timeout_s: float | None) -> Any:
        """Refused."""
        raise Overloaded("Triton's queue is full")


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_batches_that_fail_together_fail_as_one(count: int) -> None:
    """Whoever asked hears what is wrong, and not how many batches it was cut into."""
    client: Any = BusyClient()
    describer = TritonDescriber(client, VERSION, max_batch_size=2)

    with pytest.raises(Overloaded, match="queue is full"):
        await describer.describe(np.zeros((count, 32, 32, 3), np.uint8))
