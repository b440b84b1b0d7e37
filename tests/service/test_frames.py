"""Frames that are put together by hand are, byte for byte, what protobuf makes of them."""

from __future__ import annotations

import pytest

from service import converters
from service.audio_streams import AudioFrame, Ended, EndOfStream
from service.conversation import Heard
from service.frames import audio_message, serialized
from service.recording_streams import Chunk
from service.v1 import audio_wire

NUMBERS = [0, 1, 127, 128, 4095, 4096, 2**32, 2**64 - 1]


@pytest.mark.parametrize("size", [2, 120, 128, 320, 640, 4086, 4090, 4096, 64_000])
def test_the_bytes_are_those_of_protobuf(size: int) -> None:
    pcm = bytes(range(256)) * (size // 256 + 1)
    for number in NUMBERS:
        made = audio_message(pcm[:size], number)
        assert made == converters.audio_response(AudioFrame(pcm[:size], number)).SerializeToString()
        assert made == audio_wire.response(Heard(pcm[:size], number)).SerializeToString()
        assert made == audio_wire.recording_response(Chunk(pcm[:size], number)).SerializeToString()
        assert serialized(made) is made


def test_other_messages_are_serialized() -> None:
    message = converters.audio_response(Ended(EndOfStream.STALLED, "reader-too-slow"))
    assert serialized(message) == message.SerializeToString()
