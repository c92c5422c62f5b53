"""Traces calls with OpenTelemetry; does nothing unless its packages are installed and `set_up` was called.

Continues the caller's trace through the stages of its call and passes it on to Triton, in W3C's headers.
"""

import contextlib
import importlib
import time
from collections.abc import Callable, Generator, Iterable

from pspsearch.errors import BadSettings

try:
    from opentelemetry import propagate, trace
except ModuleNotFoundError:  # the extra `traces` installs it
    propagate = trace = None

_NAME = "pspsearch"
_PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
_listeners: list[object] = []
"""While there is none, nothing is recorded."""


def check_packages() -> None:
    """Raises BadSettings if packages that traces need are not installed."""
    try:
        for package in _PACKAGES:
            importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise BadSettings("traces need packages that are not installed: pip install 'pspsearch[traces]'") from error


def set_up(collector: str) -> Callable[[], None]:
    """Sends spans to the collector at this URL until the returned function is called; BadSettings without packages."""
    check_packages()
    assert trace is not None
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": _NAME}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=collector)))
    trace.set_tracer_provider(provider)
    _listeners.append(provider)

    def close() -> None:
        _listeners.remove(provider)
        provider.shutdown()

    return close


@contextlib.contextmanager
def call_span(name: str, headers: Iterable[tuple[str, str | bytes]], **attributes: str) -> Generator[None]:
    """Records the block as one call, whose caller sent these headers."""
    if not _listeners or trace is None or propagate is None:
        yield
        return
    carrier = {key: value for key, value in headers if isinstance(value, str)}
    with trace.get_tracer(_NAME).start_as_current_span(
        name, propagate.extract(carrier), trace.SpanKind.SERVER, attributes
    ):
        yield


def note(name: str, begun: float, ended: float) -> None:
    """Records a part of the current call, between two moments of `time.perf_counter`."""
    if not _listeners or trace is None:
        return
    base = time.time() - time.perf_counter()
    span = trace.get_tracer(_NAME).start_span(name, start_time=int(1e9 * (base + begun)))
    span.end(int(1e9 * (base + ended)))


def headers() -> tuple[tuple[str, str], ...]:
    """The headers by which a call to another server continues the trace; none if there is no trace."""
    if propagate is None:
        return ()
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple(carrier.items())
