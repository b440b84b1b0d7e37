"""Client transactions in virtual time: timers A, B, D, E, F, K and M, and CANCEL (RFC 3261 §9.1, §17.1, RFC 6026)."""

from __future__ import annotations

import pytest

from sipcore.config import Timers
from sipcore.protocol.flows import Transport
from sipcore.protocol.transaction import TransactionFailure
from sipcore.protocol.transaction_tables import State
from sipcore.protocol.wire import Request, Response
from tests.protocol.rig import FLOWS, Rig, answer, request

RELIABLE: tuple[Transport, ...] = ("tcp", "tls")
ALL: tuple[Transport, ...] = ("udp", "tcp", "tls")


def test_timer_a_doubles_from_t1_without_a_ceiling() -> None:
    """§17.1.1.2: INVITE goes out at 0, T1, 3*T1, 7*T1 … until timer B."""
    rig = Rig()
    rig.send("INVITE")
    rig.run(60)
    assert [at for at, _ in rig.wire] == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]


@pytest.mark.parametrize("transport", RELIABLE)
def test_timer_a_does_not_run_on_reliable_transports(transport: Transport) -> None:
    """§17.1.1.2: a reliable transport retransmits by itself."""
    rig = Rig()
    rig.send("INVITE", transport)
    rig.run(31.9)
    assert rig.wire == [(0, "INVITE")]


@pytest.mark.parametrize("transport", ALL)
def test_timer_b_ends_an_unanswered_invite_after_64_t1(transport: Transport) -> None:
    """§17.1.1.2: timer B runs on every transport and reports a timeout."""
    rig = Rig()
    transaction = rig.send("INVITE", transport)
    rig.run(100)
    assert rig.failures == [(32.0, TransactionFailure.TIMEOUT)]
    assert transaction.terminated
    assert rig.layer.active_count == 0


@pytest.mark.parametrize("transport", ALL)
def test_a_provisional_response_stops_timers_a_and_b(transport: Transport) -> None:
    """§17.1.1.2: in Proceeding an INVITE waits as long as its user does."""
    rig = Rig()
    transaction = rig.send("INVITE", transport)
    rig.reply(100, transport=transport)
    rig.run(1000)
    assert rig.wire == [(0, "INVITE")]
    assert rig.failures == []
    assert transaction.state is State.PROCEEDING
    assert transaction.last_provisional is not None
    rig.reply(180, transport=transport)
    assert [status for _, status in rig.responses] == [100, 180]


def test_timer_d_absorbs_retransmitted_failure_responses_for_32_s() -> None:
    """§17.1.1.2: each copy gets the ACK again, the user hears of the first only."""
    rig = Rig()
    rig.send("INVITE")
    invite = rig.sent[0].message
    assert isinstance(invite, Request)
    rig.reply(486)
    rig.run(31)
    rig.reply(486, to=invite)
    assert rig.wire == [(0, "INVITE"), (0, "ACK"), (31, "ACK")]
    assert rig.responses == [(0, 486)]
    assert rig.sent[1].data == rig.sent[2].data
    rig.run(31.99)
    assert rig.layer.active_count == 1
    rig.run(32)
    assert rig.layer.active_count == 0
    rig.reply(486, to=invite)
    assert len(rig.strays) == 1


def test_timer_d_is_a_setting_of_its_own() -> None:
    """RFC 6026 §8.4: at least 32 s on UDP, whatever T1 is."""
    rig = Rig(Timers(t1=0.1, d=40.0))
    rig.send("INVITE")
    rig.reply(486)
    rig.run(39.9)
    assert rig.layer.active_count == 1
    rig.run(40)
    assert rig.layer.active_count == 0


@pytest.mark.parametrize("transport", RELIABLE)
def test_timer_d_is_zero_on_reliable_transports(transport: Transport) -> None:
    """§17.1.1.2: the transaction ends with the ACK."""
    rig = Rig()
    transaction = rig.send("INVITE", transport)
    rig.reply(603, transport=transport)
    assert [what for _, what in rig.wire] == ["INVITE", "ACK"]
    assert transaction.terminated
    assert rig.responses == [(0, 603)]
    assert rig.layer.active_count == 0
    assert rig.layer.next_deadline() is None


def test_ack_to_a_failure_is_part_of_the_transaction() -> None:
    """§17.1.1.3: R-URI, one Via, From, Call-ID, Route of the INVITE; To of the response; CSeq number with ACK."""
    rig = Rig()
    rig.send("INVITE")
    rig.reply(404)
    invite, ack = rig.sent[0].message, rig.sent[1].message
    assert isinstance(ack, Request)
    assert isinstance(invite, Request)
    assert str(ack.uri) == str(invite.uri)
    assert ack.headers.get_all("Via") == invite.headers.get_all("Via")
    assert ack.headers.get_all("Route") == invite.headers.get_all("Route")
    assert ack.headers.get("From") == invite.headers.get("From")
    assert ack.call_id == invite.call_id
    assert ack.to_tag == "theirs"
    assert str(ack.cseq) == "17 ACK"
    assert ack.body == b""


@pytest.mark.parametrize("transport", ALL)
def test_timer_m_passes_every_2xx_up_for_64_t1(transport: Transport) -> None:
    """RFC 6026 §7.2: copies and forks reach the user in Accepted; afterwards they are strays."""
    rig = Rig()
    transaction = rig.send("INVITE", transport)
    rig.reply(200, transport=transport)
    assert transaction.state is State.ACCEPTED
    rig.run(10)
    rig.reply(200, transport=transport)
    fork = answer(transaction.request, 200, to_tag="other")
    rig.receive(fork, FLOWS[transport])
    assert rig.responses == [(0, 200), (10, 200), (10, 200)]
    assert rig.wire == [(0, "INVITE")], "the ACK of a 2xx is the user's"
    rig.run(31.99)
    assert rig.layer.active_count == 1
    rig.run(32)
    assert rig.layer.active_count == 0
    rig.receive(fork, FLOWS[transport])
    assert len(rig.strays) == 1


def test_accepted_ignores_late_provisional_and_failure_responses() -> None:
    """RFC 6026 §7.2: after a 2xx only further 2xx count."""
    rig = Rig()
    rig.send("INVITE")
    rig.reply(200)
    rig.reply(180)
    rig.reply(486)
    assert rig.responses == [(0, 200)]
    assert rig.wire == [(0, "INVITE")]


@pytest.mark.parametrize("method", ["REGISTER", "BYE", "OPTIONS"])
def test_timer_e_doubles_up_to_t2(method: str) -> None:
    """§17.1.2.2: non-INVITE requests go out at 0, T1, 3*T1 … and then every T2."""
    rig = Rig()
    rig.send(method)
    rig.run(60)
    assert [at for at, _ in rig.wire] == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


def test_timer_e_is_t2_in_proceeding() -> None:
    """§17.1.2.2: after a provisional response the request goes out every T2."""
    rig = Rig()
    rig.send("OPTIONS")
    rig.run(0.6)
    rig.reply(100)
    rig.run(14)
    assert [at for at, _ in rig.wire] == [0, 0.5, 1.5, 5.5, 9.5, 13.5]
    assert rig.responses == [(0.6, 100)]


@pytest.mark.parametrize("transport", RELIABLE)
def test_timer_e_does_not_run_on_reliable_transports(transport: Transport) -> None:
    """§17.1.2.2."""
    rig = Rig()
    rig.send("BYE", transport)
    rig.run(31.9)
    assert rig.wire == [(0, "BYE")]


@pytest.mark.parametrize("transport", ALL)
@pytest.mark.parametrize("provisional", [False, True])
def test_timer_f_ends_an_unanswered_request_after_64_t1(transport: Transport, provisional: bool) -> None:
    """§17.1.2.2: timer F runs in Trying and Proceeding, from the first transmission."""
    rig = Rig()
    rig.send("BYE", transport)
    rig.run(3)
    if provisional:
        rig.reply(100, transport=transport)
    rig.run(100)
    assert rig.failures == [(32.0, TransactionFailure.TIMEOUT)]
    assert rig.layer.active_count == 0


def test_timer_k_absorbs_retransmitted_responses_for_t4() -> None:
    """§17.1.2.2: copies of the final response are dropped for T4."""
    rig = Rig()
    rig.send("BYE")
    rig.reply(200)
    rig.run(4.9)
    rig.reply(200)
    assert rig.responses == [(0, 200)]
    assert rig.layer.active_count == 1
    rig.run(5)
    assert rig.layer.active_count == 0


@pytest.mark.parametrize("transport", RELIABLE)
def test_timer_k_is_zero_on_reliable_transports(transport: Transport) -> None:
    """§17.1.2.2."""
    rig = Rig()
    rig.send("BYE", transport)
    rig.reply(200, transport=transport)
    assert rig.layer.active_count == 0
    assert rig.layer.next_deadline() is None
    assert rig.responses == [(0, 200)]


# -- CANCEL -------------------------------------------------------------------------------------------------------


def test_cancel_waits_for_a_provisional_response() -> None:
    """§9.1: before one arrived the CANCEL could overtake the INVITE."""
    rig = Rig()
    transaction = rig.send("INVITE")
    rig.layer.cancel(transaction, rig.now, headers=(("Reason", "SIP;cause=200"),))
    rig.run(1)
    assert "CANCEL" not in [what for _, what in rig.wire]
    rig.reply(180)
    assert rig.wire[-1] == (1, "CANCEL")
    cancel = rig.sent[-1].message
    assert isinstance(cancel, Request)
    assert cancel.headers.get_all("Via") == transaction.request.headers.get_all("Via")
    assert cancel.headers.get_all("Route") == transaction.request.headers.get_all("Route")
    assert cancel.headers.get("To") == transaction.request.headers.get("To")
    assert cancel.headers.get("Reason") == "SIP;cause=200"
    assert str(cancel.cseq) == "17 CANCEL"
    assert str(cancel.uri) == str(transaction.request.uri)


def test_cancel_is_sent_at_once_in_proceeding_and_only_once() -> None:
    """§9.1."""
    rig = Rig()
    transaction = rig.send("INVITE")
    rig.reply(180)
    rig.layer.cancel(transaction, rig.now)
    rig.layer.cancel(transaction, rig.now)
    assert [what for _, what in rig.wire] == ["INVITE", "CANCEL"]


@pytest.mark.parametrize("final", [200, 486])
def test_no_cancel_after_a_final_response(final: int) -> None:
    """§9.1: CANCEL has no effect on a request that has been answered."""
    rig = Rig()
    transaction = rig.send("INVITE")
    rig.reply(final)
    rig.clear()
    rig.layer.cancel(transaction, rig.now)
    rig.run(200)
    assert rig.wire == []
    assert not transaction.cancelled


@pytest.mark.parametrize("final", [200, 487])
def test_a_held_cancel_is_dropped_when_the_final_response_comes_first(final: int) -> None:
    """§9.1: the answer overtook the wish to cancel."""
    rig = Rig()
    transaction = rig.send("INVITE")
    rig.layer.cancel(transaction, rig.now)
    rig.reply(final)
    rig.run(200)
    assert "CANCEL" not in [what for _, what in rig.wire]
    assert [status for _, status in rig.responses] == [final]


def test_a_held_cancel_of_an_invite_without_any_response_ends_with_timer_b() -> None:
    """§9.1, §17.1.1.2."""
    rig = Rig()
    rig.layer.cancel(rig.send("INVITE"), rig.now)
    rig.run(200)
    assert rig.failures == [(32.0, TransactionFailure.TIMEOUT)]
    assert {what for _, what in rig.wire} == {"INVITE"}


def test_a_cancelled_invite_ends_with_its_487() -> None:
    """§9.1: the CANCEL's own 200 says nothing of the INVITE."""
    rig = Rig()
    transaction = rig.send("INVITE")
    rig.reply(180)
    rig.layer.cancel(transaction, rig.now)
    rig.reply(200)
    assert [status for _, status in rig.responses] == [180]
    rig.reply(487, to=transaction.request)
    assert [status for _, status in rig.responses] == [180, 487]
    rig.run(200)
    assert rig.failures == []
    assert rig.layer.active_count == 0


def test_a_cancelled_invite_has_64_t1_to_end() -> None:
    """§9.1: a peer that answers the CANCEL (or not) but never the INVITE does not hold it for ever."""
    rig = Rig()
    transaction = rig.send("INVITE")
    rig.reply(180)
    rig.run(10)
    rig.layer.cancel(transaction, rig.now)
    rig.reply(200)
    rig.run(30)
    rig.reply(183, to=transaction.request)
    rig.run(200)
    assert rig.failures == [(42.0, TransactionFailure.TIMEOUT)]
    assert rig.layer.active_count == 0


def test_cancel_is_retransmitted_as_any_non_invite() -> None:
    """§9.1, §17.1.2.2."""
    rig = Rig()
    transaction = rig.send("INVITE")
    rig.reply(180)
    rig.clear()
    rig.layer.cancel(transaction, rig.now)
    rig.run(4)
    assert rig.wire == [(0, "CANCEL"), (0.5, "CANCEL"), (1.5, "CANCEL"), (3.5, "CANCEL")]


def test_only_invite_is_cancelled() -> None:
    """§9.1: CANCEL of anything else races and means nothing."""
    rig = Rig()
    transaction = rig.send("REGISTER")
    rig.reply(100)
    rig.layer.cancel(transaction, rig.now)
    assert [what for _, what in rig.wire] == ["REGISTER"]


# -- failure of the transport --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["INVITE", "BYE"])
@pytest.mark.parametrize("provisional", [False, True])
def test_a_dead_flow_fails_what_waits_on_it(method: str, provisional: bool) -> None:
    """§17.1.4, §8.1.3.1."""
    rig = Rig()
    rig.send(method, "tcp")
    if provisional:
        rig.reply(100, transport="tcp")
    rig.layer.transport_failed(FLOWS["tcp"], rig.now)
    assert rig.failures == [(0, TransactionFailure.TRANSPORT)]
    assert rig.layer.active_count == 0
    assert rig.layer.next_deadline() is None


def test_a_dead_flow_leaves_other_flows_alone() -> None:
    """§17.1.4."""
    rig = Rig()
    rig.send("BYE", "udp")
    rig.layer.transport_failed(FLOWS["tcp"], rig.now)
    assert rig.failures == []
    assert rig.layer.active_count == 1


@pytest.mark.parametrize("final", [200, 486])
def test_a_dead_flow_after_the_final_response_is_not_reported(final: int) -> None:
    """RFC 6026 §7.2: the outcome is known."""
    rig = Rig()
    rig.send("INVITE")
    rig.reply(final)
    rig.layer.transport_failed(FLOWS["udp"], rig.now)
    assert rig.failures == []
    rig.run(200)
    assert rig.layer.active_count == 0


def test_an_abandoned_transaction_reports_nothing_and_still_works() -> None:
    """§17.1.1.2: retransmitted failure responses are acknowledged although nobody asks any more."""
    rig = Rig()
    transaction = rig.send("INVITE")
    rig.layer.abandon(transaction)
    rig.reply(180)
    rig.reply(486)
    assert rig.responses == []
    assert [what for _, what in rig.wire] == ["INVITE", "ACK"]
    silent = rig.send("BYE")
    rig.layer.abandon(silent)
    rig.run(200)
    assert rig.failures == []
    assert rig.layer.active_count == 0


def test_a_handler_may_send_from_within_a_response() -> None:
    """A 401 is answered by a new transaction from inside ``on_response``."""
    rig = Rig()

    class Retry:
        def on_response(self, transaction: object, response: Response, now: float) -> None:
            if response.status == 401:
                again = rig.sent[0].message.copy()
                assert isinstance(again, Request)
                again.headers.remove("Via")
                again.headers.set("CSeq", "18 REGISTER")
                rig.layer.send_request(again, FLOWS["udp"], rig, now)

        def on_failure(self, transaction: object, failure: TransactionFailure, now: float) -> None:
            raise AssertionError("must not fail")

    first = rig.layer.send_request(request("REGISTER"), FLOWS["udp"], Retry(), rig.now)
    rig.reply(401)
    assert [str(sent.message.cseq) for sent in rig.sent] == ["17 REGISTER", "18 REGISTER"]
    assert rig.sent[1].message.via.branch != first.request.via.branch
