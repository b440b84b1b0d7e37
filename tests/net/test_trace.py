"""The trace file."""

from __future__ import annotations

import logging
import re
import stat
from pathlib import Path

import pytest

from sipcore.net import trace as trace_module
from sipcore.net.trace import Trace
from sipcore.protocol.flows import Flow

FLOW = Flow("udp", ("127.0.0.1", 5060), ("192.0.2.1", 5070))
REGISTER = (
    b"REGISTER sip:example.com SIP/2.0\r\n"
    b'Authorization: Digest username="alice", realm="r", nonce="n", uri="sip:example.com", '
    b'response="0123456789abcdef0123456789abcdef", cnonce="c0ffee"\r\n'
    b"Content-Length: 0\r\n\r\n"
)


def test_an_entry_tells_when_where_and_what(tmp_path: Path) -> None:
    path = tmp_path / "sip.log"
    with Trace(path) as trace:
        trace.record("sent", FLOW, b"OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 4\r\n\r\nbody")
        trace.record("received", FLOW, b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n")
    first, second = path.read_text().split("\n\n---- ")
    assert re.match(r"---- \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d sent udp ", first)
    assert "127.0.0.1:5060 -> 192.0.2.1:5070, 50 bytes\nOPTIONS sip:a@b SIP/2.0\n" in first
    assert first.endswith("\n\nbody")
    assert "received udp 127.0.0.1:5060 <- 192.0.2.1:5070" in second


def test_secrets_are_struck_out(tmp_path: Path) -> None:
    path = tmp_path / "sip.log"
    with Trace(path) as trace:
        trace.record("sent", FLOW, REGISTER)
    text = path.read_text()
    assert "REGISTER sip:example.com" in text
    assert "0123456789abcdef" not in text
    assert "c0ffee" not in text


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "sip.log"
    with Trace(path) as trace:
        trace.record("received", FLOW, bytes(range(256)))
        trace.record("received", FLOW, REGISTER)
    assert "REGISTER" in path.read_text()


def test_the_file_is_appended_to_and_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "sip.log"
    for _ in range(2):
        with Trace(path) as trace:
            trace.record("sent", FLOW, REGISTER)
    assert path.read_text().count("REGISTER sip:example.com") == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_path_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Trace(tmp_path / "missing" / "sip.log")


def test_more_than_can_be_written_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "MAX_WAITING", 0)
    path = tmp_path / "sip.log"
    with Trace(path) as trace:
        trace.record("sent", FLOW, REGISTER)
        trace.record("sent", FLOW, REGISTER)
        monkeypatch.setattr(trace_module, "MAX_WAITING", 10)
        trace.record("sent", FLOW, REGISTER)
    assert "---- 2 messages lost" in path.read_text()


def test_nothing_is_recorded_after_the_end(tmp_path: Path) -> None:
    path = tmp_path / "sip.log"
    trace = Trace(path)
    trace.close()
    trace.close()
    trace.record("sent", FLOW, REGISTER)
    assert path.read_text() == ""


def test_a_full_disk_ends_the_trace_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trace = Trace(tmp_path / "sip.log")

    def fail(text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trace._file, "write", fail)
    with caplog.at_level(logging.ERROR):
        trace.record("sent", FLOW, REGISTER)
        trace._thread.join(2)
        trace.record("sent", FLOW, REGISTER)
        trace.close()
    assert "ends here" in caplog.text
    assert not trace._thread.is_alive()
