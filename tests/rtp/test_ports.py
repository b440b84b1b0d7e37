"""RTP ports in pairs (RFC 3550 §11)."""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

import pytest

from rtp.ports import NoPortAvailable, PortPair, PortPool, kernel_may_take

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
    pool = PortPool(low, high, random.Random(2), quarantine=0)
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


def test_the_pair_that_was_free_for_the_longest_time_comes_first() -> None:
    """Whatever the quarantine: the order of closing is the order of opening again."""
    pool = PortPool(*free_range(4), random.Random(4), quarantine=0)
    pairs = [pool.open(HOST) for _ in range(4)]
    for index in (2, 0, 3, 1):
        pairs[index].close()
        pairs[index].close()
    again = [pool.open(HOST) for _ in range(4)]
    assert [pair.port for pair in again] == [pairs[index].port for index in (2, 0, 3, 1)]
    close(*again)


def test_a_pair_rests_before_it_is_opened_again() -> None:
    """Packets of the call before must not run into the next one, even where no other pair is left."""
    now = 100.0
    low, high = free_range(2)
    pool = PortPool(low, high, random.Random(4), quarantine=5, clock=lambda: now)
    first, second = pool.open(HOST), pool.open(HOST)
    first.close()
    now = 104.9
    with pytest.raises(NoPortAvailable, match=f"all 2 pairs of RTP ports {low}-{high} are taken, 1 of them by calls"):
        pool.open(HOST)
    now = 105.0
    again = pool.open(HOST)
    assert again.port == first.port
    close(again, second)


def test_a_quarantine_is_not_negative() -> None:
    with pytest.raises(ValueError, match="-1"):
        PortPool(20000, 20001, random.Random(1), quarantine=-1)


def test_each_local_address_has_the_whole_range() -> None:
    """One engine may serve agents on several addresses of the machine."""
    pool = PortPool(*free_range(1), random.Random(1))
    pair, other = pool.open(HOST), pool.open("127.0.0.2")
    assert pair.port == other.port
    close(pair, other)


@pytest.mark.parametrize(
    ("low", "high", "reserved", "found"),
    [
        (16384, 32767, "", None),
        (16384, 32768, "", (32768, 60999)),
        (40000, 40999, "", (32768, 60999)),
        (60998, 65535, "", (32768, 60999)),
        (61000, 65535, "", None),
        (40000, 40999, "8080,40000-40999", None),
        (40000, 40999, "40000-40500,40502-40999", (32768, 60999)),
        (60999, 61000, "60999", None),
    ],
)
def test_ports_that_the_kernel_gives_to_others(
    tmp_path: Path, low: int, high: int, reserved: str, found: tuple[int, int] | None
) -> None:
    (tmp_path / "ip_local_port_range").write_text("32768\t60999\n")
    (tmp_path / "ip_local_reserved_ports").write_text(f"{reserved}\n")
    assert kernel_may_take(low, high, tmp_path) == found


@pytest.mark.parametrize("content", [None, "", "a b", "1 2 3"])
def test_a_system_that_does_not_tell_its_range(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ip_local_port_range").write_text(content)
    assert kernel_may_take(1, 65535, tmp_path) is None


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
