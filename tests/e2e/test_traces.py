"""A caller's trace goes through the server, stage by stage, and on to Triton; a real collector hears of it."""

import contextlib
import itertools
import time
from collections.abc import Generator, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from opentelemetry import context, trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from tritonclient.grpc import service_pb2, service_pb2_grpc

from pspsearch.client import Client
from pspsearch.errors import BrokenModel
from pspsearch.triton.client import TritonClient
from pspsearch.triton.process import BundledTriton
from tests.pictures import encode, load_photo
from tests.servers.search_server import serve

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps every span."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def Export(  # noqa: N802 - the protocol's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Takes the spans of a batch."""
        del context
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector with its URL."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    collector = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


@contextlib.contextmanager
def traced() -> Generator[None]:
    """Makes the block part of a trace."""
    of_caller = trace.SpanContext(TRACE, SPAN, is_remote=False, trace_flags=trace.TraceFlags(1))
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(of_caller)))
    try:
        yield
    finally:
        context.detach(token)


async def test_callers_trace_goes_through_every_stage(
    collector: tuple[Collector, str], triton: BundledTriton, tmp_path: Path
) -> None:
    """Each stage is a span of the call, whose parent is the caller's span; they follow one another in time."""
    heard, url = collector
    with (
        serve(tmp_path / "data", triton.address, "--traces", url) as server,
        Client(server.address) as client,
        traced(),
    ):
        client.search(encode(load_photo(64, 48)))
    (call,) = [span for span in heard.spans if span.name == "Search"]
    stages = sorted((span for span in heard.spans if span is not call), key=lambda span: span.start_time_unix_nano)
    assert call.trace_id == TRACE.to_bytes(16)
    assert call.parent_span_id == SPAN.to_bytes(8)
    assert [span.name for span in stages] == ["queue", "decode", "inference", "search"]
    assert {span.parent_span_id for span in stages} == {call.span_id}
    assert {span.trace_id for span in stages} == {call.trace_id}
    for one, later in itertools.pairwise(stages):
        assert one.end_time_unix_nano <= later.start_time_unix_nano + 1_000_000
    assert abs(call.end_time_unix_nano / 1e9 - time.time()) < 60


async def test_trace_is_passed_on_to_triton() -> None:
    """It travels as the W3C's header, and Triton continues the trace if it records traces."""
    seen: list[dict[str, str]] = []

    class Recorder(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelInfer(self, request: object, context: grpc.ServicerContext) -> object:  # noqa: N802 - the protocol's name
            del request
            seen.append({key: str(value) for key, value in context.invocation_metadata()})
            context.abort(grpc.StatusCode.INTERNAL, "that is all")
            raise AssertionError

    server = grpc.server(futures.ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Recorder(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    async with TritonClient(f"127.0.0.1:{port}") as client:
        for within in (traced(), contextlib.nullcontext()):
            with within, pytest.raises(BrokenModel, match="that is all"):
                await client.infer(service_pb2.ModelInferRequest(), 5.0)
    server.stop(None).wait()

    assert [one.get("traceparent") for one in seen] == [f"00-{TRACE:032x}-{SPAN:016x}-01", None]
