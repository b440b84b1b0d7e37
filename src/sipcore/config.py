"""Settings of an account and of a user agent: frozen, validated when built, secrets kept out of ``repr``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sipcore.errors import InvalidRequest

__all__ = ["Account", "CallPolicy", "Limits", "Timers", "TlsConfig", "UserAgentConfig", "missing_extra"]


@dataclass(frozen=True, slots=True)
class Timers:
    """The base timers of RFC 3261 §17 (table 4), in seconds; all others derive from them."""

    t1: float = 0.5
    """Round-trip estimate."""
    t2: float = 4.0
    """Longest retransmission interval of non-INVITE requests and INVITE responses."""
    t4: float = 5.0
    """Longest time a message stays in the network."""
    d: float = 32.0
    """How long an INVITE client transaction absorbs retransmitted failure responses over UDP (at least 32 s)."""

    @property
    def timeout(self) -> float:
        """Timers B, F, H, L and M: 64 x T1."""
        return 64 * self.t1


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Certificates (RFC 3261 §26.2, RFC 5922). Without any, this agent still connects to TLS servers and verifies them.

    Whether the files can be used, and go together, is found out when the agent starts.
    """

    certificate: str = ""
    """PEM file with this side's certificate and its chain. With one, this agent listens for TLS too."""
    key: str = ""
    """PEM file with its private key, not encrypted; empty: it is in ``certificate``."""
    ca_file: str = ""
    """PEM file with the CAs to trust; empty: those of the system."""
    verify: bool = True
    """False: any certificate of a server is taken. Whoever sits on the path can then read and change everything."""
    wildcards: bool = False
    """Whether a certificate for ``*.example.com`` is one for ``sip.example.com``. RFC 5922 §7.2 forbids it."""
    verify_clients: bool = False
    """Whether peers that connect to us have to show a certificate of a trusted CA."""
    port: int | None = None
    """Port to listen on; None: the one after ``sip_port``. Needs ``certificate``."""


def has_srtp() -> bool:
    """Whether the extra ``sipcore[srtp]`` is installed."""
    return importlib.util.find_spec("pylibsrtp") is not None


EXTRAS: Mapping[str, tuple[str, str]] = {"G722": ("g722", "G722")}
"""Codecs that need an extra of this package, and the module that it brings."""


def missing_extra(codec: str) -> str:
    """What has to be installed for a codec: ``sipcore[g722]``; empty: nothing."""
    extra, module = EXTRAS.get(codec, ("", ""))
    return f"sipcore[{extra}]" if module and importlib.util.find_spec(module) is None else ""


def _check_extras(codecs: tuple[str, ...]) -> None:
    for codec in codecs:
        missing = missing_extra(codec)
        if missing:
            raise InvalidRequest(f"codecs: {codec} needs an extra: pip install '{missing}'", field="codecs")


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How the calls of an account are set up and kept.

    Raises:
        InvalidRequest: a value that makes no sense.
    """

    session_expires: int = 1800
    """Session timer to ask for, seconds (RFC 4028): a far end that is gone is found out within it. 0: ask for none,
    but keep to what the far end asks for. ``min_se`` is asked for where it is longer."""
    min_se: int = 90
    """The shortest session timer to take, seconds; RFC 4028 §4 wants at least 90."""
    rel100: Literal["off", "supported", "never"] = "off"
    """Ringing that is acknowledged (RFC 3262), as callee. ``off``: only where the caller requires it; ``supported``:
    where the caller can; ``never``: not even then, and as caller it is not advertised."""
    max_redirects: int = 5
    """How many other addresses a call goes on to that is redirected (3xx); 0: it fails with the code."""
    srtp: Literal["forbidden", "optional", "required"] = "forbidden"
    """Whether audio is encrypted, with keys in SDP (SDES, RFC 4568). ``forbidden``: never; ``optional``: where the far
    end can (RFC 8643); ``required``: a call without it is refused. The last two need the extra ``sipcore[srtp]``, and
    signalling over TLS: whoever reads it reads the keys."""
    ptime: int = 20
    """Milliseconds of audio that packets hold, 10, 20 … 60: what the far end is asked for (``a=ptime``, RFC 8866 §6.4),
    and what it is sent where it asks for nothing else."""

    def __post_init__(self) -> None:
        if self.min_se < 1:
            raise InvalidRequest(f"min_se: {self.min_se} is not positive", field="min_se")
        if self.session_expires < 0:
            raise InvalidRequest(f"session_expires: {self.session_expires} is negative", field="session_expires")
        if self.rel100 not in ("off", "supported", "never"):
            raise InvalidRequest(f"rel100: {self.rel100!r} is neither off, supported nor never", field="rel100")
        if self.max_redirects < 0:
            raise InvalidRequest(f"max_redirects: {self.max_redirects} is negative", field="max_redirects")
        if self.srtp not in ("forbidden", "optional", "required"):
            raise InvalidRequest(f"srtp: {self.srtp!r} is neither forbidden, optional nor required", field="srtp")
        if self.srtp != "forbidden" and not has_srtp():
            raise InvalidRequest("srtp: needs the extra srtp: pip install 'sipcore[srtp]'", field="srtp")
        if self.ptime not in range(10, 61, 10):
            raise InvalidRequest(f"ptime: {self.ptime} is none of 10, 20, 30, 40, 50, 60", field="ptime")


@dataclass(frozen=True, slots=True)
class Account:
    """One address of record and how to register it.

    Raises:
        InvalidAddress: ``address`` or ``outbound_proxy`` cannot be parsed.
        InvalidRequest: another field is wrong; ``field`` names it.
    """

    address: str
    """``user@host``, ``user@host:port``, ``sip:…``, ``sips:…``, each also with ``;transport=udp|tcp|tls``."""
    password: str = field(default="", repr=False)
    auth_username: str = ""
    """Digest user name; empty: the user part of ``address``."""
    realm: str = ""
    """The only realm whose challenges are answered; empty: any."""
    allow_weaker_digest: bool = False
    """Answer a challenge weaker than what the same server once offered for its realm, such as MD5 after SHA-256.
    Somebody on the way may have taken the stronger one out."""
    outbound_proxy: str = ""
    """``host``, ``host:port``, or a ``sip:``/``sips:`` URI; every request of the account goes there first."""
    transport: Literal["", "udp", "tcp", "tls"] = ""
    """``udp``, ``tcp`` or ``tls``, instead of what ``address`` says; also to an outbound proxy that names none."""
    display_name: str = ""
    expires: int = 600
    """Registration lifetime asked for, seconds."""
    register_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """More header fields of each REGISTER, such as a provider's token."""
    from_user: str = ""
    """User part of From in calls and messages; empty: that of ``address``. REGISTER always names ``address``."""
    from_domain: str = ""
    """Host of From in calls and messages; empty: that of ``address``."""
    contact_user: str = ""
    """User part of Contact; empty: that of ``address``."""
    preferred_identity: str = ""
    """P-Preferred-Identity of calls (RFC 3325): a number, ``user@host``, a URI, or ``"Name" <uri>``."""
    asserted_identity: str = ""
    """P-Asserted-Identity of calls, for peers that trust this side (RFC 3325)."""
    privacy: tuple[str, ...] = ()
    """Privacy of calls (RFC 3323): ``id``, ``header``, ``user``, ``none`` and so on."""
    anonymous: bool = False
    """Calls hide who they are from: From and Contact are anonymous, Privacy is ``id`` where nothing else is asked."""
    diversion: str = ""
    """Diversion of calls (RFC 5806): whose number they are diverted from; as ``preferred_identity``."""
    invite_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """More header fields of each INVITE that opens a call; those given for a call win over them."""
    codecs: tuple[str, ...] = ()
    """Audio codecs of this account's calls, best first: ``PCMU``, ``PCMA``, ``G722`` (which needs the extra
    ``sipcore[g722]``); empty: the agent's."""
    numbers: tuple[str, ...] = ()
    """Further user parts that calls for this account come with; ``*``: any that no other account has."""
    country_code: str = ""
    """``49``: bare numbers are dialled as E.164, +49…; empty: as they are written."""
    national_prefix: str = "0"
    """Dialled before an area code, and dropped in E.164."""
    international_prefix: str = "00"
    """Dialled before a country code, and dropped in E.164."""
    user_phone: bool = False
    """Numbers are dialled with ``;user=phone`` (RFC 3261 §19.1.1)."""
    accept_from: tuple[str, ...] | None = None
    """Who may call beside the account's registrar and outbound proxy: addresses, networks such as ``192.0.2.0/24``, or
    ``any``. None: nobody else; where the account registers nowhere, anyone, unless the agent has an ``allow_from``."""
    dtmf_detection: Literal["events", "inband", "both"] = "events"
    """Which keys of the far end are heard: telephone-events (RFC 4733), tones in the audio (ITU-T Q.24), which gateways
    to old telephones send, or whichever come. Those by INFO always are."""
    mediasec: bool = False
    """Agree with the first proxy on encrypted audio (RFC 3329 with ``mediasec``), as Deutsche Telekom wants it off its
    own lines; ``calls`` has to have ``srtp`` then."""
    calls: CallPolicy = field(default_factory=CallPolicy)
    """How its calls are set up and kept."""

    def __post_init__(self) -> None:
        from sipcore.protocol.addresses import parse_account, parse_outbound_proxy
        from sipcore.protocol.identity import check_account
        from sipcore.protocol.sources import parse_sources

        parse_account(self.address)
        check_account(self)
        _check_extras(self.codecs)
        if self.outbound_proxy:
            parse_outbound_proxy(self.outbound_proxy)
        if self.dtmf_detection not in ("events", "inband", "both"):
            raise InvalidRequest(
                f"dtmf_detection: {self.dtmf_detection!r} is neither events, inband nor both", field="dtmf_detection"
            )
        if self.accept_from is not None:
            parse_sources(self.accept_from, field="accept_from")

    @classmethod
    def from_preset(cls, name: str, address: str, password: str = "", **overrides: Any) -> Account:
        """An account as a known provider wants it: ``Account.from_preset("sipgate", "2345678e0@sipgate.de", secret)``.

        Args:
            name: one of :func:`sipcore.preset_names`.
            address: as in an account.
            password: as in an account.
            overrides: fields of an account that shall be otherwise.

        Raises:
            InvalidRequest: there is no such preset, or a field is wrong.
        """
        from sipcore.presets import preset

        return cls(**{**preset(name).account, **overrides, "address": address, "password": password})


@dataclass(frozen=True, slots=True)
class Limits:
    """What peers may cost in all, and one peer alone; a peer is an IPv4 address or an IPv6 /64. What is beyond gets a
    stateless 503 with Retry-After. Requests of calls that are up are never refused here."""

    transactions: int = 80_000
    """Server transactions. 500 calls a second over UDP leave 32,000 behind for 32 s."""
    transactions_per_peer: int = 60_000
    unanswered: int = 1000
    """Incoming calls that ring."""
    unanswered_per_peer: int = 500
    calls_per_peer: int = 1000
    """Incoming calls that are not over; in all: ``UserAgentConfig.max_calls``."""


@dataclass(frozen=True, slots=True)
class UserAgentConfig:
    """Settings shared by all accounts of one user agent."""

    sip_host: str = "0.0.0.0"  # noqa: S104 - a telephone listens on every interface unless told otherwise
    sip_port: int = 0
    """UDP and TCP listen on the same number; 0 picks one that is free on both. TLS: see :class:`TlsConfig`."""
    rtp_ports: tuple[int, int] = (16384, 32767)
    """Lowest and highest UDP port for RTP; even ports carry RTP, the next one RTCP."""
    rtp_port_quarantine: float = 5.0
    """Seconds for which the ports of a call that has ended are not used again: what is still sent to it shall not reach
    another."""
    jitter_min_ms: int = 20
    """Bounds of the jitter buffer's delay, multiples of 20 from 0 to 500; it follows the network between them,"""
    jitter_max_ms: int = 200
    """and is fixed where they are equal."""
    symmetric_rtp: Literal["auto", "strict", "any-port"] = "auto"
    """Whether a far end's RTP is taken from another port of its host than signalled, and answered there: at first, and
    again after two seconds of silence; never; or at any time."""
    advertise: str = ""
    """Host to write into Via, Contact and SDP instead of the local address."""
    user_agent: str = ""
    """User-Agent/Server header; empty: ``sipcore/<version>``."""
    codecs: tuple[str, ...] = ("PCMU", "PCMA")
    """Audio codecs offered, best first: ``PCMU``, ``PCMA``, ``G722`` (which needs the extra ``sipcore[g722]``)."""
    ring_timeout: float = 60.0
    """Seconds an outgoing call may ring before it is cancelled."""
    rtp_timeout: float = 60.0
    """Seconds without RTP or RTCP from the far end, while its audio is expected, after which a call is ended
    (``EndCause.SILENCE``); a sixth of it where its port is closed as well; 0: never. A far end that is quiet on hold is
    asked after five times as long whether it still knows the call."""
    quality_interval: float = 0.0
    """Seconds between two :class:`~sipcore.events.MediaQuality` events of a call; 0: none."""
    info_types: tuple[str, ...] = ()
    """Media types of INFO bodies that become :class:`~sipcore.events.InfoReceived`; others, keys aside, get 415."""
    register_rate: float = 50.0
    """Registrations begun in a second, all accounts together, after half as many at once; refreshes that are due are
    spread by themselves and do not wait."""
    max_calls: int = 2000
    """Calls held at once; an INVITE beyond gets 503 with Retry-After, a call of ours ends in ``AtCapacity``."""
    max_load: float = 0.8
    """The same while the media clock is too busy: in three of the latest five seconds it took a larger share of a
    core than this, or half of it and was late for a fifth of its ticks. 0: it is never asked."""
    limits: Limits = field(default_factory=Limits)
    """What all peers, and what one, may cost."""
    allow_from: tuple[str, ...] = ()
    """Who may call any account, beside its registrar and outbound proxy: addresses, networks such as
    ``192.0.2.0/24``, or ``any``."""
    strangers: Literal["silence", "refuse"] = "silence"
    """Requests from anybody else get no answer, or 403. Those that say they are a scanner's never get one."""
    unknown_users: Literal["silence", "refuse"] = "refuse"
    """Calls for a user that is not here get no answer, or 404."""
    timers: Timers = field(default_factory=Timers)
    tls: TlsConfig = field(default_factory=TlsConfig)
    keep_alive: float = 30.0
    """Seconds between keep-alives on a TCP or TLS connection that an account is registered over (RFC 5626 §4.4.1),
    if its registrar asks for no other interval; 0: none."""
    udp_keep_alive: float = 25.0
    """The same over UDP; most NATs forget a mapping after 30 s."""
    nameservers: tuple[str, ...] = ()
    """DNS servers to ask, each ``HOST`` or ``HOST:PORT``; empty: those of ``/etc/resolv.conf``."""

    def __post_init__(self) -> None:
        from sipcore.protocol.addresses import parse_name_server
        from sipcore.protocol.sources import parse_sources

        for server in self.nameservers:
            parse_name_server(server)
        parse_sources(self.allow_from, field="allow_from")
        _check_extras(self.codecs)
        if self.symmetric_rtp not in ("auto", "strict", "any-port"):
            raise InvalidRequest("symmetric_rtp: must be auto, strict or any-port", field="symmetric_rtp")
        if self.quality_interval and self.quality_interval < 0.1:
            raise InvalidRequest("quality_interval: must be 0, or at least 0.1", field="quality_interval")
        for name in ("strangers", "unknown_users"):
            if getattr(self, name) not in ("silence", "refuse"):
                raise InvalidRequest(f"{name}: must be silence or refuse, not {getattr(self, name)!r}", field=name)
