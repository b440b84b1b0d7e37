"""Offers and answers: what two sides of a call agree on (RFC 3264, RFC 6337)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from sipcore.errors import MediaNotAcceptable
from sipcore.protocol.sdp import MalformedSdp, MediaDescription, PayloadFormat, SessionDescription, parse_sdp

if TYPE_CHECKING:
    from sipcore.protocol.ids import Ids

__all__ = ["NegotiatedMedia", "OfferAnswer"]

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

CODECS: Mapping[str, int] = MappingProxyType({"PCMU": 0, "PCMA": 8})
"""Codecs this side has, with their static payload types (RFC 3551 §6)."""
EVENT = "TELEPHONE-EVENT"
EVENT_PAYLOAD_TYPE = 101
"""What we call telephone-event in our own offers; in answers it is what the offer calls it."""
PTIMES = range(10, 61, 10)

_REVERSED: dict[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}


@dataclass(frozen=True, slots=True)
class NegotiatedMedia:
    """What an exchange has settled, seen from this side."""

    remote_host: str
    remote_port: int
    remote_rtcp: tuple[str, int] | None
    codec: str
    """``PCMU`` or ``PCMA``: what this side sends."""
    payload_type: int
    """What this side sends it as."""
    receive_payload_types: Mapping[int, str]
    """What may come in, by payload type."""
    dtmf_payload_type: int | None
    """What this side sends telephone-event as (RFC 4733); None where the far end takes none."""
    dtmf_receive_payload_type: int | None
    ptime: int = 20
    """Milliseconds of audio per packet that the far end wants."""
    send: bool = True
    receive: bool = True
    remote_hold: bool = False
    """The far end does not want to hear this side: ``sendonly``, ``inactive``, or the address 0.0.0.0 of RFC 2543."""


@dataclass(slots=True)
class _Settled:
    """What an exchange leaves behind for the next one."""

    media: NegotiatedMedia
    formats: tuple[PayloadFormat, ...] = field(default=())
    """As this side wrote them: numbers must not change their meaning within a session (RFC 3264 §8.3.2)."""


class OfferAnswer:
    """The offer/answer state of one dialog. ``host`` and ``port`` are where this side receives RTP."""

    def __init__(self, *, codecs: Sequence[str], host: str, port: int, ids: Ids, ptime: int = 20) -> None:
        self._codecs = tuple(codec for codec in codecs if codec in CODECS)
        self._host = host
        self._port = port
        self._ptime = ptime
        self._session_id = ids.session_id()
        self._version = self._session_id
        self._last_body = b""
        self._direction: Direction = "sendrecv"
        """What this side wants."""
        self._offered: tuple[PayloadFormat, ...] | None = None
        self._offered_direction: Direction = "sendrecv"
        self._sections = 1
        """Media sections of the session so far; later descriptions must have at least as many (RFC 3264 §8)."""
        self._audio_index = 0
        self._settled: _Settled | None = None

    @property
    def current(self) -> NegotiatedMedia | None:
        """What the newest finished exchange settled."""
        return self._settled.media if self._settled is not None else None

    @property
    def pending_offer(self) -> bool:
        """An offer of ours waits for its answer."""
        return self._offered is not None

    # -- offering --------------------------------------------------------------------------------------------------

    def create_offer(self, *, direction: Direction = "sendrecv") -> bytes:
        """An offer: all codecs at first, later those numbered as before (RFC 3264 §5, §8)."""
        formats = self._settled.formats if self._settled is not None else self._own_formats()
        self._offered = formats
        self._offered_direction = direction
        return self._describe(formats, direction, self._sections, self._audio_index)

    def accept_answer(self, body: bytes) -> NegotiatedMedia:
        """Takes the answer to our offer (RFC 3264 §6).

        Raises:
            MediaNotAcceptable: it cannot be used; the offer is withdrawn.
        """
        offered, direction = self._offered, self._offered_direction
        self._offered = None
        if offered is None:
            raise MediaNotAcceptable("an answer without an offer", code=488)
        audio = self._audio_of(body, self._audio_index)
        by_meaning = {(each.name, each.clock_rate): each for each in offered}
        common = [each for each in audio.payload_formats if (each.name, each.clock_rate) in by_meaning]
        codec = next((each for each in common if each.name in CODECS), None)
        if codec is None:
            raise MediaNotAcceptable("the answer takes none of the offered codecs", code=488)
        event = next((each for each in common if each.name == EVENT), None)
        ours = by_meaning.get((EVENT, 8000)) if event is not None else None
        receive = {each.payload_type: each.name for each in offered if each.name in CODECS}
        # The peer should use our numbers, but some use their own (RFC 3264 §6.1 allows asymmetric ones).
        receive |= {each.payload_type: each.name for each in common if each.name in CODECS}
        media = self._media(audio, codec, receive, event, ours, direction)
        self._direction = direction
        self._settled = _Settled(media, offered)
        return media

    def rollback(self) -> None:
        """Our offer was refused: what was settled before holds."""
        self._offered = None

    # -- answering -------------------------------------------------------------------------------------------------

    def answer(self, offer: bytes) -> tuple[bytes, NegotiatedMedia]:
        """Answers the peer's offer (RFC 3264 §6): its numbers, its order, and nothing that it did not offer.

        Raises:
            MediaNotAcceptable: nothing in common; what was settled before holds.
        """
        description = self._parse(offer)
        index = next(
            (
                number
                for number, media in enumerate(description.media)
                if media.kind == "audio" and media.protocol == "RTP/AVP" and media.port and self._codec_in(media)
            ),
            None,
        )
        if index is None:
            raise MediaNotAcceptable("the offer has no audio that this side can take (PCMU or PCMA over RTP/AVP)", code=488)
        audio = description.media[index]
        self._check_address(audio)
        codec = self._codec_in(audio)
        assert codec is not None
        event = next((each for each in audio.payload_formats if each.name == EVENT and each.clock_rate == 8000), None)
        chosen = tuple(each for each in (codec, event) if each is not None)
        direction = _meet(_REVERSED[audio.direction], self._direction)
        receive = {codec.payload_type: codec.name}
        media = self._media(audio, codec, receive, event, event, direction)
        self._sections, self._audio_index = len(description.media), index
        self._settled = _Settled(media, chosen)
        self._offered = None
        return self._describe(chosen, direction, len(description.media), index, description), media

    def _codec_in(self, media: MediaDescription) -> PayloadFormat | None:
        return next(
            (each for each in media.payload_formats if each.name in self._codecs and each.clock_rate == 8000), None
        )

    # -- shared ----------------------------------------------------------------------------------------------------

    def _own_formats(self) -> tuple[PayloadFormat, ...]:
        audio = [PayloadFormat(CODECS[codec], codec, 8000) for codec in self._codecs]
        return (*audio, PayloadFormat(EVENT_PAYLOAD_TYPE, EVENT, 8000, 1, "0-16"))

    @staticmethod
    def _parse(body: bytes) -> SessionDescription:
        try:
            return parse_sdp(body)
        except MalformedSdp as error:
            raise MediaNotAcceptable(str(error), code=488) from None

    def _audio_of(self, body: bytes, index: int) -> MediaDescription:
        description = self._parse(body)
        if index >= len(description.media):
            raise MediaNotAcceptable("the answer has fewer media sections than the offer", code=488)
        audio = description.media[index]
        if audio.kind != "audio" or not audio.port:
            raise MediaNotAcceptable("the answer refuses the audio", code=488)
        self._check_address(audio)
        return audio

    @staticmethod
    def _check_address(audio: MediaDescription) -> None:
        if not audio.connection:
            raise MediaNotAcceptable("the description has no address for its audio", code=488)

    def _media(
        self,
        audio: MediaDescription,
        codec: PayloadFormat,
        receive: Mapping[int, str],
        event: PayloadFormat | None,
        own_event: PayloadFormat | None,
        wanted: Direction,
    ) -> NegotiatedMedia:
        settled = _meet(_REVERSED[audio.direction], wanted)
        nowhere = audio.connection in ("0.0.0.0", "::")  # noqa: S104 - RFC 2543's hold, not a bind
        ptime = audio.ptime or 20
        return NegotiatedMedia(
            remote_host=audio.connection,
            remote_port=audio.port,
            remote_rtcp=_rtcp(audio),
            codec=codec.name,
            payload_type=codec.payload_type,
            receive_payload_types=MappingProxyType(dict(receive)),
            dtmf_payload_type=event.payload_type if event is not None else None,
            dtmf_receive_payload_type=own_event.payload_type if own_event is not None else None,
            ptime=ptime if ptime in PTIMES else 20,
            send=settled in ("sendrecv", "sendonly") and not nowhere,
            receive=settled in ("sendrecv", "recvonly"),
            remote_hold=audio.direction in ("sendonly", "inactive") or nowhere,
        )

    def _describe(
        self,
        formats: tuple[PayloadFormat, ...],
        direction: Direction,
        sections: int,
        index: int,
        offer: SessionDescription | None = None,
    ) -> bytes:
        family = "IP6" if ":" in self._host else "IP4"
        attributes = [
            ("rtpmap", f"{each.payload_type} {_spelled(each.name)}/{each.clock_rate}") for each in formats
        ]
        attributes += [
            ("fmtp", f"{each.payload_type} {each.parameters or '0-16'}") for each in formats if each.name == EVENT
        ]
        attributes += [("ptime", str(self._ptime)), (direction, "")]
        media: list[MediaDescription] = []
        for number in range(sections):
            if number == index:
                numbers = [str(each.payload_type) for each in formats]
                media.append(MediaDescription("audio", self._port, "RTP/AVP", numbers, attributes=attributes))
            elif offer is not None:
                refused = offer.media[number]
                media.append(MediaDescription(refused.kind, 0, refused.protocol, refused.formats))
            else:
                media.append(MediaDescription("audio", 0, "RTP/AVP", ["0"]))
        description = SessionDescription("", self._host, family, [], media)
        description.origin = self._origin(family)
        body = bytes(description)
        if self._last_body and body != self._last_body:
            # RFC 3264 §8: the version rises by one when, and only when, the description changes.
            self._version += 1
            description.origin = self._origin(family)
            body = bytes(description)
        self._last_body = body
        return body

    def _origin(self, family: str) -> str:
        return f"- {self._session_id} {self._version} IN {family} {self._host}"


def _meet(first: Direction, second: Direction) -> Direction:
    """The directions that both allow."""
    sends = all(each in ("sendrecv", "sendonly") for each in (first, second))
    receives = all(each in ("sendrecv", "recvonly") for each in (first, second))
    if sends:
        return "sendrecv" if receives else "sendonly"
    return "recvonly" if receives else "inactive"


def _spelled(name: str) -> str:
    return "telephone-event" if name == EVENT else name


def _rtcp(audio: MediaDescription) -> tuple[str, int] | None:
    """``a=rtcp`` (RFC 3605), else the next port."""
    pieces = (audio.attribute("rtcp") or "").split()
    if pieces and pieces[0].isascii() and pieces[0].isdigit() and 0 < int(pieces[0]) < 65536:
        return (pieces[3] if len(pieces) >= 4 else audio.connection), int(pieces[0])
    return (audio.connection, audio.port + 1) if 0 < audio.port < 65535 else None
