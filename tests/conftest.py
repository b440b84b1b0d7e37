"""Settings of all tests."""

from __future__ import annotations

import os
import signal

import grpc.aio
from hypothesis import settings

# Each test has an event loop of its own. Without a holder gRPC stops its poller with the last channel of a test and
# starts another one with the next; a wake-up that falls between the two is lost, and a test waits for ever.
grpc.aio.init_grpc_aio()  # type: ignore[attr-defined]  # the stubs do not have it

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and programs inherit it; some tests press Ctrl-C in one of theirs.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if not os.environ.get("CI"):  # there hypothesis has a profile of its own
    # How long an example takes is the machine's matter: no test asserts a time.
    settings.register_profile("sipcore", deadline=None)
    settings.load_profile("sipcore")
