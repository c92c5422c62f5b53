"""`pspsearch describe` as a process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pspsearch.triton.process import BundledTriton
from tests.pictures import claim_size, load_photo


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A photograph on disk."""
    load_photo().save(tmp_path / "a.jpg")
    return tmp_path / "a.jpg"


def describe(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    command = [sys.executable, "-m", "pspsearch", "describe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_prints_one_line_per_image_in_order(triton: BundledTriton, image: Path, tmp_path: Path) -> None:
    """Each line keeps its promises, in the order of the arguments."""
    load_photo(number=1).save(tmp_path / "b.png")
    images = [image, tmp_path / "b.png"] * 30

    said = describe("--triton", triton.address, *images)

    lines = [json.loads(line) for line in said.stdout.splitlines()]
    assert said.returncode == 0, said.stderr
    assert [line["image"] for line in lines] == [str(path) for path in images]
    assert {(line["model"], line["version"], len(line["descriptor"])) for line in lines} == {("pspnet", 1, 256)}
    assert len({line["fingerprint"] for line in lines}) == 1
    descriptors = np.asarray([line["descriptor"] for line in lines])
    assert (descriptors[2:] * descriptors[:-2]).sum(axis=1).min() >= 0.9999


def test_a_box_is_described_as_a_picture_of_that_part(triton: BundledTriton, tmp_path: Path) -> None:
    """And an image that is too small for it is refused alone."""
    load_photo().save(tmp_path / "whole.png")
    load_photo().crop((100, 50, 400, 350)).save(tmp_path / "part.png")

    said = describe("--triton", triton.address, tmp_path / "whole.png", tmp_path / "part.png", "--box=100,50,400,350px")
    alone = describe("--triton", triton.address, tmp_path / "part.png")

    (line,), (expected,) = ([json.loads(one) for one in text.stdout.splitlines()] for text in (said, alone))
    assert np.dot(line["descriptor"], expected["descriptor"]) >= 0.9999
    assert said.returncode == 1
    assert "the box 100,50,400,350px reaches beyond the picture, which has 300x300 px" in said.stderr


def test_bad_images_are_sentences_and_the_rest_is_described(triton: BundledTriton, image: Path, tmp_path: Path) -> None:
    """Each bad path gets a line on standard error, and the exit code is 1."""
    whole = image.read_bytes()
    bad = {"truncated.jpg": whole[: len(whole) // 2], "empty.jpg": b"", "random.jpg": b"\x07" * 99}
    bad["bomb.png"] = claim_size("PNG", 30_000, 30_000)
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)

    said = describe("--triton", triton.address, image, *(tmp_path / name for name in bad), tmp_path / "not", tmp_path)

    assert said.returncode == 1
    assert [json.loads(line)["image"] for line in said.stdout.splitlines()] == [str(image)]
    errors = said.stderr.splitlines()
    assert len(errors) == 6
    words = ["truncated", "empty", "no known format", "30000x30000", "No such file", "Is a directory"]
    for error, telling in zip(errors, words, strict=True):
        assert error.startswith("error: ")
        assert telling in error


def test_unreachable_triton_is_a_sentence(image: Path) -> None:
    """Nobody listens on port 1, and there is no stack trace."""
    said = describe("--triton", "127.0.0.1:1", image)

    assert said.returncode == 1
    assert said.stderr.startswith("error: ")
    assert "127.0.0.1:1" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_unknown_version_is_a_sentence(triton: BundledTriton, image: Path) -> None:
    """The sentence names the version that was asked for."""
    said = describe("--triton", triton.address, "--model-version", "7", image)

    assert said.returncode == 1
    assert "serves pspnet in version [1" in said.stderr
    assert len(said.stderr.splitlines()) == 1
