"""Everything that happens to accounts and calls, numbered, for whoever watches (``sipcore.v1.Telephony/Watch``).

One ring of entries is all the memory there is: a reader is a place in it, and a slow one is overtaken. Nobody waits for
a reader, and a reader waits for nobody but the writer. All methods belong to the thread of one event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING

from rtp.statistics import StreamStatistics
from service.status import Status, utc_microseconds
from service.views import Binding, CallView, Silence, Unbound
from sipcore.errors import NoOngoingCall
from sipcore.events import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallReplaced,
    CallResumed,
    CallRinging,
    DtmfReceived,
    MediaQuality,
    TransferProgress,
)

if TYPE_CHECKING:
    from service.ongoing import OngoingCall

__all__ = [
    "AccountAdded",
    "AccountRemoved",
    "CallBegan",
    "CallOver",
    "Entry",
    "Gap",
    "GapCause",
    "Happening",
    "HeldByUs",
    "Journal",
    "Reader",
    "RecordingBroken",
    "Written",
]

DEFAULT_SIZE = 10_000
"""Entries kept."""
LONGEST_TEXT = 2048
"""Bytes kept of what a far end writes: the journal holds thousands of entries."""


@dataclass(frozen=True, slots=True)
class AccountAdded:
    """The first SipRegisterAccount of an account."""


@dataclass(frozen=True, slots=True)
class AccountRemoved:
    """The account is not known any more."""


@dataclass(frozen=True, slots=True)
class CallBegan:
    """A call, as it began."""

    call: CallView


@dataclass(frozen=True, slots=True)
class HeldByUs:
    """This side holds the call, or does not any more."""

    held: bool


@dataclass(frozen=True, slots=True)
class Written:
    """A MESSAGE, or an INFO that carried no key."""

    method: str
    content_type: str
    body: bytes = field(repr=False)
    """At most :data:`LONGEST_TEXT` of it."""
    size: int


@dataclass(frozen=True, slots=True)
class RecordingBroken:
    """A recording stopped before its call did."""

    file: str
    seconds: float
    description: str


@dataclass(frozen=True, slots=True)
class CallOver:
    """How a call ended."""

    ended: CallEnded
    """Without its error, whose traceback would hold on to the call."""
    error: str
    """Name of the error of a call that was never connected."""
    answered: bool
    codec: str
    statistics: StreamStatistics | None
    """Final counters; None where it had no media."""

    @classmethod
    def of(cls, ongoing: OngoingCall) -> CallOver:
        """Of a call that is over."""
        ended = ongoing.call.ended
        assert ended is not None
        try:
            statistics = ongoing.call.statistics()
        except NoOngoingCall:
            statistics = None
        error = type(ended.error).__name__ if ended.error is not None else ""
        return cls(replace(ended, error=None), error, bool(ongoing.answered_us), ongoing.call.codec, statistics)


Happening = (
    Status
    | AccountAdded
    | AccountRemoved
    | Binding
    | Unbound
    | CallBegan
    | CallRinging
    | CallAnswered
    | CallHeld
    | CallResumed
    | HeldByUs
    | DtmfReceived
    | MediaQuality
    | Silence
    | TransferProgress
    | CallReplaced
    | RecordingBroken
    | Written
    | CallOver
)
"""What an entry can be about; a Status is a recorded transition."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    sequence: int
    """From 1, without a gap, over all accounts."""
    time_us: int
    """Microseconds since 1970, UTC."""
    account: str
    """Key of the account's address."""
    call_id: str
    """Empty where it is about no call."""
    what: Happening


class GapCause(Enum):
    """Why entries are missing."""

    TOO_OLD = "too old"
    TOO_SLOW = "too slow"
    RESTARTED = "restarted"


@dataclass(frozen=True, slots=True)
class Gap:
    """Stands where a reader misses entries, those of other accounts included."""

    cause: GapCause
    first: int = 0
    """Number of the first one missing; 0 where that is not known, as after a restart."""
    last: int = 0

    @property
    def count(self) -> int:
        """How many; 0 where that is not known."""
        return self.last - self.first + 1 if self.first else 0


class Journal:
    """The writing end.

    Args:
        size: entries kept, at least 1.
        clock: microseconds since 1970.
    """

    def __init__(self, size: int = DEFAULT_SIZE, clock: Callable[[], int] = utc_microseconds) -> None:
        self.epoch = secrets.token_hex(8)
        """Names this run of the server: numbers of another one mean nothing here."""
        self.newest = 0
        """Number of the newest entry; 0 before the first."""
        self.closed = False
        self._ring: list[Entry | None] = [None] * size
        self._clock = clock
        self._waiting: set[Reader] = set()

    @property
    def oldest(self) -> int:
        """Number of the oldest entry that is kept; 0 before the first."""
        return max(self.newest - len(self._ring), 0) + 1 if self.newest else 0

    def write(self, account: str, call_id: str, what: Happening) -> None:
        """Appends an entry. Never waits; ignored after :meth:`close`."""
        if self.closed:
            return
        self.newest += 1
        self._ring[self.newest % len(self._ring)] = Entry(self.newest, self._clock(), account, call_id, what)
        for reader in [reader for reader in self._waiting if reader.wants(account)]:
            reader.wake()

    def entry(self, sequence: int) -> Entry:
        """One of the entries that are kept."""
        entry = self._ring[sequence % len(self._ring)]
        assert entry is not None
        assert entry.sequence == sequence
        return entry

    def read(self, after: int | None = None, *, epoch: str = "", accounts: frozenset[str] = frozenset()) -> Reader:
        """A reader.

        Args:
            after: number of the entry before its first one; None: that of the newest.
            epoch: of the server that ``after`` is from; empty: not known.
            accounts: keys of the accounts it wants to hear of; empty: of all.
        """
        if after is None:
            return Reader(self, self.newest, accounts)
        if (epoch and epoch != self.epoch) or after > self.newest:
            return Reader(self, max(self.oldest - 1, 0), accounts, Gap(GapCause.RESTARTED))
        return Reader(self, after, accounts)

    def close(self) -> None:
        """Ends every reader once it has read what there is. Idempotent."""
        self.closed = True
        for reader in tuple(self._waiting):
            reader.wake()

    def wait(self, reader: Reader) -> None:
        """Told by a reader: it wants to be woken by the next entry."""
        self._waiting.add(reader)

    def leave(self, reader: Reader) -> None:
        """Told by a reader: it does not wait any more."""
        self._waiting.discard(reader)


class Reader:
    """The reading end, for one task. Made by :meth:`Journal.read`."""

    def __init__(self, journal: Journal, at: int, accounts: frozenset[str], gap: Gap | None = None) -> None:
        self._journal = journal
        self._at = at
        """Number of the entry read last."""
        self._accounts = accounts
        self._gap = gap
        self._begun = False
        self._waiter: asyncio.Future[None] | None = None

    def wants(self, account: str) -> bool:
        """Whether entries of this account are for it."""
        return not self._accounts or account in self._accounts

    async def next(self) -> Entry | Gap | None:
        """What comes next, as soon as there is something; None when the journal is closed."""
        while True:
            found = self._gap or self._overtaken() or self._wanted()
            self._gap, self._begun = None, True
            if found is not None:
                return found
            if self._journal.closed:
                return None
            await self._woken()

    def _overtaken(self) -> Gap | None:
        first, last = self._at + 1, self._journal.oldest - 1
        if first > last:
            return None
        self._at = last
        return Gap(GapCause.TOO_SLOW if self._begun else GapCause.TOO_OLD, first, last)

    def _wanted(self) -> Entry | None:
        while self._at < self._journal.newest:
            self._at += 1
            entry = self._journal.entry(self._at)
            if self.wants(entry.account):
                return entry
        return None

    async def _woken(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        self._journal.wait(self)
        try:
            await self._waiter
        finally:
            self._journal.leave(self)
            self._waiter = None

    def wake(self) -> None:
        """Told by the journal: there is something to read."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
