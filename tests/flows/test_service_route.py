"""Ways that a registrar prescribes: Path (RFC 3327) and Service-Route (RFC 3608), for one registration."""

from __future__ import annotations

import pytest

from sipcore.config import Account
from sipcore.protocol.addresses import parse_callee
from sipcore.protocol.wire import Request, Response
from tests.kit.raw_peer import RawPeer
from tests.protocol.desk import PASSWORD, SERVER, Desk, bound

HERE = ("192.0.2.1", 5060)
EDGE = ("192.0.2.60", 5060)
PROXY = ("192.0.2.50", 5060)
ROUTE = "<sip:192.0.2.60;lr>, <sip:home@192.0.2.70;lr;x=y>"


class Office(Desk):
    """A registrar that prescribes ``route``, and those who may be on the way."""

    def __init__(self, route: str = ROUTE, *, account: Account | None = None) -> None:
        self.route = route
        super().__init__(self._answer_with_route, account=account)
        self.edge, self.proxy = (RawPeer(self.network, place, HERE) for place in (EDGE, PROXY))
        self.register()

    def _answer_with_route(self, request: Request, now: float) -> Response:
        response = bound(request)
        if self.route:
            response.headers.add("Service-Route", self.route)
        return response

    def call(self) -> None:
        """Bob is called, who is at a domain of his own."""
        uri = parse_callee("sip:bob@192.0.2.9", self.line.address)
        self.stack.invite(self.line, uri, headers=(), media_port=4000, ring_timeout=60, now=self.network.now)
        self.run(0.05)


def routes(request: Request) -> list[str]:
    return [str(each) for each in request.routes]


def test_a_proxy_may_put_itself_on_the_way_back() -> None:
    """RFC 3327 §5.1: Supported says so; Path itself is between proxy and registrar."""
    assert "path" in Office().requests[0].list_of("Supported")


def test_requests_go_the_way_that_the_registrar_says() -> None:
    """RFC 3608 §6.1: as Route values, in order, as they were written; to the first of them."""
    office = Office()
    office.call()
    (invite,) = office.edge.heard("INVITE")
    assert routes(invite) == ["<sip:192.0.2.60;lr>", "<sip:home@192.0.2.70;lr;x=y>"]
    assert str(invite.uri) == "sip:bob@192.0.2.9"
    bob = parse_callee("bob@192.0.2.9", office.line.address)
    office.stack.standalone.send(office.line, "MESSAGE", bob, now=office.network.now)
    office.run(0.05)
    assert routes(office.edge.heard("MESSAGE")[0]) == routes(invite)


def test_register_does_not() -> None:
    """RFC 3608 §6.1: the service route is for all other requests."""
    office = Office()
    office.tell(office.client.refresh)
    office.run(0.1)
    assert len(office.requests) == 2
    assert not office.requests[1].routes


def test_the_newest_one_counts_and_none_is_none() -> None:
    office = Office()
    office.route = ""
    office.tell(office.client.refresh)
    office.run(0.1)
    office.call()
    assert not office.edge.heard("INVITE")
    assert not office.line.routes
    office.route = "<sip:192.0.2.60;lr>"
    office.tell(office.client.refresh)
    office.run(0.1)
    assert office.line.routes == ("<sip:192.0.2.60;lr>",)
    office.tell(office.client.stop)
    office.run(0.1)
    assert not office.line.routes, "it ends with the registration"


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("<sip:192.0.2.60;lr>", ["<sip:192.0.2.50;lr>", "<sip:192.0.2.60;lr>"]),
        ("<sip:192.0.2.50;lr;edge>, <sip:192.0.2.60;lr>", ["<sip:192.0.2.50;lr;edge>", "<sip:192.0.2.60;lr>"]),
    ],
)
def test_an_outbound_proxy_comes_first_and_once(route: str, expected: list[str]) -> None:
    """RFC 3608 §6.1; an edge proxy that names itself is not visited twice."""
    account = Account(f"alice@{SERVER[0]}", password=PASSWORD, outbound_proxy=f"sip:{SERVER[0]};lr")
    office = Office(route.replace("192.0.2.50", SERVER[0]), account=account)
    assert list(office.line.routes) == [each.replace("192.0.2.50", SERVER[0]) for each in expected]


@pytest.mark.parametrize(
    "route", ["<sip:192.0.2.60>", "<tel:+43123;lr>", ", ".join(["<sip:192.0.2.60;lr>"] * 9), "garbage <", "<sip:[;lr>"]
)
def test_what_cannot_be_followed_is_passed_over(route: str) -> None:
    """Strict routers, other schemes, dozens of them: the registration holds, and calls go as they would without."""
    office = Office(route)
    assert not office.line.routes
    assert office.client.expires_at is not None


def test_the_flow_of_the_registration_is_used_where_it_leads_to_the_first() -> None:
    """RFC 5626 §4.3: the way through the NAT that is open already."""
    office = Office(f"<sip:{SERVER[0]}:5060;lr>")
    way = office.line.way(parse_callee("sip:bob@192.0.2.9", office.line.address))
    assert way.flow is not None
    assert way.flow == office.client.flow
    elsewhere = Office("<sip:192.0.2.60;lr>")
    assert elsewhere.line.way(parse_callee("sip:bob@192.0.2.9", elsewhere.line.address)).flow is None
