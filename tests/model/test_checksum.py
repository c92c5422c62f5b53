"""The number that tells what an answer was computed from."""

import ast
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import pspsearch.model.checksum
from pspsearch.model.checksum import checksum
from pspsearch.model.repository import default_repository
from tests.fakes.triton import checksum_by_hand


def of_program(path: Path) -> Any:
    """The function of a published program, which otherwise runs only in Triton."""
    wanted = {"checksum", "_words", "_weights"}
    tree = ast.parse(path.read_text())
    tree.body = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name in wanted]
    names: dict[str, Any] = {"np": np, "NDArray": NDArray, "Any": Any, "lru_cache": lru_cache}
    exec(compile(tree, path, "exec"), names)  # noqa: S102 - a file of ours
    return names["checksum"]


@pytest.mark.parametrize("shape", [(1, 192, 192, 3), (3, 5, 7, 3), (2, 1, 1, 3)])
@pytest.mark.parametrize("dimension", [1, 5, 256])
def test_programs_and_server_count_alike(shape: tuple[int, ...], dimension: int) -> None:
    """Both agree with the sum by hand, whatever the sizes are."""
    chance = np.random.default_rng(dimension)
    pixels = chance.integers(0, 256, shape, np.uint8)
    descriptors = chance.standard_normal((shape[0], dimension), np.float32)
    in_triton = of_program(default_repository() / "pspnet" / "1" / "model.py")

    found = checksum(pixels, descriptors)

    assert found.shape == (shape[0], 1)
    assert found[:, 0].tolist() == checksum_by_hand(pixels, descriptors)
    np.testing.assert_array_equal(in_triton(pixels, descriptors), found)


@given(st.integers(0, 3071), st.integers(1, 255), st.integers(0, 2**32 - 1))
def test_another_pixel_or_descriptor_is_another_number(place: int, change: int, seed: int) -> None:
    """This holds however small the difference is, and also if the whole image is turned over."""
    chance = np.random.default_rng(seed)
    image = chance.integers(0, 256, (1, 32, 32, 3), np.uint8)
    descriptor = chance.standard_normal((1, 16), np.float32)
    other = image.copy()
    other.reshape(-1)[place] ^= change
    numbers = [
        int(checksum(pixels, answer)[0, 0])
        for pixels, answer in [
            (image, descriptor),
            (other, descriptor),
            (image[:, ::-1], descriptor),
            (image[:, :, ::-1], descriptor),
            (image, np.roll(descriptor, 1)),
            (image, -descriptor),
        ]
    ]

    assert len(set(numbers)) == len(numbers)


def test_shipped_program_is_the_one_that_is_published() -> None:
    """What these tests try is what everybody's versions run. `build/recipes/renew_program.py` copies it."""
    published = Path(pspsearch.model.checksum.__file__).parents[3] / "build/pspsearch_build/publish/openvino_model.py"

    assert (default_repository() / "pspnet" / "1" / "model.py").read_bytes() == published.read_bytes()
