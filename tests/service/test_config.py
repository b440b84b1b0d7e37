"""Settings: option > variable > file > default, and one clear line for each wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.config import Endpoint, PortRange, ServerSettings, SettingsError, load_settings
from service.loops import loop_factory
from sipcore.config import Account, UserAgentConfig
from sipcore.errors import InvalidRequest

SAMPLES = {
    "grpc": ("0.0.0.0:6000", Endpoint("0.0.0.0", 6000)),
    "reflection": ("false", False),
    "grpc_tls_certificate": ("port.pem", Path("port.pem")),
    "grpc_tls_key": ("port.key", Path("port.key")),
    "grpc_tls_client_ca": ("bots.pem", Path("bots.pem")),
    "grpc_token_file": ("tokens", Path("tokens")),
    "sip": ("[::1]:5060", Endpoint("::1", 5060)),
    "sip_tls_certificate": ("here.pem", Path("here.pem")),
    "sip_tls_key": ("key.pem", Path("key.pem")),
    "sip_tls_ca": ("ca.pem", Path("ca.pem")),
    "sip_tls_port": ("5061", 5061),
    "sip_tls_verify": ("false", False),
    "sip_tls_wildcards": ("true", True),
    "sip_tls_verify_clients": ("true", True),
    "keep_alive": ("15", 15.0),
    "udp_keep_alive": ("12.5", 12.5),
    "nameserver": ("192.0.2.53, [::1]:5353", ("192.0.2.53", "[::1]:5353")),
    "rtp_ports": ("20000-20999", PortRange(20000, 20999)),
    "jitter_min_ms": ("40", 40),
    "jitter_max_ms": ("120", 120),
    "symmetric_rtp": ("strict", "strict"),
    "advertise": ("203.0.113.7", "203.0.113.7"),
    "codecs": ("pcma,pcmu", ("PCMA", "PCMU")),
    "user_agent": ("Desk 1.0", "Desk 1.0"),
    "ring_timeout": ("12.5", 12.5),
    "rtp_timeout": ("90", 90.0),
    "quality_interval": ("5", 5.0),
    "max_calls": ("150", 150),
    "max_load": ("0.7", 0.7),
    "register_expires": ("120", 120),
    "register_rate": ("250", 250.0),
    "allow_from": ("198.51.100.7, 2001:db8::/32", ("198.51.100.7", "2001:db8::/32")),
    "strangers": ("refuse", "refuse"),
    "unknown_users": ("silence", "silence"),
    "session_expires": ("600", 600),
    "min_se": ("120", 120),
    "rel100": ("supported", "supported"),
    "max_redirects": ("2", 2),
    "srtp": ("required", "required"),
    "ptime": ("30", 30),
    "history_size": ("7", 7),
    "wav_limit": ("3", 3),
    "history": ("history.db", Path("history.db")),
    "recordings": ("/", Path("/")),
    "tracebacks": ("false", False),
    "call_control_token": ("hush hush", "hush hush"),
    "max_events": ("500", 500),
    "max_watches": ("7", 7),
    "max_audio_streams": ("40", 40),
    "max_call_audio_streams": ("3", 3),
    "event_loop": ("asyncio", "asyncio"),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
    "trace_sip": ("trace.txt", Path("trace.txt")),
}


@pytest.fixture(autouse=True)
def with_srtp(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is there, whatever this Python has installed."""
    monkeypatch.setattr("sipcore.config.has_srtp", lambda: True)


def value(settings: ServerSettings, name: str) -> object:
    found = getattr(settings, name)
    return found.get_secret_value() if name == "call_control_token" else found


def test_there_is_a_sample_of_every_setting() -> None:
    assert set(SAMPLES) | {"accounts"} == set(ServerSettings.model_fields)  # in the file only: see test_profiles


def test_the_bounds_of_the_jitter_buffer_are_in_order() -> None:
    with pytest.raises(SettingsError, match=r"^--jitter-max-ms: must not be below jitter_min_ms"):
        load_settings({"jitter_min_ms": "300"})


@pytest.mark.parametrize("name", SAMPLES)
def test_every_setting_in_every_place_and_their_precedence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, parsed = SAMPLES[name]
    file = tmp_path / "server.toml"
    file.write_text(f'{name} = "{text}"\n')
    default = value(load_settings({}), name)
    assert default != parsed
    assert value(load_settings({}, config=file), name) == parsed
    assert value(load_settings({name: text}), name) == parsed
    monkeypatch.setenv(f"SIPCORE_{name.upper()}", text)
    assert value(load_settings({}), name) == parsed
    broken = tmp_path / "broken.toml"
    broken.write_text(f"{name} = {{}}\n")
    assert value(load_settings({}, config=broken), name) == parsed  # the variable counts more
    monkeypatch.setenv(f"SIPCORE_{name.upper()}", "\N{BELL}[]")
    assert value(load_settings({name: text}), name) == parsed  # the option counts more


def test_toml_types_and_the_file_from_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "server.toml"
    file.write_text('codecs = ["PCMA"]\nring_timeout = 45\ntracebacks = false\n')
    monkeypatch.setenv("SIPCORE_CONFIG", str(file))
    settings = load_settings({})
    assert (settings.codecs, settings.ring_timeout, settings.tracebacks) == (("PCMA",), 45.0, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"grpc": "nonsense"}, "--grpc: must be HOST:PORT"),
        ({"grpc": "127.0.0.1:65536"}, "--grpc: must be HOST:PORT"),
        ({"sip": "::1:5060"}, "--sip: must be HOST:PORT"),
        ({"rtp_ports": "9-1"}, "--rtp-ports: must be LO-HI"),
        ({"rtp_ports": "1-70000"}, "--rtp-ports: must be LO-HI"),
        ({"codecs": "OPUS"}, "--codecs: must name one or more of PCMU, PCMA"),
        ({"advertise": "a b"}, "--advertise: must be a host name or an IP address"),
        ({"ring_timeout": "0"}, "--ring-timeout: should be greater than 0"),
        ({"history_size": "many"}, "--history-size: should be a valid integer"),
        ({"allow_from": "example.com"}, "--allow-from: 'example.com' is not an IP address"),
        ({"log_level": "loud"}, "--log-level: should be 'debug', 'info', 'warning' or 'error', not 'loud'"),
        ({"user_agent": "x\r\nVia: y"}, "--user-agent: must be printable ASCII in one line"),
        ({"recordings": "/no/such"}, "--recordings: must be a folder that is there"),
        (
            {"call_control_token": "hush\n"},
            "--call-control-token: must be printable ASCII, without line ends",
        ),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(options: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(options)
    line = str(raised.value)
    assert line.startswith(said)
    assert "\n" not in line


def test_the_place_of_a_wrong_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "server.toml"
    file.write_text('log_level = "loud"\nspeed = 9\n')
    monkeypatch.setenv("SIPCORE_HISTORY_SIZE", "0")
    with pytest.raises(SettingsError) as raised:
        load_settings({"grpc": "x"}, config=file)
    line = str(raised.value)
    assert "--grpc:" in line
    assert "SIPCORE_HISTORY_SIZE:" in line
    assert f"{file}, log_level:" in line
    assert f"{file}: there is no setting 'speed'" in line


def test_a_file_that_is_missing_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no file"):
        load_settings({}, config=tmp_path / "none.toml")
    file = tmp_path / "bad.toml"
    file.write_text("grpc =")
    with pytest.raises(SettingsError, match=r"bad\.toml"):
        load_settings({}, config=file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"bad\.toml"):
        load_settings({}, config=file)


def test_the_token_is_never_shown() -> None:
    settings = load_settings({"call_control_token": "hush-hush"})
    assert "hush-hush" not in repr(settings) + str(settings)
    with pytest.raises(SettingsError) as raised:
        load_settings({"call_control_token": ["hush-hush"]})
    assert "hush-hush" not in str(raised.value)


def test_a_codec_without_its_extra_is_found_out_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipcore.config.EXTRAS", {"G722": ("g722", "no_such_module")})
    with pytest.raises(SettingsError, match=r"--codecs: needs an extra .*pip install 'sipcore\[g722\]'"):
        load_settings({"codecs": "PCMA,G722"})
    with pytest.raises(InvalidRequest, match=r"G722 needs an extra: pip install 'sipcore\[g722\]'"):
        Account("sip:alice@example.com", codecs=("G722",))
    with pytest.raises(InvalidRequest):
        UserAgentConfig(codecs=("G722",))
    assert load_settings({"codecs": "PCMA"}).codecs == ("PCMA",)


def test_srtp_without_its_extra_is_found_out_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sipcore.config.has_srtp", lambda: False)
    with pytest.raises(SettingsError, match=r"--srtp: needs the extra srtp: pip install 'sipcore\[srtp\]'"):
        load_settings({"srtp": "optional"})
    assert load_settings({"srtp": "forbidden"}).line_options().calls.srtp == "forbidden"


def test_what_the_layers_get() -> None:
    settings = load_settings({"sip": "127.0.0.1:5070", "rtp_ports": "30000-30100", "wav_limit": 2, "codecs": "PCMA"})
    agent = settings.user_agent_config()
    assert (agent.sip_host, agent.sip_port, agent.rtp_ports) == ("127.0.0.1", 5070, (30000, 30100))
    assert agent.codecs == ("PCMA",)
    assert settings.wav_limit_bytes == 2 * 2**20
    assert settings.receive_limit_bytes > settings.wav_limit_bytes + 100_000_000


def test_the_largest_message_leaves_room_for_the_lists_that_must_be_refused_with_a_reason() -> None:
    """Issue: a 100 MB list of wavs is refused by this server's own words, not by gRPC's."""
    assert load_settings({}).wav_limit_bytes < 100_000_000 < load_settings({}).receive_limit_bytes


def test_event_loops() -> None:
    assert loop_factory("asyncio") is None
    for name in ("auto", "uvloop"):
        factory = loop_factory(name)
        assert factory is not None
        factory().close()
