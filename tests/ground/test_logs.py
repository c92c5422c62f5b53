"""Lines of the log say which call they are about."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from pspsearch.logs import CURRENT_CALL, JsonFormatter, RequestIdFilter, TextFormatter
from pspsearch.v1.search_service_pb2 import DescribeRequest
from tests.servers.rpc_client import open_api, refuse

log = logging.getLogger("pspsearch.tests")


@pytest.fixture(params=[JsonFormatter, TextFormatter])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """Collects the lines of the whole process, in either format."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RequestIdFilter())
    handler.setFormatter(request.param())
    root = logging.getLogger("pspsearch")
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


def id_of(line: str) -> str | None:
    """The request id in a line."""
    if line.startswith("{"):
        return json.loads(line).get("request_id")
    return line.rpartition(" [")[2].rstrip("]") if line.endswith("]") else None


async def test_lines_have_the_id_of_their_call(lines: io.StringIO) -> None:
    """Lines of tasks and threads that the call starts have its id, too; others have none."""
    log.warning("nobody's")

    async def work(name: str) -> None:
        CURRENT_CALL.set(name)
        await asyncio.gather(asyncio.to_thread(log.warning, "in a thread"), asyncio.sleep(0))
        log.warning("at the end")

    await asyncio.gather(work("one"), work("two"))

    ids = [id_of(line) for line in lines.getvalue().splitlines()]
    assert ids[0] is None
    assert sorted(map(str, ids[1:])) == ["one", "one", "two", "two"]


async def test_refusal_is_told_once_with_its_id(lines: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    """The refusal has the id that the caller chose."""
    with caplog.at_level(logging.DEBUG, "pspsearch"):
        async with open_api() as api:
            await refuse(api.search.Describe(DescribeRequest(), metadata=(("x-request-id", "mine-9"),)))

    (line,) = [one for one in lines.getvalue().splitlines() if "refused" in one]
    assert id_of(line) == "mine-9"
    assert line.count("mine-9") == 1


EVIL = "x\n12:00:00 INFO pspsearch: forged\r\x1b[2J\x85\u2028\u2029\u202e\x00\ufeff\U000e0041"


async def test_names_in_a_request_do_not_forge_lines(lines: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    """A tensor, its type, an output, a parameter, a model: a refusal is one line, and what it tells is printable."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor
    output = service_pb2.ModelInferRequest.InferRequestedOutputTensor(name="ids")
    output.parameters[EVIL].int64_param = 1
    requests = [
        service_pb2.ModelInferRequest(model_name="search.default", inputs=[tensor(name=EVIL)]),
        service_pb2.ModelInferRequest(
            model_name="search.default", inputs=[tensor(name="IMAGE", datatype=EVIL, shape=[1, 1])]
        ),
        service_pb2.ModelInferRequest(
            model_name="search.default", inputs=[tensor(name="IMAGE", datatype="BYTES", shape=[1, 1])], outputs=[output]
        ),
        service_pb2.ModelInferRequest(model_name=EVIL, inputs=[tensor(name="IMAGE")]),
        service_pb2.ModelInferRequest(model_name="search.default", model_version=EVIL),
    ]
    with caplog.at_level(logging.INFO, "pspsearch"):
        async with open_api() as api, grpc.aio.insecure_channel(api.server.address) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            for request in requests:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.ModelInfer(request)
                assert (refused.value.details() or "").isprintable()

    told = [line for line in lines.getvalue().split("\n") if line]
    assert sum("refused" in line for line in told) == len(requests)
    assert [line for line in told if not line.isprintable() or line.startswith("12:00:00")] == []


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter("%(asctime)s %(levelname)s %(message)s")])
def test_nothing_in_a_record_makes_another_line(formatter: logging.Formatter) -> None:
    """This holds for the message, for an error's words in a traceback, and for what `extra` gives."""
    failure = ValueError(EVIL)
    record = log.makeRecord(
        log.name, logging.ERROR, "here.py", 1, "failed: %s", (EVIL,), (ValueError, failure, failure.__traceback__),
        extra={"request_id": EVIL, "filter": EVIL},
    )  # fmt: skip
    first, *rest = formatter.format(record).split("\n")

    assert first.isprintable()
    assert all(line.isprintable() and line.startswith("  ") for line in rest)
    if isinstance(formatter, JsonFormatter):
        assert rest == []
        assert json.loads(first)["filter"] == EVIL


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter("%(message)s")])
def test_a_long_message_is_cut(formatter: logging.Formatter) -> None:
    """The cut line tells the message's length."""
    line = formatter.format(logging.makeLogRecord({"msg": "x" * 1_000_000}))

    assert "... (1,000,000 characters)" in line
    assert len(line) < 5000


def test_names_of_people_stay_as_they_are() -> None:
    """Letters of every script are printable."""
    assert (
        TextFormatter("%(message)s").format(logging.makeLogRecord({"msg": "Bücher 图书 книги"})) == "Bücher 图书 книги"
    )


def test_a_start_tells_nothing_of_what_faiss_tried() -> None:
    """FAISS logs an error at INFO for each processor that it has no library for, though one library serves all."""
    script = (
        "from pspsearch.config import LogSettings; from pspsearch.logs import set_up_logs; "
        "set_up_logs(LogSettings()); import faiss, logging; logging.info('done')"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert answer.stderr.split(maxsplit=1)[1] == "INFO root: done\n"
