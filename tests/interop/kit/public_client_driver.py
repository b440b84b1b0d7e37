"""Drives a whole life cycle with the public client; run by its own interpreter, knows nothing of this project.

    python public_client_driver.py HOST PORT ACCOUNT PASSWORD CALLEE TRANSFER_TARGET WAV…

Prints one JSON line per returned status: method, transition, description, call id. Then waits for a call to come in,
plays the wavs into it, hangs up, and ends the session.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from ondewo.sip.client.client import Client  # type: ignore[import-not-found]
from ondewo.sip.client.client_config import ClientConfig  # type: ignore[import-not-found]
from ondewo.sip.sip_pb2 import (  # type: ignore[import-not-found]
    SipEndCallRequest,
    SipPlayWavFilesRequest,
    SipRegisterAccountRequest,
    SipStartCallRequest,
    SipStartSessionRequest,
    SipStatus,
    SipTransferCallRequest,
)


def main(host: str, port: str, account: str, password: str, callee: str, target: str, *wavs: str) -> None:
    """One outgoing call that is transferred, one incoming call, one session."""
    config = ClientConfig(host=host, port=port, user_name="bot", password="not used without Keycloak")
    sip = Client(config=config, use_secure_channel=False).services.sip
    audio = [Path(wav).read_bytes() for wav in wavs]

    def show(method: str, status: SipStatus) -> None:
        line = {
            "method": method,
            "status": SipStatus.StatusType.Name(status.status_type),
            "description": status.description,
            "call_id": status.call_id,
        }
        print(json.dumps(line), flush=True)

    show("register_account", sip.register_account(SipRegisterAccountRequest(account_name=account, password=password)))
    show("start_session", sip.start_session(SipStartSessionRequest(account_name=account, auto_answer_interval=0)))
    show("start_call", sip.start_call(SipStartCallRequest(callee_id=callee, headers={"X-Campaign": "7"})))
    show("play_wav_files", sip.play_wav_files(SipPlayWavFilesRequest(wav_files=audio)))
    show("mute", sip.mute())
    show("un_mute", sip.un_mute())
    show("get_sip_status", sip.get_sip_status())
    show("transfer_call", sip.transfer_call(SipTransferCallRequest(transfer_id=target, outcome_timeout_ms=3000)))
    while SipStatus.StatusType.Name(sip.get_sip_status().status_type) != "INCOMING_CALL_CONNECTED":
        time.sleep(0.05)
    show("play_wav_files", sip.play_wav_files(SipPlayWavFilesRequest(wav_files=audio)))
    show("end_call", sip.end_call(SipEndCallRequest(hard_hangup=False)))
    show("end_session", sip.end_session())
    for status in sip.get_sip_status_history().status_history:
        show("history", status)


if __name__ == "__main__":
    main(*sys.argv[1:])
