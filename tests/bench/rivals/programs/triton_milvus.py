"""The parts of a typical pipeline: FastAPI in front, a Triton for the network, Milvus Lite for the index."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import numpy as np
import tritonclient.grpc.aio as triton
import uvicorn
from fastapi import FastAPI, Request
from parts import BREADTH, HITS, Arguments, answer, decode
from pymilvus import DataType, MilvusClient
from starlette.concurrency import run_in_threadpool

COLLECTION = "items"
arguments = Arguments.read()


def open_collection() -> MilvusClient:
    """The collection, filled at the first start."""
    path = arguments.vectors.with_suffix(".milvus.db")
    is_new = not path.exists()
    client = MilvusClient(str(path))
    if is_new:
        schema = MilvusClient.create_schema()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=256)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="HNSW", metric_type="IP", params={"M": 32, "efConstruction": 100})
        client.create_collection(COLLECTION, schema=schema, index_params=index)
        rows = np.load(arguments.vectors)
        for first in range(0, len(rows), 5000):
            some = rows[first : first + 5000]
            client.insert(COLLECTION, [{"id": first + n, "vector": row} for n, row in enumerate(some)])
        client.flush(COLLECTION)
    client.load_collection(COLLECTION)
    return client


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncGenerator[None]:
    """Opens both clients in the loop that uses them."""
    async with triton.InferenceServerClient(arguments.address) as client:
        app.state.triton = client
        yield


milvus = open_collection()
app = FastAPI(lifespan=opened)


def find(descriptor: np.ndarray) -> dict[str, list[dict[str, object]]]:
    """The collection's nearest."""
    options = {"metric_type": "IP", "params": {"ef": BREADTH}}
    (found,) = milvus.search(COLLECTION, [descriptor], limit=HITS, search_params=options)
    return answer([(f"p{hit['id']}", float(hit["distance"])) for hit in found])


@app.post("/search")
async def search(request: Request) -> dict[str, list[dict[str, object]]]:
    """From a JPEG to its hits."""
    pixels = await run_in_threadpool(decode, await request.body())
    sent = triton.InferInput("pixels", [1, *pixels.shape], "UINT8")
    sent.set_data_from_numpy(pixels[None])
    described = await app.state.triton.infer("pspnet", [sent])
    return await run_in_threadpool(find, described.as_numpy("descriptor")[0])


uvicorn.run(app, port=arguments.port, log_level="warning", access_log=False)
