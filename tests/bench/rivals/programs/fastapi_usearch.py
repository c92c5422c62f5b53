"""What most teams write themselves: FastAPI, OpenVINO and a graph index in one process, with work in threads."""

import uvicorn
from fastapi import FastAPI, Request
from parts import Arguments, Network, UsearchIndex, answer, decode
from starlette.concurrency import run_in_threadpool

arguments = Arguments.read()
network = Network(arguments.model, arguments.hint)
index = UsearchIndex(arguments.vectors)
app = FastAPI()


def find(image: bytes) -> dict[str, list[dict[str, object]]]:
    """The whole search, mostly without the interpreter's lock."""
    (hits,) = index.search(network.describe(decode(image)[None]))
    return answer(hits)


@app.post("/search")
async def search(request: Request) -> dict[str, list[dict[str, object]]]:
    """From a JPEG to its hits."""
    return await run_in_threadpool(find, await request.body())


uvicorn.run(app, port=arguments.port, log_level="warning", access_log=False)
