"""The same 100,000 descriptors and the same photographs for all."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pspsearch.domain import Descriptors
from pspsearch.images.pixels import decode_pixels
from pspsearch.triton.client import TritonClient
from pspsearch.triton.describer import TritonDescriber
from tests.bench.points import clustered
from tests.bench.rivals.environments import FOLDER
from tests.pictures import encode, load_photo

ITEMS, DIMENSION, HITS = 100_000, 256, 10
MODEL = "pspnet"
_PHOTOS, _WIDTH, _HEIGHT = 32, 500, 375
_COPIES = 30


@dataclass(frozen=True, slots=True)
class Gallery:
    """What is searched, and the photographs to search for."""

    folder: Path
    """Holds `vectors.npy`, the photographs, and whatever programs store there to start faster."""
    vectors: Descriptors
    images: list[bytes]


async def open_gallery(triton: str) -> Gallery:
    """The gallery, written at the first call with a model version.

    Each photograph has some descriptors around its own, some nearer and some farther; the rest lie in clusters
    elsewhere.
    """
    images = [_cut(number) for number in range(_PHOTOS)]
    async with TritonClient(triton) as client, await TritonDescriber.open(client, MODEL) as describer:
        shape, fingerprint = describer.version.contract.shape, describer.version.contract.fingerprint
        own = (await describer.describe(np.stack([decode_pixels(image, shape) for image in images]))).descriptors
    generator = np.random.default_rng(0)
    near = np.repeat(own, _COPIES, axis=0)
    lengths = np.tile(np.linspace(0.2, 1.0, _COPIES, dtype=np.float32), len(own))[:, None]
    noise = generator.standard_normal(near.shape, np.float32)
    near += lengths * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    vectors = np.concatenate([near, clustered(ITEMS - len(near), DIMENSION, seed=1)])
    generator.shuffle(vectors)
    folder = FOLDER / f"data-{fingerprint}"
    await asyncio.to_thread(_write, folder, vectors, images)
    return Gallery(folder.absolute(), vectors, images)


def _cut(number: int) -> bytes:
    """Another crop of one of two photographs."""
    photo = load_photo(640, 427, number % 2)
    left, top = 9 * (number // 2), 3 * (number // 2)
    return encode(photo.crop((left, top, left + _WIDTH, top + _HEIGHT)), quality=90)


def _write(folder: Path, vectors: Descriptors, images: list[bytes]) -> None:
    if (folder / "vectors.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        (folder / f"{number:02}.jpg").write_bytes(image)
    np.save(folder / "vectors.npy", vectors)
