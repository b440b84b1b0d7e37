"""RTP ports in pairs (RFC 3550 §11)."""

from __future__ import annotations

import errno
import random
import socket

import pytest

from rtp.ports import NoPortAvailable, PortPair, PortPool

HOST = "127.0.0.1"


def free_range(pairs: int) -> tuple[int, int]:
    """A range of ports nobody uses at the moment, beginning with an even one."""
    rng = random.Random()
    while True:
        low = rng.randrange(20000, 60000, 2)
        opened: list[socket.socket] = []
        try:
            for port in range(low, low + 2 * pairs):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                opened.append(sock)
                sock.bind((HOST, port))
        except OSError:
            continue
        finally:
            for sock in opened:
                sock.close()
        return low, low + 2 * pairs - 1


def close(*pairs: PortPair) -> None:
    for pair in pairs:
        pair.close()


def test_rtp_is_even_and_rtcp_the_next() -> None:
    pair = PortPool(*free_range(4), random.Random(1)).open(HOST)
    assert pair.port % 2 == 0
    assert pair.rtp.getsockname() == (HOST, pair.port)
    assert pair.rtcp.getsockname() == (HOST, pair.port + 1)
    close(pair)


def test_the_whole_range_is_used_and_then_no_more() -> None:
    low, high = free_range(5)
    pool = PortPool(low, high, random.Random(2))
    pairs = [pool.open(HOST) for _ in range(5)]
    assert sorted(pair.port for pair in pairs) == list(range(low, high, 2))
    with pytest.raises(NoPortAvailable, match=f"all 5 pairs of RTP ports {low}-{high} are taken"):
        pool.open(HOST)
    freed = pairs.pop(2)
    freed.close()
    again = pool.open(HOST)
    assert again.port == freed.port
    close(again, *pairs)


def test_odd_ends_of_a_range_are_left_out() -> None:
    low, _ = free_range(4)
    pool = PortPool(low + 1, low + 4, random.Random(3))
    pair = pool.open(HOST)
    assert pair.port == low + 2
    close(pair)


@pytest.mark.parametrize("taken", [0, 1], ids=["RTP port taken", "RTCP port taken"])
def test_pairs_of_which_another_program_has_a_port_are_passed_over(taken: int) -> None:
    low, high = free_range(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, low + taken))
        for seed in range(4):
            pair = PortPool(low, high, random.Random(seed)).open(HOST)
            assert pair.port == low + 2
            close(pair)


def test_a_port_just_closed_is_not_used_again_at_once() -> None:
    """Packets of the call before must not run into the next one."""
    pool = PortPool(*free_range(8), random.Random(4))
    seen = []
    for _ in range(8):
        pair = pool.open(HOST)
        seen.append(pair.port)
        close(pair)
    assert len(set(seen)) == 8


def test_an_address_that_is_not_ours_is_refused_at_once() -> None:
    with pytest.raises(NoPortAvailable) as refused:
        PortPool(20000, 60000, random.Random(5)).open("192.0.2.1")
    assert refused.value.errno == errno.EADDRNOTAVAIL
    assert "192.0.2.1" in str(refused.value)


@pytest.mark.parametrize(("low", "high"), [(0, 10), (5, 6), (5001, 5001), (6000, 5000), (65530, 70000)])
def test_ranges_without_a_pair_are_refused(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="no even/odd pair"):
        PortPool(low, high, random.Random(6))


def test_ipv6() -> None:
    try:
        pair = PortPool(20000, 60000, random.Random()).open("::1")
    except NoPortAvailable:
        pytest.skip("no IPv6 loopback on this machine")
    assert pair.rtp.family == socket.AF_INET6
    close(pair)
