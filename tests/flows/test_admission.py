"""Who is heard, and how much of each (RFC 3261 §8.2, §21.5.4, §26.1.5): one stack among strangers, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sipcore.config import Account, Limits, UserAgentConfig
from sipcore.errors import InvalidRequest
from sipcore.protocol.admission import SCANNERS, Tally
from sipcore.protocol.builder import make_response
from sipcore.protocol.line import MAX_HOSTS, Line
from sipcore.protocol.sources import Sources, parse_sources, peer_of
from sipcore.protocol.stack import HostsWanted, SessionIncoming, Stack
from sipcore.protocol.wire import Request, parse_message, serialize
from tests.kit.network import Network
from tests.kit.raw_peer import SDP_OFFER, RawPeer

HERE = ("192.0.2.1", 5060)
REGISTRAR = ("192.0.2.53", 5060)
STRANGER = ("203.0.113.66", 5060)
URI = "sip:bot@192.0.2.1"


class Desk:
    """A stack with one account, its registrar, and strangers."""

    def __init__(self, config: UserAgentConfig | None = None, account: Account | None = None) -> None:
        self.network = Network(random.Random(1))
        self.stack = Stack(config or UserAgentConfig(), rng=random.Random(2), user_agent="test")
        self.node = self.network.add_stack(HERE, self.stack)
        self.line: Line = self.stack.add_line(account or Account(f"bot@{REGISTRAR[0]}"))
        self.registrar = self.peer(REGISTRAR)

    def peer(self, address: tuple[str, int] = STRANGER) -> RawPeer:
        """Somebody on the network."""
        return RawPeer(self.network, address, HERE)

    def register(self) -> Desk:
        """Registers at the registrar, wherever the account's name leads."""
        self.stack.register(self.line, self.network.now)
        self.network.run(self.network.now + 0.1)
        (register,) = self.registrar.heard("REGISTER")
        self.registrar.respond(register, 200, extra=f"Contact: {register.headers.get('Contact')};expires=600\n")
        return self

    @property
    def calls(self) -> int:
        """INVITEs that rang."""
        return sum(isinstance(event, SessionIncoming) for event in self.node.events)


def invited(peer: RawPeer, uri: str = URI, *, number: int = 1, extra: str = "") -> int:
    """Sends an INVITE; the status of its final response, 0 where none comes at once."""
    peer.request("INVITE", uri, branch=f"i{number}", call_id=f"c{number}", extra=extra, body=SDP_OFFER)
    statuses = [response.status for response in peer.responses if response.call_id == f"c{number}"]
    return max((status for status in statuses if status >= 200), default=0)


# -- who -----------------------------------------------------------------------------------------------------------


def test_a_registered_account_is_called_by_its_registrar_alone() -> None:
    desk = Desk().register()
    stranger = desk.peer()
    assert invited(stranger) == 0
    assert not stranger.start_lines
    assert desk.calls == 0
    assert desk.stack.statistics().strangers_silenced == 1
    invited(desk.registrar, number=2)
    assert desk.calls == 1


def test_the_registrar_may_call_from_another_port() -> None:
    desk = Desk().register()
    invited(desk.peer((REGISTRAR[0], 5080)))
    assert desk.calls == 1


@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE", "BYE", "CANCEL", "REFER", "SUBSCRIBE", "REGISTER", "FOO"])
def test_a_stranger_hears_nothing_whatever_it_asks(method: str) -> None:
    """Not even 481, 405 or 200: a scanner that gets an answer comes back."""
    desk = Desk().register()
    stranger = desk.peer()
    stranger.request(method, URI)
    assert not stranger.start_lines
    desk.registrar.request(method, URI)
    assert desk.registrar.responses


def test_a_stranger_hears_nothing_of_its_grammar() -> None:
    """§8.2: a malformed request is answered to whom a good one would be."""
    desk = Desk().register()
    stranger = desk.peer()
    stranger.request("INVITE", URI, cseq_method="BYE")
    assert not stranger.start_lines
    assert desk.stack.statistics().malformed == 1
    desk.registrar.request("INVITE", URI, cseq_method="BYE")
    assert desk.registrar.start_lines[-1].startswith("SIP/2.0 400")


def test_nothing_is_kept_of_strangers() -> None:
    desk = Desk().register()
    for number in range(200):
        invited(desk.peer((f"203.0.113.{number}", 5060)), number=number)
    assert desk.stack.layer.load("")[0] == 0
    assert desk.stack.statistics().strangers_silenced == 200


def test_strangers_may_be_refused_instead() -> None:
    desk = Desk(UserAgentConfig(strangers="refuse")).register()
    assert invited(desk.peer()) == 403
    assert desk.stack.statistics().strangers_refused == 1
    assert desk.stack.layer.load("")[0] == 0


def test_an_allow_list_widens_it() -> None:
    desk = Desk(UserAgentConfig(allow_from=("198.51.100.0/24", "2001:db8::/32"))).register()
    for number, host in enumerate(("198.51.100.7", "2001:db8::9")):
        invited(desk.peer((host, 5060)), number=number)
        assert desk.calls == number + 1
    assert invited(desk.peer(), number=9) == 0


def test_an_account_has_an_allow_list_of_its_own() -> None:
    """FIELD must-pass (12): an inbound ACL per account."""
    desk = Desk(account=Account(f"bot@{REGISTRAR[0]}", accept_from=("198.51.100.7",))).register()
    other = desk.stack.add_line(Account(f"other@{REGISTRAR[0]}"))
    desk.stack.register(other, desk.network.now)
    partner = desk.peer(("198.51.100.7", 5060))
    invited(partner)
    assert desk.calls == 1
    assert invited(partner, "sip:other@192.0.2.1", number=2) == 0
    assert desk.calls == 1


def test_an_outbound_proxy_may_call() -> None:
    desk = Desk(account=Account("bot@example.com", outbound_proxy=REGISTRAR[0])).register()
    invited(desk.registrar)
    assert desk.calls == 1


def test_every_address_of_the_registrars_name_may_call() -> None:
    """The one that the registration did not use, too; looked up again with each REGISTER."""
    desk = Desk(account=Account("bot@example.com", outbound_proxy=REGISTRAR[0]))
    desk.register()
    wanted = [event for event in desk.node.events if isinstance(event, HostsWanted)]
    assert [event.target.host for event in wanted] == ["example.com"]
    second = desk.peer(("192.0.2.54", 5060))
    assert invited(second) == 0
    desk.stack.hosts_found(desk.line, ["192.0.2.53", "192.0.2.54"], desk.network.now)
    invited(second, number=2)
    assert desk.calls == 1
    desk.network.run(desk.network.now + 590)
    assert len([event for event in desk.node.events if isinstance(event, HostsWanted)]) > len(wanted)


def test_a_line_remembers_so_many_addresses() -> None:
    desk = Desk()
    desk.stack.hosts_found(desk.line, [f"10.0.{number // 200}.{number % 200}" for number in range(1000)], 0)
    assert sum(desk.line.reaches(f"10.0.{number // 200}.{number % 200}") for number in range(1000)) == MAX_HOSTS


def test_a_line_that_registers_nowhere_is_open() -> None:
    desk = Desk()
    invited(desk.peer())
    assert desk.calls == 1


@pytest.mark.parametrize(
    ("config", "account"),
    [
        (UserAgentConfig(), Account(URI, accept_from=())),
        (UserAgentConfig(allow_from=("198.51.100.0/24",)), Account(URI)),
        (UserAgentConfig(), Account(URI, accept_from=("198.51.100.0/24",))),
    ],
    ids=["nobody", "the agent's list", "its own list"],
)
def test_an_open_line_is_closed_by_a_list(config: UserAgentConfig, account: Account) -> None:
    desk = Desk(config, account)
    assert invited(desk.peer()) == 0
    invited(desk.peer(("198.51.100.7", 5060)), number=2)
    assert desk.calls == (account.accept_from != ())


def test_a_registration_closes_its_own_line_only() -> None:
    desk = Desk().register()
    desk.stack.add_line(Account("open@192.0.2.1"))
    stranger = desk.peer()
    assert invited(stranger) == 0
    invited(stranger, "sip:open@192.0.2.1", number=2)
    assert desk.calls == 1


def test_namesakes_are_told_apart_by_who_calls() -> None:
    """Two providers, one user name: each reaches its own account, whatever To says."""
    desk = Desk().register()
    other = desk.stack.add_line(Account("bot@example.org", accept_from=()))
    desk.stack.hosts_found(other, ["198.51.100.9"], desk.network.now)
    invited(desk.peer(("198.51.100.9", 5060)))
    (incoming,) = [event for event in desk.node.events if isinstance(event, SessionIncoming)]
    assert incoming.line is other


def test_a_registrar_whose_account_is_gone_is_told_so() -> None:
    """It may still have a binding of ours: silence would leave its caller waiting."""
    desk = Desk().register()
    desk.stack.remove_line(desk.line)
    assert invited(desk.registrar) == 404
    assert invited(desk.peer(), number=2) == 0


def test_requests_in_a_dialog_come_from_anywhere() -> None:
    """A BYE takes its own way (§12.2.1.1); the tags are its key."""
    desk = Desk().register()
    invited(desk.registrar)
    (incoming,) = [event for event in desk.node.events if isinstance(event, SessionIncoming)]
    assert incoming.session.callee is not None
    incoming.session.callee.ring(40000, desk.network.now)
    incoming.session.callee.answer(desk.network.now)
    desk.network.run(desk.network.now + 0.1)
    tag = desk.registrar.final().to_tag
    other_way = desk.peer()
    other_way.request("BYE", URI, cseq=2, call_id="c1", from_tag="raw", to_tag="guessed", branch="g")
    assert not other_way.start_lines
    other_way.request("BYE", URI, cseq=2, call_id="c1", from_tag="raw", to_tag=tag, branch="b")
    assert other_way.final().status == 200


def test_what_the_program_answers_itself_it_admits_itself() -> None:
    """A registrar has to hear who is not known yet."""
    desk = Desk().register()
    desk.stack.request_handlers["REGISTER"] = lambda request, transaction, now: make_response(request, 401)
    stranger = desk.peer()
    stranger.request("REGISTER", URI)
    assert stranger.final().status == 401


# -- scanners ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SCANNERS, "Friendly-Scanner", "sipvicious/0.3"])
def test_scanners_hear_nothing_even_from_an_open_line(name: str) -> None:
    """FIELD must-pass (12)."""
    desk = Desk()
    scanner = desk.peer()
    assert invited(scanner, extra=f"User-Agent: {name}\n") == 0
    assert not scanner.start_lines
    assert desk.calls == 0
    assert desk.stack.statistics().scanners_silenced == 1


def test_what_a_registrar_forwards_is_taken_whatever_it_calls_itself() -> None:
    desk = Desk().register()
    invited(desk.registrar, extra="User-Agent: friendly-scanner\n")
    assert desk.calls == 1


# -- for whom ------------------------------------------------------------------------------------------------------


def test_an_unknown_user_gets_404() -> None:
    """FIELD must-pass (12): silent drop or 404, as the settings say."""
    desk = Desk().register()
    assert invited(desk.registrar, "sip:nobody@192.0.2.1") == 404
    assert desk.calls == 0


def test_an_unknown_user_may_get_silence() -> None:
    desk = Desk(UserAgentConfig(unknown_users="silence"))
    peer = desk.peer()
    assert invited(peer, "sip:nobody@192.0.2.1") == 0
    assert desk.stack.statistics().nobody_silenced == 1
    assert desk.stack.layer.load("")[0] == 0
    invited(peer, number=2)
    assert desk.calls == 1


# -- how many ------------------------------------------------------------------------------------------------------

SMALL = Limits(transactions=40, transactions_per_peer=10, unanswered=8, unanswered_per_peer=3, calls_per_peer=5)


def test_unanswered_calls_of_one_peer_are_bounded() -> None:
    desk = Desk(UserAgentConfig(limits=SMALL))
    flooder = desk.peer()
    assert [invited(flooder, number=number) for number in range(5)] == [0, 0, 0, 503, 503]
    refused = [response for response in flooder.responses if response.status == 503]
    assert {response.headers.get("Retry-After") for response in refused} == {"5"}
    assert desk.stack.statistics().overload_refused == 2
    assert desk.stack.layer.load(STRANGER[0]) == (3, 3), "a refusal leaves nothing behind"
    before = desk.calls
    invited(desk.peer(("203.0.113.67", 5060)), number=9)
    assert desk.calls == before + 1, "another peer is not harmed"


def test_unanswered_calls_in_all_are_bounded() -> None:
    desk = Desk(UserAgentConfig(limits=SMALL))
    statuses = [invited(desk.peer((f"203.0.113.{number}", 5060)), number=number) for number in range(12)]
    assert statuses == [0] * 8 + [503] * 4


def test_one_ipv6_network_is_one_peer() -> None:
    desk = Desk(UserAgentConfig(limits=SMALL))
    statuses = [invited(desk.peer((f"2001:db8::{number}", 5060)), number=number) for number in range(1, 5)]
    assert statuses == [0, 0, 0, 503]
    assert invited(desk.peer(("2001:db8:0:1::1", 5060)), number=9) == 0


def test_transactions_of_one_peer_are_bounded_and_calls_go_on() -> None:
    desk = Desk(UserAgentConfig(limits=SMALL))
    caller = desk.peer()
    invited(caller)
    (incoming,) = [event for event in desk.node.events if isinstance(event, SessionIncoming)]
    assert incoming.session.callee is not None
    incoming.session.callee.ring(40000, desk.network.now)
    incoming.session.callee.answer(desk.network.now)
    desk.network.run(desk.network.now + 0.1)
    tag = caller.final().to_tag
    for number in range(20):
        caller.request("OPTIONS", URI, branch=f"o{number}", call_id=f"o{number}")
    assert caller.final().status == 503
    assert desk.stack.layer.load(STRANGER[0])[1] == 10
    caller.request("BYE", URI, cseq=2, branch="bye", call_id="c1", to_tag=tag)
    assert caller.final().status == 200


def test_calls_of_one_peer_are_bounded() -> None:
    desk = Desk(UserAgentConfig(limits=replace(SMALL, unanswered_per_peer=100, unanswered=100)))
    caller = desk.peer()
    assert [invited(caller, number=number) for number in range(7)] == [0] * 5 + [503] * 2


def test_room_comes_back() -> None:
    desk = Desk(UserAgentConfig(limits=SMALL))
    caller = desk.peer()
    for number in range(4):
        invited(caller, number=number)
    for event in desk.node.events:
        if isinstance(event, SessionIncoming):
            event.session.hang_up(desk.network.now, code=486)
    desk.network.run(desk.network.now + 120)
    assert desk.stack.idle
    assert len(desk.stack.admission.calls) == len(desk.stack.admission.unanswered) == 0
    assert invited(caller, number=9) != 503


def test_max_calls_bounds_all_peers_together() -> None:
    desk = Desk(UserAgentConfig(max_calls=2))
    assert [invited(desk.peer((f"203.0.113.{number}", 5060)), number=number) for number in range(3)] == [0, 0, 503]


def test_a_program_that_is_full_refuses_new_calls_and_nothing_else() -> None:
    """The answer says when to come again (RFC 3261 §20.33), and no transaction is left behind."""
    desk = Desk()
    caller = desk.peer()
    full = True
    desk.stack.room = lambda: not full
    assert invited(caller, number=1) == 503
    assert caller.responses[-1].headers.get("Retry-After") == "5"
    assert desk.stack.idle
    caller.request("OPTIONS", URI, branch="o1", call_id="o1")
    assert caller.responses[-1].status == 200
    full = False
    assert invited(caller, number=2) == 0
    full = True
    caller.request("CANCEL", URI, branch="i2", call_id="c2")
    assert [response.status for response in caller.responses][-2:] == [200, 487]


# -- the values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [["example.com"], ["192.0.2.0/33"], [""], ["192.0.2.1:5060"], "192.0.2.1"])
def test_a_list_of_sources_names_addresses(texts: Sequence[str]) -> None:
    with pytest.raises(InvalidRequest, match=r"^accept_from: "):
        parse_sources(texts, field="accept_from")


def test_settings_are_checked_when_made() -> None:
    with pytest.raises(InvalidRequest, match="allow_from: 'nowhere' is not an IP address"):
        UserAgentConfig(allow_from=("nowhere",))
    with pytest.raises(InvalidRequest, match="accept_from"):
        Account(URI, accept_from=("nowhere",))
    with pytest.raises(InvalidRequest, match="strangers: must be silence or refuse"):
        UserAgentConfig(strangers="shout")  # type: ignore[arg-type]


def test_sources_name_hosts() -> None:
    sources = parse_sources(["192.0.2.7", "198.51.100.9/24", "fe80::/10", " ANY "], field="x")
    assert sources.anyone
    assert sources.names("192.0.2.7")
    assert sources.names("198.51.100.200")
    assert sources.names("fe80::1%eth0")
    assert not sources.names("192.0.2.8")
    assert not sources.names("::ffff:192.0.2.7")
    assert not sources.names("no address")
    assert not Sources()
    assert not Sources(anyone=True).names("192.0.2.7")


def test_peers_are_addresses_or_networks() -> None:
    assert peer_of("192.0.2.7") == "192.0.2.7"
    assert peer_of("2001:db8::1") == peer_of("2001:db8:0:0:ffff::") == "2001:db8::/64"
    assert peer_of("fe80::1%eth0") == "fe80::/64"
    assert peer_of("not:one") == "not:one"


def test_a_tally_counts_once() -> None:
    tally: Tally[str] = Tally(2, 1)
    tally.add("a", "x")
    tally.add("a", "x")
    assert len(tally) == 1
    assert tally.full("x")
    assert not tally.full("y")
    tally.discard("a")
    tally.discard("a")
    assert not tally.full("x")


def test_a_refusal_is_stamped_like_any_response() -> None:
    """§18.2.1, RFC 3581 §4: it goes back to where the request came from."""
    desk = Desk(UserAgentConfig(strangers="refuse")).register()
    stranger = desk.peer()
    invited(stranger)
    via = stranger.final().via
    assert (via.params.get("received"), via.params.get("rport")) == (STRANGER[0], str(STRANGER[1]))
    assert isinstance(parse_message(serialize(stranger.final())), type(stranger.final()))
    assert not isinstance(stranger.final(), Request)
