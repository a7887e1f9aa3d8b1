import fcntl
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from unittest.mock import Mock

import pytest
import zmq

from edge.transport import sockets
from edge.transport.sockets import BlockingPublisher, Publisher, Subscriber, check_endpoint
from models.errors import ConfigError, LinkError

TIMEOUT_MS = 10_000


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/s"


def is_heard(publisher: Publisher, subscriber: Subscriber, text: bytes) -> bool:
    """Send a text until the subscriber hears it; a connection is made only while the subscriber is asked."""
    for _ in range(500):
        publisher.send([text])
        parts = subscriber.receive(20)
        if parts is not None and parts[0] == text:
            return True
    return False


def test_parts_arrive_together_in_order(endpoint: str) -> None:
    with Publisher(endpoint) as publisher, Subscriber(endpoint) as subscriber:
        assert publisher.wait_for_listeners(1, 10.0)
        for n in range(5):
            publisher.send([b"header %d" % n, memoryview(b"payload")])
        received = [subscriber.receive(TIMEOUT_MS) for _ in range(5)]
    assert [[bytes(part) for part in parts or []] for parts in received] == [
        [b"header %d" % n, b"payload"] for n in range(5)
    ]


def test_buffers_live_as_long_as_they_are_used(endpoint: str) -> None:
    with Publisher(endpoint) as publisher, Subscriber(endpoint) as subscriber:
        assert publisher.wait_for_listeners(1, 10.0)
        publisher.send([b"a" * 100_000], keep=True)
        publisher.send([b"b" * 100_000], keep=True)
        first = subscriber.receive(TIMEOUT_MS)
        second = subscriber.receive(TIMEOUT_MS)
    assert first is not None
    assert second is not None
    assert (bytes(first[0]), bytes(second[0])) == (b"a" * 100_000, b"b" * 100_000)


def test_receiving_nothing_gives_none(endpoint: str) -> None:
    with Subscriber(endpoint) as subscriber:
        assert subscriber.receive(10) is None


def test_a_subscriber_may_come_before_its_publisher_and_outlive_it(endpoint: str) -> None:
    with Subscriber(endpoint) as subscriber:
        for text in (b"first", b"second"):
            with Publisher(endpoint) as publisher:
                assert is_heard(publisher, subscriber, text)


STALLING = """
import sys, threading
from edge.transport.sockets import Subscriber
with Subscriber(sys.argv[1]) as subscriber:
    for n in range(400):
        if subscriber.receive(10_000) is None:
            sys.exit("heard nothing")
        if n < 2:
            threading.Event().wait(2.0)
"""
"""Stalls for longer than any heartbeat's patience, while more comes than its queue holds; then reads on."""


def test_a_subscriber_that_stalls_while_messages_pour_in_lives_on(endpoint: str) -> None:
    with Publisher(endpoint) as publisher:
        stalling = subprocess.Popen([sys.executable, "-c", STALLING, endpoint])
        try:
            while stalling.poll() is None:
                publisher.send([bytes(64), bytes(1_000)])
                publisher.wait_for_listeners(2, 0.005)  # nobody else comes: some 200 messages a second
        finally:
            stalling.kill()
            stalling.wait()
    assert stalling.returncode == 0


def test_one_subscriber_hears_several_endpoints(tmp_path: Path) -> None:
    endpoints = [f"ipc://{tmp_path}/{name}" for name in "ab"]
    with Publisher(endpoints[0]) as a, Publisher(endpoints[1]) as b, Subscriber(endpoints) as subscriber:
        assert a.wait_for_listeners(1, 10.0)
        assert b.wait_for_listeners(1, 10.0)
        a.send([b"a"])
        b.send([b"b"])
        heard = [subscriber.receive(TIMEOUT_MS) for _ in range(2)]
    assert {bytes(parts[0]) for parts in heard if parts} == {b"a", b"b"}


def test_listeners_are_counted_as_they_come_and_go(endpoint: str) -> None:
    with Publisher(endpoint) as publisher:
        assert publisher.listeners() == 0
        first, second = Subscriber(endpoint), Subscriber(endpoint)
        assert publisher.wait_for_listeners(2, 10.0)
        first.close()
        assert any(publisher.listeners() == 1 for _ in range(1_000_000))
        assert not publisher.wait_for_listeners(2, 0.01)
        second.close()


@pytest.mark.parametrize("pattern", ["ipc://{}/s", "tcp://127.0.0.1:*"])
def test_an_oversized_message_drops_its_sender_and_the_next_small_one_arrives(tmp_path: Path, pattern: str) -> None:
    with (
        Publisher(pattern.format(tmp_path)) as publisher,
        Subscriber(publisher.endpoint, max_message_bytes=10_000) as subscriber,
    ):
        assert publisher.wait_for_listeners(1, 10.0)
        for text in (b"first", b"second"):
            publisher.send([bytes(10_001)])
            assert is_heard(publisher, subscriber, text)
        assert subscriber.broken_connections == 2


def test_parts_beyond_the_fourth_are_dropped_and_the_next_message_is_whole(endpoint: str) -> None:
    with Publisher(endpoint) as publisher, Subscriber(endpoint) as subscriber:
        assert publisher.wait_for_listeners(1, 10.0)
        publisher.send([b"%d" % n for n in range(1000)])
        publisher.send([b"next"])
        heard = [[bytes(part) for part in subscriber.receive(TIMEOUT_MS) or []] for _ in range(2)]
        assert subscriber.broken_connections == 0
    assert heard == [[b"0", b"1", b"2", b"3"], [b"next"]]


def test_random_bytes_on_the_port_reach_nobody_and_harm_nothing() -> None:
    with Publisher("tcp://127.0.0.1:*") as publisher, Subscriber(publisher.endpoint) as subscriber:
        port = int(publisher.endpoint.rsplit(":", 1)[1])
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(uuid.uuid4().bytes * 40)
        assert publisher.wait_for_listeners(1, 10.0)
        publisher.send([b"good"])
        parts = subscriber.receive(TIMEOUT_MS)
    assert [bytes(part) for part in parts or []] == [b"good"]


def test_a_slow_listener_loses_messages_and_never_holds_the_sender_up(endpoint: str) -> None:
    with Publisher(endpoint, high_water_mark=2) as publisher, Subscriber(endpoint, high_water_mark=2) as subscriber:
        assert publisher.wait_for_listeners(1, 10.0)
        for n in range(2000):
            publisher.send([b"%d" % n, bytes(10_000)])
        received = []
        while (parts := subscriber.receive(200)) is not None:
            received.append(int(bytes(parts[0])))
    assert 0 < len(received) < 2000
    assert received == sorted(set(received))


def test_a_blocking_publisher_loses_nothing_to_a_slow_listener(endpoint: str) -> None:
    with BlockingPublisher(endpoint, high_water_mark=2) as publisher:
        received: list[int] = []

        def listen() -> None:
            with Subscriber(endpoint, high_water_mark=2) as subscriber:
                while len(received) < 500 and (parts := subscriber.receive(TIMEOUT_MS)) is not None:
                    received.append(int(bytes(parts[0])))

        listener = threading.Thread(target=listen)
        listener.start()
        assert publisher.wait_for_listeners(1, 10.0)
        for n in range(500):
            publisher.send([b"%d" % n, bytes(10_000)])
        listener.join(30.0)
    assert received == list(range(500))


def test_a_blocking_publisher_waits_for_a_listener_that_hangs_only_as_long_as_that_is_wanted(endpoint: str) -> None:
    with BlockingPublisher(endpoint, high_water_mark=2) as publisher, Subscriber(endpoint, high_water_mark=2) as hung:
        assert publisher.wait_for_listeners(1, 10.0)
        sent = 0
        while publisher.send_while(iter([True, True, False]).__next__, [b"%d" % sent, bytes(1 << 20)]):
            sent += 1
        received = []
        while (parts := hung.receive(500)) is not None:
            received.append((int(bytes(parts[0])), len(parts)))
    assert received == [(n, 2) for n in range(sent)]


@pytest.mark.parametrize(
    "endpoint",
    ["ipc:///tmp/x", "inproc://x", "tcp://127.0.0.1:65535", "tcp://127.0.1.1:1", "tcp://localhost:*", "tcp://[::1]:9"],
)
def test_endpoints_on_this_machine_are_accepted(endpoint: str) -> None:
    check_endpoint(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://0.0.0.0:5555",
        "tcp://*:5555",
        "tcp://192.168.1.5:5555",
        "tcp://127.0.0.1.example.com:5555",
        "tcp://127.0.0.1:5555;tcp://0.0.0.0:1",
        "tcp://eth0:5555",
        "tcp://127.0.0.1:80\n",
        "udp://127.0.0.1:5",
        "pgm://eth0;239.0.0.1:5555",
        "ipc://",
        "ipc://@abstract",
        "ipc://*",
        "ipc:///tmp/a\0b",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:\u0661",
        "",
    ],
)
def test_endpoints_beyond_this_machine_are_refused_by_every_socket(endpoint: str) -> None:
    for make in (check_endpoint, Publisher, Subscriber):
        with pytest.raises(ConfigError, match="expected ipc://PATH or tcp://127"):
            make(endpoint)


def test_a_port_in_use_is_refused_with_what_to_check() -> None:
    with (
        Publisher("tcp://127.0.0.1:*") as first,
        pytest.raises(LinkError, match=r"cannot bind .*is another process using it"),
    ):
        Publisher(first.endpoint)


def test_an_ipc_path_in_use_is_refused_and_keeps_its_owner(endpoint: str) -> None:
    with Publisher(endpoint) as first, Subscriber(endpoint) as subscriber:
        with pytest.raises(LinkError, match=r"cannot bind: is another process using it\?"):
            Publisher(endpoint)
        assert is_heard(first, subscriber, b"still here")


@pytest.mark.parametrize("backlog", [0, 5])
def test_a_listener_that_knows_no_lock_is_not_robbed_even_when_it_is_busy(tmp_path: Path, backlog: int) -> None:
    with socket.socket(socket.AF_UNIX) as owner, socket.socket(socket.AF_UNIX) as caller:
        owner.bind(f"{tmp_path}/s")
        owner.listen(backlog)
        caller.connect(f"{tmp_path}/s")
        with pytest.raises(LinkError, match="is another process using it"):
            Publisher(f"ipc://{tmp_path}/s")
        assert (tmp_path / "s").is_socket()


def test_a_file_at_an_ipc_path_is_refused_and_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(LinkError, match=r"exists and is no socket\): remove it or name another"):
        Publisher(f"ipc://{tmp_path}/s")
    assert (tmp_path / "s").read_text() == "precious"


def test_a_link_at_an_ipc_path_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "s").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LinkError, match="is no socket"):
        Publisher(f"ipc://{tmp_path}/s")
    assert (tmp_path / "s").is_symlink()


def test_a_socket_that_a_killed_process_left_behind_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(f"{tmp_path}/s")
    with Publisher(f"ipc://{tmp_path}/s") as publisher, Subscriber(f"ipc://{tmp_path}/s") as subscriber:
        assert is_heard(publisher, subscriber, b"replaced")


def test_a_closed_publisher_leaves_no_socket_and_its_path_free(tmp_path: Path) -> None:
    for _ in range(3):
        publisher = Publisher(f"ipc://{tmp_path}/s")
        publisher.close()
        publisher.close()
        assert not (tmp_path / "s").exists()


def test_a_starter_waits_for_nobody_who_holds_the_lock_but_has_not_bound_yet(tmp_path: Path) -> None:
    with (tmp_path / "s.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LinkError, match="is another process using it"):
            Publisher(f"ipc://{tmp_path}/s")


def test_an_ipc_path_is_accepted_to_the_limit_and_refused_beyond(tmp_path: Path) -> None:
    name = "x" * (106 - len(str(tmp_path)))
    with Publisher(f"ipc://{tmp_path}/{name}"):
        assert (tmp_path / name).is_socket()
    with pytest.raises(LinkError, match=r"cannot bind \(a path of 108 bytes\): at most 107 fit"):
        Publisher(f"ipc://{tmp_path}/{name}x")


@pytest.mark.parametrize("folder", ["file", "file/below", "not-mine"])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    if folder == "not-mine":
        monkeypatch.setattr(Path, "mkdir", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(LinkError, match="name a path in a folder that you may write to"):
        Publisher(f"ipc://{tmp_path}/{folder}/s")


def test_the_folder_of_an_ipc_endpoint_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    with Publisher(f"ipc://{tmp_path}/new/s"):
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", [Publisher, Subscriber])
def test_every_socket_has_its_limits(endpoint: str, kind: type[Publisher] | type[Subscriber]) -> None:
    with kind(endpoint) as made:
        inner: zmq.Socket[bytes] = made._socket
        assert 0 < inner.getsockopt(zmq.MAXMSGSIZE) <= sockets.MAX_MESSAGE_BYTES
        assert 0 < inner.getsockopt(zmq.RCVHWM) <= sockets.HIGH_WATER_MARK
        assert 0 < inner.getsockopt(zmq.SNDHWM) <= sockets.HIGH_WATER_MARK
        assert inner.getsockopt(zmq.LINGER) == 0
        assert inner.getsockopt(zmq.HEARTBEAT_IVL) == 0  # libzmq would abort: see the test above that stalls
        assert inner.getsockopt(zmq.HANDSHAKE_IVL) > 0


def test_no_socket_conflates_because_that_tears_messages_apart(root: Path) -> None:
    code = [path.read_text() for folder in ("edge", "models") for path in (root / folder).rglob("*.py")]
    assert len(code) > 20
    assert not any("CONFLATE" in text for text in code)
