"""The distribution as a user gets it: a wheel in an empty environment, without what building needs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import load_photo

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel and its cpu extra, at the locked versions."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "build", "--quiet", "--wheel", "--out-dir", str(folder)], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv")], check=True)
    programs = folder / "venv" / "bin"
    install = [*uv, "pip", "install", "--quiet", "--python", str(programs / "python")]
    subprocess.run([*install, "--constraint", str(ROOT / "requirements.lock"), f"{wheel}[cpu]"], check=True)
    return programs


def test_wheel_describes_without_torch(installed: Path, tmp_path: Path) -> None:
    """The wheel contains the shipped model, and neither torch nor onnx is installed."""
    load_photo().save(tmp_path / "a.jpg")
    for absent in ("torch", "onnx", "onnxruntime"):
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({absent!r}) is not None)"
        subprocess.run([str(installed / "python"), "-c", code], check=True)

    said = subprocess.run(
        [str(installed / "pspsearch"), "describe", "a.jpg"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    line = json.loads(said.stdout)
    assert line["image"] == "a.jpg"
    assert abs(np.linalg.norm(line["descriptor"]) - 1) < 1e-5


def test_wheel_holds_the_sample_gallery(installed: Path) -> None:
    """The wheel contains what `serve --sample` puts in."""
    code = "from pspsearch.app.sample import read_gallery; print(len(read_gallery()))"
    said = subprocess.run([str(installed / "python"), "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout == "360\n"


def test_help_says_what_there_is(installed: Path) -> None:
    """Both programs answer, even the one that builds, because it imports torch only when it needs it."""
    for program, command in (("pspsearch", "describe"), ("pspsearch-build", "publish")):
        said = subprocess.run([str(installed / program), "--help"], capture_output=True, text=True, check=True)

        assert command in said.stdout
