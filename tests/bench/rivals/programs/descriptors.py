"""Searches by descriptor: FastAPI in front of an index in the same process."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

HITS = 10
NEIGHBOURS, BUILT_WITH = 16, 200
"""M and efConstruction of each graph, as in the examples of hnswlib and Milvus."""
READ_ROWS = 10_000


class Engine(ABC):
    """An index over all vectors, made at the first start and kept beside them; open it before the first search."""

    @abstractmethod
    async def open(self, vectors: Path) -> None:
        """Opens the index, and makes it first if it does not exist."""

    @abstractmethod
    async def search(self, descriptor: np.ndarray, breadth: int) -> list[int]:
        """Row numbers, best first. `breadth` is whatever this engine trades time for recall with."""


class Hnswlib(Engine):
    """A graph over float32; the breadth is ef."""

    async def open(self, vectors: Path) -> None:
        """See Engine."""
        import hnswlib

        rows = np.load(vectors, mmap_mode="r")
        kept = vectors.with_suffix(".hnswlib")
        self._index = hnswlib.Index("ip", rows.shape[1])
        if not kept.exists():
            self._index.init_index(len(rows), ef_construction=BUILT_WITH, M=NEIGHBOURS)
            self._index.add_items(rows)
            self._index.save_index(str(kept))
        else:
            self._index.load_index(str(kept))

    async def search(self, descriptor: np.ndarray, breadth: int) -> list[int]:
        """See Engine."""

        def find() -> list[int]:
            self._index.set_ef(breadth)
            (labels,), _ = self._index.knn_query(descriptor, HITS, num_threads=1)
            return labels.tolist()

        return await run_in_threadpool(find)


class LanceGraph(Engine):
    """LanceDB with a graph over 8-bit numbers in one partition, scoring twice as many candidates again; breadth: ef."""

    async def open(self, vectors: Path) -> None:
        """See Engine."""
        self._table = await self._open(vectors)

    async def search(self, descriptor: np.ndarray, breadth: int) -> list[int]:
        """See Engine."""
        query = self._table.vector_search(descriptor).distance_type("dot").limit(HITS).select(["id"])
        found = await self._narrowed(query, breadth).to_arrow()
        return found["id"].to_pylist()

    def _narrowed(self, query, breadth: int):  # noqa: ANN001, ANN202 - of LanceDB, which only its environment has
        return query.nprobes(1).ef(max(breadth, 2 * HITS)).refine_factor(2)

    def _recipe(self):  # noqa: ANN202 - likewise
        from lancedb.index import HnswSq

        return HnswSq(distance_type="dot", num_partitions=1, m=NEIGHBOURS, ef_construction=BUILT_WITH)

    async def _open(self, vectors: Path):  # noqa: ANN202 - likewise
        import lancedb
        import pyarrow as pa

        rows = np.load(vectors, mmap_mode="r")
        database = await lancedb.connect_async(vectors.with_suffix(f".{type(self).__name__.lower()}"))
        if "items" in await database.table_names():
            return await database.open_table("items")

        def batches():  # noqa: ANN202 - likewise
            for first in range(0, len(rows), READ_ROWS):
                some = np.ascontiguousarray(rows[first : first + READ_ROWS])
                numbers = pa.array(np.arange(first, first + len(some)))
                values = pa.FixedSizeListArray.from_arrays(pa.array(some.reshape(-1)), some.shape[1])
                yield pa.record_batch([numbers, values], ["id", "vector"])

        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), rows.shape[1]))])
        table = await database.create_table("items", pa.RecordBatchReader.from_batches(schema, batches()))
        await table.create_index("vector", config=self._recipe())
        await table.optimize()
        return table


class LanceLists(LanceGraph):
    """LanceDB's default, lists of product codes, scoring ten times as many candidates again; breadth: lists."""

    def _narrowed(self, query, breadth: int):  # noqa: ANN001, ANN202 - likewise
        return query.nprobes(breadth).refine_factor(10)

    def _recipe(self):  # noqa: ANN202 - likewise
        from lancedb.index import IvfPq

        return IvfPq(distance_type="dot")


class MilvusGraph(Engine):
    """Milvus Lite with a graph; the breadth is ef."""

    async def open(self, vectors: Path) -> None:
        """See Engine."""
        from pymilvus import DataType, MilvusClient

        path = vectors.with_suffix(".milvus.db")
        is_new = not path.exists()
        self._client = MilvusClient(str(path))
        if is_new:
            rows = np.load(vectors, mmap_mode="r")
            schema = MilvusClient.create_schema()
            schema.add_field("id", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=rows.shape[1])
            index = self._client.prepare_index_params()
            parameters = {"M": NEIGHBOURS, "efConstruction": BUILT_WITH}
            index.add_index("vector", index_type="HNSW", metric_type="IP", params=parameters)
            self._client.create_collection("items", schema=schema, index_params=index)
            for first in range(0, len(rows), READ_ROWS):
                some = rows[first : first + READ_ROWS]
                self._client.insert("items", [{"id": first + n, "vector": row} for n, row in enumerate(some)])
            self._client.flush("items")
        self._client.load_collection("items")

    async def search(self, descriptor: np.ndarray, breadth: int) -> list[int]:
        """See Engine."""

        def find() -> list[int]:
            options = {"metric_type": "IP", "params": {"ef": max(HITS, breadth)}}
            (found,) = self._client.search("items", [descriptor], limit=HITS, search_params=options)
            return [hit["id"] for hit in found]

        return await run_in_threadpool(find)


ENGINES = {engine.__name__.lower(): engine for engine in (Hnswlib, LanceGraph, LanceLists, MilvusGraph)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    engine = ENGINES[arguments.engine]()

    @asynccontextmanager
    async def opened(_: FastAPI) -> AsyncGenerator[None]:
        """Opens the engine in the loop that searches."""
        await engine.open(arguments.vectors)
        yield

    app = FastAPI(lifespan=opened)

    @app.post("/search/{breadth}")
    async def search(breadth: int, request: Request) -> dict[str, list[dict[str, object]]]:
        """From a descriptor's bytes to its hits."""
        descriptor = np.frombuffer(await request.body(), np.float32)
        return {"hits": [{"id": number} for number in await engine.search(descriptor, breadth)]}

    uvicorn.run(app, port=arguments.port, log_level="warning", access_log=False)
