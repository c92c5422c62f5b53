"""`make bench`: every figure that the README quotes as a ratio, one table after the other."""

import asyncio

from tests.bench import bench_images, bench_million, bench_rollout, bench_search, bench_training, bench_triton

bench_images.main()
bench_training.main()
asyncio.run(bench_triton.main())
asyncio.run(bench_search.main())
asyncio.run(bench_rollout.main())
asyncio.run(bench_million.main())
