"""Bases that several test files share."""

import pytest

from pspsearch.domain import IndexKind
from pspsearch.index.bases.base import Base
from tests.index_bases import APPROXIMATE, KINDS, build


@pytest.fixture(scope="session")
def bases() -> dict[IndexKind, Base]:
    """One base of each kind over MATRIX; no test changes them."""
    return {kind: build(kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def base(request: pytest.FixtureRequest, bases: dict[IndexKind, Base]) -> Base:
    """Each base in turn."""
    return bases[request.param]


@pytest.fixture(params=APPROXIMATE)
def approximate(request: pytest.FixtureRequest, bases: dict[IndexKind, Base]) -> Base:
    """Each base that is not exact, in turn."""
    return bases[request.param]
