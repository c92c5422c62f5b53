"""Settings for all tests."""

import faulthandler
import os

import pytest
from hypothesis import settings

settings.register_profile("tests", deadline=None)  # a slow, busy machine is no failure
settings.load_profile("tests")


@pytest.hookimpl(trylast=True)  # after pytest's own, which would write where the output is captured, and then lost
def pytest_configure() -> None:
    """Has a worker process that crashes say where, in the output of the whole run."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        faulthandler.enable(os.open(f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_APPEND))
