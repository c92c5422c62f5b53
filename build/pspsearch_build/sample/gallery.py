"""The sample gallery: 15 kinds of things, 4 of each, 6 pictures of each thing.

A thing has a shape with its own proportions, a texture, a colour and a gloss. Its pictures are ray-traced in numpy,
each from another position around its front, with various things nearby; in about one of three, something hides part of
it. Every two pictures share a place with its own floor, wall and lamp. So the right answers to a picture are the other
five of the same thing, followed by the other three things of its kind.
"""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pspsearch_build.sample.camera import photograph
from pspsearch_build.sample.shapes import SHAPES
from pspsearch_build.sample.things import THINGS_PER_SHAPE, Thing, make_things
from pspsearch_build.sample.views import VIEWS_PER_THING, View, set_up

GALLERY_SIZE = len(SHAPES) * THINGS_PER_SHAPE * VIEWS_PER_THING
"""How many pictures the gallery has."""

_THREADS = 2
"""More threads would wait for one another, because numpy releases the interpreter only briefly."""

Attributes = dict[str, str | int | float | list[str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the gallery, ready to become an item."""

    id: str
    """The thing and the number of the view, such as `mug-02/3`."""
    image: bytes
    """A JPEG of 224 x 224 px."""
    attributes: Attributes
    """`thing`, `shape`, `texture`, `colour`, `view` (from 1), `price` (invented) and `tags`."""


def draw_gallery() -> Generator[Picture]:
    """All pictures, thing by thing and view by view, drawn ahead in threads, and the same every time.

    They are the same to the byte with the same versions of numpy and Pillow on the same kind of processor, and look the
    same everywhere. Drawing takes about 20 seconds. Closing the generator stops it after the things in progress.
    """
    pool = ThreadPoolExecutor(_THREADS, "sample-gallery")
    try:
        for pictures in pool.map(draw_thing, make_things()):
            yield from pictures
    finally:
        pool.shutdown(cancel_futures=True)


def draw_thing(thing: Thing) -> list[Picture]:
    """Draws every view of one thing."""
    return [draw_view(thing, number) for number in range(1, VIEWS_PER_THING + 1)]


def draw_view(thing: Thing, number: int) -> Picture:
    """Draws one view of a thing, by its number from 1."""
    view = set_up(thing, number)
    image = photograph(view.scene, view.camera, view.rng)
    return Picture(f"{thing.id}/{number}", image, attributes_of(thing, number, view))


def attributes_of(thing: Thing, number: int, view: View) -> Attributes:
    """The attributes of the picture of that view."""
    return {
        "thing": thing.id,
        "shape": thing.shape,
        "texture": thing.texture,
        "colour": thing.colour,
        "view": number,
        "price": thing.price,
        "tags": [*thing.tags, *view.tags],
    }
