"""The server's settings: each one a command line option, a ``SIPCORE_*`` variable and a key of the TOML file.

One field here is all a setting needs: its name gives ``--name``, ``SIPCORE_NAME`` and ``name``; its type and
validators check it; its description is the help. Precedence: option, variable, file, default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, DirectoryPath, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from service import values
from service.journal import DEFAULT_SIZE as JOURNAL_SIZE
from service.line import LineOptions
from service.port_config import PortSettings
from service.profiles import Profile, parse_profiles
from service.stream_places import AudioLimits
from service.values import Endpoint, PortRange
from sipcore.config import CallPolicy, TlsConfig, UserAgentConfig
from sipcore.errors import InvalidRequest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Endpoint", "PortRange", "ServerSettings", "SettingsError", "load_settings"]

ENV_PREFIX = "SIPCORE_"
CONFIG_VARIABLE = "SIPCORE_CONFIG"
MEBIBYTE = 1024 * 1024
_WORDS = {
    "path_not_directory": "must be a folder that is there",
    "string_pattern_mismatch": "must be printable ASCII in one line",
}
"""For people, where pydantic's words are for programmers; by the type of the error."""


class SettingsError(Exception):
    """A setting is wrong; ``str()`` is one line: which one, where it came from, what is wrong."""


class ServerSettings(PortSettings):
    """What ``sipcore serve`` can be told."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, enable_decoding=False)

    sip: Annotated[Endpoint, BeforeValidator(values.endpoint)] = Field(
        default=Endpoint("0.0.0.0", 0),  # noqa: S104 - a telephone listens on every interface
        description="Address for SIP, UDP and TCP on the same port; port 0 is any free one.",
        json_schema_extra={"metavar": "HOST:PORT"},
    )
    sip_tls_certificate: Path | None = Field(
        default=None,
        description="PEM file with this side's certificate and chain. With one, SIP over TLS is listened for too.",
        json_schema_extra={"metavar": "FILE"},
    )
    sip_tls_key: Path | None = Field(
        default=None,
        description="PEM file with its private key; by default it is in the certificate's file.",
        json_schema_extra={"metavar": "FILE"},
    )
    sip_tls_ca: Path | None = Field(
        default=None,
        description="PEM file with the CAs to trust; by default the system's.",
        json_schema_extra={"metavar": "FILE"},
    )
    sip_tls_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="Port to listen on for TLS; by default the one after that of --sip.",
        json_schema_extra={"metavar": "PORT"},
    )
    sip_tls_verify: bool = Field(
        default=True, description="Take only certificates of trusted CAs that name the domain (RFC 5922)."
    )
    sip_tls_wildcards: bool = Field(
        default=False, description="Take a certificate of *.example.com for sip.example.com, which RFC 5922 forbids."
    )
    sip_tls_verify_clients: bool = Field(
        default=False, description="Take TLS connections only from peers with a certificate of a trusted CA."
    )
    keep_alive: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="Seconds between keep-alives on TCP and TLS connections of accounts; 0: none.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    udp_keep_alive: float = Field(
        default=25.0,
        ge=0,
        le=3600,
        description="Seconds between keep-alives over UDP to registrars of accounts; 0: none.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    nameserver: Annotated[tuple[str, ...], BeforeValidator(values.name_servers)] = Field(
        default=(),
        description="DNS servers to ask, separated by commas; by default those of /etc/resolv.conf.",
        json_schema_extra={"metavar": "HOST[:PORT]"},
    )
    rtp_ports: Annotated[PortRange, BeforeValidator(values.port_range)] = Field(
        default=PortRange(16384, 32767),
        description="UDP ports for audio, two a call.",
        json_schema_extra={"metavar": "LO-HI"},
    )
    jitter_min_ms: int = Field(
        default=20,
        ge=0,
        le=500,
        multiple_of=20,
        description="Least delay of the jitter buffer, a multiple of 20.",
        json_schema_extra={"metavar": "MS"},
    )
    jitter_max_ms: int = Field(
        default=200,
        ge=0,
        le=500,
        multiple_of=20,
        validate_default=True,
        description="Longest delay of the jitter buffer, a multiple of 20; the delay is fixed where both are equal.",
        json_schema_extra={"metavar": "MS"},
    )
    symmetric_rtp: Literal["auto", "strict", "any-port"] = Field(
        default="auto",
        description="RTP from another port than signalled: until the signalled one was heard, never, or always.",
    )
    advertise: Annotated[str, BeforeValidator(values.host)] = Field(
        default="",
        description="Address to write into Contact and SDP; by default the local one that leads to the peer.",
        json_schema_extra={"metavar": "HOST"},
    )
    codecs: Annotated[tuple[str, ...], BeforeValidator(values.codecs)] = Field(
        default=("PCMU", "PCMA"),
        description="Codecs to offer, the preferred one first: PCMU, PCMA, G722 (sipcore[g722]).",
        json_schema_extra={"metavar": "NAME,NAME"},
    )
    user_agent: str = Field(
        default="",
        pattern=r"^[\x20-\x7e]*$",
        description="User-Agent header; by default sipcore and its version.",
        json_schema_extra={"metavar": "TEXT"},
    )
    ring_timeout: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="Seconds that an outgoing call may ring before it is given up.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    rtp_timeout: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="Seconds without RTP or RTCP after which a call that is not on hold is ended; 0: never.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    quality_interval: float = Field(
        default=30.0,
        ge=0,
        le=3600,
        description="Seconds between two media_quality events of a call (sipcore.v1 Watch); 0: none.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    max_calls: int = Field(
        default=2000,
        ge=1,
        le=100_000,
        description="Most calls at once; beyond, callers get 503 with Retry-After.",
        json_schema_extra={"metavar": "COUNT"},
    )
    max_load: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Share of a core that the media clock may take before new calls get 503; 0: any.",
        json_schema_extra={"metavar": "SHARE"},
    )
    allow_from: Annotated[tuple[str, ...], BeforeValidator(values.sources)] = Field(
        default=(),
        description="Who may call beside the registrars and proxies of the accounts: addresses, networks, or any.",
        json_schema_extra={"metavar": "ADDRESS,ADDRESS"},
    )
    strangers: Literal["silence", "refuse"] = Field(
        default="silence", description="Requests from anybody else: no answer, or 403."
    )
    unknown_users: Literal["silence", "refuse"] = Field(
        default="refuse", description="Calls for a user that is not here: no answer, or 404."
    )
    register_expires: int = Field(
        default=600,
        ge=30,
        le=86_400,
        description="Lifetime to ask registrars for; refreshed before it runs out.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    register_rate: float = Field(
        default=50.0,
        gt=0,
        le=10_000,
        description="Registrations begun in a second, all accounts together; refreshes do not wait.",
        json_schema_extra={"metavar": "COUNT"},
    )
    session_expires: int = Field(
        default=1800,
        ge=0,
        le=86_400,
        description="Session timer to ask for (RFC 4028): a call whose far end is gone ends within it;"
        " 0: ask for none, but keep to what far ends ask for.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    min_se: int = Field(
        default=90,
        ge=1,
        le=86_400,
        description="Shortest session timer to take; RFC 4028 wants at least 90.",
        json_schema_extra={"metavar": "SECONDS"},
    )
    rel100: Literal["off", "supported", "never"] = Field(
        default="off",
        description="Reliable ringing (RFC 3262) as callee: off: where the caller requires it; supported: where it"
        " can; never: not at all, and callers of ours do not advertise it.",
    )
    max_redirects: int = Field(
        default=5,
        ge=0,
        le=20,
        description="Other addresses that a redirected call (3xx) goes on to; 0: it fails with the code.",
        json_schema_extra={"metavar": "COUNT"},
    )
    srtp: Literal["forbidden", "optional", "required"] = Field(
        default="forbidden",
        description="Encrypted audio, by keys in SDP (RFC 4568): never; where the far end can; or no call without."
        " Needs the extra sipcore[srtp], and TLS to keep the keys secret.",
    )
    ptime: int = Field(
        default=20,
        ge=10,
        le=60,
        multiple_of=10,
        description="Audio that packets hold, a multiple of 10: what far ends are asked for (a=ptime), and sent where"
        " they ask for nothing else.",
        json_schema_extra={"metavar": "MS"},
    )
    accounts: Annotated[tuple[Any, ...], BeforeValidator(parse_profiles)] = Field(
        default=(),
        description="What the providers of accounts demand, as [[accounts]] tables; in the file only.",
        json_schema_extra={"file_only": True},
    )
    history_size: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="Transitions kept per account for SipGetSipStatusHistory, the oldest dropped first.",
        json_schema_extra={"metavar": "COUNT"},
    )
    history: Path | None = Field(
        default=None,
        description="SQLite file that keeps the transitions, so that they outlive the server; by default they do not.",
        json_schema_extra={"metavar": "FILE"},
    )
    max_events: int = Field(
        default=JOURNAL_SIZE,
        ge=100,
        le=1_000_000,
        description="Events kept for sipcore.v1 Watch, of all accounts together, the oldest dropped first.",
        json_schema_extra={"metavar": "COUNT"},
    )
    max_watches: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Most sipcore.v1 Watch streams at once.",
        json_schema_extra={"metavar": "COUNT"},
    )
    recordings: DirectoryPath | None = Field(
        default=None,
        description="Folder for the wav files of StartRecording; by default nothing is recorded.",
        json_schema_extra={"metavar": "DIR"},
    )
    wav_limit: int = Field(
        default=32,
        ge=1,
        le=512,
        description="Largest size of all files of one SipPlayWavFiles together.",
        json_schema_extra={"metavar": "MIB"},
    )
    tracebacks: bool = Field(default=True, description="Put Python tracebacks into statuses (exception_traceback).")
    call_control_token: SecretStr = Field(
        default=SecretStr(""),
        description="Secret that SipSetCallMediaControl and SipStreamCallAudio ask for. Better set as a"
        " variable: every user of the machine can see options.",
        json_schema_extra={"metavar": "SECRET"},
    )
    max_audio_streams: int = Field(
        default=100,
        ge=1,
        le=10_000,
        description="Most live audio streams of all calls together: SipStreamCallAudio, Converse, StreamRecording.",
        json_schema_extra={"metavar": "COUNT"},
    )
    max_call_audio_streams: int = Field(
        default=16,
        ge=1,
        le=10_000,
        description="Most live audio streams of one call.",
        json_schema_extra={"metavar": "COUNT"},
    )
    event_loop: Literal["auto", "uvloop", "asyncio"] = Field(
        default="auto", description="auto: uvloop where it is installed."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity to log. Logs go to the standard error."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="text: a line for people; json: an object per line."
    )
    trace_sip: Path | None = Field(
        default=None,
        description="Write every SIP message to this file, readable, credentials blotted out.",
        json_schema_extra={"metavar": "FILE"},
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, variables, then the TOML file that :func:`load_settings` names."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    # -- what the other layers take

    @property
    def wav_limit_bytes(self) -> int:
        """Largest size of one wav list, bytes."""
        return self.wav_limit * MEBIBYTE

    @field_validator("jitter_max_ms")
    @classmethod
    def _not_below_the_least(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("jitter_min_ms", 0):
            raise ValueError("must not be below jitter_min_ms")
        return value

    @field_validator("call_control_token")
    @classmethod
    def _can_be_sent(cls, value: SecretStr) -> SecretStr:
        # The line end of a secret's file is easily taken along, and then no client can ever show the token: gRPC's
        # metadata does not carry it.
        if not re.fullmatch(r"([\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?)?", value.get_secret_value()):
            raise ValueError("must be printable ASCII, without line ends and without spaces around it")
        return value

    @field_validator("srtp")
    @classmethod
    def _installed(cls, value: Literal["forbidden", "optional", "required"]) -> str:
        try:
            return CallPolicy(srtp=value).srtp
        except InvalidRequest as error:
            raise ValueError(str(error).removeprefix("srtp: ")) from None

    @property
    def receive_limit_bytes(self) -> int:
        """Largest gRPC message, bytes: far above the wav limit, so that a list over it gets a reason."""
        return self.wav_limit_bytes + 128 * MEBIBYTE

    def user_agent_config(self) -> UserAgentConfig:
        """For the SIP user agent."""
        return UserAgentConfig(
            sip_host=self.sip.host,
            sip_port=self.sip.port,
            rtp_ports=(self.rtp_ports.low, self.rtp_ports.high),
            jitter_min_ms=self.jitter_min_ms,
            jitter_max_ms=self.jitter_max_ms,
            symmetric_rtp=self.symmetric_rtp,
            advertise=self.advertise,
            user_agent=self.user_agent,
            codecs=self.codecs,
            ring_timeout=self.ring_timeout,
            rtp_timeout=self.rtp_timeout,
            quality_interval=max(self.quality_interval, 0.1) if self.quality_interval else 0.0,
            allow_from=self.allow_from,
            strangers=self.strangers,
            unknown_users=self.unknown_users,
            max_calls=self.max_calls,
            register_rate=self.register_rate,
            max_load=self.max_load,
            keep_alive=self.keep_alive,
            udp_keep_alive=self.udp_keep_alive,
            nameservers=self.nameserver,
            tls=TlsConfig(
                certificate=str(self.sip_tls_certificate or ""),
                key=str(self.sip_tls_key or ""),
                ca_file=str(self.sip_tls_ca or ""),
                verify=self.sip_tls_verify,
                wildcards=self.sip_tls_wildcards,
                verify_clients=self.sip_tls_verify_clients,
                port=self.sip_tls_port,
            ),
        )

    def audio_limits(self) -> AudioLimits:
        """For live audio streams."""
        return AudioLimits(in_all=self.max_audio_streams, per_call=self.max_call_audio_streams)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """What the file says about accounts."""
        return self.accounts

    def line_options(self) -> LineOptions:
        """For each account."""
        return LineOptions(
            history_size=self.history_size,
            tracebacks=self.tracebacks,
            register_expires=self.register_expires,
            calls=CallPolicy(
                session_expires=self.session_expires,
                min_se=self.min_se,
                rel100=self.rel100,
                max_redirects=self.max_redirects,
                srtp=self.srtp,
                ptime=self.ptime,
            ),
            profiles={profile.key: profile for profile in self.profiles},
        )


def load_settings(
    options: Mapping[str, Any], *, config: Path | None = None, environ: Mapping[str, str] = os.environ
) -> ServerSettings:
    """The settings from everywhere.

    Args:
        options: what the command line gave, by field name.
        config: the TOML file; None: what ``SIPCORE_CONFIG`` names, if anything.
        environ: to tell where a wrong value came from.

    Raises:
        SettingsError: one line.
    """
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])

    class WithFile(ServerSettings):
        model_config = SettingsConfigDict(toml_file=config)

    if config is not None and not config.is_file():
        raise SettingsError(f"--config: there is no file {config}")
    try:
        return WithFile(**options)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(one, options, config, environ) for one in error.errors())) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{config}: {getattr(error, 'strerror', None) or error}") from None


def _explain(
    error: ErrorDetails, options: Mapping[str, object], config: Path | None, environ: Mapping[str, str]
) -> str:
    """One wrong setting: where it came from, what is wrong, and what it was (but not a secret)."""
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"{config}: there is no setting {name!r}"
    variable = f"{ENV_PREFIX}{name.upper()}"
    if name in options:
        origin = f"--{name.replace('_', '-')}"
    elif any(key.upper() == variable for key in environ):
        origin = variable
    elif config is not None:
        origin = f"{config}, {name}"
    else:  # a default that does not go with the rest
        origin = f"--{name.replace('_', '-')}"
    message = _WORDS.get(error["type"]) or error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if name == "accounts" or "SecretStr" in str(ServerSettings.model_fields[name].annotation):
        return f"{origin}: {message}"
    return f"{origin}: {message}, not {str(error['input'])!r}"
