"""Every error of ours has a status code and a name that clients may rely on; only bugs are INTERNAL."""

from __future__ import annotations

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

import service.errors
import service.v1.errors
import sipcore.errors
from service.v1.refusals import code_of, reason_of, refusal
from sipcore.errors import AtCapacity, SipError

Code = grpc.StatusCode

ERRORS = sorted(
    {
        kind
        for module in (sipcore.errors, service.errors, service.v1.errors)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    },
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", ERRORS)
def test_no_error_of_ours_is_taken_for_a_bug(kind: type[Exception]) -> None:
    assert code_of(kind("x")) is not Code.INTERNAL


def test_the_more_special_row_comes_first() -> None:
    codes = {kind.__name__: code_of(kind("x")) for kind in ERRORS}
    assert codes["InvalidHeader"] is Code.INVALID_ARGUMENT
    assert codes["CallNotFound"] is Code.NOT_FOUND
    assert codes["NoOngoingCall"] is Code.FAILED_PRECONDITION
    assert codes["TransferInProgress"] is Code.FAILED_PRECONDITION
    assert codes["TransferTimeout"] is Code.ABORTED
    assert codes["AtCapacity"] is Code.RESOURCE_EXHAUSTED


def test_names() -> None:
    assert reason_of(sipcore.errors.HoldRejected()) == "HOLD_REJECTED"
    assert len({reason_of(kind("x")) for kind in ERRORS}) == len(ERRORS)


@pytest.mark.parametrize(("error", "seconds"), [(AtCapacity("full", code=503), 10), (SipError("pending", code=491), 2)])
def test_what_may_do_well_in_a_while(error: SipError, seconds: int) -> None:
    refused = refusal(error, {"call_id": "one", "account": ""})
    ((name, packed),) = refused.metadata
    assert name == "grpc-status-details-bin"
    assert isinstance(packed, bytes)
    info, retry = status_pb2.Status.FromString(packed).details
    unpacked = error_details_pb2.ErrorInfo.FromString(info.value)
    assert dict(unpacked.metadata) == {"call_id": "one", "sip_code": str(error.code)}
    assert error_details_pb2.RetryInfo.FromString(retry.value).retry_delay.seconds == seconds
