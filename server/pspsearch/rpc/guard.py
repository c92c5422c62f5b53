"""Who is let in, to what, and how often."""

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from typing import Any

import grpc.aio
from google.protobuf.message import Message

from pspsearch.access import EVERYTHING, Access
from pspsearch.errors import Unauthenticated
from pspsearch.headers import AUTHORIZATION
from pspsearch.rpc.allowance import Allowance
from pspsearch.rpc.budget import Budget
from pspsearch.rpc.rights import RULES, Rule
from pspsearch.rpc.share import Share
from pspsearch.tokens import Tokens

Context = grpc.aio.ServicerContext[Any, Any]

_SCHEME = "Bearer "
_MOST_CALLERS = 10_000
"""That are remembered; who was not heard for the longest time is forgotten, and begins anew."""


class Guard:
    """For the tasks of one event loop."""

    def __init__(
        self,
        tokens: Tokens | None = None,
        calls_per_s: float = 0.0,
        calls: int = 0,
        *,
        budget: Budget,
        certified: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without tokens nobody is asked for one, and callers are known by their certificates where they have some.

        `calls_per_s`, and `calls` under way at once, are of one caller; 0 for any. The budget is all callers'.
        """
        self._budget = budget
        self._tokens = tokens
        self._certified = certified
        self._calls_per_s = calls_per_s
        self._calls = calls
        self._shares: dict[str, Share] = {}
        self._clock = clock
        self._allowances: OrderedDict[tuple[str, bool], Allowance] = OrderedDict()
        """Of callers, for their calls and for their streams: those take all that there is, and would leave none."""

    def identify(self, context: Context) -> Access:
        """What the caller may do. Unauthenticated where nobody knows who it is."""
        if self._tokens is None:
            return Access(_certified(context)) if self._certified else EVERYTHING
        return self._tokens.find(_bearer(context)).access

    def check(self, rule: Rule, access: Access, context: Context, *, is_stream: bool) -> None:
        """Before a request is received; the requests of a stream count instead of it."""
        access.check_right(rule.right)
        if not is_stream and (allowance := self._allowance(access, context, streams=False)) is not None:
            allowance.take()

    def check_still(self, method: str, context: Context, request: Message) -> Access:
        """While a call goes on: what its caller may do can have changed since it began."""
        rule = RULES[method]
        assert rule is not None, f"{method} is for anybody"
        access = self.identify(context)
        access.check(rule.right, rule.collection(request))
        return access

    async def check_next(self, method: str, context: Context, request: Message) -> None:
        """For each request of a stream; returns when it is its turn."""
        allowance = self._allowance(self.check_still(method, context, request), context, streams=True)
        if allowance is not None and await allowance.wait():
            self.check_still(method, context, request)

    @contextlib.contextmanager
    def hold(self, context: Context, access: Access, *, is_stream: bool) -> Generator[Share]:
        """The block is one call or stream of its caller; Overloaded where that has too many."""
        caller = access.holder or host_of(context)
        share = self._shares.setdefault(caller, Share(caller, self._calls, self._budget))
        share.users += 1
        try:
            with share.stream() if is_stream else share.call():
                yield share
        finally:
            share.users -= 1
            if not share.users:
                del self._shares[caller]

    def _allowance(self, access: Access, context: Context, *, streams: bool) -> Allowance | None:
        """None where the caller may call as often as it likes."""
        calls_per_s = self._calls_per_s if access.calls_per_s is None else access.calls_per_s
        if not calls_per_s:
            return None
        caller = access.holder or host_of(context)
        allowance = self._allowances.setdefault((caller, streams), Allowance(caller, self._clock))
        allowance.calls_per_s = calls_per_s
        self._allowances.move_to_end((caller, streams))
        if len(self._allowances) > _MOST_CALLERS:
            self._allowances.popitem(last=False)
        return allowance


def host_of(context: Context) -> str:
    """Where the call comes from, without the connection's port."""
    return context.peer().rpartition(":")[0]


def _bearer(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == AUTHORIZATION and isinstance(value, str) and value.startswith(_SCHEME):
            return value.removeprefix(_SCHEME)
    raise Unauthenticated("the call carries no token: the header `authorization: Bearer TOKEN` is missing")


def _certified(context: Context) -> str:
    """The first name in the caller's certificate."""
    identities = context.peer_identities() or ()
    return next(iter(identities), b"").decode(errors="replace")
