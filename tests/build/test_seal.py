"""Sealing a configuration that was changed, or that an earlier release wrote."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from pspsearch.errors import DigestMismatch, PspsearchError
from pspsearch.model.config import check_config
from pspsearch.model.manifest import Manifest
from pspsearch.model.repository import default_repository
from pspsearch_build.cli.seal import seal as seal_command
from pspsearch_build.errors import PublishRefused
from pspsearch_build.seal import seal


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The shipped model, with a changed configuration."""
    model = Path(shutil.copytree(default_repository() / "pspnet", tmp_path / "pspnet"))
    config = model / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "bf16"', 'string_value: "f32"'))
    return model


def test_a_sealed_config_is_used_again(model: Path) -> None:
    """The change is deliberate: one command says so."""
    with pytest.raises(DigestMismatch, match="pspsearch-build seal"):
        check_config(model)

    answer = CliRunner().invoke(seal_command, ["--repository", str(model.parent)])

    assert answer.exit_code == 0, answer.output
    assert answer.output.startswith(f"{model / 'config.pbtxt'} has the digest ")
    check_config(model)
    assert 'string_value: "f32"' in (model / "config.pbtxt").read_text()


def test_sealing_the_same_again_changes_nothing(model: Path) -> None:
    """Sealing can be repeated."""
    first = seal(model)
    written = (model / "config.pbtxt").read_bytes()

    assert seal(model) == first
    assert (model / "config.pbtxt").read_bytes() == written


def test_changed_files_are_not_sealed(model: Path) -> None:
    """With or without a new manifest, the digest would hide that the files changed."""
    before = (model / "config.pbtxt").read_bytes()
    (model / "1" / "model.onnx").write_bytes(b"other weights")

    with pytest.raises(DigestMismatch, match="its sha256 differs"):
        seal(model)
    Manifest.of_files(model / "1").write(model / "1")
    with pytest.raises(PublishRefused, match="publish it under another number"):
        seal(model)

    assert (model / "config.pbtxt").read_bytes() == before


def test_a_mistyped_model_is_a_sentence(tmp_path: Path) -> None:
    """No folder is made for it."""
    with pytest.raises(PspsearchError, match=r"config\.pbtxt is not a Triton model configuration"):
        seal(tmp_path / "nosuch")

    assert list(tmp_path.iterdir()) == []
