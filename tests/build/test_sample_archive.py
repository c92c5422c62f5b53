"""The archive that ships with the server, compared with what draws it."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pspsearch.app.sample import ARCHIVE, read_gallery
from pspsearch_build.sample.gallery import Picture, attributes_of, draw_view
from pspsearch_build.sample.things import make_things
from pspsearch_build.sample.views import VIEWS_PER_THING, set_up
from tests.build.recipes import load

ROOT = Path(__file__).parents[2]
VIEWS = [(thing, number) for thing in make_things() for number in range(1, VIEWS_PER_THING + 1)]


def read_images() -> list[bytes]:
    """The shipped pictures, in order."""
    return [one.source for one in read_gallery() if isinstance(one.source, bytes)]


def test_archive_is_what_the_recipe_writes(tmp_path: Path) -> None:
    """With the same pictures, the archive is the same to the byte, so every id, attribute and place is right."""
    pictures = [
        Picture(f"{thing.id}/{number}", image, attributes_of(thing, number, set_up(thing, number)))
        for (thing, number), image in zip(VIEWS, read_images(), strict=True)
    ]

    load("draw_sample").write_archive(tmp_path / "sample.zip", pictures)

    assert (tmp_path / "sample.zip").read_bytes() == ARCHIVE.read_bytes()


@pytest.mark.parametrize("place", range(17, len(VIEWS), 67))
def test_shipped_picture_is_what_is_drawn(place: int) -> None:
    """They look the same; processors and Pillow versions round differently. Two views of a thing differ by over 4."""
    drawn, shipped = draw_view(*VIEWS[place]).image, read_images()[place]

    pixels = [np.asarray(Image.open(BytesIO(image)), np.float32) for image in (drawn, shipped)]

    assert np.abs(pixels[0] - pixels[1]).mean() < 0.5


def test_scene_is_what_the_recipe_draws() -> None:
    """README's picture of six things."""
    drawn, shown = BytesIO(load("draw_scene").draw_scene()), ROOT / "docs" / "scene.jpg"

    pixels = [np.asarray(Image.open(image), np.float32) for image in (drawn, shown)]

    assert np.abs(pixels[0] - pixels[1]).mean() < 0.5
