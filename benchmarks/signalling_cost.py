"""Where the CPU time of a call goes: the same calls through the protocol alone, the user agent, and with media.

    python benchmarks/signalling_cost.py [--calls 2000] [--repeat 5] [--role caller|callee] [--profile LAYER]

A call is INVITE, 180, 200, ACK, BYE, 200, with a session description each way. The far end is fixed text in the same
process, whose time is not counted, and no socket carries a message: the figures are CPU time of nothing but the agent,
and repeat within a few per cent on a machine that does other things too.

How to read the table
  protocol  ``sipcore.protocol.stack`` alone, in virtual time at 500 calls a second that last 100 ms: parsing,
            transactions with every timer, dialog, offer/answer. Transactions live for their 32 s, as in earnest.
  agent     the user agent around it, as fast as it goes: events, ``Call``, futures, a task a call, the pump.
  media     the same with the RTP engine: two sockets a call, bound, watched and closed. Not the ticks of its clock,
            of which a slower machine has more in each call: rtp_cost.py measures those.
  least     milliseconds of CPU a call in the cheapest of the runs: others of the machine only ever add to it.
What the sockets of signalling cost on top is in call_setup.py, which calls SIPp.

``--profile LAYER`` runs one layer under cProfile and prints what took longest. ``--left`` prints instead what each call
that is over leaves in the protocol for the 32 s of its transactions: bytes, and objects that the collector looks at.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import gc
import pstats
import random
import time
import tracemalloc
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from canned_peer import HERE, CannedCallee, CannedCaller
from common import machine, median_of, print_table, raise_file_limit, run_benchmark, write_json

from rtp.engine import MediaEngine
from sipcore.config import Account, UserAgentConfig
from sipcore.protocol.flows import Flow
from sipcore.protocol.session_events import SessionEstablished
from sipcore.protocol.stack import FlowWanted, SessionIncoming, SessionOccurred, Stack
from sipcore.tuning import tune_interpreter
from sipcore.useragent import UserAgent

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from sipcore.call import Call
    from sipcore.protocol.flows import Target
    from sipcore.protocol.invite_session import InviteSession

RATE = 500
"""Calls a second of virtual time."""
UP = 50
"""Calls that are up at once: those of a tenth of a second."""
FLOW = Flow("udp", (HERE, 5060), (HERE, 5070), advertised=(HERE, 5060))
CALLEE = f"sip:bench@{HERE}:5070"
CONFIG = UserAgentConfig(sip_host=HERE, max_calls=100_000)
ACCOUNT = Account(f"bench@{HERE}")
ROLES = ("caller", "callee")
PATIENCE = 30.0
"""Seconds without progress after which calls must have failed."""


class Stopwatch:
    """CPU time of some of what this thread does."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Counts the block."""
        begin = time.thread_time()
        yield
        self.seconds += time.thread_time() - begin


# -- the protocol alone ------------------------------------------------------------------------------------------


class Bench:
    """A stack, and the fixed text that it talks to."""

    def __init__(self, peer: CannedCaller | CannedCallee) -> None:
        self.stack = Stack(CONFIG, rng=random.SystemRandom(), user_agent="sipcore/bench")
        self.line = self.stack.add_line(ACCOUNT)
        self.watch = Stopwatch()
        self.now = 0.0
        self.up: deque[InviteSession] = deque()
        self._peer = peer

    def call(self) -> None:
        """Places a call, and hangs up the one that was placed UP calls ago."""
        self._advance()
        self._run(self._place)
        if len(self.up) > UP:
            self._run(self.up.popleft().hang_up)

    def hear(self, data: bytes) -> None:
        """The far end speaks first."""
        self._advance()
        self._run(lambda now: self.stack.receive(data, FLOW, now))

    def _place(self, now: float) -> None:
        uri = self.line.dial(CALLEE, field="to")
        self.stack.invite(self.line, uri, headers=(), media_port=20_000, ring_timeout=60.0, now=now)

    def _advance(self) -> None:
        self.now += 1 / RATE
        self._run(self._handle_timer)

    def _handle_timer(self, now: float) -> None:
        deadline = self.stack.next_deadline()
        if deadline is not None and deadline <= now:
            self.stack.handle_timer(now)

    def _run(self, door: Callable[[float], object]) -> None:
        """Goes through a door of the stack, and carries on until nobody has anything to say."""
        with self.watch.running():
            door(self.now)
            waiting = deque(self._drained())
        while waiting:
            for answer in self._peer.hear(waiting.popleft()):
                with self.watch.running():
                    self.stack.receive(answer, FLOW, self.now)
                    waiting += self._drained()

    def _drained(self) -> list[bytes]:
        """What the stack sends; its events are answered as the shell would."""
        sent: list[bytes] = []
        while True:
            transmits, events = self.stack.transmits(), self.stack.events()
            if not transmits and not events:
                return sent
            sent += [data for _, data in transmits]
            for event in events:
                match event:
                    case FlowWanted():
                        self.stack.flow_ready(event.id, FLOW, self.now)
                    case SessionIncoming(session, _):
                        assert session.callee is not None
                        session.callee.ring(20_000, self.now)
                        session.callee.answer(self.now)
                    case SessionOccurred(session, SessionEstablished()):
                        self.up.append(session)
                    case _:
                        pass


def protocol(role: str, calls: int) -> float:
    """Seconds of CPU."""
    bench, one, peer = calls_of(role)
    for _ in range(calls):
        one()
    assert peer.ended == calls - UP, "calls failed"
    return bench.watch.seconds


def calls_of(role: str) -> tuple[Bench, Callable[[], None], CannedCaller | CannedCallee]:
    """A stack, what has it make one call, and the far end of them."""
    if role == "caller":
        callee = CannedCallee()
        bench = Bench(callee)
        return bench, bench.call, callee
    caller = CannedCaller()
    bench = Bench(caller)

    def one() -> None:
        bench.hear(caller.invite())
        if len(caller.up) > UP:
            bench.hear(caller.bye())

    return bench, one, caller


def left_behind(role: str, calls: int) -> tuple[float, float]:
    """Bytes, and objects that the collector looks at, for each of so many calls that are over."""
    _bench, one, _peer = calls_of(role)
    for _ in range(5 * UP):  # those that are up, and what is kept for all
        one()
    gc.collect()
    before = len(gc.get_objects())
    tracemalloc.start()
    for _ in range(calls):
        one()
    gc.collect()
    (octets, _), objects = tracemalloc.get_traced_memory(), len(gc.get_objects()) - before
    tracemalloc.stop()
    return octets / calls, objects / calls


# -- the user agent ----------------------------------------------------------------------------------------------


class CannedFlows:
    """In place of the sockets: everything leads to the far end of fixed text."""

    tls_address = None
    address = (HERE, 5060)

    def __init__(self, peer: CannedCaller | CannedCallee) -> None:
        self._peer = peer
        self.watch = Stopwatch()
        """Time of the far end, not to be counted."""

    def __call__(self, *, on_message: Callable[[bytes, Flow], None], on_flow_closed: object) -> CannedFlows:
        """Built by the driver."""
        self._on_message = on_message
        return self

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def flow_at_once(self, target: Target, *, prefer: Flow | None = None) -> Flow:
        """The only one there is."""
        return prefer or FLOW

    async def flow_to(self, target: Target, **wishes: object) -> Flow:
        """The only one there is."""
        return FLOW

    async def hosts_of(self, target: Target) -> tuple[str, ...]:
        """The only one there is."""
        return (HERE,)

    def keep(self, owner: Hashable, flow: Flow | None, every: float | None) -> None:
        """Nothing closes."""

    def send(self, flow: Flow, data: bytes) -> None:
        """The far end answers in the next round of the loop."""
        with self.watch.running():
            answers = self._peer.hear(data)
        loop = asyncio.get_running_loop()
        for answer in answers:
            loop.call_soon(self.hear, answer)

    def hear(self, data: bytes) -> None:
        """The far end speaks."""
        self._on_message(data, FLOW)


class NoStream:
    """In place of an RTP stream."""

    local_port = 20_000
    event_payload_type = None

    def nothing(self, *arguments: object, **named: object) -> float:
        """Does nothing."""
        return 0.0

    configure = close = clear = seconds_since_life = nothing


class NoMedia(MediaEngine):
    """An RTP engine without clock, sockets and streams."""

    def open_stream(self, local_host: str) -> Any:
        """Every call has one of these."""
        return NoStream()


async def agent_run(role: str, calls: int, engine: MediaEngine | None) -> float:
    """Seconds of CPU of this process, without the far end's."""
    peer: CannedCaller | CannedCallee = CannedCallee() if role == "caller" else CannedCaller()
    flows = CannedFlows(peer)
    tasks: set[asyncio.Task[object]] = set()

    def spawn(work: Any) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async with UserAgent(CONFIG, flows=cast("Any", flows), media=engine) as agent:
        line = agent.open_line(ACCOUNT)
        up: deque[Call] = deque()

        async def place() -> None:
            up.append(await line.call(CALLEE))
            if len(up) > UP:
                await up.popleft().hangup()

        async def take() -> None:
            async for call in line.incoming():
                spawn(call.answer())

        async def turn() -> None:
            """One round of the loop, in which the caller of too many calls hangs up."""
            if isinstance(peer, CannedCaller) and len(peer.up) > UP:
                flows.hear(peer.bye())
            await asyncio.sleep(0)

        taking = asyncio.create_task(take())
        begin = time.process_time()
        for _ in range(calls):
            if isinstance(peer, CannedCaller):
                flows.hear(peer.invite())
            else:
                spawn(place())
            async with asyncio.timeout(PATIENCE):
                await turn()
                while len(agent.calls) > 2 * UP:
                    await turn()
        async with asyncio.timeout(PATIENCE):
            while peer.ended < calls - UP:
                await turn()
        seconds = time.process_time() - begin - flows.watch.seconds
        if engine is None:
            seconds -= agent.media.statistics().cpu_seconds
        taking.cancel()
    return seconds


def agent(role: str, calls: int) -> float:
    """Seconds of CPU, without media."""
    return run(agent_run(role, calls, NoMedia()))


def media(role: str, calls: int) -> float:
    """Seconds of CPU, with media."""
    return run(agent_run(role, calls, None))


def run(work: Any) -> float:
    """On the loop that the server runs on."""
    factory = None
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop as factory
    with asyncio.Runner(loop_factory=factory) as runner:
        return float(runner.run(work))


LAYERS = {"protocol": protocol, "agent": agent, "media": media}


# -- figures -----------------------------------------------------------------------------------------------------


def measure(layer: str, role: str, options: argparse.Namespace) -> list[float]:
    """Milliseconds of CPU a call, for each of several runs."""
    found = []
    for _ in range(options.repeat):
        gc.collect()
        found.append(1000 * LAYERS[layer](role, options.calls) / options.calls)
    return found


def profile(layer: str, role: str, options: argparse.Namespace) -> None:
    """What took longest; the shares are right, the times are stretched by measuring them."""
    profiler = cProfile.Profile(time.process_time)
    profiler.enable()
    LAYERS[layer](role, options.calls)
    profiler.disable()
    print(f"{layer} as {role}, {options.calls} calls")
    pstats.Stats(profiler).sort_stats(options.sort).print_stats(options.lines)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=__doc__.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=int, default=2000, help="calls of each run (default 2000)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each layer (default 5)")
    parser.add_argument("--role", choices=ROLES, help="one role only")
    parser.add_argument("--layer", choices=LAYERS, help="one layer only")
    parser.add_argument("--profile", choices=LAYERS, help="where the time of one layer goes, instead of the table")
    parser.add_argument("--left", action="store_true", help="what calls that are over leave, instead of the table")
    parser.add_argument("--sort", choices=("tottime", "cumtime"), default="tottime", help="of the profile")
    parser.add_argument("--lines", type=int, default=45, help="of the profile (default 45)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="folder for the JSON")
    options = parser.parse_args()
    facts = machine()
    print(f"on {facts['cores']} x {facts['processor']}, Python {facts['python']}")
    raise_file_limit(4096)
    tune_interpreter()
    roles = (options.role,) if options.role else ROLES
    if options.left:
        left = [(role, *(f"{each:,.0f}" for each in left_behind(role, options.calls))) for role in roles]
        print_table(("role", "bytes left by a call", "objects"), left)
        return
    if options.profile:
        for role in roles:
            profile(options.profile, role, options)
        return
    rows, figures = [], []
    for role in roles:
        below = 0.0
        for layer in (options.layer,) if options.layer else LAYERS:
            found = measure(layer, role, options)
            least = min(found)
            rows.append((role, layer, f"{least:.3f}", f"{median_of(found):.3f}", f"+{least - below:.3f}"))
            figures.append({"role": role, "layer": layer, "cpu_ms_per_call": found})
            below = least
    print_table(("role", "layer", "least", "median", "added"), rows)
    write_json(options.out / "signalling_cost.json", {"machine": facts, "calls": options.calls, "layers": figures})


if __name__ == "__main__":
    run_benchmark(main)
