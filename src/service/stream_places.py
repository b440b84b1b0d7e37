"""How many live streams there are: SipStreamCallAudio, Converse and StreamRecording together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from service.errors import AudioStreamLimit
from sipcore.errors import NoOngoingCall

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from service.ongoing import OngoingCall

__all__ = ["AudioLimits", "StreamPlace", "StreamPlaces"]


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Most streams at once."""

    in_all: int = 100
    per_call: int = 16


class StreamPlaces:
    """All places for streams; a call's number of them is in its levels (``call_audio_streams``)."""

    def __init__(self, limits: AudioLimits) -> None:
        self._limits = limits
        self._taken = 0

    def take(self, ongoing: OngoingCall) -> StreamPlace:
        """A place for one more stream, until it is left; to be used in ``with``.

        Raises:
            AudioStreamLimit: there are too many.
            NoOngoingCall: the call is ending.
        """
        if self._taken >= self._limits.in_all:
            raise AudioStreamLimit(f"the server carries {self._limits.in_all} live audio streams at most")
        levels = ongoing.levels
        if levels.streams >= self._limits.per_call:
            raise AudioStreamLimit(f"a call has {self._limits.per_call} live audio streams at most")
        ongoing.set_levels(replace(levels, streams=levels.streams + 1))
        self._taken += 1
        return StreamPlace(self, ongoing)

    def give_back(self) -> None:
        """Told by a place: it is free again."""
        self._taken -= 1


class StreamPlace:
    """One of them. A stream that is ending leaves its call first, and the place when its client knows."""

    def __init__(self, places: StreamPlaces, ongoing: OngoingCall) -> None:
        self._places = places
        self._ongoing = ongoing
        self._talks = False
        self._left = False

    def talk(self) -> None:
        """The stream's client talks in place of the bot, which nobody else does.

        Raises:
            NoOngoingCall: the call is ending.
        """
        self._ongoing.set_levels(replace(self._ongoing.levels, talking=True))
        self._talks = True

    def leave_call(self) -> None:
        """The call has one stream less, and its bot back where the stream's client talked. Idempotent."""
        if self._left:
            return
        self._left = True
        levels = self._ongoing.levels
        levels = replace(levels, streams=levels.streams - 1, talking=levels.talking and not self._talks)
        try:
            self._ongoing.set_levels(levels)
        except NoOngoingCall:  # it is over
            self._ongoing.levels = levels

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave_call()
        self._places.give_back()
