"""Invents the gallery's things from a fixed seed."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pspsearch_build.sample.paints import Colour, Paint
from pspsearch_build.sample.scene import Body
from pspsearch_build.sample.shapes import SHAPES
from pspsearch_build.sample.textures import TEXTURES, plain

_SEED = 7

THINGS_PER_SHAPE = 4

COLOURS: dict[str, Colour] = {
    "red": (200, 38, 40),
    "orange": (236, 128, 28),
    "yellow": (240, 200, 48),
    "green": (58, 140, 62),
    "teal": (30, 142, 146),
    "blue": (42, 86, 180),
    "purple": (118, 62, 156),
    "pink": (232, 122, 158),
    "brown": (130, 82, 48),
    "black": (44, 44, 50),
}
"""The colours, by the name that pictures are tagged with."""

_PARTNERS: tuple[Colour, ...] = ((244, 240, 228), (250, 214, 120), (196, 222, 236), (60, 52, 66), (238, 236, 240))
_TRIMS: tuple[Colour, ...] = ((70, 68, 72), (226, 220, 206), (150, 152, 158))
_TAGS = {
    "ball": ("toy", "sport"),
    "bottle": ("kitchen",),
    "chair": ("furniture",),
    "cone": ("street",),
    "dumbbell": ("sport",),
    "gift": ("party",),
    "goblet": ("kitchen", "party"),
    "house": ("toy",),
    "lamp": ("furniture", "light"),
    "mug": ("kitchen",),
    "mushroom": ("garden",),
    "ring": ("jewel",),
    "rocket": ("toy",),
    "table": ("furniture",),
    "teapot": ("kitchen",),
}
_PRICES = {"furniture": 120, "jewel": 300, "sport": 35, "kitchen": 14, "toy": 22}


@dataclass(frozen=True)
class Thing:
    """One thing, which several pictures show."""

    id: str
    shape: str
    texture: str
    colour: str
    price: float
    """Invented, in no currency."""
    tags: tuple[str, ...]
    seed: tuple[int, ...]
    """The seed of everything random about the thing; with one more number, of one of its pictures."""

    @cached_property
    def body(self) -> Body:
        """The thing's solid and paints, the same in every picture."""
        rng = np.random.default_rng(self.seed)
        shape = SHAPES[self.shape](rng)
        partner = _PARTNERS[rng.integers(len(_PARTNERS))]
        gloss = 0.8 if "glossy" in self.tags else 0.12
        main, cell = COLOURS[self.colour], rng.uniform(0.24, 0.36)
        return Body(
            shape,
            (
                Paint(main, partner, TEXTURES[self.texture], cell, gloss),
                Paint(_accent(main, partner, rng), main, plain, 1, gloss),
                Paint(_TRIMS[rng.integers(len(_TRIMS))], main, plain, 1, 0.5),
            ),
        )


def _accent(main: Colour, partner: Colour, rng: np.random.Generator) -> Colour:
    """The partner, the main colour, or a darker main colour, at random."""
    darker = (main[0] * 3 // 5, main[1] * 3 // 5, main[2] * 3 // 5)
    return (partner, main, darker)[rng.integers(3)]


def make_things() -> Iterator[Thing]:
    """All things, shape by shape; no two of a shape share their colour or their texture."""
    for number, shape in enumerate(SHAPES):
        rng = np.random.default_rng((_SEED, number))
        colours = rng.permutation(list(COLOURS))[:THINGS_PER_SHAPE]
        textures = rng.permutation(list(TEXTURES))[:THINGS_PER_SHAPE]
        for copy, (colour, texture) in enumerate(zip(colours, textures, strict=True), start=1):
            kinds = _TAGS[shape]
            price = round(_PRICES.get(kinds[0], 18) * rng.uniform(0.5, 2.0), 2)
            surface = "glossy" if rng.random() < 0.5 else "matt"
            id_ = f"{shape}-{copy:02d}"
            yield Thing(id_, shape, str(texture), str(colour), price, (*kinds, surface), (_SEED, number, copy))
