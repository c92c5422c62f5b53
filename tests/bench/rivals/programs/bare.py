"""The parts in a row, in this process and without a server: nothing that serves can be faster.

Prints JSON: the milliseconds of single searches, and how many a second the given number of threads make.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from parts import Arguments, Network, UsearchIndex, decode

THREADS = (2, 4, 8)
SECONDS = 6.0

arguments = Arguments.read()
index = UsearchIndex(arguments.vectors)
images = [path.read_bytes() for path in sorted(arguments.vectors.parent.glob("*.jpg"))]


def find(network: Network, image: bytes) -> None:
    """Makes one search."""
    index.search(network.describe(decode(image)[None]))


def milliseconds(network: Network) -> list[float]:
    """The milliseconds of searches, one after the other."""
    times: list[float] = []
    for image in images * 4:
        started = time.perf_counter()
        find(network, image)
        times.append(1000 * (time.perf_counter() - started))
    return times[len(images) :]


def rate(network: Network, threads: int) -> float:
    """Searches per second with `threads` always under way."""
    end = time.perf_counter() + SECONDS

    def go_on(first: int) -> int:
        done = 0
        for image in cycle(images[first:] + images[:first]):
            if time.perf_counter() > end:
                return done
            find(network, image)
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(go_on, range(threads))) / SECONDS


alone = milliseconds(Network(arguments.model, "LATENCY"))
together = Network(arguments.model, "THROUGHPUT")
json.dump({"alone_ms": alone, "rate": max(rate(together, threads) for threads in THREADS)}, sys.stdout)
