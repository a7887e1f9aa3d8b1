import contextlib
import itertools
import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from edge.clock import SystemClock, VirtualClock
from edge.mavlink.network.link import open_link
from edge.mavlink.ports.backoff import BACKOFF_NS, JITTER
from edge.mavlink.ports.tcp import MAX_BACKLOG_BYTES, MAX_CLIENTS, READ_BYTES, TcpClient, TcpServer
from edge.mavlink.ports.transport import NetworkAddress
from models.errors import LinkError

FRAME = b"\xfd" + bytes(19)
PATIENCE_S = 30
LONGEST_PAUSE_NS = round(BACKOFF_NS[-1] * (1 + JITTER))


def listener(port: int = 0) -> socket.socket:
    """Return a server that is not ours."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(8)
    sock.settimeout(PATIENCE_S)
    return sock


def client_of(port: int, clock: VirtualClock | SystemClock) -> TcpClient:
    return TcpClient("tcpout", NetworkAddress(kind="tcpout", host="127.0.0.1", port=port), clock)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_000_000_000)


@pytest.fixture
def server() -> Iterator[TcpServer]:
    transport = TcpServer("tcpin", NetworkAddress(kind="tcpin", host="127.0.0.1", port=0))
    with contextlib.closing(transport):
        yield transport


def until(transport: TcpClient | TcpServer, is_true: Callable[[bytes], bool]) -> bytes:
    """Serve a transport until something is true of what it has received; return that."""
    received = b""
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_true(received):
        assert time.monotonic() < deadline_s, "waited too long"
        transport.wait(0.05)
        received += b"".join(data for _, data in transport.receive())
    return received


def read(sock: socket.socket, size: int) -> bytes:
    """Return exactly so many bytes."""
    data = b""
    while len(data) < size:
        data += sock.recv(size - len(data)) or pytest.fail("closed")
    return data


def test_a_client_and_a_server_of_ours_understand_each_other(server: TcpServer, clock: VirtualClock) -> None:
    client = client_of(server.port, clock)
    until(client, lambda _: client.is_open)
    client.send(FRAME)
    heard = until(server, lambda received: len(received) == len(FRAME))
    server.send(b"answer")

    assert heard == FRAME
    assert until(client, lambda received: len(received) == 6) == b"answer"
    assert (client.counts.frames_sent, server.counts.frames_sent) == (1, 1)
    client.close()


def test_a_server_that_restarts_is_found_again_and_hears_nothing_old(clock: VirtualClock) -> None:
    first = listener()
    port = first.getsockname()[1]
    client = client_of(port, clock)
    until(client, lambda _: client.is_open)
    accepted, _ = first.accept()
    client.send(b"first")
    assert read(accepted, 5) == b"first"
    accepted.close()
    first.close()
    until(client, lambda _: not client.is_open)
    for _ in range(60):
        client.send(b"while it is away")
        clock.advance_to(clock.now_ns() + 1_000_000_000)

    with listener(port) as second:
        clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
        until(client, lambda _: client.is_open)
        client.send(b"again")
        accepted, _ = second.accept()
        assert read(accepted, 5) == b"again"
        accepted.close()

    assert client.counts.frames_sent == 2
    assert client.counts.frames_dropped == 60
    client.close()


def test_a_server_that_is_not_there_yet_is_waited_for(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    with listener() as absent:
        port = absent.getsockname()[1]
    client = client_of(port, clock)
    for _ in range(10):
        clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
        client.send(FRAME)
    assert not client.is_open
    with listener(port):
        clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
        until(client, lambda _: client.is_open)

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "trying again for ever" in caplog.text
    client.close()


def test_a_link_whose_peer_falls_silent_is_connected_anew(clock: VirtualClock) -> None:
    with listener() as server:
        client = client_of(server.getsockname()[1], clock)
        until(client, lambda _: client.is_open)
        server.accept()[0].close()
        client.reopen()
        assert not client.is_open
        clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
        until(client, lambda _: client.is_open)
        client.close()


def test_a_reader_that_hangs_costs_whole_frames_and_no_time(server: TcpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        until(server, lambda _: bool(server._clients))
        frames = [number.to_bytes(2, "big") * 100 for number in range(20_000)]
        for frame in frames:
            server.send(frame)
            if server.counts.frames_dropped:
                break
        sent = server.counts.frames_sent
        received = b""
        while len(received) < 200 * sent:
            select.select([peer], [], [], PATIENCE_S)
            received += peer.recv(1 << 20)
            server.receive()

    assert server.counts.frames_dropped == 1
    assert received == b"".join(frames[:sent])
    assert len(server._clients[0]._backlog) <= MAX_BACKLOG_BYTES


def test_every_client_gets_every_frame_and_who_left_costs_the_others_nothing(server: TcpServer) -> None:
    one = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    other = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    until(server, lambda _: len(server._clients) == 2)
    server.send(FRAME)
    one.close()
    until(server, lambda _: len(server._clients) == 1)
    server.send(FRAME)

    assert read(other, 2 * len(FRAME)) == FRAME * 2
    other.close()


def connected(server: TcpServer, count: int) -> list[socket.socket]:
    sockets = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) for _ in range(count)]
    until(server, lambda _: len(server._clients) + server.counts.refused == count)
    return sockets


def test_more_clients_that_count_than_there_is_room_for_are_turned_away(server: TcpServer) -> None:
    sockets = connected(server, MAX_CLIENTS)
    for client in server._clients:
        server.welcome(client.peer, is_proven=True)
    more = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    until(server, lambda _: server.counts.refused == 1)

    assert len(server._clients) == MAX_CLIENTS
    assert more.recv(1) == b""
    for sock in [*sockets, more]:
        sock.close()


def test_connections_on_which_nothing_came_that_counts_make_room_the_oldest_first(server: TcpServer) -> None:
    sockets = connected(server, MAX_CLIENTS)
    server.welcome(server._clients[0].peer, is_proven=True)
    server.welcome(server._clients[1].peer, is_proven=False)
    more = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    until(server, lambda _: server.counts.refused == 1)
    server.send(FRAME)

    assert sockets[1].recv(1) == b""
    assert [read(sock, len(FRAME)) for sock in (sockets[0], sockets[2], more)] == [FRAME] * 3
    for sock in [*sockets, more]:
        sock.close()


def test_a_port_in_use_is_refused_with_the_remedy(server: TcpServer, clock: VirtualClock) -> None:
    with pytest.raises(LinkError, match="name another port"):
        open_link(f"tcpin:{server.port}", 1, 191, clock)


def test_a_server_that_hangs_up_at_once_is_told_of_once_and_tried_with_longer_pauses(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with listener() as server:
        client = client_of(server.getsockname()[1], clock)
        began_ns, pauses_ns = clock.now_ns(), []
        for _ in range(4):
            until(client, lambda _: client.is_open)
            server.accept()[0].close()
            until(client, lambda _: not client.is_open)
            while not client.is_open and client._attempt is None:
                clock.advance_to(clock.now_ns() + BACKOFF_NS[0] // 10)
                client.receive()
            pauses_ns.append(clock.now_ns() - began_ns)
            began_ns = clock.now_ns()
        client.close()

    assert pauses_ns[-1] >= BACKOFF_NS[-1] * (1 - JITTER)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_network_that_swallows_what_is_sent_is_tried_again_and_holds_nobody_up(clock: VirtualClock) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        full.settimeout(PATIENCE_S)
        stack.enter_context(socket.create_connection(full.getsockname(), timeout=PATIENCE_S))
        client = client_of(full.getsockname()[1], clock)
        for _ in range(5):
            client.send(FRAME)
            clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS)
        assert not client.is_open
        full.accept()[0].close()
        while not client.is_open:
            client.wait(0.05)
            client.receive()
            clock.advance_to(clock.now_ns() + LONGEST_PAUSE_NS // 50)
        client.close()


def test_a_connection_to_itself_is_no_connection(clock: VirtualClock) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        client = client_of(1, clock)
        client.close()
        client._attempt = sock
        client._finish(0)

        assert not client.is_open


def test_a_flood_is_read_a_little_at_a_time(server: TcpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as peer:
        peer.sendall(bytes(100_000))
        pieces: list[int] = []
        until(server, lambda received: bool(pieces.append(len(received)) or len(received) == 100_000))

    assert max(after - before for before, after in itertools.pairwise(pieces)) <= READ_BYTES
