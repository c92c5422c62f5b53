"""Everything that can go wrong, a few times; `make faults` tries it many times."""

from collections.abc import AsyncIterator

import pytest

from tests.faults.faults import FAULTS, Fault
from tests.faults.place import Place, open_place


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """The place that all faults share."""
    async with open_place(tmp_path_factory.mktemp("faults")) as place:
        yield place


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS if fault.few])
async def test_fault(place: Place, fault: Fault) -> None:
    """The fault leaves nothing lost, nothing wrong and nothing unreported."""
    found = await fault.check(place, fault.few)

    print(found)
    assert found
