"""What the demo prints, on a terminal and into a file."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from service.demo.stage import Stage
from service.generated.ondewo.sip import sip_pb2 as pb


class Screen:
    """A stage and what stands on it."""

    def __init__(self, *, terminal: bool, encoding: str = "utf-8") -> None:
        self.file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
        self.stage = Stage(Console(file=self.file, force_terminal=terminal, width=80, highlight=False))

    @property
    def text(self) -> str:
        self.file.flush()
        buffer = self.file.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.file.encoding)


def failed_call() -> pb.SipStatus:
    """As the server reports a callee who is busy."""
    return pb.SipStatus(
        status_type=pb.SipStatus.StatusType.OUTGOING_CALL_FAILED,
        callee_id="sip:bob@example.test",
        description="486 Busy Here from sip:bob@example.test",
        sip_response_code=486,
    )


def test_a_transition_shows_its_name_and_description_and_the_code_once() -> None:
    screen = Screen(terminal=False)
    screen.stage.transition(failed_call())
    assert "OUTGOING_CALL_FAILED  486 Busy Here from sip:bob@example.test\n" in screen.text
    assert screen.text.partition("OUTGOING")[2].count("486") == 1  # before it stands the time of day


def test_a_file_gets_plain_lines_without_control_sequences() -> None:
    screen = Screen(terminal=False)
    screen.stage.scene("One")
    with screen.stage.playing(6.0) as show:
        for tenth in range(60):
            show(tenth / 10, [-20.0], "7 packets")
    assert "\x1b" not in screen.text
    assert "\r" not in screen.text
    assert screen.text.count("7 packets") == 2, "one line each two seconds"


def test_a_terminal_gets_a_bar_that_leaves_no_trace_in_a_wide_line() -> None:
    screen = Screen(terminal=True)
    with screen.stage.playing(6.0) as show:
        show(3.0, [-96.0, -12.0], "7 packets")
    assert "\x1b[" in screen.text
    assert "█" in screen.text


def test_a_narrow_character_set_is_enough() -> None:
    screen = Screen(terminal=True, encoding="ascii")
    screen.stage.scene("One")
    screen.stage.request("SipMute")
    screen.stage.far_end("rings")
    screen.stage.check(True, "it worked")
    screen.stage.verdict()
    assert "ok: " in screen.text


def test_a_failed_check_is_a_problem_and_shows_in_the_verdict() -> None:
    screen = Screen(terminal=False)
    assert screen.stage.check(True, "water is wet")
    assert not screen.stage.check(False, "the moon is cheese", otherwise="rock")
    screen.stage.verdict()
    assert screen.stage.problems == ["not so: the moon is cheese (rock)"]
    assert "one thing went wrong" in screen.text


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_wrong_is_said_too(terminal: bool) -> None:
    screen = Screen(terminal=terminal)
    screen.stage.verdict()
    assert "Everything worked" in screen.text
