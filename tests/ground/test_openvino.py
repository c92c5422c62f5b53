"""OpenVINO without its telemetry."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pspsearch.model.repository import default_repository

REFUSE = """
import os, sys

def refuse(event, _):
    if event in ("os.fork", "socket.connect"):
        os._exit(3)

sys.addaudithook(refuse)
"""

REFUSALS = {"CI", "TF_BUILD", "JENKINS_URL"}  # OpenVINO calls nobody from such machines

PROGRAM = f"""
import runpy, sys, types

sys.modules["triton_python_backend_utils"] = types.ModuleType("of Triton")
runpy.run_path({str(default_repository() / "pspnet" / "1" / "model.py")!r})
"""


@pytest.mark.parametrize(
    ("imports", "code"),
    [
        ("import pspsearch.embedded.network", 0),
        ("import pspsearch_build.forms", 0),
        (PROGRAM, 0),
        ("import openvino", 3),  # if this fails, OpenVINO no longer does it, and pspsearch.openvino is of no use
    ],
)
def test_nobody_is_told_that_openvino_is_used(imports: str, code: int, tmp_path: Path) -> None:
    """The process is not forked, and calls nobody, until its end."""
    environment = {name: value for name, value in os.environ.items() if name not in REFUSALS}
    environment["HOME"] = str(tmp_path)  # where nobody has refused

    ran = subprocess.run([sys.executable, "-c", REFUSE + imports], env=environment, check=False)

    assert ran.returncode == code
