"""Tell what happens on a sipcore server, as it happens, and lose nothing while the connection is gone.

    sipcore serve                                                  in another window
    python examples/watch.py                                       all accounts, from now on
    python examples/watch.py alice@example.com --from-start --calls 1

Each event is a line: its number, the account, the call, and what happened. When the server is gone, the watch goes on
from the number it had reached as soon as there is a server again, and says so where events are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import grpc
from google.protobuf import text_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from service.generated.sipcore.v1 import events_pb2
from service.generated.sipcore.v1 import telephony_pb2 as pb
from service.generated.sipcore.v1.telephony_pb2_grpc import TelephonyStub


def describe(event: events_pb2.Event) -> str:
    """An event in one line."""
    kind = event.WhichOneof("event")
    if kind is None:  # the server is newer than this program
        return f"{event.sequence:6} {event.account} {event.call_id or '-'} something new"
    what = text_format.MessageToString(getattr(event, kind), as_one_line=True, as_utf8=True)
    return f"{event.sequence:6} {event.account} {event.call_id or '-'} {kind} {what}".rstrip()


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The stable name of a refusal."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            return info.reason
    return error.code().name


class Watcher:
    """What was seen so far, kept over lost connections."""

    def __init__(self, accounts: list[str], *, from_start: bool) -> None:
        self._request = pb.WatchRequest(accounts=accounts, after_sequence=0 if from_start else None)
        self.calls = 0
        """Calls that ended."""

    async def watch(self, telephony: TelephonyStub, calls: int | None) -> None:
        """Prints what happens until so many calls have ended, or the connection."""
        token = os.environ.get("SIPCORE_CALL_CONTROL_TOKEN", "")
        metadata = (("x-ondewo-sip-call-control-token", token),) if token else ()
        async for response in telephony.Watch(self._request, metadata=metadata):
            match response.WhichOneof("response"):
                case "started":
                    print(f"watching, newest {response.started.newest_sequence}")
                    self._request.epoch = response.started.epoch
                    if not self._request.HasField("after_sequence"):
                        self._request.after_sequence = response.started.newest_sequence
                case "lost":
                    print(f"lost {response.lost.count or 'some'}: {pb.WatchLost.Cause.Name(response.lost.cause)}")
                    self._request.after_sequence = response.lost.last_sequence
                case "event":
                    print(describe(response.event))
                    self._request.after_sequence = response.event.sequence
                    self.calls += response.event.HasField("call_ended")
                    if self.calls == calls:
                        return


async def main(options: argparse.Namespace) -> int:
    watcher = Watcher(options.accounts, from_start=options.from_start)
    async with grpc.aio.insecure_channel(options.server) as channel:
        while True:
            try:
                await watcher.watch(TelephonyStub(channel), options.calls)
            except grpc.aio.AioRpcError as error:
                print(f"{reason_of(error)}: {error.details()}")
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    return 1
            if watcher.calls == options.calls:
                return 0
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Watch the accounts and calls of a sipcore server.")
    parser.add_argument("accounts", nargs="*", help="user@host; by default all")
    parser.add_argument("--server", default="127.0.0.1:50051", help="host:port")
    parser.add_argument("--from-start", action="store_true", help="begin with what the server remembers")
    parser.add_argument("--calls", type=int, metavar="COUNT", help="stop when so many calls have ended")
    sys.exit(asyncio.run(main(parser.parse_args())))
