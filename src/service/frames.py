"""Frames of live audio as they stand on the wire, put together without protobuf's objects: fifty a second and stream.

``SipCallAudioResponse``, ``ConverseResponse`` and ``StreamRecordingResponse`` have one shape for this: field 2 is a
message whose field 1 are the samples and whose field 2 is a number. A test compares with what protobuf makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from service.generated.ondewo.sip import sip_pb2 as sip
from service.generated.ondewo.sip.sip_pb2_grpc import add_SipServicer_to_server
from service.generated.sipcore.v1 import audio_pb2 as audio
from service.generated.sipcore.v1.audio_pb2_grpc import add_CallAudioServicer_to_server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

    from service.servicer import Servicer
    from service.v1.audio import CallAudio

__all__ = ["add_call_audio", "add_sip", "audio_message", "serialized"]

AUDIO = b"\x12"
"""Tag of field 2, a message."""
SAMPLES = b"\x0a"
"""Tag of field 1, bytes."""
NUMBER = b"\x10"
"""Tag of field 2, a varint."""


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


SMALL = [_varint(number) for number in range(4096)]
"""All lengths of a frame of 20 ms, and the numbers of the first minute."""


def audio_message(pcm: bytes, number: int) -> bytes:
    """A response that carries samples, serialized; ``pcm`` is not empty."""
    size = len(pcm)
    length = SMALL[size] if size < 4096 else _varint(size)
    if number == 0:  # proto3 leaves it out
        inner = 1 + len(length) + size
        return b"".join((AUDIO, _varint(inner), SAMPLES, length, pcm))
    numbered = SMALL[number] if number < 4096 else _varint(number)
    inner = 2 + len(length) + size + len(numbered)
    outer = SMALL[inner] if inner < 4096 else _varint(inner)
    return b"".join((AUDIO, outer, SAMPLES, length, pcm, NUMBER, numbered))


def serialized(message: Message | bytes) -> bytes:
    """What goes out; what is serialized already, as it is."""
    return message if type(message) is bytes else message.SerializeToString()  # type: ignore[union-attr]


def add_sip(servicer: Servicer, server: grpc.aio.Server) -> None:
    """Serves ``ondewo.sip.Sip``; the one method that sends frames with a serializer of its own."""
    method = grpc.stream_stream_rpc_method_handler(
        servicer.SipStreamCallAudio,
        request_deserializer=sip.SipCallAudioRequest.FromString,
        response_serializer=serialized,
    )
    name = sip.DESCRIPTOR.services_by_name["Sip"].full_name
    methods = {"SipStreamCallAudio": method}
    _generic(server, name, methods)
    add_SipServicer_to_server(servicer, server)
    server.add_registered_method_handlers(name, methods)  # type: ignore[attr-defined]  # not in its stubs


def add_call_audio(servicer: CallAudio, server: grpc.aio.Server) -> None:
    """Serves ``sipcore.v1.CallAudio``, likewise."""
    methods = {
        "Converse": grpc.stream_stream_rpc_method_handler(
            servicer.Converse,
            request_deserializer=audio.ConverseRequest.FromString,
            response_serializer=serialized,
        ),
        "StreamRecording": grpc.unary_stream_rpc_method_handler(
            servicer.StreamRecording,
            request_deserializer=audio.StreamRecordingRequest.FromString,
            response_serializer=serialized,
        ),
    }
    name = audio.DESCRIPTOR.services_by_name["CallAudio"].full_name
    _generic(server, name, methods)
    add_CallAudioServicer_to_server(servicer, server)
    server.add_registered_method_handlers(name, methods)  # type: ignore[attr-defined]  # not in its stubs


def _generic(server: grpc.aio.Server, name: str, methods: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
    """Of generic handlers the first one counts, of registered ones the last; those come first where gRPC knows them."""
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, dict(methods)),))
