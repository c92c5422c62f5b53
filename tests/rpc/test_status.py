"""The table from errors to gRPC's codes."""

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2

from pspsearch import errors
from pspsearch.errors import (
    BadFilter,
    CatalogDamaged,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    PspsearchError,
    RetryLater,
    UnknownFormat,
)
from pspsearch.rpc.status import CODES, code_of, make_status
from tests.servers.rpc_client import Refusal


def subclasses(kind: type[PspsearchError]) -> Iterator[type[PspsearchError]]:
    """All subclasses, at any depth, that the server raises."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from subclasses(child)


@pytest.mark.parametrize("kind", list(subclasses(PspsearchError)))
def test_every_error_is_in_the_table(kind: type[PspsearchError]) -> None:
    """Each class or one of its ancestors is in the table, so a new error cannot be forgotten."""
    assert any(ancestor in CODES for ancestor in kind.__mro__)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownFormat(""), grpc.StatusCode.INVALID_ARGUMENT),
        (errors.NotFound(""), grpc.StatusCode.NOT_FOUND),
        (errors.AlreadyExists(""), grpc.StatusCode.ALREADY_EXISTS),
        (errors.ModelMismatch(""), grpc.StatusCode.FAILED_PRECONDITION),
        (Overloaded(""), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.TritonUnavailable(""), grpc.StatusCode.UNAVAILABLE),
        (errors.NotServing(""), grpc.StatusCode.UNAVAILABLE),
        (DeadlineExceeded(""), grpc.StatusCode.DEADLINE_EXCEEDED),
        (CatalogDamaged(""), grpc.StatusCode.DATA_LOSS),
        (errors.BrokenModel(""), grpc.StatusCode.INTERNAL),
        (ZeroDivisionError(""), grpc.StatusCode.INTERNAL),
    ],
)
def test_code_says_what_the_caller_should_do(error: Exception, code: grpc.StatusCode) -> None:
    """A subclass has the code of its nearest ancestor. Anything not raised on purpose is INTERNAL."""
    assert code_of(error) is code


def test_details_name_the_class_and_the_request() -> None:
    """So a program can tell errors with the same code apart, and a person can find the call in the log."""
    refusal = Refusal(make_status(UnknownFormat("the image is none"), "request-7"))

    info = refusal.detail(error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("UNKNOWN_FORMAT", "pspsearch")
    assert refusal.detail(error_details_pb2.RequestInfo).request_id == "request-7"
    assert refusal.status.message == "the image is none"


def test_bad_filter_is_told_with_its_position() -> None:
    """The position is a field violation, for tools, and a number."""
    refusal = Refusal(make_status(BadFilter("at character 4 there is a stray )", 3), ""))

    (violation,) = refusal.detail(error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.description) == ("filter", "at character 4 there is a stray )")
    assert refusal.detail(error_details_pb2.ErrorInfo).metadata == {"position": "3"}


@pytest.mark.parametrize("kind", [RetryLater, *subclasses(RetryLater)])
def test_what_may_pass_says_when_to_come_again(kind: type[RetryLater]) -> None:
    """Every error after which a repetition may succeed has RetryInfo."""
    refusal = Refusal(make_status(kind("later"), ""))

    assert "RetryInfo" in refusal.details


@pytest.mark.parametrize(("wait_s", "seconds"), [(0.0001, 0.001), (2.5, 2.5), (1e300, 86_400.0)])
def test_who_calls_too_often_is_told_its_own_time(wait_s: float, seconds: float) -> None:
    """The time is rounded up to a millisecond, and is a day at most."""
    refusal = Refusal(make_status(errors.RateExceeded("later", wait_s), ""))

    assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds() == seconds


@pytest.mark.parametrize("error", [RuntimeError("secret"), errors.CatalogError("secret"), CatalogDamaged("secret")])
def test_what_the_caller_cannot_mend_is_not_told(error: Exception) -> None:
    """Paths and stack traces stay in the log, where the request id finds them."""
    status = make_status(error, "request-7")

    assert b"secret" not in status.SerializeToString()
    assert "request-7" in status.message


@pytest.mark.parametrize("error", [NotFound("\N{PILE OF POO}" * 10_000), BadFilter("\0" * 10_000, 0)])
def test_long_message_is_cut(error: PspsearchError) -> None:
    """It may quote what a caller sent, but trailers have room for only 8 KiB."""
    status = make_status(error, "x" * 64)

    percent_encoded = 3 * len(status.message.encode())
    assert percent_encoded + 4 / 3 * status.ByteSize() < 4096
    assert status.message.endswith("...")


def test_invalid_request_has_no_violation_where_no_field_is_known() -> None:
    """An empty BadRequest would only be noise."""
    refusal = Refusal(make_status(InvalidRequest("no"), ""))

    assert sorted(refusal.details) == ["ErrorInfo", "RequestInfo"]
