"""What belongs to which transaction, and what the layer answers by itself (RFC 3261 §8.2.2.2, §9.2, §17, §18.2)."""

from __future__ import annotations

import pytest

from sipcore.protocol import transaction_layer
from sipcore.protocol.flows import Flow
from sipcore.protocol.values import Via
from sipcore.protocol.wire import Request, Response
from tests.protocol.rig import FLOWS, Rig, answer, incoming, request

UDP = FLOWS["udp"]

# -- Via, received, rport -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_requests_leave_with_our_via(transport: str) -> None:
    """§8.1.1.7, §18.1.1; RFC 3581 §3: rport is asked for, over streams too."""
    rig = Rig()
    flow = FLOWS[transport]  # type: ignore[index]
    transaction = rig.layer.send_request(request("OPTIONS"), flow, rig, 0)
    via = rig.sent[0].message.via
    assert (via.transport, via.host, via.port) == (transport.upper(), "192.0.2.1", 5060)
    assert via.branch.startswith("z9hG4bK")
    assert via == transaction.request.via
    assert "rport" in via.params


def test_sent_by_is_what_the_flow_advertises() -> None:
    """§18.1.1: an address the peer can reach; the local one where nothing else is known; IPv6 in brackets."""
    rig = Rig()
    public = Flow("udp", ("10.0.0.1", 5060), ("192.0.2.2", 5060), advertised=("sip.example.com", 5099))
    rig.layer.send_request(request("OPTIONS"), public, rig, 0)
    local = Flow("udp", ("2001:db8::1", 5062), ("2001:db8::2", 5060))
    rig.layer.send_request(request("OPTIONS"), local, rig, 0)
    assert [sent.message.via.sent_by for sent in rig.sent] == ["sip.example.com:5099", "[2001:db8::1]:5062"]


def test_each_transaction_has_its_own_branch() -> None:
    """§8.1.1.7."""
    rig = Rig()
    for _ in range(100):
        rig.send("OPTIONS")
    assert len({sent.message.via.branch for sent in rig.sent}) == 100


def test_rport_is_answered_with_source_address_and_port() -> None:
    """RFC 3581 §4: received is added too, even where sent-by is the source address; responses go to the source."""
    rig = Rig()
    source = Flow("udp", UDP.local, ("192.0.2.2", 40000), advertised=UDP.advertised)
    rig.receive(incoming("OPTIONS"), source)
    via = rig.requests[0].request.via
    assert (via.received, via.rport) == ("192.0.2.2", 40000)
    rig.respond(200)
    assert rig.sent[0].flow == source
    assert rig.sent[0].message.headers.get("Via") == (
        "SIP/2.0/UDP 192.0.2.2:5070;branch=z9hG4bKthem1;received=192.0.2.2;rport=40000"
    )


@pytest.mark.parametrize(
    ("sent_by", "received"),
    [("192.0.2.2:5070", ""), ("pbx.example.com", "192.0.2.2"), ("10.0.0.9:5061", "192.0.2.2")],
)
def test_received_is_added_where_sent_by_is_not_the_source(sent_by: str, received: str) -> None:
    """§18.2.1; §18.2.2: without rport the response goes to the source address and the port of sent-by."""
    rig = Rig()
    source = Flow("udp", UDP.local, ("192.0.2.2", 40000), advertised=UDP.advertised)
    rig.receive(incoming("OPTIONS", via=f"SIP/2.0/UDP {sent_by}", rport=False), source)
    assert rig.requests[0].request.via.received == received
    assert rig.requests[0].request.via.rport is None
    rig.respond(200)
    port = int(sent_by.partition(":")[2] or 5060)
    assert rig.sent[0].flow.remote == ("192.0.2.2", port)
    assert rig.sent[0].flow.local == source.local


def test_received_compares_ipv6_addresses_not_their_spelling() -> None:
    """RFC 5118 §4.5 and RFC 5954: one address has many spellings."""
    rig = Rig()
    source = Flow("tcp", ("2001:db8::1", 5060), ("2001:db8::2", 40000), connection=1)
    rig.receive(incoming("OPTIONS", via="SIP/2.0/TCP [2001:DB8:0::2]:5060", rport=False), source)
    assert rig.requests[0].request.via.received == ""


@pytest.mark.parametrize("rport", [False, True])
def test_responses_over_a_connection_stay_on_it(rport: bool) -> None:
    """§18.2.2: whatever Via says."""
    rig = Rig()
    rig.receive(incoming("OPTIONS", via="SIP/2.0/TCP 10.0.0.9:5061", rport=rport), FLOWS["tcp"])
    rig.respond(200)
    assert rig.sent[0].flow == FLOWS["tcp"]


def test_maddr_is_not_followed() -> None:
    """§18.2.2 would send to maddr: that lets a request aim responses at a third party."""
    rig = Rig()
    rig.receive(incoming("OPTIONS", via="SIP/2.0/UDP 192.0.2.2:5070;maddr=198.51.100.1"), UDP)
    rig.respond(200)
    assert rig.sent[0].flow.remote == UDP.remote


def test_stamping_leaves_the_rest_of_via_as_it_was_written() -> None:
    """§8.2.6.2: the response's Via equals the request's, spelling and order, so that the peer finds its transaction."""
    rig = Rig()
    asked = incoming("OPTIONS", via="SIP / 2.0 / UDP  PBX.Example.com:5070 ;X-Odd=a@b;alias", rport=False)
    asked.headers.add("Via", "SIP/2.0/UDP lower.example.com;branch=z9hG4bKlow")
    rig.receive(asked, UDP)
    rig.respond(200)
    assert rig.sent[0].message.headers.get_all("Via") == [
        "SIP / 2.0 / UDP  PBX.Example.com:5070;X-Odd=a@b;alias;branch=z9hG4bKthem1;received=192.0.2.2",
        "SIP/2.0/UDP lower.example.com;branch=z9hG4bKlow",
    ]


def test_several_vias_on_one_line_are_stamped_in_the_first() -> None:
    """§7.3.1: a comma list is the same as several lines."""
    rig = Rig()
    asked = incoming("OPTIONS", rport=False)
    asked.headers.set("Via", "SIP/2.0/UDP a.example.com;branch=z9hG4bK1, SIP/2.0/UDP b.example.com;branch=z9hG4bK2")
    rig.receive(asked, UDP)
    vias = rig.requests[0].request.vias
    assert [(via.host, via.received) for via in vias] == [("a.example.com", "192.0.2.2"), ("b.example.com", "")]


# -- matching of responses ----------------------------------------------------------------------------------------


def test_a_response_is_matched_by_branch_and_method() -> None:
    """§17.1.3: the 200 to CANCEL has the INVITE's branch."""
    rig = Rig()
    invite = rig.send("INVITE")
    stranger = answer(invite.request, 200)
    stranger.headers.set("CSeq", "17 BYE")
    rig.receive(stranger)
    assert rig.responses == []
    assert rig.strays == [stranger]


def test_a_response_with_a_foreign_sent_by_is_dropped() -> None:
    """§18.1.2: silently."""
    rig = Rig()
    asked = rig.send("OPTIONS")
    response = answer(asked.request, 200)
    response.headers.set("Via", str(asked.request.via).replace("192.0.2.1", "192.0.2.99"))
    rig.receive(response)
    assert rig.responses == []
    assert rig.strays == []


def test_a_response_with_two_vias_is_dropped() -> None:
    """§8.1.3.3: it is on its way to somebody else."""
    rig = Rig()
    asked = rig.send("OPTIONS")
    response = answer(asked.request, 200)
    response.headers.add("Via", "SIP/2.0/UDP other.example.com;branch=z9hG4bKx")
    rig.receive(response)
    assert rig.responses == []


def test_a_response_with_our_rport_filled_in_matches() -> None:
    """RFC 3581 §4: received and rport come back with values."""
    rig = Rig()
    asked = rig.send("OPTIONS")
    response = answer(asked.request, 200)
    response.stamp_via(received="2001:db8::9", rport=4444)
    rig.receive(response)
    assert rig.responses == [(0, 200)]


# -- matching of requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"branch": "z9hG4bKthem2"}, {"via": "SIP/2.0/UDP 192.0.2.3:5070"}, {"via": "SIP/2.0/UDP 192.0.2.2:5071"}],
)
def test_branch_and_sent_by_tell_transactions_apart(changes: dict[str, str]) -> None:
    """§17.2.3: two clients may have drawn the same branch."""
    rig = Rig()
    rig.receive(incoming("OPTIONS", to="<sip:a@x>;tag=1"))
    rig.receive(incoming("OPTIONS", to="<sip:a@x>;tag=1", **changes))  # type: ignore[arg-type]
    assert len(rig.requests) == 2


def test_the_method_tells_transactions_apart() -> None:
    """§17.2.3."""
    rig = Rig()
    rig.receive(incoming("OPTIONS"))
    rig.receive(incoming("MESSAGE"))
    assert len(rig.requests) == 2


def test_a_retransmission_matches_whatever_case_the_host_has() -> None:
    """§17.2.3, §19.1.4: hosts are compared without regard to case."""
    rig = Rig()
    rig.receive(incoming("OPTIONS", via="SIP/2.0/UDP PBX.example.com"))
    rig.receive(incoming("OPTIONS", via="SIP/2.0/UDP pbx.EXAMPLE.com"))
    assert len(rig.requests) == 1


@pytest.mark.parametrize("branch", ["", "1", "old-style"])
def test_rfc_2543_requests_are_matched_by_their_headers(branch: str) -> None:
    """§17.2.3: without the magic cookie the branch says nothing."""
    rig = Rig()
    rig.receive(incoming("INVITE", branch=branch))
    rig.receive(incoming("INVITE", branch=branch))
    assert len(rig.requests) == 1
    rig.receive(incoming("INVITE", branch=branch, cseq=6))
    rig.receive(incoming("INVITE", branch=branch, call_id="call-3"))
    rig.receive(incoming("INVITE", branch=branch, from_tag="b2"))
    rig.receive(incoming("INVITE", branch=branch, uri="sip:other@192.0.2.1", call_id="call-4"))
    assert len(rig.requests) == 5


def test_an_rfc_2543_ack_is_matched_by_the_tag_of_the_response() -> None:
    """§17.2.3: its To tag must be the one the response carried."""
    rig = Rig()
    rig.receive(incoming("INVITE", branch=""))
    rig.respond(486)
    rig.receive(incoming("ACK", branch="", to="<sip:alice@example.org>;tag=wrong"))
    assert len(rig.acks) == 1
    assert rig.layer.active_count == 1
    rig.receive(incoming("ACK", branch="", to="<sip:alice@example.org>;tag=ours"))
    assert len(rig.acks) == 1
    rig.run(5)
    assert rig.layer.active_count == 0


def test_an_rfc_2543_cancel_finds_its_invite() -> None:
    """§9.2, §17.2.3."""
    rig = Rig()
    rig.receive(incoming("INVITE", branch=""))
    rig.receive(incoming("CANCEL", branch=""))
    assert rig.cancels == rig.requests


def test_an_ack_without_a_transaction_is_the_users() -> None:
    """§13.3.1.4: the ACK of a 2xx has a branch of its own."""
    rig = Rig()
    rig.receive(incoming("INVITE"))
    rig.respond(200)
    rig.receive(incoming("ACK", branch="z9hG4bKnew", to="<sip:alice@example.org>;tag=ours"))
    assert [ack.to_tag for ack in rig.acks] == ["ours"]
    assert rig.wire == [(0, "200")], "an ACK is never answered"


# -- merged requests ----------------------------------------------------------------------------------------------


def test_a_merged_request_is_answered_482() -> None:
    """§8.2.2.2: the same request on another path, while the first is still there."""
    rig = Rig()
    rig.receive(incoming("INVITE", branch="z9hG4bKpath1"))
    rig.receive(incoming("INVITE", branch="z9hG4bKpath2"))
    assert len(rig.requests) == 1
    assert rig.wire == [(0, "482")]
    assert rig.sent[0].message.to_tag
    assert rig.sent[0].message.via.branch == "z9hG4bKpath2"


def test_a_request_inside_a_dialog_is_never_merged() -> None:
    """§8.2.2.2: only requests without a To tag."""
    rig = Rig()
    rig.receive(incoming("INFO", branch="z9hG4bKpath1", to="<sip:a@x>;tag=1"))
    rig.receive(incoming("INFO", branch="z9hG4bKpath2", to="<sip:a@x>;tag=1"))
    assert len(rig.requests) == 2


def test_a_request_is_not_merged_with_one_that_is_over() -> None:
    """§8.2.2.2: an ongoing transaction is needed; a challenged request comes again with a higher CSeq anyway."""
    rig = Rig()
    rig.receive(incoming("OPTIONS", branch="z9hG4bKpath1"))
    rig.respond(200)
    rig.receive(incoming("OPTIONS", branch="z9hG4bKpath2", cseq=6))
    assert len(rig.requests) == 2
    rig.run(40)
    rig.receive(incoming("OPTIONS", branch="z9hG4bKpath3"))
    assert len(rig.requests) == 3


def test_the_end_of_a_merged_request_leaves_the_first_one_registered() -> None:
    """§8.2.2.2: a third path is refused too."""
    rig = Rig()
    rig.receive(incoming("INVITE", branch="z9hG4bKpath1"))
    rig.receive(incoming("INVITE", branch="z9hG4bKpath2"))
    rig.run(60)
    rig.receive(incoming("INVITE", branch="z9hG4bKpath3"))
    assert len(rig.requests) == 1
    assert rig.sent[-1].what == "482"


# -- CANCEL -------------------------------------------------------------------------------------------------------


def test_cancel_of_a_ringing_invite() -> None:
    """§9.2: 200 to the CANCEL with the INVITE's To tag, then the user answers 487."""
    rig = Rig()
    rig.receive(incoming("INVITE"))
    rig.respond(180)
    rig.receive(incoming("CANCEL"))
    assert rig.cancels == rig.requests
    assert [(sent.what, str(sent.message.cseq)) for sent in rig.sent] == [("180", "5 INVITE"), ("200", "5 CANCEL")]
    assert rig.sent[1].message.to_tag == "ours"
    rig.respond(487)
    assert rig.sent[2].what == "487"


def test_cancel_of_an_invite_that_got_no_answer_yet() -> None:
    """§9.2: the 200 needs a To tag all the same."""
    rig = Rig()
    rig.receive(incoming("INVITE"))
    rig.receive(incoming("CANCEL"))
    assert rig.sent[0].message.to_tag
    assert rig.cancels == rig.requests


def test_a_retransmitted_cancel_is_answered_again_and_reported_once() -> None:
    """§9.2: CANCEL has a server transaction of its own."""
    rig = Rig()
    rig.receive(incoming("INVITE"))
    rig.receive(incoming("CANCEL"))
    rig.receive(incoming("CANCEL"))
    assert [what for _, what in rig.wire] == ["200", "200"]
    assert len(rig.cancels) == 1


@pytest.mark.parametrize("final", [200, 486])
def test_cancel_after_the_final_response_changes_nothing(final: int) -> None:
    """§9.2: it is answered 200."""
    rig = Rig()
    rig.receive(incoming("INVITE"))
    rig.respond(final)
    rig.receive(incoming("CANCEL"))
    assert rig.cancels == []
    assert rig.sent[-1].what == "200"


def test_cancel_of_nothing_gets_481() -> None:
    """§9.2."""
    rig = Rig()
    rig.receive(incoming("CANCEL"))
    assert rig.wire == [(0, "481")]
    assert rig.sent[0].message.to_tag
    assert rig.requests == []


def test_cancel_from_elsewhere_gets_481() -> None:
    """§9.2, §17.2.3: branch and sent-by must match, or a stranger could cancel calls."""
    rig = Rig()
    rig.receive(incoming("INVITE"))
    rig.receive(incoming("CANCEL", via="SIP/2.0/UDP 192.0.2.66:5070"))
    rig.receive(incoming("CANCEL", branch="z9hG4bKother"))
    assert [what for _, what in rig.wire] == ["481", "481"]
    assert rig.cancels == []


# -- the rest -----------------------------------------------------------------------------------------------------


def test_the_ack_of_a_2xx_is_sent_without_a_transaction() -> None:
    """§13.2.2.4, §17.1: with a branch of its own, and byte for byte again for each copy of the 2xx."""
    rig = Rig()
    invite = rig.send("INVITE")
    ack = request("ACK")
    data = rig.layer.send_stateless(ack, UDP)
    rig.layer.transmit(UDP, data)
    assert [sent.what for sent in rig.sent] == ["INVITE", "ACK", "ACK"]
    assert rig.sent[1].data == rig.sent[2].data == data
    assert rig.sent[1].message.via.branch != invite.request.via.branch
    assert rig.layer.active_count == 1


def test_too_many_transactions_get_a_stateless_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """§21.5.4: memory is bounded; what is under way goes on."""
    monkeypatch.setattr(transaction_layer, "MAX_SERVER_TRANSACTIONS", 2)
    rig = Rig()
    for number in range(4):
        rig.receive(incoming("OPTIONS", branch=f"z9hG4bK{number}", call_id=f"call-{number}"))
    assert len(rig.requests) == 2
    assert rig.layer.active_count == 2
    assert [what for _, what in rig.wire] == ["503", "503"]
    refusal = rig.sent[0].message
    assert isinstance(refusal, Response)
    assert refusal.headers.get("Retry-After") == "5"
    rig.receive(incoming("OPTIONS", branch="z9hG4bK0", call_id="call-0"))
    rig.respond(200, rig.requests[0])
    assert rig.sent[-1].what == "200"


def test_a_malformed_request_is_refused_without_a_transaction() -> None:
    """§8.2, §18.2.2: the answer finds its way as any other; an ACK is never answered."""
    rig = Rig()
    source = Flow("udp", UDP.local, ("192.0.2.2", 40000), advertised=UDP.advertised)
    rig.layer.refuse(incoming("OPTIONS"), 505, source, (("Server", "x"),))
    rig.layer.refuse(incoming("ACK"), 400, source)
    assert [what for _, what in rig.wire] == ["505"]
    assert rig.sent[0].message.via.rport == 40000
    assert rig.sent[0].flow == source
    assert rig.layer.active_count == 0


def test_nothing_is_left_behind() -> None:
    """Every index of the layer is empty when the last transaction ended."""
    rig = Rig()
    for number in range(20):
        rig.receive(incoming("INVITE", branch=f"z9hG4bK{number}", call_id=f"call-{number}"))
        rig.respond(200 if number % 2 else 486)
        rig.send("INVITE" if number % 2 else "BYE")
    rig.run(100)
    assert rig.layer.active_count == 0
    assert rig.layer.next_deadline() is None
    for index in ("_clients", "_clients_by_flow", "_servers", "_merges"):
        assert not getattr(rig.layer, index), index


def test_a_header_that_breaks_the_line_is_refused_before_anything_happens() -> None:
    """§7.3.1: CR and LF in a value would begin another header."""
    rig = Rig()
    bad = request("OPTIONS")
    bad.headers.add("X-Bad", "a\r\nVia: SIP/2.0/UDP evil")
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        rig.layer.send_request(bad, UDP, rig, 0)
    assert rig.sent == []
    assert rig.layer.active_count == 0
    assert rig.layer.next_deadline() is None


def test_two_layers_talk_to_each_other() -> None:
    """An INVITE, its provisional and failure response and the ACK, end to end."""
    caller, callee = Rig(), Rig()
    invite = caller.send("INVITE")
    source = Flow("udp", UDP.remote, UDP.local, advertised=UDP.remote)
    asked = caller.sent[0].message
    assert isinstance(asked, Request)
    callee.receive(asked.copy(), source)
    callee.respond(180)
    callee.respond(486)
    for sent in callee.sent:
        caller.receive(sent.message)
    assert caller.responses == [(0, 180), (0, 486)]
    ack = caller.sent[1].message
    assert isinstance(ack, Request)
    callee.receive(ack.copy(), source)
    assert callee.acks == []
    assert callee.requests[0].state.value == "Confirmed"
    assert Via.parse(str(invite.request.via)) == invite.request.via
    for rig in (caller, callee):
        rig.run(200)
        assert rig.layer.active_count == 0
