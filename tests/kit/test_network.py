"""The network in memory itself, and a proof that it carries real transactions through loss."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from sipcore.config import Timers, UserAgentConfig
from sipcore.errors import ServerUnreachable
from sipcore.protocol.builder import make_request, make_response
from sipcore.protocol.flows import Flow, Target
from sipcore.protocol.ids import Ids
from sipcore.protocol.stack import Stack
from sipcore.protocol.transaction import ClientTransaction, ServerTransaction, TransactionFailure
from sipcore.protocol.transaction_layer import TransactionLayer
from sipcore.protocol.values import Uri
from sipcore.protocol.wire import Request, Response
from tests.kit.loop_network import LoopNetwork
from tests.kit.network import Address, Conditions, LayerNode, Network
from tests.kit.virtual_time import virtual_time

NEAR = ("10.0.0.1", 5060)
FAR = ("10.0.0.2", 5060)


class Recorder:
    """A node that notes what arrives, and sends what a test puts into its outbox."""

    def __init__(self) -> None:
        self.received: list[tuple[float, bytes, Address]] = []
        self.closed: list[tuple[float, str]] = []
        self.outbox: list[tuple[Flow, bytes]] = []
        self.deadlines: list[float] = []
        self.fired: list[float] = []

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        self.received.append((now, data, flow.remote))

    def handle_timer(self, now: float) -> None:
        self.fired.append(now)
        self.deadlines.pop(0)

    def next_deadline(self) -> float | None:
        return self.deadlines[0] if self.deadlines else None

    def flow_closed(self, flow: Flow, detail: str, now: float) -> None:
        self.closed.append((now, detail))

    def transmits(self) -> list[tuple[Flow, bytes]]:
        drained, self.outbox = self.outbox, []
        return drained


def pair(conditions: Conditions, *, seed: int = 1) -> tuple[Network, Recorder, Recorder]:
    network = Network(random.Random(seed), conditions)
    near, far = Recorder(), Recorder()
    network.join(NEAR, near)
    network.join(FAR, far)
    return network, near, far


def send_many(near: Recorder, count: int, flow: Flow | None = None) -> list[bytes]:
    sent = [str(number).encode() for number in range(count)]
    near.outbox += [(flow or Network.flow(NEAR, FAR), data) for data in sent]
    return sent


def test_a_message_arrives_after_its_delay_on_the_reverse_flow() -> None:
    network, near, far = pair(Conditions(delay=(0.25, 0.25)))
    send_many(near, 1)
    network.run(until=1.0)
    assert far.received == [(0.25, b"0", NEAR)]
    assert network.now == 1.0
    assert network.packets[0].arrivals == (0.25,)


def test_datagrams_are_lost_doubled_and_overtake_each_other() -> None:
    network, near, far = pair(Conditions(delay=(0.01, 0.2), loss=0.3, duplication=0.2))
    sent = send_many(near, 1000)
    network.run(until=1.0)
    got = [data for _, data, _ in far.received]
    assert 600 < len(set(got)) < 800
    assert len(got) > len(set(got))
    assert got != sorted(got, key=sent.index)


def test_streams_are_delayed_only() -> None:
    network, near, far = pair(Conditions(delay=(0.01, 0.2), loss=0.5, duplication=0.5))
    sent = send_many(near, 100, Network.flow(NEAR, FAR, "tcp"))
    network.run(until=1.0)
    assert [data for _, data, _ in far.received] == sent


def test_the_same_seed_is_the_same_network() -> None:
    def run(seed: int) -> list[tuple[float, bytes, Address]]:
        network, near, far = pair(Conditions(delay=(0.01, 0.2), loss=0.3), seed=seed)
        send_many(near, 50)
        network.run(until=1.0)
        return far.received

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_deadlines_are_met_in_virtual_time() -> None:
    network, near, far = pair(Conditions())
    near.deadlines = [0.5, 1.5, 3600.0]
    far.deadlines = [1.0]
    network.run(until=1.5)
    assert near.fired == [0.5, 1.5]
    assert far.fired == [1.0]
    network.run_until(lambda: len(near.fired) == 3, limit=4000)
    assert network.now == 3600.0


def test_loss_may_be_scripted() -> None:
    network, near, far = pair(Conditions())
    network.drop = lambda packet: packet.data == b"1"
    send_many(near, 3)
    network.run(until=1.0)
    assert [data for _, data, _ in far.received] == [b"0", b"2"]


def test_a_host_where_nobody_listens_says_so_and_one_that_left_does_not() -> None:
    network, near, far = pair(Conditions())
    network.refusing.add(FAR)
    send_many(near, 1)
    network.run(until=1.0)
    assert near.closed == [(0.01, "connection refused")]
    network.refusing.clear()
    network.leave(FAR)
    send_many(near, 1)
    network.run(until=2.0)
    assert len(near.closed) == 1
    assert far.received == []


def test_a_wait_for_what_cannot_come_is_reported() -> None:
    network, _, far = pair(Conditions())
    with pytest.raises(AssertionError, match="nothing is left to happen"):
        network.run_until(lambda: bool(far.received))
    far.deadlines = [1000.0]
    with pytest.raises(AssertionError, match="not so within 300 s"):
        network.run_until(lambda: False)


def test_a_deadline_that_does_not_move_on_is_reported() -> None:
    network, near, _ = pair(Conditions())
    near.deadlines = [1.0, 1.0]
    with pytest.raises(AssertionError, match="still due"):
        network.run(until=2.0)


# -- real transactions ---------------------------------------------------------------------------------------


@dataclass
class User:
    """Answers every request with 200, and notes what becomes of its own."""

    layer: TransactionLayer | None = None
    requests: list[Request] = field(default_factory=list)
    responses: list[int] = field(default_factory=list)
    failures: list[TransactionFailure] = field(default_factory=list)

    def on_request(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        assert self.layer is not None
        self.requests.append(request)
        self.layer.respond(transaction, make_response(request, 200, to_tag="far"), now)

    def on_ack(self, request: Request, flow: Flow, now: float) -> None:
        self.requests.append(request)

    def on_cancel(self, transaction: ServerTransaction, cancel: Request, now: float) -> None:
        self.requests.append(cancel)

    def on_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        self.responses.append(response.status)

    def on_server_timeout(self, transaction: ServerTransaction, now: float) -> None:
        self.failures.append(TransactionFailure.TIMEOUT)

    def on_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        self.responses.append(response.status)

    def on_failure(self, transaction: ClientTransaction, failure: TransactionFailure, now: float) -> None:
        self.failures.append(failure)


def layer_pair(conditions: Conditions, seed: int) -> tuple[Network, User, User]:
    network = Network(random.Random(seed), conditions)
    users = User(), User()
    for user, address, ids_seed in zip(users, (NEAR, FAR), (1, 2), strict=True):
        node = LayerNode(
            lambda transmit, user=user, ids_seed=ids_seed: TransactionLayer(  # type: ignore[misc]
                user=user, transmit=transmit, timers=Timers(), ids=Ids(random.Random(ids_seed))
            )
        )
        user.layer = node.layer
        network.join(address, node)
    return network, *users


def send_options(network: Network, user: User) -> None:
    assert user.layer is not None
    request = make_request(
        "OPTIONS", Uri.parse("sip:10.0.0.2"), from_="<sip:a@a>;tag=1", to="<sip:b@b>", call_id="c", cseq=1
    )
    user.layer.send_request(request, Network.flow(NEAR, FAR), user, network.now)


@pytest.mark.parametrize("seed", range(20))
def test_a_transaction_gets_through_a_bad_network(seed: int) -> None:
    """RFC 3261 §17.1.2: timer E retransmits, and the server transaction absorbs the copies."""
    network, near, far = layer_pair(Conditions(delay=(0.01, 0.8), loss=0.4, duplication=0.3), seed)
    send_options(network, near)
    network.run(until=120.0)
    assert near.responses == [200]
    assert len(far.requests) == 1
    assert near.layer is not None
    assert far.layer is not None
    assert near.layer.active_count == far.layer.active_count == 0


def test_a_dead_network_times_out_after_64_t1() -> None:
    """RFC 3261 §17.1.2.2: timer F."""
    network, near, _ = layer_pair(Conditions(loss=1.0), 1)
    send_options(network, near)
    network.run_until(lambda: bool(near.failures))
    assert near.failures == [TransactionFailure.TIMEOUT]
    assert network.now == 32.0
    assert len(network.packets) == 11


def test_a_refusing_host_fails_the_transaction_at_once() -> None:
    """RFC 3261 §18.4."""
    network, near, _ = layer_pair(Conditions(), 1)
    network.refusing.add(FAR)
    send_options(network, near)
    network.run(until=1.0)
    assert near.failures == [TransactionFailure.TRANSPORT]


def test_a_stack_is_given_the_flows_it_wants() -> None:
    network = Network(random.Random(1))
    node = network.add_stack(NEAR, Stack(UserAgentConfig(), rng=random.Random(1), user_agent="test"))
    granted: list[Flow] = []
    failed: list[str] = []
    node.stack.want_flow(
        Target("10.0.0.2", 5070),
        None,
        lambda flow, now: granted.append(flow),
        lambda detail, now: failed.append(detail),
    )
    network.flush()
    assert granted == [Network.flow(NEAR, ("10.0.0.2", 5070))]
    assert failed == []
    assert node.events == []
    assert node.stack.idle


# -- on a loop -----------------------------------------------------------------------------------------------


@virtual_time
async def test_the_network_on_a_loop_carries_messages_and_refusals() -> None:
    network = LoopNetwork(names={"far": FAR[0]})
    got: list[bytes] = []
    closed: list[str] = []
    near = network.at(NEAR[0])(on_message=lambda data, flow: None, on_flow_closed=lambda flow, why: closed.append(why))
    far = network.at(FAR[0])(on_message=lambda data, flow: got.append(data), on_flow_closed=lambda flow, why: None)
    await near.start()
    await far.start()
    flow = await near.flow_to(Target("far"))
    assert asyncio.get_running_loop().time() == 0.1
    near.send(flow, b"x")
    await asyncio.sleep(1)
    assert got == [b"x"]
    await far.close()
    near.send(flow, b"y")
    await asyncio.sleep(1)
    assert closed == ["connection refused"]
    with pytest.raises(ServerUnreachable, match="no such name"):
        await near.flow_to(Target("gone"))
