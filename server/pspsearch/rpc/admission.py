"""Every call passes here: admission, request ids, errors, figures."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import status_pb2

from pspsearch import traces
from pspsearch.call import Call
from pspsearch.callers.access import EVERYTHING, Access
from pspsearch.callers.audit import TURNED_AWAY, Audit
from pspsearch.callers.caller import Caller
from pspsearch.callers.guard import Guard
from pspsearch.callers.quota import Quota
from pspsearch.callers.rights import ALWAYS_OPEN, RULES
from pspsearch.errors import Forbidden, NotServing, Overloaded, PspsearchError, Unauthenticated, bare
from pspsearch.headers import CALLER_ID, REQUEST_ID, is_sane
from pspsearch.logs import CURRENT_CALL
from pspsearch.rpc.abort import abort
from pspsearch.rpc.context import Context, caller_of, header
from pspsearch.rpc.metrics import Metrics
from pspsearch.rpc.status import DETAILS, code_of, is_callers, make_status

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Visitor:
    """One call that was let in, as its service sees it."""

    context: Context
    caller: Caller
    call: Call
    access: Access = EVERYTHING
    """What its caller may do."""
    request: Message | None = None
    """None as long as it is not read, and where a stream of them follows."""
    quota: Quota = field(init=False)
    """What its caller may have under way; of methods that have a rule."""


class Admission:
    """Lets at most so many calls in at once; for the tasks of one event loop."""

    def __init__(self, max_calls: int, metrics: Metrics, guard: Guard, audit: Audit) -> None:
        self._max_calls = max_calls
        self.metrics = metrics
        self.guard = guard
        self._audit = audit
        self.open = False
        """Closed before everything is loaded, and while the server drains."""
        self.in_flight = 0
        self.idle = asyncio.Event()
        """Set while no call is under way."""
        self.idle.set()
        metrics.in_flight.set_function(lambda: self.in_flight)

    @contextlib.asynccontextmanager
    async def enter(self, method: str, context: Context, *, is_stream: bool) -> AsyncGenerator[Visitor]:
        """The block is one call, of which nothing has been received yet but who makes it.

        What it raises ends the call with its status; cancelling it is left alone.
        """
        call = Call(_timeout_s(context), request_id=_sane(context, REQUEST_ID) or secrets.token_hex(8))
        CURRENT_CALL.set(call.request_id)
        context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
        code, failure, visitor = grpc.StatusCode.OK, None, Visitor(context, caller_of(context), call)
        try:
            if (rule := RULES[method]) is not None:
                visitor.access = access = self.guard.identify(visitor.caller)
                call.caller = _sane(context, CALLER_ID) or access.holder or visitor.caller.host
                self.guard.check(rule, access, visitor.caller, is_stream=is_stream)
            self._admit(is_open=self.open or method in ALWAYS_OPEN)
            try:
                if rule is None:
                    yield visitor
                else:
                    with (
                        self.guard.hold(visitor.caller, visitor.access, is_stream=is_stream) as visitor.quota,
                        traces.call_span(method, context.invocation_metadata() or (), request_id=call.request_id),
                    ):
                        yield visitor
            finally:
                self._leave()
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.InternalError as error:  # gRPC's word for an answer to somebody who is gone
            code = grpc.StatusCode.CANCELLED
            raise asyncio.CancelledError from error
        except Exception as error:
            failure = _sole(error)
            code = code_of(failure)
        finally:
            self.metrics.count_call(method, code.name, call)
            self._audit.write(method, code.name, visitor.access, call, visitor.request, visitor.caller)
        if failure is not None:
            await self._end(method, failure, call, context)

    async def check_next(self, method: str, visitor: Visitor, request: Message) -> None:
        """For each request of a stream, which may go on without it: how many are turned away is a fact of its call."""
        try:
            await self.guard.check_next(method, visitor.caller, request)
        except (Unauthenticated, Forbidden):
            visitor.call.count(TURNED_AWAY)
            raise

    def explain(self, method: str, error: Exception, call: Call) -> status_pb2.Status:
        """The status of a call that failed, or of one query or item in it.

        The log has what its caller is not told; a bug's traceback, too, which the error then loses.
        """
        if not is_callers(error):
            trace = None if isinstance(error, PspsearchError) else error
            log.error("%s failed: %s", method, error, exc_info=trace, extra=_tell(method, error, call))
        return make_status(bare(error), call.request_id)

    def _admit(self, *, is_open: bool) -> None:
        if not is_open:
            raise NotServing("the server is starting or stopping")
        if self.in_flight >= self._max_calls:
            self.metrics.refused.inc()
            raise Overloaded(f"the server is busy: {self.in_flight} calls are under way")
        self.in_flight += 1
        self.idle.clear()

    def _leave(self) -> None:
        self.in_flight -= 1
        if not self.in_flight:
            self.idle.set()

    async def _end(self, method: str, error: Exception, call: Call, context: Context) -> None:
        """Raises what tells gRPC that the call is over."""
        status = self.explain(method, error, call)
        if is_callers(error):
            # a server that is overloaded must not write about each of thousands of calls, of strangers neither: the
            # metrics count them
            level = logging.DEBUG if isinstance(error, Overloaded | Unauthenticated) else logging.INFO
            told = _tell(method, error, call)
            log.log(level, "%s refused: %s", method, status.message, extra=told)
        metadata = ((REQUEST_ID, call.request_id), (DETAILS, status.SerializeToString()))
        await abort(context, code_of(error), status.message, metadata)


def _sole(error: Exception) -> Exception:
    """Out of a group the one that is in it: the tasks of one stream end together, and for one reason.

    The group keeps nothing: it is the error of a task, which the frames have that it came through.
    """
    inner = cast("tuple[Exception, ...]", getattr(error, "exceptions", ()))
    if len(inner) != 1:
        return error
    bare(error)
    return _sole(inner[0])


def _tell(method: str, error: Exception, call: Call) -> dict[str, str]:
    """For logs of one object per line."""
    return {"method": method, "code": code_of(error).name, "request_id": call.request_id}


def _sane(context: Context, name: str) -> str:
    """A header, where it is there and fit to be used; empty where not."""
    value = header(context, name)
    return value if is_sane(value) else ""


def _timeout_s(context: Context) -> float | None:
    return cast("float | None", context.time_remaining())  # None where there is none, whatever its types say
