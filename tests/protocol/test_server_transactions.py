"""Server transactions in virtual time: timers G, H, I, J and L, 100 Trying (RFC 3261 §17.2, RFC 6026)."""

from __future__ import annotations

import pytest

from sipcore.protocol.flows import Transport
from sipcore.protocol.transaction_tables import State
from sipcore.protocol.wire import Response
from tests.protocol.rig import FLOWS, Rig, incoming

RELIABLE: tuple[Transport, ...] = ("tcp", "tls")
ALL: tuple[Transport, ...] = ("udp", "tcp", "tls")


def arrive(rig: Rig, method: str, transport: Transport = "udp", **changes: str) -> None:
    via = f"SIP/2.0/{transport.upper()} 192.0.2.2:5070"
    branch = changes.get("branch", "z9hG4bKthem1")
    rig.receive(incoming(method, via=via, branch=branch, to=changes.get("to", "<sip:alice@x>")), FLOWS[transport])


@pytest.mark.parametrize("transport", ALL)
def test_100_trying_goes_out_after_200_ms(transport: Transport) -> None:
    """§17.2.1: if the user has not answered by then; it stops the far end's retransmissions."""
    rig = Rig()
    arrive(rig, "INVITE", transport)
    rig.run(10)
    assert rig.wire == [(0.2, "100")]
    trying = rig.sent[0].message
    assert trying.to_tag == "", "§8.2.6.1: no tag is added to a 100"
    assert rig.requests[-1].last_status == 100


@pytest.mark.parametrize("status", [180, 200, 486])
def test_no_100_trying_when_the_user_was_quicker(status: int) -> None:
    """§17.2.1."""
    rig = Rig()
    arrive(rig, "INVITE")
    rig.run(0.1)
    rig.respond(status)
    rig.run(0.4)
    assert rig.wire == [(0.1, str(status))]


def test_non_invite_gets_no_100() -> None:
    """RFC 4320 §4.1: a provisional response to a non-INVITE helps nobody."""
    rig = Rig()
    arrive(rig, "OPTIONS")
    rig.run(31)
    assert rig.wire == []


def test_a_retransmitted_invite_gets_the_last_provisional_response() -> None:
    """§17.2.1: and the user hears of the first copy only."""
    rig = Rig()
    arrive(rig, "INVITE")
    arrive(rig, "INVITE")
    assert rig.wire == []
    rig.respond(180)
    rig.respond(183)
    rig.run(0.5)
    arrive(rig, "INVITE")
    assert rig.wire == [(0, "180"), (0, "183"), (0.5, "183")]
    assert len(rig.requests) == 1


def test_timer_g_doubles_up_to_t2_until_the_ack() -> None:
    """§17.2.1: failure responses go out at 0, T1, 3*T1 … and then every T2."""
    rig = Rig()
    arrive(rig, "INVITE")
    rig.respond(486)
    rig.run(20)
    assert [at for at, _ in rig.wire] == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5]
    arrive(rig, "ACK", to="<sip:alice@x>;tag=ours")
    rig.run(200)
    assert len(rig.wire) == 8
    assert rig.acks == [], "the ACK to a failure response is the transaction's own"
    assert rig.server_timeouts == []


@pytest.mark.parametrize("transport", RELIABLE)
def test_timer_g_does_not_run_on_reliable_transports(transport: Transport) -> None:
    """§17.2.1."""
    rig = Rig()
    arrive(rig, "INVITE", transport)
    rig.respond(486)
    rig.run(31.9)
    assert rig.wire == [(0, "486")]


@pytest.mark.parametrize("transport", ALL)
def test_timer_h_gives_up_on_a_lost_ack_after_64_t1(transport: Transport) -> None:
    """§17.2.1: on every transport; the user is told."""
    rig = Rig()
    arrive(rig, "INVITE", transport)
    rig.respond(486)
    rig.run(200)
    assert rig.server_timeouts == [(32.0, rig.requests[0])]
    assert rig.requests[0].terminated
    assert rig.layer.active_count == 0


def test_a_retransmitted_invite_in_completed_gets_the_failure_again() -> None:
    """§17.2.1."""
    rig = Rig()
    arrive(rig, "INVITE")
    rig.respond(486)
    rig.run(0.3)
    arrive(rig, "INVITE")
    assert rig.wire == [(0, "486"), (0.3, "486")]
    assert rig.sent[0].data == rig.sent[1].data


def test_timer_i_absorbs_retransmitted_acks_for_t4() -> None:
    """§17.2.1: Confirmed absorbs ACKs and stray INVITEs."""
    rig = Rig()
    arrive(rig, "INVITE")
    rig.respond(486)
    arrive(rig, "ACK")
    assert rig.requests[0].state is State.CONFIRMED
    rig.run(4.9)
    arrive(rig, "ACK")
    arrive(rig, "INVITE")
    assert rig.wire == [(0, "486")]
    assert len(rig.requests) == 1
    rig.run(5)
    assert rig.layer.active_count == 0


@pytest.mark.parametrize("transport", RELIABLE)
def test_timer_i_is_zero_on_reliable_transports(transport: Transport) -> None:
    """§17.2.1."""
    rig = Rig()
    arrive(rig, "INVITE", transport)
    rig.respond(486)
    arrive(rig, "ACK", transport)
    assert rig.layer.active_count == 0
    assert rig.layer.next_deadline() is None


def test_timer_j_answers_retransmitted_requests_for_64_t1() -> None:
    """§17.2.2: with the same final response."""
    rig = Rig()
    arrive(rig, "BYE")
    rig.respond(200)
    rig.run(31.9)
    arrive(rig, "BYE")
    assert rig.wire == [(0, "200"), (31.9, "200")]
    assert len(rig.requests) == 1
    rig.run(32)
    assert rig.layer.active_count == 0


@pytest.mark.parametrize("transport", RELIABLE)
def test_timer_j_is_zero_on_reliable_transports(transport: Transport) -> None:
    """§17.2.2."""
    rig = Rig()
    arrive(rig, "BYE", transport)
    rig.respond(200)
    assert rig.layer.active_count == 0
    assert rig.layer.next_deadline() is None


def test_non_invite_in_trying_discards_retransmissions() -> None:
    """§17.2.2."""
    rig = Rig()
    arrive(rig, "NOTIFY")
    arrive(rig, "NOTIFY")
    assert rig.wire == []
    assert len(rig.requests) == 1


def test_non_invite_in_proceeding_repeats_its_provisional_response() -> None:
    """§17.2.2."""
    rig = Rig()
    arrive(rig, "NOTIFY")
    rig.respond(100)
    arrive(rig, "NOTIFY")
    rig.respond(200)
    assert [what for _, what in rig.wire] == ["100", "100", "200"]


@pytest.mark.parametrize("provisional", [False, True])
def test_a_non_invite_that_nobody_answers_is_forgotten_after_64_t1(provisional: bool) -> None:
    """RFC 4320 §4.2: its client has timed out, an answer would be a stray."""
    rig = Rig()
    arrive(rig, "NOTIFY")
    if provisional:
        rig.respond(100)
    rig.run(32)
    assert rig.layer.active_count == 0
    rig.clear()
    rig.respond(200)
    assert rig.wire == []


@pytest.mark.parametrize("transport", ALL)
def test_timer_l_absorbs_retransmitted_invites_after_a_2xx_for_64_t1(transport: Transport) -> None:
    """RFC 6026 §7.1: on every transport; the 2xx itself is retransmitted by the user only."""
    rig = Rig()
    arrive(rig, "INVITE", transport)
    rig.respond(200)
    rig.run(1)
    arrive(rig, "INVITE", transport)
    assert len(rig.requests) == 1
    assert rig.wire == [(0, "200")]
    rig.respond(200)
    assert rig.wire == [(0, "200"), (1, "200")]
    rig.run(31.99)
    assert rig.layer.active_count == 1
    rig.run(32)
    assert rig.layer.active_count == 0
    assert rig.server_timeouts == []


def test_accepted_passes_an_ack_on_the_same_branch_to_the_user() -> None:
    """RFC 6026 §7.1: peers that reuse the INVITE's branch for the ACK to a 2xx."""
    rig = Rig()
    arrive(rig, "INVITE")
    rig.respond(200)
    arrive(rig, "ACK")
    arrive(rig, "ACK")
    assert len(rig.acks) == 2
    assert rig.requests[0].state is State.ACCEPTED


@pytest.mark.parametrize(("first", "second"), [(200, 486), (486, 200), (486, 180), (200, 180)])
def test_a_second_final_response_is_discarded(first: int, second: int) -> None:
    """§17.2.1."""
    rig = Rig()
    arrive(rig, "INVITE")
    rig.respond(first)
    rig.respond(second)
    assert rig.wire == [(0, str(first))]
    assert rig.requests[0].last_status == first


def test_a_dead_flow_leaves_server_transactions() -> None:
    """RFC 6026 §8.8: the client may come again; timers end the transaction as always."""
    rig = Rig()
    arrive(rig, "INVITE", "tcp")
    rig.respond(486)
    rig.layer.transport_failed(FLOWS["tcp"], rig.now)
    assert rig.layer.active_count == 1
    rig.requests[0].on_transport_error(rig.now)
    assert rig.requests[0].state is State.COMPLETED
    rig.run(32)
    assert rig.layer.active_count == 0


def test_an_abandoned_server_transaction_reports_no_timeout() -> None:
    """§17.2.1: the user has let go of it."""
    rig = Rig()
    arrive(rig, "INVITE")
    rig.layer.abandon(rig.requests[0])
    rig.respond(486)
    rig.run(40)
    assert rig.server_timeouts == []
    assert rig.layer.active_count == 0


def test_a_response_copies_what_matches_it_to_the_request() -> None:
    """§8.2.6.2."""
    rig = Rig()
    arrive(rig, "INVITE")
    rig.respond(180)
    response, asked = rig.sent[0].message, rig.requests[0].request
    assert isinstance(response, Response)
    for name in ("Via", "From", "Call-ID", "CSeq"):
        assert response.headers.get_all(name) == asked.headers.get_all(name)
    assert response.to_tag == "ours"
    assert repr(rig.requests[0]) == "<INVITE server transaction INVITE Proceeding call-2>"
