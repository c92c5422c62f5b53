"""Networks on disk."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pspsearch_build.errors import BuildError, WeightsMismatch
from pspsearch_build.network.checkpoint import Checkpoint
from pspsearch_build.network.descriptor_network import build_network
from tests.build.crops import cut_crops
from tests.build.small_networks import SMALL, small_checkpoint


def test_a_checkpoint_survives_the_disk(tmp_path: Path) -> None:
    """Spec, provenance and every answer come back, bit for bit."""
    checkpoint = small_checkpoint()
    checkpoint.save(tmp_path / "network.safetensors")

    loaded = Checkpoint.load(tmp_path / "network.safetensors")

    assert loaded.network.spec == SMALL
    assert loaded.provenance == checkpoint.provenance
    assert "none" in loaded.provenance["training"]
    pixels = torch.from_numpy(cut_crops(2, SMALL.input))
    with torch.inference_mode():
        for output, expected in zip(loaded.network(pixels), checkpoint.network(pixels), strict=True):
            assert torch.equal(output, expected)


def test_the_same_network_is_the_same_file(tmp_path: Path) -> None:
    """So a digest tells whether two checkpoints are the same."""
    for name in ("a", "b"):
        Checkpoint(build_network(SMALL), {"x": "1", "y": "2", "z": "3"}).save(tmp_path / name)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_saving_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    """The older checkpoint is replaced; no temporary file stays."""
    path = tmp_path / "network.safetensors"
    path.write_bytes(b"older")

    Checkpoint(build_network(SMALL)).save(path)

    assert Checkpoint.load(path).network.spec == SMALL
    assert list(tmp_path.iterdir()) == [path]


def test_saving_into_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(BuildError, match=r"none/network\.safetensors cannot be written"):
        Checkpoint(build_network(SMALL)).save(tmp_path / "none" / "network.safetensors")


def test_weights_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    """A file of tensors without a spec is not a checkpoint."""
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")

    with pytest.raises(BuildError, match=r"x\.safetensors is not a checkpoint"):
        Checkpoint.load(tmp_path / "x.safetensors")


def test_a_checkpoint_with_a_tensor_missing_is_refused(tmp_path: Path) -> None:
    """Loading is strict, and the error names what is missing."""
    path = tmp_path / "network.safetensors"
    network = build_network(replace(SMALL, cells=False))
    Checkpoint(network).save(path)
    tensors = load_file(path)
    del tensors["head.projection.bias"]
    about = {"pspsearch": f'{{"spec": {_quoted(network.spec.to_json())}, "provenance": {{}}}}'}
    save_file(tensors, path, about)

    with pytest.raises(WeightsMismatch, match=r"network\.safetensors .*head\.projection\.bias is missing"):
        Checkpoint.load(path)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '\\"') + '"'
