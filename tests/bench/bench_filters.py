"""Measures filters over the attributes of a million rows by themselves; an older copy of the code works, too.

`PYTHONPATH=folder/server python -m tests.bench.bench_filters` measures the code in that folder.
"""

import json
import time
from importlib import util

import numpy as np

from pspsearch.errors import InvalidRequest
from pspsearch.filters import Filter
from pspsearch.index.table.columns import Columns

ROWS, BATCH, TIMES = 1_000_000, 1000, 7
BRANDS = [f"brand {number}" for number in range(500)]

FILTERS = {
    "user = 77": "user = 77",
    "user among 10": " OR ".join(f"user = {7 * number}" for number in range(10)),
    "user among 500": " OR ".join(f"user={number}" for number in range(500)),
    "price < 1": "price < 1",
    "price from 40 to 60": "price >= 40 AND price < 60",
    "brand = x": 'brand = "brand 7"',
    "brand among 3": 'brand = "brand 7" OR brand = "brand 8" OR brand = "brand 9"',
    "day range": "day >= 2026-03-01 AND day < 2026-03-08",
    "title = pattern": 'title = "*777*"',
    "user != 77": "user != 77",
    "tags:t7": "tags:t7",
    "sale:*": "sale:*",
    "brand and price": 'brand = "brand 7" AND price < 20 AND stock = true',
    "1638 comparisons": " ".join(f"n<{number % 10}" for number in range(1638)),
}


def fill() -> Columns:
    """Attributes of a million goods."""
    chance = np.random.default_rng(1)
    columns = Columns()
    for start in range(0, ROWS, BATCH):
        users, prices = chance.integers(0, 100_000, BATCH), chance.uniform(0, 100, BATCH)
        columns.append(
            [
                json.dumps(
                    {
                        "user": int(users[number]),
                        "price": round(float(prices[number]), 2),
                        "brand": BRANDS[int(users[number]) % 500],
                        "day": f"2026-{1 + number % 12:02}-{1 + number % 28:02}",
                        "title": f"title {start + number}",
                        "tags": [f"t{number % 50}", f"t{number % 7}"],
                        "stock": number % 3 == 0,
                        "n": number,
                        **({"sale": 1} if number % 10 == 0 else {}),
                        f"rare{start % 200_000}": 1,
                    }
                )
                for number in range(BATCH)
            ]
        )
    return columns


def measure(columns: Columns, text: str) -> str:
    """The first and the fastest time, in ms; for a refused filter, how long the refusal takes."""
    keep, times, refused = Filter.parse(text), list[float](), ""
    for number in range(TIMES if "1638" not in text else 3):
        started = time.perf_counter()
        try:
            columns.holds(keep, ROWS)
        except InvalidRequest:
            refused = " (refused)"
        times.append(1000 * (time.perf_counter() - started))
        if number == 0 and times[0] > 3000:
            break
        time.sleep(0.5 if number == 2 else 0)  # the columns may build an order meanwhile
    return f"{times[0]:9.2f} first, {min(times):9.2f}{refused}"


def main() -> None:
    """Prints a line per filter."""
    started = time.perf_counter()
    columns = fill()
    found = util.find_spec("pspsearch")
    print(f"{found.origin if found else ''}: {ROWS:,} rows put in in {time.perf_counter() - started:.1f} s")
    print(f"{columns.size_bytes >> 20} MiB of columns")
    for name, text in FILTERS.items():
        print(f"{name:22} {measure(columns, text)} ms", flush=True)
    print(f"{columns.size_bytes >> 20} MiB of columns")


if __name__ == "__main__":
    main()
