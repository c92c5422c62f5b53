"""Lines of the log, which say what call they are about."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pspsearch.logs import CURRENT_CALL, JsonFormatter, RequestIdFilter, TextFormatter
from pspsearch.v1.search_service_pb2 import DescribeRequest
from tests.rpc_client import open_api, refuse

log = logging.getLogger("pspsearch.tests")


@pytest.fixture(params=[JsonFormatter, TextFormatter])
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """Of the whole process, in either form."""
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
    """Also those of tasks and threads that the call starts; what is about no call has none."""
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
    """The id that the caller chose."""
    with caplog.at_level(logging.DEBUG, "pspsearch"):
        async with open_api() as api:
            await refuse(api.search.Describe(DescribeRequest(), metadata=(("x-request-id", "mine-9"),)))

    (line,) = [one for one in lines.getvalue().splitlines() if "refused" in one]
    assert id_of(line) == "mine-9"
    assert line.count("mine-9") == 1


def test_a_start_tells_nothing_of_what_faiss_tried() -> None:
    """Its INFO has an error for each processor that it has no library for, though one library is for all."""
    script = (
        "from pspsearch.config import LogSettings; from pspsearch.logs import set_up_logs; "
        "set_up_logs(LogSettings()); import faiss, logging; logging.info('done')"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert answer.stderr.split(maxsplit=1)[1] == "INFO root: done\n"
