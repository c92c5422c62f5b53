"""What the server says, back as the errors that it raised."""

import grpc
import pytest
from google.rpc import error_details_pb2

from pspsearch import errors
from pspsearch.client.failures import ServerFailed, ServerUnavailable, status_error
from tests.api_server import error_status, reason

RAISED = [
    errors.InvalidRequest,
    errors.EmptyImage,
    errors.UnknownFormat,
    errors.DamagedImage,
    errors.ImageTooLarge,
    errors.NotFound,
    errors.AlreadyExists,
    errors.ModelMismatch,
    errors.Overloaded,
    errors.TritonUnavailable,
    errors.DeadlineExceeded,
    errors.BrokenModel,
    errors.CatalogDamaged,
]


@pytest.mark.parametrize("kind", RAISED)
def test_reason_names_the_class(kind: type[errors.PspsearchError]) -> None:
    """The reason decides, whatever the code, and the sentence is the server's."""
    name = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in kind.__name__).lstrip("_")

    error = status_error(error_status(grpc.StatusCode.UNKNOWN, "no, because", reason(name)))

    assert type(error) is kind
    assert str(error) == "no, because"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.ALREADY_EXISTS, errors.AlreadyExists),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.ModelMismatch),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.UNAVAILABLE, ServerUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.DATA_LOSS, errors.CatalogDamaged),
        (grpc.StatusCode.INTERNAL, ServerFailed),
    ],
)
def test_code_is_enough_where_there_is_no_reason(code: grpc.StatusCode, kind: type[errors.PspsearchError]) -> None:
    """A proxy may answer in the server's place, and a later server may have reasons that are not known here."""
    assert type(status_error(error_status(code, "no"))) is kind
    assert type(status_error(error_status(code, "no", reason("OF_A_LATER_SERVER")))) is kind


def test_bad_filter_keeps_its_position() -> None:
    """Where in the filter the error is."""
    status = error_status(grpc.StatusCode.INVALID_ARGUMENT, "at 7", reason("BAD_FILTER", position="7"))

    error = status_error(status)

    assert isinstance(error, errors.BadFilter)
    assert error.position == 7


def test_request_id_is_carried() -> None:
    """It is what finds an unexplained failure in the server's log."""
    request = error_details_pb2.RequestInfo(request_id="4711")

    error = status_error(error_status(grpc.StatusCode.INTERNAL, "internal error", request))

    assert isinstance(error, ServerFailed)
    assert error.request_id == "4711"


def test_good_status_is_no_error() -> None:
    """Code 0 with whatever else."""
    assert status_error(error_status(grpc.StatusCode.OK, "fine")) is None
