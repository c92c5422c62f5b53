"""The things of the sample gallery and their pictures; a test draws only a few."""

import json
import threading
from io import BytesIO
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pspsearch_build.sample.camera import SIDE_PX
from pspsearch_build.sample.gallery import GALLERY_SIZE, Picture, draw_gallery, draw_view
from pspsearch_build.sample.shapes import SHAPES
from pspsearch_build.sample.textures import TEXTURES
from pspsearch_build.sample.things import COLOURS, Thing, make_things
from pspsearch_build.sample.tracing import approach, trace
from pspsearch_build.sample.views import VIEWS_PER_PLACE, VIEWS_PER_THING, View, set_up


def find_thing(id_: str) -> Thing:
    """One thing, made anew."""
    return next(thing for thing in make_things() if thing.id == id_)


def see(picture: Picture) -> NDArray[np.float32]:
    """The picture as a person sees it."""
    return np.asarray(Image.open(BytesIO(picture.image)), np.float32)


def count_colours(picture: Picture) -> NDArray[np.float64]:
    """How much of each of 216 colours is in the middle of a picture, as a unit vector."""
    margin = SIDE_PX // 5
    middle = see(picture)[margin:-margin, margin:-margin].reshape(-1, 3).astype(np.intp) // 43
    counts = np.bincount(middle @ np.array([36, 6, 1]), minlength=216)
    return np.sqrt(counts / counts.sum())


def test_sixty_things_of_fifteen_shapes() -> None:
    """Every thing has its own id, which starts with its shape."""
    things = list(make_things())

    assert len({thing.id for thing in things}) == len(things) == 60
    assert {thing.shape for thing in things} == set(SHAPES)
    assert all(thing.id.startswith(f"{thing.shape}-") for thing in things)
    assert len(things) * VIEWS_PER_THING == GALLERY_SIZE == 360


@pytest.mark.parametrize("shape", SHAPES)
def test_things_of_one_shape_differ_in_colour_and_texture(shape: str) -> None:
    """No two mugs look alike."""
    things = [thing for thing in make_things() if thing.shape == shape]

    assert len({thing.colour for thing in things}) == len({thing.texture for thing in things}) == len(things)
    assert all(thing.colour in COLOURS and thing.texture in TEXTURES and thing.price > 0 for thing in things)


def test_picture_is_a_small_jpeg_with_attributes() -> None:
    """It has everything that filters and grouping use, as JSON."""
    thing = find_thing("mug-02")

    picture = draw_view(thing, 3)

    assert picture.id == "mug-02/3"
    image = Image.open(BytesIO(picture.image))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIDE_PX, SIDE_PX))
    attributes = json.loads(json.dumps(picture.attributes))
    assert list(attributes) == ["thing", "shape", "texture", "colour", "view", "price", "tags"]
    assert (attributes["thing"], attributes["shape"], attributes["view"]) == ("mug-02", "mug", 3)
    assert (attributes["colour"], attributes["texture"]) == (thing.colour, thing.texture)
    assert "kitchen" in attributes["tags"]


def test_same_picture_every_time() -> None:
    """A thing made anew gives the same bytes."""
    first, second = (draw_view(find_thing("ring-01"), 2) for _ in range(2))

    assert first == second


def test_views_of_a_thing_differ() -> None:
    """Even in one place, no two pictures are nearly the same: 4 of 255 is more than noise and JPEG make."""
    thing = find_thing("dumbbell-01")
    pictures = [see(draw_view(thing, number)) for number in (1, 2, 3)]

    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(pictures[one] - pictures[other]).mean() > 4


def test_colours_alone_find_the_other_view() -> None:
    """Even a simple descriptor ranks the right answer first among things of one shape."""
    pictures = [draw_view(find_thing(f"mug-{copy:02d}"), number) for copy in (1, 2, 3, 4) for number in (1, 2)]
    descriptors = np.array([count_colours(picture) for picture in pictures])
    scores = descriptors @ descriptors.T - 2 * np.eye(len(pictures))

    nearest = scores.argmax(axis=1)

    assert [pictures[number].attributes["thing"] for number in nearest] == [
        picture.attributes["thing"] for picture in pictures
    ]


def test_two_pictures_to_a_place() -> None:
    """Pairs of views share the floor, the wall and the lamp; the next pair has others."""
    thing = find_thing("ball-01")
    backdrops = [set_up(thing, number).scene.backdrop for number in range(1, VIEWS_PER_THING + 1)]

    places = {backdrop.wall_distance for backdrop in backdrops}

    assert len(places) == VIEWS_PER_THING // VIEWS_PER_PLACE
    assert backdrops[0].wall_distance == backdrops[1].wall_distance != backdrops[2].wall_distance


def test_occluded_view_hides_part_of_the_thing() -> None:
    """If the tag says so, something close in front of the thing nearly always hides some of it, never most."""
    views = [set_up(thing, number) for thing in list(make_things())[::4] for number in (1, 2, 3)]

    shares = [hidden_share(view) for view in views if "occluded" in view.tags]

    assert len(shares) > 5
    assert np.mean(np.array(shares) > 0.01) > 0.8
    assert max(shares) < 0.5


def hidden_share(view: View) -> float:
    """Of the rays that meet the thing, the share that meets something else first."""
    down, across = (axis.ravel().astype(np.float32) * 4 for axis in np.mgrid[: SIDE_PX // 4, : SIDE_PX // 4])
    rays = view.camera.rays(across, down)
    hits = [trace(body.solid, rays, approach(body.solid, rays, 0)) for body in view.scene.bodies]
    on_thing = np.isfinite(hits[0])
    return float((np.min(hits[1:], axis=0) < hits[0])[on_thing].mean())


def test_gallery_comes_in_order_and_stops_when_closed() -> None:
    """A caller who wants only the first pictures does not wait for the rest, and leaves no thread behind."""
    gallery = draw_gallery()
    first = list(islice(gallery, 2))

    gallery.close()

    assert first == [draw_view(find_thing("ball-01"), number) for number in (1, 2)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sample-gallery")]
