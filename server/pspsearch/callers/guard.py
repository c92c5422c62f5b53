"""Who is let in, to what, and how often."""

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Generator

from pspsearch.callers.access import EVERYTHING, Access
from pspsearch.callers.budget import Budget
from pspsearch.callers.caller import Caller
from pspsearch.callers.quota import Quota
from pspsearch.callers.rate import CallRate
from pspsearch.callers.rights import RULES, Rule
from pspsearch.callers.tokens import Tokens
from pspsearch.errors import Unauthenticated

_MOST_CALLERS = 10_000
"""How many callers' rates are remembered; the one that has not called for longest is forgotten and begins anew."""


class Guard:
    """Lets callers in or refuses them. For the tasks of one event loop."""

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
        """Without `tokens`, callers need none; if `certified`, they are known by their certificates.

        `calls_per_s`, and `calls` under way at once, bound each caller; 0 is no bound. All share the budget.
        """
        self._budget = budget
        self._tokens = tokens
        self._certified = certified
        self._calls_per_s = calls_per_s
        self._calls = calls
        self._quotas: dict[str, Quota] = {}
        self._clock = clock
        self._rates: OrderedDict[tuple[str, bool], CallRate] = OrderedDict()
        """Each caller has one rate for calls and one for streams, so that its streams leave something for its calls."""

    def identify(self, caller: Caller) -> Access:
        """Returns what the caller may do; Unauthenticated if its token is missing or not good."""
        if self._tokens is None:
            return Access(caller.certificate) if self._certified else EVERYTHING
        if not caller.token:
            raise Unauthenticated("the call carries no token: the header `authorization: Bearer TOKEN` is missing")
        return self._tokens.find(caller.token).access

    def check(self, rule: Rule, access: Access, caller: Caller, *, is_stream: bool) -> None:
        """Refuses a call before its request is received. Of a stream, its requests count and the call does not."""
        access.check_right(rule.right)
        if not is_stream and (rate := self._rate(access, caller, streams=False)) is not None:
            rate.take()

    def check_still(self, method: str, caller: Caller, request: object) -> Access:
        """Checks a call that goes on, because its caller's rights may have changed; returns what they are now."""
        rule = RULES[method]
        assert rule is not None, f"{method} is for anybody"
        access = self.identify(caller)
        access.check(rule.right, rule.collection(request))
        return access

    async def check_next(self, method: str, caller: Caller, request: object) -> None:
        """Returns when it is the turn of a stream's request, or refuses it."""
        rate = self._rate(self.check_still(method, caller, request), caller, streams=True)
        if rate is not None and await rate.wait():
            self.check_still(method, caller, request)

    @contextlib.contextmanager
    def hold(self, caller: Caller, access: Access, *, is_stream: bool) -> Generator[Quota]:
        """Counts the block as one call or stream of the caller; Overloaded if that is one too many."""
        name = _name(access, caller)
        quota = self._quotas.setdefault(name, Quota(name, self._calls, self._budget))
        quota.users += 1
        try:
            with quota.stream() if is_stream else quota.call():
                yield quota
        finally:
            quota.users -= 1
            if not quota.users:
                del self._quotas[name]

    def _rate(self, access: Access, caller: Caller, *, streams: bool) -> CallRate | None:
        """The caller's rate; None if the caller may call as often as it likes."""
        calls_per_s = self._calls_per_s if access.calls_per_s is None else access.calls_per_s
        if not calls_per_s:
            return None
        name = _name(access, caller)
        rate = self._rates.setdefault((name, streams), CallRate(name, self._clock))
        rate.calls_per_s = calls_per_s
        self._rates.move_to_end((name, streams))
        if len(self._rates) > _MOST_CALLERS:
            self._rates.popitem(last=False)
        return rate


def _name(access: Access, caller: Caller) -> str:
    """The name that a caller's calls are counted under."""
    return access.holder or caller.host
