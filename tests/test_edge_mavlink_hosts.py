"""Links to hosts that are named: when names are asked for, and what becomes of a host that moves."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from edge.clock import VirtualClock
from edge.mavlink.network.link import open_link
from edge.mavlink.ports.backoff import BACKOFF_NS, JITTER
from edge.mavlink.ports.tcp import TcpClient
from edge.mavlink.ports.transport import NetworkAddress
from edge.mavlink.ports.udp import ASK_AGAIN_NS, UdpClient
from edge.mavlink.wire import standard
from models.errors import LinkError

PATIENCE_S = 30
LONGEST_PAUSE_NS = round(BACKOFF_NS[-1] * (1 + JITTER))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_000_000_000)


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE_S)
        yield sock


class NameServer:
    """Knows one name, as soon as it is told where that is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port: int | None = None
        self.asked = 0
        self._find = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.find)

    def find(self, host: str, port: int, **kwargs: Any) -> Any:
        if host != "ground" or kwargs.get("flags"):
            return self._find(host, port, **kwargs)
        self.asked += 1
        if self.port is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._find("127.0.0.1", self.port, **kwargs)


@pytest.mark.parametrize("kind", ["udpout", "tcpout"])
def test_a_host_that_nobody_knows_is_told_of_once_and_found_later(
    kind: str, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = NameServer(monkeypatch)
    link = open_link(f"{kind}:ground:14550", 1, 191, clock)
    host = cast(UdpClient | TcpClient, link.transport)._host
    for attempt in range(3):
        host.wait(PATIENCE_S)
        link.send(standard.heartbeat(4))
        clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
        link.send(standard.heartbeat(4))
        assert names.asked == attempt + 2
    told = [record.message for record in caplog.records]
    with socket.create_server(("127.0.0.1", 0)) as found:
        names.port = found.getsockname()[1]
        while not link.transport.is_open:
            host.wait(PATIENCE_S)
            clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
            link.receive()

    assert [text.split(": ")[1:3] for text in told] == [
        ["host ground not found (Name or service not known)", "check the name, and the network; asking again"]
    ]
    assert link.transport.counts.frames_dropped == 6
    link.close()


def test_an_address_to_listen_at_that_does_not_exist_is_refused(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    NameServer(monkeypatch)

    with pytest.raises(LinkError, match=r"host ground not found.*check the name"):
        open_link("udpin:ground:14550", 1, 191, clock)


def test_a_peer_that_moves_is_found_where_it_is_now_after_it_was_not_heard(
    clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = NameServer(monkeypatch)
    with contextlib.ExitStack() as stack:
        before, after = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        for sock in (before, after):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(PATIENCE_S)
        names.port = before.getsockname()[1]
        client = UdpClient("udpout", NetworkAddress(kind="udpout", host="ground", port=14550), clock)
        client._host.wait(PATIENCE_S)
        client.send(b"before")
        names.port = after.getsockname()[1]
        client.reopen()
        client._host.wait(PATIENCE_S)
        client.send(b"after")
        client.close()

        assert (before.recv(100), after.recv(100)) == (b"before", b"after")


def test_a_peer_that_moves_long_after_it_was_lost_is_found(
    clock: VirtualClock, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = NameServer(monkeypatch)
    names.port = 9
    client = UdpClient("udpout", NetworkAddress(kind="udpout", host="ground", port=14550), clock)
    for _ in range(6):
        client._host.wait(PATIENCE_S)
        client.receive()
        clock.advance_to(clock.now_ns() + ASK_AGAIN_NS)
    client._host.wait(PATIENCE_S)
    names.port = peer.getsockname()[1]
    client.receive()  # asks
    client._host.wait(PATIENCE_S)
    client.send(b"found")
    data, address = peer.recvfrom(100)
    asked = names.asked
    for _ in range(6):
        clock.advance_to(clock.now_ns() + ASK_AGAIN_NS)
        peer.sendto(b"here", address)
        client.wait(PATIENCE_S)
        assert [data for _, data in client.receive()] == [b"here"]
    client.close()

    assert data == b"found"
    assert (asked, names.asked) == (7, 7)
