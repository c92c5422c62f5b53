"""`make bench`: every figure that docs/performance.md quotes as a ratio, one table after the other.

Each benchmark runs in its own process, free of the threads and the memory of those before it.
"""

import subprocess
import sys

BENCHES = (
    "bench_images",
    "bench_training",
    "bench_triton",
    "bench_search",
    "bench_options",
    "bench_rollout",
    "bench_million",
    "bench_filters",
)

for bench in BENCHES:
    subprocess.run([sys.executable, "-m", f"tests.bench.{bench}"], check=True)
