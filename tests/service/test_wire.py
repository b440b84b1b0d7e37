"""The .proto is the table of CONTRACT §1, and the generated code was made from it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor

import service.generated
from service.generated.ondewo.sip import sip_pb2

FILE = sip_pb2.DESCRIPTOR
AMD = "AnsweringMachineDetectionResult"

MESSAGES = {
    "SipRegisterAccountRequest": "1 string account_name; 2 string password; 3 string auth_username;"
    " 4 string outbound_proxy",
    "SipStartSessionRequest": "1 string account_name; 2 int32 auto_answer_interval",
    "SipStartCallRequest": "1 string callee_id; 2 map headers",
    "SipEndCallRequest": f"1 bool hard_hangup; 2 EndCallReason end_reason; 3 {AMD} amd_result",
    "SipTransferCallRequest": "1 string transfer_id; 2 map headers; 3 uint32 outcome_timeout_ms",
    "SipPlayWavFilesRequest": "1 repeated bytes wav_files",
    "SipStatus": "1 string account_name; 2 Timestamp timestamp; 3 StatusType status_type; 4 string callee_id;"
    " 5 string transfer_call_id; 6 map headers; 7 string description; 8 string exception_name;"
    f" 9 string exception_traceback; 10 string nlu_session_name; 11 {AMD} amd_result; 12 string call_id;"
    " 13 bool bot_muted; 14 bool listening_paused; 15 int32 call_audio_streams; 16 int32 sip_response_code",
    "SipStatusHistoryResponse": "1 repeated SipStatus status_history",
    "SipReportAnsweringMachineDetectedRequest": f"1 {AMD} amd_result",
    AMD: "1 Verdict verdict; 2 Cause cause; 3 float confidence; 4 int32 decision_ms; 5 string rule_id;"
    " 6 repeated string matched_cue_ids; 7 ActionTaken action_taken; 8 string call_id",
    "SipSetCallMediaControlRequest": "1 MediaControlSetting bot_voice; 2 MediaControlSetting bot_listening;"
    " 3 MediaControlOwner owner; 4 bool participants_present",
    "SipCallAudioConfig": "1 SipCallAudioMode mode; 2 int32 sample_rate_hz; 3 int32 frame_ms;"
    " 4 bool take_over; 5 string stream_id; 6 int32 max_duration_s",
    "SipCallAudioFrame": "1 bytes pcm_s16le; 2 uint64 sequence",
    "SipCallAudioRequest": "1 SipCallAudioConfig config; 2 SipCallAudioFrame audio; 3 bool agent_muted",
    "SipCallAudioStarted": "1 string stream_id; 2 int32 sample_rate_hz; 3 int32 frame_ms; 4 SipCallAudioMode mode",
    "SipCallAudioStats": "1 uint64 frames_sent; 2 uint64 frames_dropped; 3 uint64 frames_received;"
    " 4 uint64 underruns; 5 uint64 frames_discarded",
    "SipCallAudioEnded": "1 SipCallAudioEndReason reason; 2 string detail",
    "SipCallAudioResponse": "1 SipCallAudioStarted started; 2 SipCallAudioFrame audio;"
    " 3 SipCallAudioStats stats; 4 SipCallAudioEnded ended",
}

ENUMS = {
    "SipEndCallRequest.EndCallReason": "END_CALL_REASON_UNSPECIFIED ANSWERING_MACHINE"
    " ANSWERING_MACHINE_VOICE_MESSAGE_LEFT END_CALL_REASON_TRANSFERRED",
    f"{AMD}.Verdict": "VERDICT_UNSPECIFIED HUMAN MACHINE IVR FAX NETWORK_ANNOUNCEMENT CALL_SCREENING NO_SPEECH UNKNOWN",
    f"{AMD}.Cause": "CAUSE_UNSPECIFIED CADENCE KEYWORD BEEP TONE CADENCE_AND_KEYWORD CADENCE_AND_BEEP TIMEOUT SILENCE",
    f"{AMD}.ActionTaken": "ACTION_TAKEN_UNSPECIFIED HUNG_UP CONTINUED DETECT_ONLY LEFT_VOICE_MESSAGE",
    "SipStatus.StatusType": "NO_SESSION REGISTERED READY INCOMING_CALL_INITIATED OUTGOING_CALL_INITIATED"
    " OUTGOING_CALL_CONNECTED INCOMING_CALL_CONNECTED TRANSFER_CALL_INITIATED SOFT_HANGUP_INITIATED"
    " HARD_HANGUP_INITIATED INCOMING_CALL_FAILED OUTGOING_CALL_FAILED INCOMING_CALL_FINISHED"
    " OUTGOING_CALL_FINISHED SESSION_REGISTRATION_FAILED SESSION_STARTED SESSION_ENDED TRANSFER_CALL_FAILED"
    " MICROPHONE_MUTED MICROPHONE_UNMUTED MICROPHONE_WAV_FILES_PLAYED NO_ONGOING_CALL"
    " OUTGOING_CALL_ANSWERING_MACHINE_DETECTED",
    "MediaControlSetting": "MEDIA_CONTROL_SETTING_UNCHANGED MEDIA_CONTROL_SETTING_ON MEDIA_CONTROL_SETTING_OFF",
    "MediaControlOwner": "MEDIA_CONTROL_OWNER_UNSPECIFIED MEDIA_CONTROL_OWNER_OPERATOR MEDIA_CONTROL_OWNER_PARTICIPANT",
    "SipCallAudioMode": "SIP_CALL_AUDIO_MODE_UNSPECIFIED SIP_CALL_AUDIO_MODE_LISTEN SIP_CALL_AUDIO_MODE_TALK",
    "SipCallAudioEndReason": " ".join(
        f"SIP_CALL_AUDIO_END_REASON_{name}"
        for name in [
            "UNSPECIFIED",
            "CLIENT_CLOSED",
            "CALL_ENDED",
            "CALL_TRANSFERRED",
            "MAX_DURATION",
            "STALLED",
            "INTERNAL",
        ]
    ),
}
"""Values count from 0."""

EMPTY = "google.protobuf.Empty"
METHODS = {
    "SipStartSession": "SipStartSessionRequest -> SipStatus",
    "SipEndSession": f"{EMPTY} -> SipStatus",
    "SipStartCall": "SipStartCallRequest -> SipStatus",
    "SipEndCall": "SipEndCallRequest -> SipStatus",
    "SipTransferCall": "SipTransferCallRequest -> SipStatus",
    "SipRegisterAccount": "SipRegisterAccountRequest -> SipStatus",
    "SipGetSipStatus": f"{EMPTY} -> SipStatus",
    "SipGetSipStatusHistory": f"{EMPTY} -> SipStatusHistoryResponse",
    "SipPlayWavFiles": "SipPlayWavFilesRequest -> SipStatus",
    "SipMute": f"{EMPTY} -> SipStatus",
    "SipUnMute": f"{EMPTY} -> SipStatus",
    "SipReportAnsweringMachineDetected": "SipReportAnsweringMachineDetectedRequest -> SipStatus",
    "SipSetCallMediaControl": "SipSetCallMediaControlRequest -> SipStatus",
    "SipStreamCallAudio": "stream SipCallAudioRequest -> stream SipCallAudioResponse",
}

_KINDS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def _kind(field: FieldDescriptor) -> str:
    message, enum = field.message_type, field.enum_type
    if message is not None and message.GetOptions().map_entry:
        return "map"
    named = message or enum
    kind = named.name if named is not None else _KINDS[field.type]
    return f"repeated {kind}" if field.is_repeated else kind


def _fields(message: Descriptor) -> str:
    return "; ".join(f"{field.number} {_kind(field)} {field.name}" for field in message.fields)


def _enum(path: str) -> EnumDescriptor:
    outer, _, inner = path.rpartition(".")
    return FILE.message_types_by_name[outer].enum_types_by_name[inner] if outer else FILE.enum_types_by_name[inner]


def test_package_and_messages() -> None:
    assert FILE.package == "ondewo.sip"
    assert {name: _fields(message) for name, message in FILE.message_types_by_name.items()} == MESSAGES


@pytest.mark.parametrize("path", ENUMS)
def test_enum(path: str) -> None:
    assert {value.name: value.number for value in _enum(path).values} == {
        name: number for number, name in enumerate(ENUMS[path].split())
    }


def test_no_enum_is_missing_from_the_table() -> None:
    nested = {
        f"{name}.{enum}" for name, message in FILE.message_types_by_name.items() for enum in message.enum_types_by_name
    }
    assert nested | set(FILE.enum_types_by_name) == set(ENUMS)


@pytest.mark.parametrize(
    ("message", "oneof"), [("SipCallAudioRequest", "request"), ("SipCallAudioResponse", "response")]
)
def test_oneof(message: str, oneof: str) -> None:
    descriptor = FILE.message_types_by_name[message]
    assert [field.name for field in descriptor.oneofs_by_name[oneof].fields] == [f.name for f in descriptor.fields]


def test_methods() -> None:
    def side(message: Descriptor, streaming: bool) -> str:
        name = message.full_name.removeprefix("ondewo.sip.")
        return f"stream {name}" if streaming else name

    def shape(method: MethodDescriptor) -> str:
        taken = side(method.input_type, method.client_streaming)
        return f"{taken} -> {side(method.output_type, method.server_streaming)}"

    assert {method.name: shape(method) for method in FILE.services_by_name["Sip"].methods} == METHODS


def test_headers_are_maps_of_strings() -> None:
    for name in ("SipStartCallRequest", "SipTransferCallRequest", "SipStatus"):
        entry = FILE.message_types_by_name[name].fields_by_name["headers"].message_type
        assert entry is not None
        assert _fields(entry) == "1 string key; 2 string value"


def test_generated_code_is_current() -> None:
    """Without the generator's tools; ``tox -e generated`` compares every byte."""
    package = Path(service.generated.__file__).parent
    proto = package.parents[2] / "proto"
    if not proto.is_dir():
        pytest.skip("the .proto files are not part of an installed package")
    recorded = (package / "sources.sha256").read_text("utf-8")
    assert recorded == "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(proto).as_posix()}\n"
        for path in sorted(proto.rglob("*.proto"))
    ), "run: python proto/generate.py"


def test_no_top_level_package_of_the_public_client_is_made() -> None:
    assert sip_pb2.__name__ == "service.generated.ondewo.sip.sip_pb2"
