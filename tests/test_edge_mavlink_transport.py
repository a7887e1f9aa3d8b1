"""Links over networks and files: who is heard, who hears us, and what is refused."""

import contextlib
import os
import queue
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import signatures

from edge.clock import VirtualClock
from edge.mavlink.logs.tlog import read_tlog
from edge.mavlink.network.link import Link, open_link
from edge.mavlink.ports.tlog_file import MAX_WAITING, TlogFile
from edge.mavlink.ports.transport import READ_AT_ONCE_BYTES, FileAddress, NetworkAddress, SerialAddress, parse_link
from edge.mavlink.ports.udp import CLIENT_EXPIRY_NS, MAX_CLIENTS, READ_BYTES, UdpClient, UdpServer
from edge.mavlink.trust.security import Security
from edge.mavlink.wire import standard
from models.errors import ConfigError, LinkError

FRAME = b"\xfd" + bytes(19)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_000_000_000)


@pytest.fixture
def server(clock: VirtualClock) -> Iterator[UdpServer]:
    transport = UdpServer("udpin", NetworkAddress(kind="udpin", host="127.0.0.1", port=0), clock)
    yield transport
    transport.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def arrived(transport: UdpServer | UdpClient) -> list[bytes]:
    transport.wait(5)
    return [data for _, data in transport.receive()]


@pytest.mark.parametrize(
    ("link", "address"),
    [
        ("udpout:10.0.0.2:14550", NetworkAddress(kind="udpout", host="10.0.0.2", port=14550)),
        ("udpin:0.0.0.0:0", NetworkAddress(kind="udpin", host="0.0.0.0", port=0)),
        ("udpout:[::1]:14550", NetworkAddress(kind="udpout", host="::1", port=14550)),
        ("udpin:14550", NetworkAddress(kind="udpin", host="127.0.0.1", port=14550)),
        ("tcpin:5760", NetworkAddress(kind="tcpin", host="127.0.0.1", port=5760)),
        ("tcpout:[::1]:5760", NetworkAddress(kind="tcpout", host="::1", port=5760)),
        ("file:/data/a:b.tlog", FileAddress(path="/data/a:b.tlog")),
        ("serial:/dev/ttyTHS1:921600", SerialAddress(device="/dev/ttyTHS1", baud=921_600)),
        ("serial:/dev/by-id/a:b-if00:57600", SerialAddress(device="/dev/by-id/a:b-if00", baud=57_600)),
    ],
)
def test_each_form_of_link_is_understood(link: str, address: NetworkAddress | SerialAddress | FileAddress) -> None:
    assert parse_link(link) == address


@pytest.mark.parametrize(
    "link",
    [
        "", "udp:127.0.0.1:14550", "udpin::14550", "tcpout:5760", "tcpout:127.0.0.1:0", "tcp:127.0.0.1:5760",
        "file:", "udpout:127.0.0.1", "udpout::14550", "udpout:127.0.0.1:0", "udpin:127.0.0.1:65536",
        "udpout:127.0.0.1:-1", "udpout:a:b:14550", "serial:/dev/ttyUSB0", "serial:/dev/ttyUSB0:9", "serial::57600",
        "udpout:127.0.0.1:14550x", "udpout:127.0.0.1:\u0661\u0664",
    ],
)  # fmt: skip
def test_a_link_that_is_nonsense_is_refused_with_an_example_or_the_range(link: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_link(link)


def test_a_port_in_use_is_refused_with_the_remedy(server: UdpServer, clock: VirtualClock) -> None:
    with pytest.raises(LinkError, match=f"udpin:127.0.0.1:{server.port}.*name another port"):
        open_link(f"udpin:127.0.0.1:{server.port}", 1, 191, clock)


def test_an_address_of_another_machine_cannot_be_listened_on(clock: VirtualClock) -> None:
    with pytest.raises(LinkError, match="name an address of this machine"):
        open_link("udpin:192.0.2.1:14550", 1, 191, clock)


def test_a_client_sends_to_its_peer_and_hears_only_that_one(
    peer: socket.socket, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = UdpClient("udpout", NetworkAddress(kind="udpout", host="127.0.0.1", port=peer.getsockname()[1]), clock)
    client.send(FRAME)
    data, address = peer.recvfrom(100)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for _ in range(2):
            stranger.sendto(b"stranger", address)
        peer.sendto(b"answer", address)
        place = name_of(stranger)

        heard = arrived(client)

    assert data == FRAME
    assert heard == [b"answer"]
    assert client.counts.refused == 2
    assert [record.message for record in caplog.records] == [
        f"link udpout: datagrams of {place} are not heard, only those of its one peer: name that address, or use udpin"
    ]
    assert client.counts.frames_sent == 1
    client.close()


def test_a_dead_peer_is_no_error(clock: VirtualClock) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    client = UdpClient("udpout", NetworkAddress(kind="udpout", host="127.0.0.1", port=port), clock)

    for _ in range(3):
        client.send(FRAME)
        assert client.receive() == []

    client.close()


def test_a_frame_that_the_system_refuses_is_counted_and_told_of_once(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    client = UdpClient("udpout", NetworkAddress(kind="udpout", host="255.255.255.255", port=9), clock)

    for _ in range(3):
        client.send(FRAME)

    assert (client.counts.frames_sent, client.counts.frames_dropped) == (0, 3)
    assert [record.message for record in caplog.records] == [
        "link udpout: not sent (permission denied): look at the network; trying on"
    ]
    client.close()


def test_a_server_answers_whoever_is_welcome_until_long_silent(
    server: UdpServer, peer: socket.socket, clock: VirtualClock
) -> None:
    server.send(b"nobody is here")
    peer.sendto(b"hello", ("127.0.0.1", server.port))
    heard = arrived(server)
    server.send(b"it is not welcome yet")
    server.welcome(name_of(peer), is_proven=True)
    server.send(FRAME)
    clock.advance_to(clock.now_ns() + CLIENT_EXPIRY_NS)
    server.send(FRAME)
    clock.advance_to(clock.now_ns() + 1)
    server.send(FRAME)

    assert heard == [b"hello"]
    assert [peer.recv(100), peer.recv(100)] == [FRAME, FRAME]
    assert server.clients == 0
    assert server.counts.frames_sent == 2


def name_of(sock: socket.socket) -> str:
    return f"127.0.0.1:{sock.getsockname()[1]}"


def test_a_server_turns_away_more_clients_than_it_has_places_for(server: UdpServer, clock: VirtualClock) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(MAX_CLIENTS + 2)
        ]
        for sock in sockets:
            sock.sendto(b"hello", ("127.0.0.1", server.port))
            assert arrived(server) == [b"hello"]
            server.welcome(name_of(sock), is_proven=True)

        assert server.clients == MAX_CLIENTS
        assert server.counts.refused == 2

        clock.advance_to(clock.now_ns() + CLIENT_EXPIRY_NS + 1)
        sockets[-1].sendto(b"again", ("127.0.0.1", server.port))
        assert arrived(server) == [b"again"]
        server.welcome(name_of(sockets[-1]), is_proven=True)

        assert server.clients == 1


def test_who_has_proven_itself_takes_the_place_of_one_who_has_not(server: UdpServer) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(MAX_CLIENTS + 2)
        ]
        for number, sock in enumerate(sockets):
            sock.settimeout(5)
            sock.sendto(b"hello", ("127.0.0.1", server.port))
            assert arrived(server) == [b"hello"]
            server.welcome(name_of(sock), is_proven=number == MAX_CLIENTS)
        server.send(FRAME)

        assert server.clients == MAX_CLIENTS
        assert sockets[MAX_CLIENTS].recv(100) == FRAME
        assert server.counts.refused == 1


def test_a_flood_of_long_datagrams_holds_nobody_up(server: UdpServer, peer: socket.socket) -> None:
    for _ in range(12):
        peer.sendto(b"\xfe" * READ_BYTES, ("127.0.0.1", server.port))
    server.wait(5)
    first = server.receive()
    rest = server.receive()

    assert sum(len(data) for _, data in first) == READ_AT_ONCE_BYTES
    assert len(first) + len(rest) == 12


@pytest.mark.parametrize(("required", "clients"), [("none", 2), ("all", 1)])
def test_only_those_whose_frames_count_hear_us_and_noise_takes_nobodys_place(
    server: UdpServer, clock: VirtualClock, peer: socket.socket, required: Any, clients: int
) -> None:
    link = Link(server, 1, 191, clock, Security(require_signed=required, signing=signatures.signing()))
    with contextlib.ExitStack() as stack:
        for _ in range(3 * MAX_CLIENTS):
            noisy = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            noisy.sendto(bytes(range(200)), ("127.0.0.1", server.port))
        unsigned = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        unsigned.sendto(signatures.plain(signatures.heartbeat()), ("127.0.0.1", server.port))
        peer.sendto(signatures.signed(signatures.heartbeat(), signatures.NOW), ("127.0.0.1", server.port))
        names: list[str] = []
        while len(names) < clients:
            server.wait(5)
            names += [item.name for item in link.receive()]

    assert names == ["HEARTBEAT"] * clients
    assert server.clients == clients
    link.send(standard.heartbeat(4))
    assert peer.recv(300)[7:10] == b"\0\0\0"


def test_a_telemetry_log_reads_back_with_our_own_reader_and_goes_on_at_its_end(
    tmp_path: Path, clock: VirtualClock
) -> None:
    place = tmp_path / "flight.tlog"
    sent = []
    for _ in range(2):
        link = open_link(f"file:{place}", 1, 191, clock)
        for _ in range(300):
            link.send(standard.heartbeat(4))
        assert link.receive() == []
        link.close()
        sent.append(link.transport.counts.frames_sent)

    flight = read_tlog(place)

    assert sent == [300, 300]
    assert flight.messages == 600
    assert flight.damage == {}


def test_a_telemetry_log_leaves_the_last_of_the_disk_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.mavlink.ports.tlog_file.MIN_FREE_BYTES", 1 << 62)
    transport = TlogFile("file", FileAddress(path=str(tmp_path / "flight.tlog")))
    for _ in range(100):
        transport.send(FRAME)
    transport.close()

    assert (transport.counts.frames_sent, transport.counts.frames_dropped) == (0, 100)
    assert (tmp_path / "flight.tlog").stat().st_size == 0
    assert ["make room" in record.message for record in caplog.records] == [True]


def test_a_disk_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.mavlink.ports.tlog_file.END_S", 0.05)
    place = tmp_path / "flight.tlog"
    os.mkfifo(place)
    pipe = os.open(place, os.O_RDWR | os.O_NONBLOCK)
    transport = TlogFile("file", FileAddress(path=str(place)))
    for _ in range(MAX_WAITING + 1000):
        transport.send(bytes(250))
    transport.close()
    while transport._writer.is_alive():
        select.select([pipe], [], [], 0.05)
        with contextlib.suppress(BlockingIOError):
            os.read(pipe, 1 << 20)
        with contextlib.suppress(queue.Full):
            transport._waiting.put_nowait(None)
    os.close(pipe)

    assert ["the disk hangs" in record.message for record in caplog.records] == [True]


def test_a_telemetry_log_in_a_folder_that_is_not_there_is_refused(tmp_path: Path, clock: VirtualClock) -> None:
    with pytest.raises(LinkError, match="name a file in a folder that exists"):
        open_link(f"file:{tmp_path}/absent/flight.tlog", 1, 191, clock)
