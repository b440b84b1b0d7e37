"""Calls every method with the public client; run by its own interpreter, knows nothing of this project.

    python public_client_methods.py sync|async HOST PORT ACCOUNT PASSWORD CALLEE TOKEN WAV HEARD

One outgoing call. Prints one JSON line per returned status or kind of streamed response; HEARD takes the samples that
the live stream brought.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from ondewo.sip import sip_pb2 as pb  # type: ignore[import-not-found]
from ondewo.sip.client.async_client import AsyncClient  # type: ignore[import-not-found]
from ondewo.sip.client.client import Client  # type: ignore[import-not-found]
from ondewo.sip.client.client_config import ClientConfig  # type: ignore[import-not-found]

CALL_ID = "the-call"
FRAMES = 60


def scoped(sip: Any, token: str) -> Any:
    """The client with the metadata that control of a call needs, as its users add them: by a subclass."""
    metadata = [("x-ondewo-expected-call-id", CALL_ID), ("x-ondewo-sip-call-control-token", token)]
    sip.__class__ = type("ScopedSip", (type(sip),), {"metadata": property(lambda _: metadata)})
    return sip


async def result(value: Any) -> Any:
    """What a method returned, of the blocking client or of the other."""
    return await value if inspect.isawaitable(value) else value


def show(method: str, status: Any) -> None:
    line = {
        "method": method,
        "status": pb.SipStatus.StatusType.Name(status.status_type),
        "exception": status.exception_name,
        "call_id": status.call_id,
        "muted": status.bot_muted,
    }
    print(json.dumps(line), flush=True)


CONFIG = pb.SipCallAudioRequest(config=pb.SipCallAudioConfig(mode=pb.SIP_CALL_AUDIO_MODE_LISTEN, sample_rate_hz=8000))


def listen(sip: Any) -> Iterator[Any]:
    """The responses of a live stream that is closed after some frames; blocking."""
    enough = threading.Event()

    def requests() -> Iterator[Any]:
        yield CONFIG
        enough.wait(30)

    for response in sip.stream_call_audio(requests()):
        yield response
        if response.audio.sequence + 1 == FRAMES:
            enough.set()


async def listen_async(sip: Any) -> AsyncIterator[Any]:
    """The same, not blocking."""
    enough = asyncio.Event()

    async def requests() -> AsyncIterator[Any]:
        yield CONFIG
        await enough.wait()

    async for response in sip.stream_call_audio(requests()):
        yield response
        if response.audio.sequence + 1 == FRAMES:
            enough.set()


async def main(
    kind: str, host: str, port: str, account: str, password: str, callee: str, token: str, wav: str, heard: str
) -> None:
    """Every method once, or more often."""
    config = ClientConfig(host=host, port=port, user_name="bot", password="not used without Keycloak")
    client = (AsyncClient if kind == "async" else Client)(config=config, use_secure_channel=False)
    sip = client.services.sip
    request: Any = pb.SipRegisterAccountRequest(account_name=account, password=password)
    show("register_account", await result(sip.register_account(request)))
    request = pb.SipStartSessionRequest(account_name=account, auto_answer_interval=0)
    show("start_session", await result(sip.start_session(request)))
    request = pb.SipStartCallRequest(callee_id=callee, headers={"X-ondewo-vtsi-caller-call-id": CALL_ID})
    show("start_call", await result(sip.start_call(request)))
    show("get_sip_status", await result(sip.get_sip_status()))
    sip = scoped(sip, token)
    responses = [one async for one in listen_async(sip)] if kind == "async" else list(listen(sip))
    Path(heard).write_bytes(b"".join(one.audio.pcm_s16le for one in responses))
    print(json.dumps({"responses": [one.WhichOneof("response") for one in responses]}), flush=True)
    request = pb.SipPlayWavFilesRequest(wav_files=[Path(wav).read_bytes()])
    show("play_wav_files", await result(sip.play_wav_files(request)))
    show("mute", await result(sip.mute()))
    show("un_mute", await result(sip.un_mute()))
    request = pb.SipSetCallMediaControlRequest(bot_voice=pb.MEDIA_CONTROL_SETTING_OFF)
    show("set_call_media_control", await result(sip.set_call_media_control(request)))
    amd = pb.AnsweringMachineDetectionResult(verdict=pb.AnsweringMachineDetectionResult.MACHINE)
    request = pb.SipReportAnsweringMachineDetectedRequest(amd_result=amd)
    show("report_answering_machine_detected", await result(sip.report_answering_machine_detected(request)))
    request = pb.SipTransferCallRequest(transfer_id="desk", outcome_timeout_ms=3000)
    show("transfer_call", await result(sip.transfer_call(request)))
    show("end_call", await result(sip.end_call(pb.SipEndCallRequest(hard_hangup=False))))
    show("end_session", await result(sip.end_session()))
    history = await result(sip.get_sip_status_history())
    print(json.dumps({"history": len(history.status_history)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
