"""Offers and answers: what two sides of a call agree on (RFC 3264, RFC 6337).

Left out: media other than one stream of audio, feedback profiles, ICE, and addresses given as host names. What is said
of encryption is in :mod:`sipcore.protocol.sdes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from typing import TYPE_CHECKING

from sipcore.errors import MediaNotAcceptable
from sipcore.protocol.sdes import Protection
from sipcore.protocol.sdp import MalformedSdp, MediaDescription, PayloadFormat, SessionDescription, parse_sdp
from sipcore.protocol.security_agreement import END_TO_ACCESS_EDGE

if TYPE_CHECKING:
    from sipcore.protocol.ids import Ids
    from sipcore.protocol.sdes import SrtpKeys, SrtpUse
    from sipcore.protocol.sdp import Direction

__all__ = ["NegotiatedMedia", "OfferAnswer"]

CODECS: Mapping[str, int] = MappingProxyType({"PCMU": 0, "PCMA": 8, "G722": 9})
"""Codecs this side has, with their static payload types (RFC 3551 §6). The clock of G.722 is 8,000 Hz, whatever it
samples at (§4.5.2)."""
EVENT = "TELEPHONE-EVENT"
EVENT_PAYLOAD_TYPE = 101
"""What we call telephone-event in our own offers; in answers it is what the offer calls it."""
NOISE = "CN"
"""Comfort noise (RFC 3389): taken where it is offered, and never offered by this side, which sends without pause."""
EVENTS = "0-15"
"""Events understood: the sixteen keys (RFC 4733 §3.2)."""
CLOCK_RATE = 8000
BROADCAST = IPv4Address("255.255.255.255")
PTIMES = range(10, 61, 10)
"""Milliseconds of audio a packet may hold; what a peer asks for is rounded down to one of them."""

_REVERSED: dict[Direction, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
_SENDING = ("sendrecv", "sendonly")
_RECEIVING = ("sendrecv", "recvonly")
_HEARD = frozenset((*CODECS, NOISE))
"""What comes in as audio."""
_ip = lru_cache(4096)(ip_address)
"""Calls come from few addresses, and parsing one takes as long as parsing a header."""


@dataclass(frozen=True, slots=True)
class NegotiatedMedia:
    """What an exchange has settled, seen from this side."""

    remote_host: str
    """IP address; while the peer's is 0.0.0.0, the one before."""
    remote_port: int
    remote_rtcp: tuple[str, int] | None
    codec: str
    """One of `CODECS`: what this side sends."""
    payload_type: int
    """What this side sends it as."""
    receive_payload_types: Mapping[int, str]
    """What may come in, by payload type."""
    dtmf_payload_type: int | None
    """What this side sends telephone-event as (RFC 4733); None where the far end takes none."""
    dtmf_receive_payload_type: int | None
    rtcp_mux: bool = False
    """RTCP shares the ports of RTP (RFC 5761): the far end offered it."""
    ptime: int = 20
    """Milliseconds of audio per packet that this side sends, one of 10, 20 … 60."""
    send: bool = True
    receive: bool = True
    remote_hold: bool = False
    """The far end does not want to hear this side: ``sendonly``, ``inactive``, or the address 0.0.0.0 of RFC 2543."""
    srtp: SrtpKeys | None = None
    """The keys of both sides; None: RTP in the clear."""


@dataclass(frozen=True, slots=True)
class _Settled:
    """What an exchange leaves behind for the next one."""

    media: NegotiatedMedia
    formats: tuple[PayloadFormat, ...]
    """As this side wrote them: numbers must not change their meaning within a session (RFC 3264 §8.3.2)."""


class OfferAnswer:
    """The offer/answer state of one dialog. A shallow copy may be used to try an answer out.

    Args:
        codecs: names, best first; unknown ones are left out.
        host: where this side receives RTP, an IP address or a name that stands for one.
        port: likewise; even.
        ids: source of the session id.
        ptime: milliseconds per packet that this side asks for, and sends where the peer asks for nothing else.
        srtp: whether this side encrypts.
        secure_profile: offer RTP/SAVP also where encryption is optional.
        to_access_edge: say in offers that it shall end at the network's edge (3GPP TS 33.328).
    """

    def __init__(
        self,
        *,
        codecs: Sequence[str],
        host: str,
        port: int,
        ids: Ids,
        ptime: int = 20,
        srtp: SrtpUse = "forbidden",
        secure_profile: bool = False,
        to_access_edge: bool = False,
    ) -> None:
        self._codecs = tuple(codec for codec in codecs if codec in CODECS)
        self._host = host
        self._port = port
        self._ptime = ptime
        self._ids = ids
        self._protection = Protection.wanted(srtp, secure=secure_profile)
        self._to_access_edge = to_access_edge
        self._session_id = ids.session_id()
        self._version = self._session_id
        self._last_body = b""
        self._muxes = False
        """RTP and RTCP share a port, as the peer has offered; never offered first, only again."""
        self._direction: Direction = "sendrecv"
        """What this side wants."""
        self._offered: tuple[PayloadFormat, ...] | None = None
        self._offered_direction: Direction = "sendrecv"
        self._sections: tuple[MediaDescription | None, ...] = (None,)
        """Media sections of the session so far, None the one in use: none may go away later (RFC 3264 §8)."""
        self._meanings: Mapping[int, str] = {}
        """Payload types that the peer has named."""
        self._settled: _Settled | None = None

    def __copy__(self) -> OfferAnswer:
        clone = object.__new__(OfferAnswer)
        clone.__dict__.update(self.__dict__)
        return clone

    @property
    def current(self) -> NegotiatedMedia | None:
        """What the newest finished exchange settled."""
        return self._settled.media if self._settled is not None else None

    @property
    def pending_offer(self) -> bool:
        """An offer of ours waits for its answer."""
        return self._offered is not None

    # -- offering --------------------------------------------------------------------------------------------------

    def create_offer(self, *, direction: Direction | None = None) -> bytes:
        """An offer of all codecs, those already agreed on first and numbered as before (RFC 3264 §5, §8.3.2).

        Args:
            direction: wanted from now on if the peer takes it; None as hitherto (a hold survives a session refresh).
        """
        self._offered = self._offered_formats()
        self._offered_direction = direction or self._direction
        self._protection = self._protection.offered(self._ids)
        edge = (END_TO_ACCESS_EDGE,) if self._to_access_edge and self._protection.own else ()
        return self._describe(self._offered, self._offered_direction, edge)

    def accept_answer(self, body: bytes) -> NegotiatedMedia:
        """Takes the answer to our offer (RFC 3264 §6).

        Raises:
            MediaNotAcceptable: it cannot be used; the offer is withdrawn.
        """
        offered, wanted = self._offered, self._offered_direction
        self._offered = None
        if offered is None:
            raise MediaNotAcceptable("an answer without an offer", code=488)
        audio = self._audio_answered(body)
        by_meaning = {(each.name, each.clock_rate, each.channels): each for each in offered}
        # A payload type that comes back without rtpmap means what our offer said.
        formats = audio.payload_formats(implied=offered)
        common = [each for each in formats if (each.name, each.clock_rate, each.channels) in by_meaning]
        codec = next((each for each in common if each.name in CODECS), None)
        if codec is None:
            raise MediaNotAcceptable("the answer takes none of the offered codecs", code=488)
        protection, keys = self._protection.answered(audio)
        event = next((each for each in common if each.name == EVENT), None)
        own_event = next((each for each in offered if each.name == EVENT), None)
        # RFC 3264 §6.1: the peer sends with our numbers; some use the numbers of their own answer instead.
        # What has to be decoded packet by packet is expected only where the answer names it.
        named = {each.name for each in common} | {"PCMU", "PCMA"}
        receive = {each.payload_type: each.name for each in (*common, *offered) if each.name in _HEARD & named}
        held = wanted in _SENDING and audio.direction not in _RECEIVING
        if wanted not in _SENDING and self.current is not None:
            # Having offered nothing to hear, we do not learn whether the peer would listen.
            held = self.current.remote_hold
        own_event = own_event if event is not None else None
        media = self._media(audio, codec, receive, event, own_event, wanted, held, muxes=self._muxes, srtp=keys)
        self._protection = protection
        self._direction = wanted
        self._learn(formats)
        self._muxes = media.rtcp_mux
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
        description = _parse(offer)
        audio, codec, protection, keys = self._best_of(description)
        formats = audio.payload_formats()
        event = next((each for each in formats if each.name == EVENT and each.clock_rate == CLOCK_RATE), None)
        noise = next((each for each in formats if each.name == NOISE and each.clock_rate == CLOCK_RATE), None)
        chosen = tuple(each for each in (codec, noise, event) if each is not None)
        direction = _meet(_REVERSED[audio.direction], self._direction)
        receive = {each.payload_type: each.name for each in chosen if each.name in _HEARD}
        held = audio.direction not in _RECEIVING
        media = self._media(audio, codec, receive, event, event, direction, held, muxes=True, srtp=keys)
        self._sections = tuple(None if each is audio else _refused(each) for each in description.media)
        self._learn(formats)
        self._muxes = media.rtcp_mux
        self._settled = _Settled(media, chosen)
        self._offered = None
        self._protection = protection
        return self._describe(chosen, direction), media

    def _best_of(
        self, description: SessionDescription
    ) -> tuple[MediaDescription, PayloadFormat, Protection, SrtpKeys | None]:
        """The section of an offer to answer, and how: the first, but encrypted rather than not.

        Raises:
            MediaNotAcceptable: there is none.
        """
        sentence = f"the offer has no audio that this side can take ({' or '.join(self._codecs)})"
        plain = None
        for audio in description.media:
            codec = self._codec_of(audio)
            if codec is None:
                continue
            chosen = self._protection.chosen(audio, self._ids)
            if chosen is None:
                sentence = self._protection.refusal(audio)
            elif chosen[1] is not None:
                return audio, codec, *chosen
            elif plain is None:
                plain = (audio, codec, *chosen)
        if plain is None:
            raise MediaNotAcceptable(sentence, code=488)
        return plain

    def _codec_of(self, media: MediaDescription) -> PayloadFormat | None:
        """The codec that an offered section would be answered with."""
        if not media.is_audio:
            return None
        return next(
            (
                each
                for each in media.payload_formats()
                if each.name in self._codecs and each.clock_rate == CLOCK_RATE and each.channels == 1
            ),
            None,
        )

    # -- shared ----------------------------------------------------------------------------------------------------

    def _offered_formats(self) -> tuple[PayloadFormat, ...]:
        if self._settled is None and not self._meanings:
            return _first_offer(self._codecs)
        formats = list(self._settled.formats) if self._settled is not None else []
        for name, preferred in (*((codec, CODECS[codec]) for codec in self._codecs), (EVENT, EVENT_PAYLOAD_TYPE)):
            if all(each.name != name for each in formats):
                taken = {each.payload_type for each in formats}
                number = next(
                    each
                    for each in (preferred, *range(96, 128))
                    if each not in taken and self._meanings.get(each, name) == name
                )
                formats.append(PayloadFormat(number, name, CLOCK_RATE))
        return tuple(sorted(formats, key=lambda each: each.name == EVENT))

    def _learn(self, formats: Sequence[PayloadFormat]) -> None:
        self._meanings = {**self._meanings, **{each.payload_type: each.name for each in formats}}

    def _audio_answered(self, body: bytes) -> MediaDescription:
        """The section of an answer that stands where our audio stood (RFC 3264 §6)."""
        index = self._sections.index(None)
        description = _parse(body)
        if index >= len(description.media):
            raise MediaNotAcceptable("the answer has fewer media sections than the offer", code=488)
        audio = description.media[index]
        if not audio.is_audio:
            raise MediaNotAcceptable("the answer refuses the audio", code=488)
        return audio

    def _media(
        self,
        audio: MediaDescription,
        codec: PayloadFormat,
        receive: Mapping[int, str],
        event: PayloadFormat | None,
        own_event: PayloadFormat | None,
        wanted: Direction,
        held: bool,
        *,
        muxes: bool,
        srtp: SrtpKeys | None,
    ) -> NegotiatedMedia:
        settled = _meet(_REVERSED[audio.direction], wanted)
        nowhere = self._address(audio).is_unspecified
        before = self.current if nowhere else None
        ptime = audio.packet_time(self._ptime)
        return NegotiatedMedia(
            remote_host=before.remote_host if before is not None else audio.connection,
            remote_port=before.remote_port if before is not None else audio.port,
            remote_rtcp=before.remote_rtcp if before is not None else _rtcp(audio),
            codec=codec.name,
            payload_type=codec.payload_type,
            receive_payload_types=MappingProxyType(dict(receive)),
            dtmf_payload_type=event.payload_type if event is not None else None,
            dtmf_receive_payload_type=own_event.payload_type if own_event is not None else None,
            rtcp_mux=audio.attribute("rtcp-mux") is not None and muxes,
            ptime=max((each for each in PTIMES if each <= ptime), default=PTIMES[0]),
            send=settled in _SENDING and not nowhere,
            receive=settled in _RECEIVING,
            remote_hold=held or nowhere,
            srtp=srtp,
        )

    def _address(self, audio: MediaDescription) -> IPv4Address | IPv6Address:
        """Where the peer receives; 0.0.0.0 and :: are the hold of RFC 2543 (RFC 3264 §8.4).

        Raises:
            MediaNotAcceptable: RTP cannot be sent there.
        """
        try:
            address = _ip(audio.connection)
        except ValueError:
            raise MediaNotAcceptable("the description has no IP address for its audio", code=488) from None
        if address.is_multicast or address == BROADCAST:
            raise MediaNotAcceptable("the description's audio address is no single host's", code=488)
        try:
            version = _ip(self._host).version
        except ValueError:
            # A name to be resolved by the peer says nothing of the family.
            return address
        if address.version != version:
            raise MediaNotAcceptable(f"the audio is at an IPv{address.version} address, this side's is not", code=488)
        return address

    def _describe(
        self, formats: tuple[PayloadFormat, ...], direction: Direction, more: tuple[tuple[str, str], ...] = ()
    ) -> bytes:
        family = "IP6" if ":" in self._host else "IP4"
        audio = MediaDescription(
            "audio", self._port, self._protection.profile, [str(each.payload_type) for each in formats]
        )
        for each in formats:
            spelled = "telephone-event" if each.name == EVENT else each.name
            audio.attributes.append(("rtpmap", f"{each.payload_type} {spelled}/{each.clock_rate}"))
            if each.name == EVENT:
                audio.attributes.append(("fmtp", f"{each.payload_type} {EVENTS}"))
        audio.attributes += [("ptime", str(self._ptime)), (direction, ""), *self._protection.lines(), *more]
        if self._muxes:
            audio.attributes.append(("rtcp-mux", ""))
        description = SessionDescription(
            origin=self._origin(family),
            connection=self._host,
            family=family,
            media=[audio if section is None else section for section in self._sections],
        )
        body = bytes(description)
        if self._last_body and body != self._last_body:
            # RFC 3264 §8: the version rises by one when, and only when, the description changes.
            self._version += 1
            body = bytes(replace(description, origin=self._origin(family)))
        self._last_body = body
        return body

    def _origin(self, family: str) -> str:
        return f"- {self._session_id} {self._version} IN {family} {self._host}"


@lru_cache(64)
def _first_offer(codecs: tuple[str, ...]) -> tuple[PayloadFormat, ...]:
    """What is offered while nothing has been agreed on."""
    audio = (PayloadFormat(CODECS[name], name, CLOCK_RATE) for name in dict.fromkeys(codecs))
    return (*audio, PayloadFormat(EVENT_PAYLOAD_TYPE, EVENT, CLOCK_RATE))


def _parse(body: bytes) -> SessionDescription:
    try:
        return parse_sdp(body)
    except MalformedSdp as error:
        raise MediaNotAcceptable(str(error), code=488) from None


def _refused(media: MediaDescription) -> MediaDescription:
    """A section as an answer refuses it, and as later descriptions keep its place (RFC 3264 §6, §8.2)."""
    return MediaDescription(media.kind, 0, media.protocol, media.formats)


def _meet(first: Direction, second: Direction) -> Direction:
    """The directions that both allow."""
    sends = first in _SENDING and second in _SENDING
    receives = first in _RECEIVING and second in _RECEIVING
    if sends:
        return "sendrecv" if receives else "sendonly"
    return "recvonly" if receives else "inactive"


def _rtcp(audio: MediaDescription) -> tuple[str, int] | None:
    """``a=rtcp`` (RFC 3605), else the next port."""
    port, _, where = (audio.attribute("rtcp") or "").partition(" ")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not 0 < number < 65536:
        return (audio.connection, audio.port + 1) if audio.port < 65535 else None
    try:
        return str(_ip(where.split()[-1])), number
    except (ValueError, IndexError):
        return audio.connection, number
