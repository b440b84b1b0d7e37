"""Who silences the bot, and who keeps it from listening, in one call.

Three kinds of silence are kept apart, and none undoes another:

- SipMute is the bot's own. SipUnMute ends it, and it alone; ``bot_muted`` does not show it.
- Each owner of media control holds its own mute and its own pause. The bot is muted while any owner holds a mute.
- Somebody who talks on a live audio stream takes the bot's place: it is muted and does not listen meanwhile.

The far end hears what the bot plays while there is none of the three. All of it goes with the call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

__all__ = ["MediaLevels", "MediaRequest", "Owner", "Setting"]


class Owner(IntEnum):
    """Who holds a mute or a pause; the wire's numbers (``MediaControlOwner``)."""

    OPERATOR = 1
    PARTICIPANT = 2


class Setting(IntEnum):
    """A switch that a request may leave alone; the wire's numbers (``MediaControlSetting``)."""

    UNCHANGED = 0
    ON = 1
    OFF = 2


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """One SipSetCallMediaControl."""

    owner: Owner = Owner.OPERATOR
    voice: Setting = Setting.UNCHANGED
    """OFF: the owner holds a mute."""
    listening: Setting = Setting.UNCHANGED
    """OFF: the owner holds a pause."""
    participants_present: bool = False
    """Means something of PARTICIPANT only, whose every request carries the whole truth."""

    @property
    def marks_participants(self) -> bool:
        """Whether it says that people have joined the call."""
        return self.owner is Owner.PARTICIPANT and self.participants_present


@dataclass(frozen=True, slots=True)
class MediaLevels:
    """Everything that is held in one call at one moment."""

    microphone_muted: bool = False
    """SipMute."""
    muted_by: frozenset[Owner] = frozenset()
    paused_by: frozenset[Owner] = frozenset()
    participants_present: bool = False
    talking: bool = False
    """Somebody talks in place of the bot."""
    streams: int = 0
    """Live audio streams that are open."""

    @property
    def bot_muted(self) -> bool:
        """What statuses say: somebody else than the bot itself mutes it."""
        return bool(self.muted_by) or self.talking

    @property
    def listening_paused(self) -> bool:
        """What statuses say: the bot does not hear the far end."""
        return bool(self.paused_by) or self.talking

    @property
    def playback_silent(self) -> bool:
        """Whether silence goes out instead of what the bot plays; who talks is heard anyway."""
        return self.microphone_muted or bool(self.muted_by)

    def after(self, request: MediaRequest) -> MediaLevels:
        """The levels once the request is granted; the same request again changes nothing."""
        levels = replace(
            self,
            muted_by=_held(self.muted_by, request.owner, request.voice),
            paused_by=_held(self.paused_by, request.owner, request.listening),
        )
        if request.owner is Owner.PARTICIPANT:
            levels = replace(levels, participants_present=request.participants_present)
        return levels


def _held(by: frozenset[Owner], owner: Owner, setting: Setting) -> frozenset[Owner]:
    match setting:
        case Setting.OFF:
            return by | {owner}
        case Setting.ON:
            return by - {owner}
        case _:
            return by
