"""A voice bot over gRPC, in asyncio: register, call, play, barge in, hang up, read the history.

    sipcore serve                                                  in another window
    python examples/grpc_client.py alice@example.com bob hello.wav

The password comes from SIPCORE_PASSWORD. Any client of the ondewo.sip API will do; this one uses the generated classes
that come with the package, which are the same as those that protoc makes of proto/ondewo/sip/sip.proto.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import grpc
from google.protobuf.empty_pb2 import Empty

from service.generated.ondewo.sip import sip_pb2 as pb
from service.generated.ondewo.sip.sip_pb2_grpc import SipStub

Type = pb.SipStatus.StatusType


def describe(status: pb.SipStatus) -> str:
    """A status in one line."""
    return f"{Type.Name(status.status_type)} {status.exception_name} {status.description}".rstrip()


async def main(options: argparse.Namespace) -> int:
    # With several accounts on one server, this says which one a request is about.
    about = (("x-sip-account", options.account),)
    async with grpc.aio.insecure_channel(options.server) as channel:
        sip = SipStub(channel)
        status = await sip.SipRegisterAccount(
            pb.SipRegisterAccountRequest(account_name=options.account, password=os.environ["SIPCORE_PASSWORD"]),
            timeout=40,
        )
        print(describe(status))
        if status.status_type != Type.REGISTERED:
            return 1
        print(describe(await sip.SipStartSession(pb.SipStartSessionRequest(account_name=options.account))))

        # Returns when the call is answered or has failed; cancelling the request gives the call up.
        request = pb.SipStartCallRequest(callee_id=options.callee, headers={"X-Campaign": "example"})
        status = await sip.SipStartCall(request, timeout=70, metadata=about)
        print(describe(status))
        if status.status_type == Type.OUTGOING_CALL_CONNECTED:
            playing = sip.SipPlayWavFiles(
                pb.SipPlayWavFilesRequest(wav_files=[file.read_bytes() for file in options.wav]), metadata=about
            )
            if options.barge_in is not None:
                # The caller began to speak: a cancelled request stops playing at the next frame.
                asyncio.get_running_loop().call_later(options.barge_in, playing.cancel)
            try:
                print(describe(await playing))
            except asyncio.CancelledError:
                print("playing was cut short")
            print(describe(await sip.SipEndCall(pb.SipEndCallRequest(hard_hangup=False), metadata=about)))

        print(describe(await sip.SipEndSession(Empty(), metadata=about)))
        for kept in (await sip.SipGetSipStatusHistory(Empty(), metadata=about)).status_history:
            print(f"  {kept.timestamp.ToJsonString()}  {describe(kept)}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Call somebody over a sipcore server.")
    parser.add_argument("account", help="user@host")
    parser.add_argument("callee", help="a sip: URI, user@host, or a bare user or number")
    parser.add_argument("wav", nargs="+", type=Path)
    parser.add_argument("--server", default="127.0.0.1:50051", help="host:port")
    parser.add_argument("--barge-in", type=float, metavar="SECONDS", help="stop playing after this long")
    sys.exit(asyncio.run(main(parser.parse_args())))
