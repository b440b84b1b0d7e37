"""Both ways to read and to write sockets do the same."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from rtp import kernel
from rtp.datagrams import SLOT_BYTES, KernelReader, PortableReader, Reader, make_reader
from rtp.endpoint import endpoint_of, endpoint_of_words
from rtp.g711 import Law
from rtp.packetizer import PACKET_BYTES, Sending, begin, set_codec
from rtp.refusals import watch_errors
from rtp.transmit import KernelTransmitter, PortableTransmitter, Transmitter, make_transmitter
from rtp.uring import ENTRIES, Batch, operations

needs_kernel = pytest.mark.skipif(not kernel.AVAILABLE, reason="this system's C library is not used")
needs_uring = pytest.mark.skipif(Batch().run(operations(1, 0)) is None, reason="no io_uring on this system")
READERS = [
    pytest.param(lambda slots: KernelReader(slots, fewest_in_batch=1), marks=needs_uring, id="batch"),
    pytest.param(lambda slots: KernelReader(slots, fewest_in_batch=1 << 30), marks=needs_kernel, id="calls"),
    pytest.param(PortableReader, id="portable"),
]
TRANSMITTERS = [
    pytest.param(lambda: KernelTransmitter(fewest_in_batch=1), marks=needs_uring, id="batch"),
    pytest.param(lambda: KernelTransmitter(fewest_in_batch=1 << 30), marks=needs_kernel, id="calls"),
    pytest.param(PortableTransmitter, id="portable"),
]


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((name, 0))
    except OSError:
        pytest.skip(f"no {name} on this machine")
    return name


def bound(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, 0))
    return sock


@pytest.fixture
def sockets(host: str) -> Iterator[list[socket.socket]]:
    """Four sockets on the loopback."""
    opened = [bound(host) for _ in range(4)]
    yield opened
    for sock in opened:
        sock.close()


@pytest.mark.parametrize("make", READERS)
def test_a_round_holds_one_datagram_of_each_socket(make: Callable[[int], Reader], sockets: list[socket.socket]) -> None:
    reader = make(8)
    here, there = sockets[:2], sockets[2]
    for row, sock in zip((5, 3), here, strict=True):
        reader.register(sock, row)
    assert reader.read() is None
    for number in range(3):
        there.sendto(b"first %d" % number, here[0].getsockname())
    there.sendto(b"second", here[1].getsockname())
    seen: list[tuple[int, bytes]] = []
    sizes = []
    while (datagrams := reader.read()) is not None:
        sizes.append(len(datagrams.rows))
        for row, length, source, data in zip(
            datagrams.rows, datagrams.lengths, datagrams.sources, datagrams.data, strict=True
        ):
            seen.append((int(row), data[:length].tobytes()))
            assert endpoint_of_words(source).address[:2] == there.getsockname()[:2]
        assert np.abs(datagrams.arrivals - time.time()).max() < 60
    assert sizes == [2, 1, 1]
    assert sorted(seen) == [(3, b"second"), (5, b"first 0"), (5, b"first 1"), (5, b"first 2")]
    reader.unregister(here[0])
    there.sendto(b"nobody", here[0].getsockname())
    assert reader.read() is None
    reader.close()


@pytest.mark.parametrize("make", READERS)
def test_more_sockets_than_slots_take_more_rounds(make: Callable[[int], Reader], sockets: list[socket.socket]) -> None:
    reader = make(2)
    for row, sock in enumerate(sockets[:3]):
        reader.register(sock, row)
        sockets[3].sendto(b"x", sock.getsockname())
    rows: list[int] = []
    while (datagrams := reader.read()) is not None:
        rows += datagrams.rows.tolist()
    assert sorted(rows) == [0, 1, 2]
    reader.resize(4)
    sockets[3].sendto(b"x", sockets[1].getsockname())
    datagrams = reader.read()
    assert datagrams is not None
    assert datagrams.rows.tolist() == [1]
    reader.close()


def all_rows(reader: Reader) -> list[int]:
    """Rows of everything a tick reads, in rounds."""
    rows: list[int] = []
    expected = reader.read_expected()
    if expected is not None:
        rows += expected.rows[expected.lengths >= 0].tolist()
    while (datagrams := reader.read()) is not None:
        rows += datagrams.rows[datagrams.lengths >= 0].tolist()
    return rows


@pytest.mark.parametrize("make", READERS[:2])
def test_steady_streams_are_read_without_asking(make: Callable[[int], Reader], sockets: list[socket.socket]) -> None:
    reader = make(4)
    for row, sock in enumerate(sockets[:3]):
        reader.register(sock, row)
    for tick in range(2):
        for sock in sockets[: 2 + tick]:
            sockets[3].sendto(b"x", sock.getsockname())
        assert sorted(all_rows(reader)) == list(range(2 + tick))
    for payload in (b"first", b"second"):
        sockets[3].sendto(payload, sockets[0].getsockname())
    sockets[3].sendto(b"of one that is not steady", sockets[2].getsockname())
    expected = reader.read_expected()
    assert expected is not None
    assert dict(zip(expected.rows.tolist(), expected.lengths.tolist(), strict=True)) == {0: 5, 1: -1}
    assert {int(row): data[:3].tobytes() for row, data in zip(expected.rows, expected.data, strict=True)}[0] == b"fir"
    others = reader.read()
    assert others is not None
    assert dict(zip(others.rows.tolist(), others.lengths.tolist(), strict=True)) == {0: 6, 2: 25}
    assert reader.read() is None
    expected = reader.read_expected()  # the one that had none is out, for two ticks at least
    assert expected is not None
    assert sorted(expected.rows.tolist()) == [0, 2]
    assert reader.read_expected() is None
    reader.close()


@pytest.mark.parametrize("make", READERS[:2])
def test_a_steady_stream_that_ends_is_expected_no_more(
    make: Callable[[int], Reader], sockets: list[socket.socket]
) -> None:
    reader = make(4)
    reader.register(sockets[0], 0)
    for _ in range(2):
        sockets[3].sendto(b"x", sockets[0].getsockname())
        assert all_rows(reader) == [0]
    reader.unregister(sockets[0])
    reader.register(sockets[0], 1)  # the same descriptor, as that of another socket may have
    assert reader.read_expected() is None
    reader.close()


@pytest.mark.parametrize("make", READERS[:2])
def test_errors_of_steady_streams_are_told(make: Callable[[int], Reader], sockets: list[socket.socket]) -> None:
    reader = make(4)
    watch_errors(sockets[0])
    reader.register(sockets[0], 7)
    for _ in range(2):
        sockets[3].sendto(b"x", sockets[0].getsockname())
        assert all_rows(reader) == [7]
    gone = sockets[2].getsockname()
    sockets[2].close()
    sockets[0].sendto(b"nobody is there", gone)
    for _ in range(100):  # on the loopback the answer is there at once
        assert all_rows(reader) == []
        if refused := reader.refused():
            assert set(refused) == {7}
            break
    else:
        pytest.fail("no error was told")
    reader.close()


@pytest.mark.parametrize("make", READERS)
def test_a_datagram_too_long_for_its_slot_reads_as_empty(
    make: Callable[[int], Reader], sockets: list[socket.socket]
) -> None:
    reader = make(2)
    reader.register(sockets[0], 0)
    for length in (SLOT_BYTES + 1, SLOT_BYTES - 1, 0):
        sockets[1].sendto(bytes(length), sockets[0].getsockname())
        datagrams = reader.read()
        assert datagrams is not None
        assert datagrams.lengths.tolist() == [length if length < SLOT_BYTES else 0]
    reader.close()


@needs_kernel
def test_the_kernel_stamps_arrivals(sockets: list[socket.socket]) -> None:
    reader = KernelReader(2)
    sockets[0].setsockopt(socket.SOL_SOCKET, kernel.SO_TIMESTAMPNS, 1)
    reader.register(sockets[0], 0)
    before = time.time()
    sockets[1].sendto(b"x", sockets[0].getsockname())
    after = time.time()
    datagrams = reader.read()
    assert datagrams is not None
    assert before - 0.001 <= datagrams.arrivals[0] <= after + 0.001
    reader.close()


def sending(rows: int) -> Sending:
    columns = Sending(rows)
    for row in range(rows):
        begin(columns, row, random.Random(row))
        set_codec(columns, row, Law.PCMU, 0)
    return columns


@pytest.mark.parametrize("make", TRANSMITTERS)
def test_every_row_goes_to_its_own_address(make: Callable[[], Transmitter], sockets: list[socket.socket]) -> None:
    columns = sending(4)
    transmitter = make()
    routes = [
        (row, sockets[source], endpoint_of(sockets[target].getsockname()))
        for row, source, target in ((3, 0, 2), (1, 1, 3))
    ]
    transmitter.prepare(columns.packet, routes)
    assert transmitter.send_all(PACKET_BYTES) == []
    for row, source, target in ((3, 0, 2), (1, 1, 3)):
        data, address = sockets[target].recvfrom(2048)
        assert data == columns.packet[row, :PACKET_BYTES].tobytes()
        assert address[:2] == sockets[source].getsockname()[:2]


@pytest.mark.parametrize("make", TRANSMITTERS)
def test_what_cannot_be_sent_is_told_and_the_rest_goes_out(make: Callable[[], Transmitter]) -> None:
    columns = sending(2)
    with bound("127.0.0.1") as here, bound("127.0.0.1") as there:
        transmitter = make()
        unreachable = endpoint_of(("255.255.255.255", 5004))
        transmitter.prepare(columns.packet, [(0, here, unreachable), (1, here, endpoint_of(there.getsockname()))])
        assert transmitter.send_all(PACKET_BYTES) == [0]
        assert there.recv(2048) == columns.packet[1, :PACKET_BYTES].tobytes()


@pytest.mark.parametrize("make", TRANSMITTERS)
def test_nothing_prepared_nothing_sent(make: Callable[[], Transmitter]) -> None:
    assert make().send_all(PACKET_BYTES) == []


@pytest.mark.parametrize("make", TRANSMITTERS)
def test_some_rows_go_out_with_a_length_each(make: Callable[[], Transmitter], sockets: list[socket.socket]) -> None:
    columns = sending(4)
    columns.packet[:] = np.arange(4, dtype=np.uint8)[:, None]
    transmitter = make()
    there, unreachable = endpoint_of(sockets[3].getsockname()), endpoint_of(("255.255.255.255", 5004))
    transmitter.prepare(columns.packet, [(3, sockets[0], there), (2, sockets[0], unreachable), (1, sockets[1], there)])
    assert transmitter.send_some(np.array([2, 1, 0]), np.array([30, 20, 10])) == [1]
    assert [sockets[3].recv(2048) for _ in range(2)] == [bytes([1]) * 30, bytes([3]) * 10]
    assert transmitter.send_some(np.zeros(0, np.int64), np.zeros(0, np.int64)) == []
    assert transmitter.send_all(5) == [1]


@needs_kernel
def test_a_round_longer_than_a_batch(sockets: list[socket.socket]) -> None:
    """Every packet goes out and comes in once, with the batches' positions wrapping, and without batches alike."""
    count = ENTRIES + 44
    columns = sending(count)
    target = endpoint_of(sockets[1].getsockname())
    sockets[1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    transmitter = KernelTransmitter()
    transmitter.prepare(columns.packet, [(row, sockets[0], target) for row in range(count)])
    for batched in (True, True, True, False):
        if not batched:
            transmitter.close()
        assert transmitter.send_all(PACKET_BYTES) == []
        came: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                came.append(sockets[1].recv(2048))
        assert sorted(came) == sorted(packet[:PACKET_BYTES].tobytes() for packet in columns.packet)


def test_the_system_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "AVAILABLE", False)
    reader = make_reader(1)
    assert isinstance(reader, PortableReader)
    reader.close()
    assert isinstance(make_transmitter(), PortableTransmitter)
