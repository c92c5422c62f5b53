"""Bytes to pixels against simplejpeg, OpenCV and Pillow doing the same work: `python -m tests.bench.bench_images`.

The work: encoded JPEG in, antialiased 256x256 uint8 RGB out, turned upright by its Exif note. Each contestant has one
thread, all take turns in every round, and the thread's own CPU time counts. So whatever else the machine does affects
them alike: trust the ratios.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from statistics import median
from typing import cast

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pspsearch.images.pixels import decode_pixels
from pspsearch.model.contract import InputShape
from tests.pictures import encode, load_photo

SIDE = 256
SHAPE = InputShape(SIDE, SIDE)
SLACK = 1.10
"""How far ahead the fastest rival may be."""

Pixels = NDArray[np.uint8]
Contestant = Callable[[bytes], Pixels]


def with_pspsearch(data: bytes) -> Pixels:
    """Our own decoding."""
    return decode_pixels(data, SHAPE)


def with_simplejpeg(data: bytes) -> Pixels:
    """Full decode by simplejpeg, Exif and resize by Pillow."""
    full = Image.fromarray(cast(Pixels, simplejpeg.decode_jpeg(data)))
    small = full.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    small.getexif().update(Image.open(BytesIO(data)).getexif())
    return np.asarray(ImageOps.exif_transpose(small))


def with_pillow(data: bytes) -> Pixels:
    """Pillow alone, with its own scaled decoding."""
    image = Image.open(BytesIO(data))
    image.draft("RGB", (SIDE, SIDE))
    return np.asarray(ImageOps.exif_transpose(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))


def with_opencv(data: bytes, flags: int = cv2.IMREAD_COLOR) -> Pixels:
    """OpenCV alone; it turns the decoded picture upright itself."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    assert image is not None
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def with_opencv_reduced(data: bytes) -> Pixels:
    """OpenCV with scaled decoding by a factor that the caller must know; fair only for the 12 MP photograph."""
    return with_opencv(data, cv2.IMREAD_REDUCED_COLOR_8)


def make_phone_photo(orientation: int) -> bytes:
    """12 MP like a phone's, with sensor noise, so that the file is as large as a real one."""
    photo = np.asarray(load_photo(4000, 3000), np.int16)
    noise = np.random.default_rng(0).normal(0, 5, photo.shape).astype(np.int16)
    return encode(Image.fromarray(np.clip(photo + noise, 0, 255).astype(np.uint8)), "JPEG", orientation, quality=88)


def measure(data: bytes, contestants: dict[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """The milliseconds of each contestant in each round, after one round to warm up."""
    times_ms: dict[str, list[float]] = {name: [] for name in contestants}
    for count in range(rounds + 1):
        for name, contestant in contestants.items():
            begin = time.thread_time()
            pixels = contestant(data)
            if count:
                times_ms[name].append((time.thread_time() - begin) * 1000)
            assert pixels.shape == (SIDE, SIDE, 3)
    return times_ms


def compare(title: str, data: bytes, contestants: dict[str, Contestant], rounds: int) -> bool:
    """Prints one table; returns whether ours is within the slack of the fastest rival, by the medians."""
    times_ms = measure(data, contestants, rounds)
    medians = {name: median(times) for name, times in times_ms.items()}
    fastest_rival = min(value for name, value in medians.items() if name != "pspsearch")
    print(f"\n{title}, {len(data) / 1000:,.0f} KB, {rounds} rounds")
    print(f"{'':24}{'min ms':>10}{'median ms':>12}{'over fastest rival':>22}")
    for name, times in times_ms.items():
        print(f"{name:24}{min(times):10.2f}{medians[name]:12.2f}{medians[name] / fastest_rival:22.2f}")
    return medians["pspsearch"] <= SLACK * fastest_rival


def compare_threads(title: str, data: bytes, repeats: int) -> None:
    """Prints the best of 30 throughputs of two threads over one; 2 needs two idle cores and no shared lock."""

    def decode_many(_: int) -> None:
        for _ in range(repeats):
            decode_pixels(data, SHAPE)

    def time_threads(threads: int) -> float:
        with ThreadPoolExecutor(threads) as pool:
            begin = time.perf_counter()
            list(pool.map(decode_many, range(threads)))
            return time.perf_counter() - begin

    rounds = [(time_threads(1), time_threads(2)) for _ in range(30)]
    one, two = (min(times) for times in zip(*rounds, strict=True))
    print(f"{title:24}{2 * one / two:10.2f}")


def main() -> int:
    """Returns 0 if every table is within the slack."""
    cv2.setNumThreads(1)
    rivals: dict[str, Contestant] = {
        "pspsearch": with_pspsearch,
        "simplejpeg + Pillow": with_simplejpeg,
        "Pillow, draft": with_pillow,
        "OpenCV": with_opencv,
    }
    reduced: dict[str, Contestant] = {**rivals, "OpenCV, reduced by 8": with_opencv_reduced}
    small = encode(load_photo(500, 375), quality=92)
    within = [
        compare("JPEG 500x375", small, rivals, 400),
        compare("JPEG 4000x3000", make_phone_photo(1), reduced, 15),
        compare("JPEG 4000x3000, Exif orientation 6", make_phone_photo(6), reduced, 15),
    ]
    print("\nThroughput of two threads over one")
    compare_threads("JPEG 500x375", small, 30)
    compare_threads("PNG 500x375", encode(load_photo(500, 375), "PNG"), 10)
    compare_threads("WebP 500x375", encode(load_photo(500, 375), "WEBP"), 10)
    return 0 if all(within) else 1


if __name__ == "__main__":
    sys.exit(main())
