"""Between wire and domain."""

from __future__ import annotations

from datetime import UTC, datetime

from service import converters
from service.accounts import Scope
from service.generated.ondewo.sip import sip_pb2
from service.ongoing import EndReason
from service.status import AmdResult, Status, StatusType

AMD = AmdResult(
    verdict=sip_pb2.AnsweringMachineDetectionResult.MACHINE,
    cause=sip_pb2.AnsweringMachineDetectionResult.BEEP,
    confidence=0.5,
    decision_ms=1200,
    rule_id="r1",
    matched_cue_ids=("a", "b"),
    action_taken=sip_pb2.AnsweringMachineDetectionResult.LEFT_VOICE_MESSAGE,
    call_id="c1",
)


def test_every_field_of_a_status_reaches_the_wire() -> None:
    status = Status(
        StatusType.OUTGOING_CALL_FAILED,
        account="alice@example.com",
        timestamp_us=1_700_000_000_123_456,
        callee="bob",
        transfer_target="carol",
        headers={"X-A": "1"},
        description="486 Busy Here",
        exception="CallRejected",
        traceback="Traceback",
        amd=AMD,
        call_id="c1",
        sip_code=486,
    )
    wire = sip_pb2.SipStatus.FromString(converters.sip_status(status).SerializeToString())
    assert wire.account_name == "alice@example.com"
    assert wire.timestamp.ToDatetime(tzinfo=UTC) == datetime.fromtimestamp(1_700_000_000, UTC).replace(
        microsecond=123_456
    )
    assert wire.status_type == sip_pb2.SipStatus.OUTGOING_CALL_FAILED
    assert (wire.callee_id, wire.transfer_call_id, dict(wire.headers)) == ("bob", "carol", {"X-A": "1"})
    assert (wire.description, wire.exception_name) == ("486 Busy Here", "CallRejected")
    assert (wire.exception_traceback, wire.call_id, wire.sip_response_code) == ("Traceback", "c1", 486)
    carried = converters.amd_result(sip_pb2.SipEndCallRequest(amd_result=wire.amd_result))
    assert carried == AMD


def test_a_status_without_amd_has_none_on_the_wire() -> None:
    assert not converters.sip_status(Status(StatusType.READY)).HasField("amd_result")
    assert converters.amd_result(sip_pb2.SipEndCallRequest()) is None


def test_end_reasons_are_those_of_the_wire_and_an_unknown_one_is_unspecified() -> None:
    wire = sip_pb2.SipEndCallRequest.EndCallReason
    assert {int(number) for number in wire.values()} == {int(reason) for reason in EndReason}
    for number in wire.values():
        request = sip_pb2.SipEndCallRequest(end_reason=wire.ValueType(number))
        assert int(converters.end_reason(request)) == int(number)
    unknown = sip_pb2.SipEndCallRequest.FromString(b"\x10\x63")  # field 2 = 99
    assert converters.end_reason(unknown) is EndReason.UNSPECIFIED


def test_an_unknown_amd_number_survives() -> None:
    result = sip_pb2.AnsweringMachineDetectionResult.FromString(b"\x08\x63")  # verdict = 99
    carried = converters.amd_result(sip_pb2.SipEndCallRequest(amd_result=result))
    assert carried is not None
    assert converters.sip_status(Status(StatusType.READY, amd=carried)).amd_result.verdict == 99


def test_scope_from_metadata() -> None:
    assert converters.scope(None) == Scope(None, None)
    assert converters.scope([("user-agent", "x")]) == Scope(None, None)
    account, call = ("x-sip-account", "alice@example.com"), ("x-ondewo-expected-call-id", b"c1")
    assert converters.scope((account, call)) == Scope("alice@example.com", "c1")
