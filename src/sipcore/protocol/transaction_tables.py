"""The four transaction machines of RFC 3261 §17, as RFC 6026 corrects them, in tables.

A :class:`Machine` is total: for each of its states and inputs there is either a :class:`Transition` or an
:class:`Ignore` that says why nothing happens. The tables hold the whole protocol;
:mod:`sipcore.protocol.transaction` only executes their actions. A timer among the actions is started (or started
again); timers that do not run in the next state are stopped.

Timer C is missing on purpose: it belongs to proxies (§16.6). How long a call may ring is the transaction user's to
say. "TU" below is the transaction user.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

__all__ = [
    "INVITE_CLIENT",
    "INVITE_SERVER",
    "NON_INVITE_CLIENT",
    "NON_INVITE_SERVER",
    "Action",
    "Ignore",
    "Input",
    "Machine",
    "State",
    "Timer",
    "Transition",
]


class _Member(Enum):
    """Members are keys of the tables: there is one of each, so its identity will do as its hash, and costs a tenth."""

    __hash__ = object.__hash__


class State(_Member):
    """States, named as in the figures of RFC 3261 and RFC 6026."""

    CALLING = "Calling"
    TRYING = "Trying"
    PROCEEDING = "Proceeding"
    ACCEPTED = "Accepted"
    COMPLETED = "Completed"
    CONFIRMED = "Confirmed"
    TERMINATED = "Terminated"


class Timer(_Member):
    """Timers of RFC 3261 table 4 and RFC 6026 §7, and three that the prose asks for."""

    A = "A"
    """INVITE request retransmission; unreliable transports only."""
    B = "B"
    """INVITE transaction timeout."""
    D = "D"
    """Wait for retransmitted failure responses to INVITE."""
    E = "E"
    """Non-INVITE request retransmission; unreliable transports only."""
    F = "F"
    """Non-INVITE transaction timeout."""
    G = "G"
    """INVITE failure response retransmission; unreliable transports only."""
    H = "H"
    """Wait for the ACK to a failure response."""
    I = "I"  # noqa: E741 - the RFC's name
    """Wait for retransmitted ACKs."""
    J = "J"
    """Wait for retransmitted non-INVITE requests."""
    K = "K"
    """Wait for retransmitted non-INVITE responses."""
    L = "L"
    """Wait for retransmitted INVITEs after a 2xx (RFC 6026 §7.1)."""
    M = "M"
    """Wait for further 2xx to INVITE (RFC 6026 §7.2)."""
    CANCELLED = "cancelled"
    """An INVITE that was cancelled must end within 64*T1 (RFC 3261 §9.1)."""
    TRYING = "100 Trying"
    """200 ms after which an unanswered INVITE gets a 100 (RFC 3261 §17.2.1)."""
    UNANSWERED = "unanswered"
    """64*T1 after which the client of a non-INVITE request has given up (RFC 4320 §4.2)."""


class Input(_Member):
    """What can happen to a transaction."""

    RECEIVE_1XX = "1xx arrives"
    RECEIVE_2XX = "2xx arrives"
    RECEIVE_300_699 = "300-699 arrives"
    RECEIVE_FINAL = "200-699 arrives"
    RECEIVE_REQUEST = "request arrives again"
    RECEIVE_ACK = "ACK arrives"
    SEND_1XX = "1xx from TU"
    SEND_2XX = "2xx from TU"
    SEND_300_699 = "300-699 from TU"
    SEND_FINAL = "200-699 from TU"
    TRANSPORT_ERROR = "transport error"
    TIMER_A = Timer.A
    TIMER_B = Timer.B
    TIMER_D = Timer.D
    TIMER_E = Timer.E
    TIMER_F = Timer.F
    TIMER_G = Timer.G
    TIMER_H = Timer.H
    TIMER_I = Timer.I
    TIMER_J = Timer.J
    TIMER_K = Timer.K
    TIMER_L = Timer.L
    TIMER_M = Timer.M
    TIMER_CANCELLED = Timer.CANCELLED
    TIMER_TRYING = Timer.TRYING
    TIMER_UNANSWERED = Timer.UNANSWERED


class Action(_Member):
    """What a transition has done, in its order; reports to the transaction user come last."""

    SEND_REQUEST = "send the request"
    SEND_ACK = "send the ACK"
    SEND_HELD_CANCEL = "send the CANCEL that waited for a provisional response"
    SEND_TRYING = "send 100 Trying"
    SEND_RESPONSE = "send the TU's response"
    RESEND_RESPONSE = "send the last response again"
    DELIVER = "response to TU"
    DELIVER_ACK = "ACK to TU"
    REPORT_TIMEOUT = "timeout to TU"
    REPORT_TRANSPORT = "transport error to TU"


@dataclass(frozen=True, slots=True)
class Transition:
    """An arrow of a figure."""

    state: State
    """The next state."""
    actions: tuple[Action | Timer, ...]
    section: str
    """Where it is written."""


@dataclass(frozen=True, slots=True)
class Ignore:
    """An input that changes nothing, and why."""

    reason: str


Cell = Transition | Ignore
Table = Mapping[tuple[State, Input], Cell]


@dataclass(frozen=True)
class Machine:
    """One kind of transaction."""

    name: str
    start: Transition
    """How it comes to life."""
    timers: Mapping[State, frozenset[Timer]]
    """Its states, and the timers that may run in each."""
    inputs: frozenset[Input]
    table: Table
    """A cell for each pair of state and input."""


def _machine(
    name: str,
    start: Transition,
    timers: Mapping[State, frozenset[Timer]],
    events: tuple[Input, ...],
    rows: Mapping[tuple[State, Input], Cell],
) -> Machine:
    """Fills in the cells that follow from others: timers that do not run, and everything after the end."""
    running = frozenset[Timer]().union(*timers.values())
    inputs = frozenset({*events, *(Input(timer) for timer in running)})
    table = dict(rows)
    for state, own in timers.items():
        for timer in running - own:
            table[state, Input(timer)] = Ignore(f"timer {timer.value} does not run in {state.value}")
    for event in inputs:
        table[State.TERMINATED, event] = Ignore("the transaction is over")
    states = MappingProxyType({**timers, State.TERMINATED: frozenset[Timer]()})
    return Machine(name, start, states, inputs, MappingProxyType(table))


_3261_INVITE_CLIENT = "RFC 3261 §17.1.1.2"
_6026_INVITE_CLIENT = "RFC 6026 §7.2, §8.4"

INVITE_CLIENT = _machine(
    "INVITE client",
    Transition(State.CALLING, (Action.SEND_REQUEST, Timer.A, Timer.B), _3261_INVITE_CLIENT),
    {
        State.CALLING: frozenset({Timer.A, Timer.B}),
        State.PROCEEDING: frozenset({Timer.CANCELLED}),
        State.ACCEPTED: frozenset({Timer.M}),
        State.COMPLETED: frozenset({Timer.D}),
    },
    (Input.RECEIVE_1XX, Input.RECEIVE_2XX, Input.RECEIVE_300_699, Input.TRANSPORT_ERROR),
    {
        (State.CALLING, Input.TIMER_A): Transition(State.CALLING, (Action.SEND_REQUEST, Timer.A), _3261_INVITE_CLIENT),
        (State.CALLING, Input.TIMER_B): Transition(State.TERMINATED, (Action.REPORT_TIMEOUT,), _3261_INVITE_CLIENT),
        (State.CALLING, Input.RECEIVE_1XX): Transition(
            State.PROCEEDING, (Action.SEND_HELD_CANCEL, Action.DELIVER), f"{_3261_INVITE_CLIENT}, §9.1"
        ),
        (State.CALLING, Input.RECEIVE_2XX): Transition(State.ACCEPTED, (Timer.M, Action.DELIVER), _6026_INVITE_CLIENT),
        (State.CALLING, Input.RECEIVE_300_699): Transition(
            State.COMPLETED, (Action.SEND_ACK, Timer.D, Action.DELIVER), f"{_3261_INVITE_CLIENT}, §17.1.1.3"
        ),
        (State.CALLING, Input.TRANSPORT_ERROR): Transition(
            State.TERMINATED, (Action.REPORT_TRANSPORT,), f"{_3261_INVITE_CLIENT}, §17.1.4"
        ),
        (State.PROCEEDING, Input.TIMER_CANCELLED): Transition(
            State.TERMINATED, (Action.REPORT_TIMEOUT,), "RFC 3261 §9.1"
        ),
        (State.PROCEEDING, Input.RECEIVE_1XX): Transition(State.PROCEEDING, (Action.DELIVER,), _3261_INVITE_CLIENT),
        (State.PROCEEDING, Input.RECEIVE_2XX): Transition(
            State.ACCEPTED, (Timer.M, Action.DELIVER), _6026_INVITE_CLIENT
        ),
        (State.PROCEEDING, Input.RECEIVE_300_699): Transition(
            State.COMPLETED, (Action.SEND_ACK, Timer.D, Action.DELIVER), f"{_3261_INVITE_CLIENT}, §17.1.1.3"
        ),
        # The figure has no such arrow, but a connection that died will bring no response either.
        (State.PROCEEDING, Input.TRANSPORT_ERROR): Transition(
            State.TERMINATED, (Action.REPORT_TRANSPORT,), "RFC 3261 §8.1.3.1, §17.1.4"
        ),
        (State.ACCEPTED, Input.TIMER_M): Transition(State.TERMINATED, (), _6026_INVITE_CLIENT),
        (State.ACCEPTED, Input.RECEIVE_1XX): Ignore("a provisional response that a 2xx overtook"),
        (State.ACCEPTED, Input.RECEIVE_2XX): Transition(State.ACCEPTED, (Action.DELIVER,), _6026_INVITE_CLIENT),
        (State.ACCEPTED, Input.RECEIVE_300_699): Ignore("a proxy forwards no failure after a 2xx"),
        (State.ACCEPTED, Input.TRANSPORT_ERROR): Ignore("nothing more is sent; the response is with the TU"),
        (State.COMPLETED, Input.TIMER_D): Transition(State.TERMINATED, (), _3261_INVITE_CLIENT),
        (State.COMPLETED, Input.RECEIVE_1XX): Ignore("a provisional response that the final one overtook"),
        (State.COMPLETED, Input.RECEIVE_2XX): Ignore("the TU has its final response"),
        (State.COMPLETED, Input.RECEIVE_300_699): Transition(State.COMPLETED, (Action.SEND_ACK,), _3261_INVITE_CLIENT),
        # The RFC reports this one too; a TU that has its final response can do nothing about a lost ACK.
        (State.COMPLETED, Input.TRANSPORT_ERROR): Transition(State.TERMINATED, (), _3261_INVITE_CLIENT),
    },
)

_3261_CLIENT = "RFC 3261 §17.1.2.2"

NON_INVITE_CLIENT = _machine(
    "non-INVITE client",
    Transition(State.TRYING, (Action.SEND_REQUEST, Timer.E, Timer.F), _3261_CLIENT),
    {
        State.TRYING: frozenset({Timer.E, Timer.F}),
        State.PROCEEDING: frozenset({Timer.E, Timer.F}),
        State.COMPLETED: frozenset({Timer.K}),
    },
    (Input.RECEIVE_1XX, Input.RECEIVE_FINAL, Input.TRANSPORT_ERROR),
    {
        (State.TRYING, Input.TIMER_E): Transition(State.TRYING, (Action.SEND_REQUEST, Timer.E), _3261_CLIENT),
        (State.TRYING, Input.TIMER_F): Transition(State.TERMINATED, (Action.REPORT_TIMEOUT,), _3261_CLIENT),
        (State.TRYING, Input.RECEIVE_1XX): Transition(State.PROCEEDING, (Action.DELIVER,), _3261_CLIENT),
        (State.TRYING, Input.RECEIVE_FINAL): Transition(State.COMPLETED, (Timer.K, Action.DELIVER), _3261_CLIENT),
        (State.TRYING, Input.TRANSPORT_ERROR): Transition(
            State.TERMINATED, (Action.REPORT_TRANSPORT,), f"{_3261_CLIENT}, §17.1.4"
        ),
        (State.PROCEEDING, Input.TIMER_E): Transition(State.PROCEEDING, (Action.SEND_REQUEST, Timer.E), _3261_CLIENT),
        (State.PROCEEDING, Input.TIMER_F): Transition(State.TERMINATED, (Action.REPORT_TIMEOUT,), _3261_CLIENT),
        (State.PROCEEDING, Input.RECEIVE_1XX): Transition(State.PROCEEDING, (Action.DELIVER,), _3261_CLIENT),
        (State.PROCEEDING, Input.RECEIVE_FINAL): Transition(State.COMPLETED, (Timer.K, Action.DELIVER), _3261_CLIENT),
        (State.PROCEEDING, Input.TRANSPORT_ERROR): Transition(
            State.TERMINATED, (Action.REPORT_TRANSPORT,), f"{_3261_CLIENT}, §17.1.4"
        ),
        (State.COMPLETED, Input.TIMER_K): Transition(State.TERMINATED, (), _3261_CLIENT),
        (State.COMPLETED, Input.RECEIVE_1XX): Ignore("a provisional response that the final one overtook"),
        (State.COMPLETED, Input.RECEIVE_FINAL): Ignore("a retransmitted response"),
        (State.COMPLETED, Input.TRANSPORT_ERROR): Ignore("nothing more is sent; the response is with the TU"),
    },
)

_3261_INVITE_SERVER = "RFC 3261 §17.2.1"
_6026_INVITE_SERVER = "RFC 6026 §7.1, §8.7"
_STAYS = Ignore("RFC 6026 §8.8: the state stays, a retransmission may get through")
_DISCARDED = Ignore("RFC 3261 §17.2: the final response has been given, others are discarded")

INVITE_SERVER = _machine(
    "INVITE server",
    Transition(State.PROCEEDING, (Timer.TRYING,), _3261_INVITE_SERVER),
    {
        State.PROCEEDING: frozenset({Timer.TRYING}),
        State.ACCEPTED: frozenset({Timer.L}),
        State.COMPLETED: frozenset({Timer.G, Timer.H}),
        State.CONFIRMED: frozenset({Timer.I}),
    },
    (
        Input.RECEIVE_REQUEST,
        Input.RECEIVE_ACK,
        Input.SEND_1XX,
        Input.SEND_2XX,
        Input.SEND_300_699,
        Input.TRANSPORT_ERROR,
    ),
    {
        (State.PROCEEDING, Input.TIMER_TRYING): Transition(
            State.PROCEEDING, (Action.SEND_TRYING,), _3261_INVITE_SERVER
        ),
        (State.PROCEEDING, Input.RECEIVE_REQUEST): Transition(
            State.PROCEEDING, (Action.RESEND_RESPONSE,), _3261_INVITE_SERVER
        ),
        (State.PROCEEDING, Input.RECEIVE_ACK): Ignore("an ACK to a response that has not been sent"),
        (State.PROCEEDING, Input.SEND_1XX): Transition(State.PROCEEDING, (Action.SEND_RESPONSE,), _3261_INVITE_SERVER),
        (State.PROCEEDING, Input.SEND_2XX): Transition(
            State.ACCEPTED, (Action.SEND_RESPONSE, Timer.L), _6026_INVITE_SERVER
        ),
        (State.PROCEEDING, Input.SEND_300_699): Transition(
            State.COMPLETED, (Action.SEND_RESPONSE, Timer.G, Timer.H), _3261_INVITE_SERVER
        ),
        (State.PROCEEDING, Input.TRANSPORT_ERROR): _STAYS,
        (State.ACCEPTED, Input.TIMER_L): Transition(State.TERMINATED, (), _6026_INVITE_SERVER),
        (State.ACCEPTED, Input.RECEIVE_REQUEST): Ignore("RFC 6026 §7.1: absorbed, the TU retransmits its 2xx"),
        (State.ACCEPTED, Input.RECEIVE_ACK): Transition(State.ACCEPTED, (Action.DELIVER_ACK,), _6026_INVITE_SERVER),
        (State.ACCEPTED, Input.SEND_1XX): _DISCARDED,
        (State.ACCEPTED, Input.SEND_2XX): Transition(State.ACCEPTED, (Action.SEND_RESPONSE,), _6026_INVITE_SERVER),
        (State.ACCEPTED, Input.SEND_300_699): _DISCARDED,
        (State.ACCEPTED, Input.TRANSPORT_ERROR): _STAYS,
        (State.COMPLETED, Input.TIMER_G): Transition(
            State.COMPLETED, (Action.RESEND_RESPONSE, Timer.G), _3261_INVITE_SERVER
        ),
        (State.COMPLETED, Input.TIMER_H): Transition(State.TERMINATED, (Action.REPORT_TIMEOUT,), _3261_INVITE_SERVER),
        (State.COMPLETED, Input.RECEIVE_REQUEST): Transition(
            State.COMPLETED, (Action.RESEND_RESPONSE,), _3261_INVITE_SERVER
        ),
        (State.COMPLETED, Input.RECEIVE_ACK): Transition(State.CONFIRMED, (Timer.I,), _3261_INVITE_SERVER),
        (State.COMPLETED, Input.SEND_1XX): _DISCARDED,
        (State.COMPLETED, Input.SEND_2XX): _DISCARDED,
        (State.COMPLETED, Input.SEND_300_699): _DISCARDED,
        (State.COMPLETED, Input.TRANSPORT_ERROR): _STAYS,
        (State.CONFIRMED, Input.TIMER_I): Transition(State.TERMINATED, (), _3261_INVITE_SERVER),
        (State.CONFIRMED, Input.RECEIVE_REQUEST): Ignore("an INVITE that its own ACK overtook"),
        (State.CONFIRMED, Input.RECEIVE_ACK): Ignore("a retransmitted ACK"),
        (State.CONFIRMED, Input.SEND_1XX): _DISCARDED,
        (State.CONFIRMED, Input.SEND_2XX): _DISCARDED,
        (State.CONFIRMED, Input.SEND_300_699): _DISCARDED,
        (State.CONFIRMED, Input.TRANSPORT_ERROR): Ignore("nothing more is sent"),
    },
)

_3261_SERVER = "RFC 3261 §17.2.2"
_4320_SERVER = "RFC 4320 §4.2"

NON_INVITE_SERVER = _machine(
    "non-INVITE server",
    Transition(State.TRYING, (Timer.UNANSWERED,), f"{_3261_SERVER}, {_4320_SERVER}"),
    {
        State.TRYING: frozenset({Timer.UNANSWERED}),
        State.PROCEEDING: frozenset({Timer.UNANSWERED}),
        State.COMPLETED: frozenset({Timer.J}),
    },
    (Input.RECEIVE_REQUEST, Input.SEND_1XX, Input.SEND_FINAL, Input.TRANSPORT_ERROR),
    {
        (State.TRYING, Input.TIMER_UNANSWERED): Transition(State.TERMINATED, (), _4320_SERVER),
        (State.TRYING, Input.RECEIVE_REQUEST): Ignore("RFC 3261 §17.2.2: discarded, nothing was sent yet"),
        (State.TRYING, Input.SEND_1XX): Transition(State.PROCEEDING, (Action.SEND_RESPONSE,), _3261_SERVER),
        (State.TRYING, Input.SEND_FINAL): Transition(State.COMPLETED, (Action.SEND_RESPONSE, Timer.J), _3261_SERVER),
        (State.TRYING, Input.TRANSPORT_ERROR): Ignore("nothing was sent yet"),
        (State.PROCEEDING, Input.TIMER_UNANSWERED): Transition(State.TERMINATED, (), _4320_SERVER),
        (State.PROCEEDING, Input.RECEIVE_REQUEST): Transition(
            State.PROCEEDING, (Action.RESEND_RESPONSE,), _3261_SERVER
        ),
        (State.PROCEEDING, Input.SEND_1XX): Transition(State.PROCEEDING, (Action.SEND_RESPONSE,), _3261_SERVER),
        (State.PROCEEDING, Input.SEND_FINAL): Transition(
            State.COMPLETED, (Action.SEND_RESPONSE, Timer.J), _3261_SERVER
        ),
        (State.PROCEEDING, Input.TRANSPORT_ERROR): _STAYS,
        (State.COMPLETED, Input.TIMER_J): Transition(State.TERMINATED, (), _3261_SERVER),
        (State.COMPLETED, Input.RECEIVE_REQUEST): Transition(State.COMPLETED, (Action.RESEND_RESPONSE,), _3261_SERVER),
        (State.COMPLETED, Input.SEND_1XX): _DISCARDED,
        (State.COMPLETED, Input.SEND_FINAL): _DISCARDED,
        (State.COMPLETED, Input.TRANSPORT_ERROR): _STAYS,
    },
)
