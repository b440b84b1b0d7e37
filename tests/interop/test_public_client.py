"""``ondewo-sip-client`` from the package index drives the life cycle unchanged."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from tests.interop.kit.align import align, faults
from tests.interop.kit.kamailio import SUBSCRIBERS
from tests.interop.kit.peers import Peers
from tests.interop.kit.process import Program
from tests.interop.kit.public_client import DRIVER, METHODS_DRIVER, public_client_python
from tests.interop.kit.sound import read_wav, speech_like, write_wav
from tests.service.far_side import PASSWORD, FarSide

pytestmark = pytest.mark.interop


async def test_the_public_client_drives_the_life_cycle(peers: Peers, tmp_path: Path) -> None:
    python = await asyncio.to_thread(public_client_python)
    speech = speech_like(1.0, seed=11)
    wav = write_wav(tmp_path / "speech.wav", speech)
    kamailio = await peers.kamailio()
    server = await peers.server()
    bob = await peers.baresip("bob", kamailio)
    carol = await peers.baresip("carol", kamailio)
    host, _, port = server.grpc.rpartition(":")
    account = kamailio.aor("alice")
    argv = [str(python), str(DRIVER), host, port, account, SUBSCRIBERS["alice"]]
    argv += [f"sip:{kamailio.aor('bob')}", f"sip:{kamailio.aor('carol')}", str(wav)]
    folder = peers.new_folder("public-client")
    folder.mkdir()
    client = Program("public-client", argv, folder)
    peers.own(client)

    await carol.event("CALL_ESTABLISHED", timeout=30)  # the outgoing call was transferred
    await bob.event("CALL_CLOSED")
    heard = read_wav(await bob.recording(call=0))
    await carol.hangup()
    await carol.event("CALL_CLOSED")
    await carol.dial(f"sip:{account}")
    assert await client.exited(timeout=20) == 0, client.log()
    found = align(heard, speech)
    assert found.correlation > 0.95
    assert faults(heard, speech, found.offset) == []

    lines = [json.loads(line) for line in client.log().splitlines() if line.startswith("{")]
    returned = [(line["method"], line["status"]) for line in lines if line["method"] != "history"]
    assert returned == [
        ("register_account", "REGISTERED"),
        ("start_session", "READY"),
        ("start_call", "OUTGOING_CALL_CONNECTED"),
        ("play_wav_files", "MICROPHONE_WAV_FILES_PLAYED"),
        ("mute", "MICROPHONE_MUTED"),
        ("un_mute", "MICROPHONE_UNMUTED"),
        ("get_sip_status", "MICROPHONE_UNMUTED"),
        ("transfer_call", "TRANSFER_CALL_INITIATED"),
        ("play_wav_files", "MICROPHONE_WAV_FILES_PLAYED"),
        ("end_call", "INCOMING_CALL_FINISHED"),
        ("end_session", "SESSION_ENDED"),
    ]
    history = [line["status"] for line in lines if line["method"] == "history"]
    assert history[-1] == "SESSION_ENDED"
    assert "TRANSFER_CALL_INITIATED" in history


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_public_client_calls_every_method(peers: Peers, tmp_path: Path, kind: str) -> None:
    python = await asyncio.to_thread(public_client_python)
    speech = speech_like(1.0, seed=12)
    wav, heard = write_wav(tmp_path / "speech.wav", speech), tmp_path / "heard.pcm"
    server = await peers.server("--call-control-token", "open-sesame")
    host, _, port = server.grpc.rpartition(":")
    async with FarSide() as far:
        argv = [str(python), str(METHODS_DRIVER), kind, host, port, far.address("alice"), PASSWORD]
        argv += [far.address("bob"), "open-sesame", str(wav), str(heard)]
        folder = peers.new_folder("public-client")
        folder.mkdir()
        client = Program("public-client", argv, folder)
        peers.own(client)
        bob = await far.incoming()
        await bob.answer()
        bob.play(np.tile(speech, 4))
        assert await client.exited(timeout=30) == 0, client.log()
    lines = [json.loads(line) for line in client.log().splitlines() if line.startswith("{")]
    returned = {line["method"]: (line["status"], line["exception"]) for line in lines if "method" in line}
    assert returned == {
        "register_account": ("REGISTERED", ""),
        "start_session": ("READY", ""),
        "start_call": ("OUTGOING_CALL_CONNECTED", ""),
        "get_sip_status": ("OUTGOING_CALL_CONNECTED", ""),
        "play_wav_files": ("MICROPHONE_WAV_FILES_PLAYED", ""),
        "mute": ("MICROPHONE_MUTED", ""),
        "un_mute": ("MICROPHONE_UNMUTED", ""),
        "set_call_media_control": ("MICROPHONE_UNMUTED", ""),
        "report_answering_machine_detected": ("OUTGOING_CALL_ANSWERING_MACHINE_DETECTED", ""),
        "transfer_call": ("TRANSFER_CALL_FAILED", "TransferRejected"),
        "end_call": ("OUTGOING_CALL_FINISHED", ""),
        "end_session": ("SESSION_ENDED", ""),
    }
    assert {line["call_id"] for line in lines if line.get("status", "").startswith("OUTGOING")} == {"the-call"}
    assert next(line["muted"] for line in lines if line.get("method") == "set_call_media_control")
    (responses,) = (line["responses"] for line in lines if "responses" in line)
    assert responses[0] == "started"
    assert responses.count("audio") >= 60
    assert responses[-2:] == ["stats", "ended"]
    assert next(line["history"] for line in lines if "history" in line) == 12
    found = align(np.frombuffer(heard.read_bytes(), "<i2"), speech[: len(speech) // 2])
    assert found.correlation > 0.95
