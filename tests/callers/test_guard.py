"""Who is let in, to what, and how often, without any wire."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pspsearch.callers import guard as guards
from pspsearch.callers.access import EVERYTHING, Access, Right
from pspsearch.callers.budget import Budget
from pspsearch.callers.caller import Caller
from pspsearch.callers.guard import Guard
from pspsearch.callers.rights import RULES, Rule
from pspsearch.callers.tokens import Tokens, create_token, revoke_token
from pspsearch.errors import Forbidden, Overloaded, RateExceeded, Unauthenticated

SOMEBODY = Caller(peer="203.0.113.1:4711", host="203.0.113.1")
SOMEBODY_ELSE = Caller(peer="203.0.113.2:4711", host="203.0.113.2")
BUDGET = Budget(1 << 20)


@dataclass(frozen=True)
class Request:
    """All of a request that the guard reads."""

    collection: str = ""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of tokens with one token that nobody here uses."""
    path = tmp_path / "tokens.json"
    create_token(path, Access("nobody"), None)
    return path


def with_token(file: Path, access: Access, caller: Caller = SOMEBODY) -> Caller:
    """Makes a caller who shows a new token."""
    return replace(caller, token=create_token(file, access, None))


def rule_of(method: str) -> Rule:
    """The method's rule."""
    rule = RULES[method]
    assert rule is not None
    return rule


def enter(guard: Guard, caller: Caller, method: str = "Search", *, is_stream: bool = False) -> Access:
    """Makes the checks that come before a request is received."""
    access = guard.identify(caller)
    guard.check(rule_of(method), access, caller, is_stream=is_stream)
    return access


@pytest.mark.parametrize(
    ("certified", "certificate", "access"),
    [(False, "", EVERYTHING), (False, "shop", EVERYTHING), (True, "", EVERYTHING), (True, "shop", Access("shop"))],
)
def test_without_tokens_everybody_may_do_everything(*, certified: bool, certificate: str, access: Access) -> None:
    """If certificates are used, they give a name but no other rights."""
    guard = Guard(certified=certified, budget=BUDGET)

    assert enter(guard, replace(SOMEBODY, certificate=certificate), "DeleteCollection") == access


def test_token_says_who_calls(file: Path) -> None:
    """If tokens are used, a certificate does not say who calls, and nobody is let in without a good token."""
    guard = Guard(Tokens(file), certified=True, budget=BUDGET)
    shop = Access("shop", Right.WRITE, frozenset({"photos"}))
    caller = with_token(file, shop)

    assert guard.identify(caller) == shop
    with pytest.raises(Unauthenticated, match="the call carries no token"):
        guard.identify(replace(SOMEBODY, certificate="shop"))
    with pytest.raises(Unauthenticated, match="not one that the server knows"):
        guard.identify(replace(caller, token=f"{caller.token}x"))


def test_right_is_checked_before_the_request_and_the_collection_with_it(file: Path) -> None:
    """Only the request tells which collection the call is about."""
    guard = Guard(Tokens(file), budget=BUDGET)
    caller = with_token(file, Access("shop", Right.WRITE, frozenset({"photos"})))

    with pytest.raises(Forbidden, match="shop has the right to WRITE, and this takes ADMIN"):
        enter(guard, caller, "StartRollout")
    enter(guard, caller, "UpsertItems")
    assert guard.check_still("UpsertItems", caller, Request("photos")).holder == "shop"
    with pytest.raises(Forbidden, match="no access to collection 'shoes'"):
        guard.check_still("UpsertItems", caller, Request("shoes"))
    with pytest.raises(Forbidden, match="no access to collection 'default'"):
        guard.check_still("UpsertItems", caller, Request())


def test_each_caller_has_a_rate_of_its_own() -> None:
    """Callers without a name are told apart by their hosts; a host is the same on every connection."""
    now_s = 0.0
    guard = Guard(calls_per_s=1.0, budget=BUDGET, clock=lambda: now_s)
    enter(guard, SOMEBODY)

    with pytest.raises(RateExceeded, match=r"203\.0\.113\.1 calls more than 1 times a second"):
        enter(guard, replace(SOMEBODY, peer="203.0.113.1:4712"))
    assert enter(guard, SOMEBODY_ELSE) == EVERYTHING
    now_s = 1.0
    assert enter(guard, SOMEBODY) == EVERYTHING


@pytest.mark.parametrize(("calls_per_s", "let_in"), [(None, 2), (5.0, 5), (0.0, 20)])
def test_token_has_a_rate_of_its_own(file: Path, calls_per_s: float | None, let_in: int) -> None:
    """None means the server's rate, and 0 no bound; the rate counts for all hosts that show the token."""
    guard = Guard(Tokens(file), calls_per_s=2.0, budget=BUDGET, clock=lambda: 0.0)
    caller = with_token(file, Access("shop", calls_per_s=calls_per_s))
    callers = [caller, replace(SOMEBODY_ELSE, token=caller.token)] * 10

    refused = 0
    for one in callers:
        try:
            enter(guard, one)
        except RateExceeded:
            refused += 1

    assert len(callers) - refused == let_in


async def test_streams_leave_calls_their_rate() -> None:
    """The call that opens a stream does not count either, because its requests do."""
    guard = Guard(calls_per_s=1.0, budget=BUDGET, clock=lambda: 0.0)
    for _ in range(3):
        enter(guard, SOMEBODY, "SearchStream", is_stream=True)
    await guard.check_next("IngestItems", SOMEBODY, Request())

    enter(guard, SOMEBODY)
    with pytest.raises(RateExceeded):
        enter(guard, SOMEBODY)


async def test_request_that_had_to_wait_is_checked_again(file: Path) -> None:
    """The token may be revoked while the request waits."""
    guard = Guard(Tokens(file), calls_per_s=20.0, budget=BUDGET, clock=lambda: 0.0)
    caller = with_token(file, Access("shop"))
    for _ in range(20):
        await guard.check_next("IngestItems", caller, Request())
    waiting = asyncio.create_task(guard.check_next("IngestItems", caller, Request()))
    await asyncio.sleep(0)
    is_waiting = not waiting.done()
    revoke_token(file, "shop")

    with pytest.raises(Unauthenticated):
        await waiting
    assert is_waiting


def test_who_has_not_called_for_the_longest_time_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """This bounds the memory for a crowd of callers; a caller who called since is remembered."""
    monkeypatch.setattr(guards, "_MOST_CALLERS", 2)
    guard = Guard(calls_per_s=2.0, budget=BUDGET, clock=lambda: 0.0)
    first, second, third = (Caller(peer=host, host=host) for host in ("a", "b", "c"))
    for caller in (first, first, second, second):
        enter(guard, caller)
    with pytest.raises(RateExceeded):
        enter(guard, first)

    enter(guard, third)

    with pytest.raises(RateExceeded):
        enter(guard, first)
    assert enter(guard, second) == EVERYTHING


@pytest.mark.parametrize(("is_stream", "what"), [(False, "calls under way"), (True, "streams open")])
def test_caller_has_so_many_calls_and_so_many_streams(*, is_stream: bool, what: str) -> None:
    """A call too many is refused until one has ended; streams, and other callers, are not affected."""
    guard = Guard(calls=1, budget=BUDGET)

    with guard.hold(SOMEBODY, EVERYTHING, is_stream=is_stream):
        with (
            pytest.raises(Overloaded, match=rf"203\.0\.113\.1 has 1 {what} already"),
            guard.hold(SOMEBODY, EVERYTHING, is_stream=is_stream),
        ):
            pass
        with (
            guard.hold(SOMEBODY, EVERYTHING, is_stream=not is_stream),
            guard.hold(SOMEBODY_ELSE, EVERYTHING, is_stream=is_stream),
        ):
            pass
    with guard.hold(SOMEBODY, EVERYTHING, is_stream=is_stream) as quota:
        assert quota.users == 1


def test_quota_is_of_the_holder_and_lasts_as_long_as_its_calls() -> None:
    """What a holder makes the server hold is counted once, whatever host shows the token."""
    guard = Guard(budget=BUDGET)
    shop = Access("shop")
    with guard.hold(SOMEBODY, shop, is_stream=True) as stream:
        with guard.hold(SOMEBODY_ELSE, shop, is_stream=False) as call:
            assert call is stream
        with guard.hold(SOMEBODY, EVERYTHING, is_stream=False) as of_the_host:
            assert of_the_host is not stream

    with guard.hold(SOMEBODY, shop, is_stream=False) as later:
        assert later is not stream
