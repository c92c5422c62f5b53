"""Every call passes here: it is admitted, gets a request id, is counted, and its errors become statuses."""

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
    """One admitted call, as its service sees it."""

    context: Context
    caller: Caller
    call: Call
    access: Access = EVERYTHING
    """What the caller may do."""
    request: Message | None = None
    """The request; None until it is read, and always None for a stream of requests."""
    quota: Quota = field(init=False)
    """How much the caller may have under way; set only for methods that have a rule."""


class Admission:
    """Limits how many calls are under way at once. Only tasks of one event loop may use it."""

    def __init__(self, max_calls: int, metrics: Metrics, guard: Guard, audit: Audit) -> None:
        self._max_calls = max_calls
        self.metrics = metrics
        self.guard = guard
        self._audit = audit
        self.open = False
        """Whether calls are admitted; False until everything is loaded, and again while the server drains."""
        self.in_flight = 0
        self.idle = asyncio.Event()
        """Set while no call is under way."""
        self.idle.set()
        metrics.in_flight.set_function(lambda: self.in_flight)

    @contextlib.asynccontextmanager
    async def enter(self, method: str, context: Context, *, is_stream: bool) -> AsyncGenerator[Visitor]:
        """Admits one call for the length of the block; its caller is known, its request not yet received.

        An error in the block ends the call with that error's status. A cancellation passes through.
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
        except grpc.aio.InternalError as error:  # gRPC raises this for an answer to a caller who is gone
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
        """Checks that the caller may make one more request in a stream.

        A refusal need not end the stream. The call's facts count the refusals.
        """
        try:
            await self.guard.check_next(method, visitor.caller, request)
        except (Unauthenticated, Forbidden):
            visitor.call.count(TURNED_AWAY)
            raise

    def explain(self, method: str, error: Exception, call: Call) -> status_pb2.Status:
        """The status of a failed call, or of one failed query or item in it.

        Details that the caller is not told go to the log, with the traceback if the error is a bug. The error loses
        its traceback.
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
        """Logs a refusal and ends the call."""
        status = self.explain(method, error, call)
        if is_callers(error):
            # An overloaded server must not log each of thousands of calls, nor each call of an unknown caller. The
            # metrics count them.
            level = logging.DEBUG if isinstance(error, Overloaded | Unauthenticated) else logging.INFO
            told = _tell(method, error, call)
            log.log(level, "%s refused: %s", method, status.message, extra=told)
        metadata = ((REQUEST_ID, call.request_id), (DETAILS, status.SerializeToString()))
        await abort(context, code_of(error), status.message, metadata)


def _sole(error: Exception) -> Exception:
    """Unwraps an exception group that holds one error, since the tasks of a stream fail together for one reason.

    The group is stripped of its traceback, because its frames would keep the failed task alive.
    """
    inner = cast("tuple[Exception, ...]", getattr(error, "exceptions", ()))
    if len(inner) != 1:
        return error
    bare(error)
    return _sole(inner[0])


def _tell(method: str, error: Exception, call: Call) -> dict[str, str]:
    """Extra fields for logs that write one JSON object per line."""
    return {"method": method, "code": code_of(error).name, "request_id": call.request_id}


def _sane(context: Context, name: str) -> str:
    """The value of a header, or "" if it is absent or unfit for use."""
    value = header(context, name)
    return value if is_sane(value) else ""


def _timeout_s(context: Context) -> float | None:
    return cast("float | None", context.time_remaining())  # None without a deadline, whatever the type stubs say
