"""The socket factory: the only place that touches zmq, so that no socket lives without limits.

Loopback or ipc only: any other bind is refused here until keys exist for it.
"""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import zmq
from zmq.utils.monitor import recv_monitor_message

from edge.transport.socket_file import SocketFile
from edge.transport.wire import HEADER_BYTES
from models.errors import ConfigError, LinkError

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 << 20
HIGH_WATER_MARK = 64
HELD_S = 0.25
"""A busy board may stop a process for as long. 64 messages are 68 ms of 61.44 MS/s in 256 KiB, and on a machine with
three times the work it could do, 27 of 3,751 were lost."""
RECONNECT_AFTER_S = 0.5
_SHORTEST_QUEUE = 8
"""libzmq tells a sender in steps of half a queue that there is room again."""
MAX_PARTS = 4
"""Kept of a received message; ours have two, so that more are refused whatever they hold."""
_CHECK_PERIOD_S = 0.1
ROOM_TIMEOUT_MS = 100
"""How long a sender that loses nothing waits for slow listeners before it looks whether that is still wanted."""
_SUBSCRIBED, _UNSUBSCRIBED = b"\x01", b"\x00"
"""What a publisher hears of our subscribers; others may send it anything."""
_LOCAL = re.compile(
    r"ipc://[^*@\0\n][^\0\n]*|inproc://.+|tcp://(127(\.[0-9]{1,3}){3}|\[::1\]|localhost):(?P<port>[0-9]{1,5}|\*)"
)
"""No abstract ipc names (@): they have no folder that could keep other users out."""

Buffer = bytes | memoryview


def check_endpoint(endpoint: str) -> None:
    """Refuse an endpoint that reaches beyond this machine.

    Raises:
        ConfigError: not an ipc, inproc or loopback tcp endpoint.
    """
    match = _LOCAL.fullmatch(endpoint)
    port = match["port"] if match else None
    if not match or (port and port != "*" and not 1 <= int(port) <= 65_535):
        raise ConfigError(
            f"endpoint {endpoint!r}: expected ipc://PATH or tcp://127.0.0.1:PORT, 1 to 65535"
            " (streams carry no authentication, so they stay on this machine)"
        )


def queue_length(rate_hz: float, held_s: float = HELD_S) -> int:
    """Return how many messages of a stream a socket keeps while the process at either end is held up for `held_s`.

    And no more: where more is sent than can be received, all that is kept is older by so much.
    """
    return max(_SHORTEST_QUEUE, round(rate_hz * held_s))


class _Socket:
    """A zmq socket with this project's limits; closed by `close` or at the end of a `with`."""

    def __init__(self, kind: int, high_water_mark: int, max_message_bytes: int) -> None:
        self._file: SocketFile | None = None
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, high_water_mark)
        self._socket.setsockopt(zmq.RCVHWM, high_water_mark)
        self._socket.setsockopt(zmq.MAXMSGSIZE, max(max_message_bytes, HEADER_BYTES))
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, 2_000)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)

    def _bind(self, endpoint: str) -> None:
        try:
            if endpoint.startswith("ipc://"):
                self._file = SocketFile(Path(endpoint[len("ipc://") :]))
            self._socket.bind(endpoint)
        except LinkError:
            self.close()
            raise
        except zmq.ZMQError as error:
            self.close()
            raise LinkError(f"{endpoint}: cannot bind ({error}): is another process using it?") from error

    def _connect(self, endpoint: str) -> None:
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise LinkError(f"{endpoint}: cannot connect ({error})") from error

    @property
    def endpoint(self) -> str:
        """The endpoint in use, with the port that `tcp://...:*` was given."""
        return self._socket.getsockopt(zmq.LAST_ENDPOINT).decode().rstrip("\0")  # type: ignore[union-attr]

    def close(self, *, linger_ms: int = 0) -> None:
        """Close at once; what was not sent yet is sent in the background for `linger_ms`, then dropped."""
        self._socket.close(linger=linger_ms)
        if self._file is not None:
            self._file.release()
            self._file = None

    def __enter__(self):  # type: ignore[no-untyped-def] # noqa: ANN204 (Self needs Python 3.11)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Publisher(_Socket):
    """Binds an endpoint and sends to whoever listens; a slow listener loses messages, the sender never waits."""

    def __init__(self, endpoint: str, *, high_water_mark: int = HIGH_WATER_MARK) -> None:
        check_endpoint(endpoint)
        super().__init__(zmq.XPUB, high_water_mark, 1 << 16)
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._listeners = 0
        self._bind(endpoint)

    def send(self, parts: Sequence[Buffer], *, keep: bool = False) -> None:
        """Send one message of several parts. With `keep` the buffers are not copied and must stay unchanged."""
        self._socket.send_multipart(parts, copy=not keep)

    def listeners(self) -> int:
        """Return how many subscribers are connected now."""
        while self._socket.poll(0):
            note = self._socket.recv()
            self._listeners += {_SUBSCRIBED: 1, _UNSUBSCRIBED: -1}.get(note, 0)
        return self._listeners

    def wait_for_listeners(self, count: int, timeout_s: float) -> bool:
        """Wait until `count` subscribers are connected; say whether they came in time."""
        deadline = time.monotonic() + timeout_s
        while self.listeners() < count:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._socket.poll(int(min(left, 0.1) * 1000) + 1)
        return True


class BlockingPublisher(Publisher):
    """A publisher that waits for slow listeners instead of losing messages: for replay as fast as possible.

    A listener that hangs has no room for ever, so it waits for ROOM_TIMEOUT_MS, and then asks.
    """

    def __init__(self, endpoint: str, *, high_water_mark: int = HIGH_WATER_MARK) -> None:
        super().__init__(endpoint, high_water_mark=high_water_mark)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._socket.setsockopt(zmq.SNDTIMEO, ROOM_TIMEOUT_MS)

    def send(self, parts: Sequence[Buffer], *, keep: bool = False) -> None:
        """Send as soon as every listener has room, however long that takes; otherwise as any publisher."""
        while not self._is_sent(parts, keep=keep):
            pass

    def send_while(self, is_wanted: Callable[[], bool], parts: Sequence[Buffer]) -> bool:
        """Send as soon as every listener has room; say whether it was sent.

        Args:
            is_wanted: asked ten times a second while somebody has no room; where it is not, nothing is sent.
            parts: of the message.
        """
        while is_wanted():
            if self._is_sent(parts):
                return True
        return False

    def _is_sent(self, parts: Sequence[Buffer], *, keep: bool = False) -> bool:
        try:
            super().send(parts, keep=keep)
        except zmq.Again:  # with the first part: whoever has room for that takes the rest
            return False
        return True


class Subscriber(_Socket):
    """Receives everything published at one or more endpoints; reconnects by itself.

    libzmq reconnects when a connection breaks, but never again to a peer that broke the protocol, which one message
    over `max_message_bytes` does. Such a peer is connected to anew after RECONNECT_AFTER_S.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        high_water_mark: int = HIGH_WATER_MARK,
        pulls: bool = False,
    ) -> None:
        """Connect to publishers, or, where it `pulls`, to sockets that push: those wait for us and lose nothing."""
        self._endpoints = [endpoints] if isinstance(endpoints, str) else list(endpoints)
        for endpoint in self._endpoints:
            check_endpoint(endpoint)
        super().__init__(zmq.PULL if pulls else zmq.SUB, high_water_mark, max_message_bytes)
        if not pulls:
            self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.broken_connections = 0
        """How often a peer broke the protocol, most often by a message over `max_message_bytes`."""
        self._timeout_ms = -1
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED)
        self._dropped_s: dict[str, float] = {}
        """Endpoint, as libzmq writes it, and when its connection ended without another attempt so far."""
        self._checked_s = time.monotonic()
        for endpoint in self._endpoints:
            self._connect(endpoint)

    def receive(self, timeout_ms: int) -> list[memoryview] | None:
        """Return the next message's parts, at most MAX_PARTS, as views on zmq's own buffers; None after `timeout_ms`.

        The buffers live as long as the views do; nothing is copied. With a time-out of 0 it never waits.
        """
        now_s = time.monotonic()
        if now_s - self._checked_s > _CHECK_PERIOD_S:
            self._checked_s = now_s
            self._reconnect(now_s)
        if timeout_ms == 0 and not self._poller.poll(0):  # a third of what zmq.Again costs, and half of Socket.poll
            return None
        if timeout_ms not in (0, self._timeout_ms):
            self._socket.setsockopt(zmq.RCVTIMEO, timeout_ms)
            self._timeout_ms = timeout_ms
        try:
            frame = self._socket.recv(copy=False)
        except zmq.Again:
            return None
        parts = [frame.buffer]
        while frame.more:
            frame = self._socket.recv(copy=False)
            if len(parts) < MAX_PARTS:
                parts.append(frame.buffer)
        return parts

    def close(self, *, linger_ms: int = 0) -> None:
        """Close at once."""
        if not self._monitor.closed:
            self._socket.disable_monitor()
            self._monitor.close()
        super().close(linger_ms=linger_ms)

    def _reconnect(self, now_s: float) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            endpoint = event["endpoint"].decode()
            if event["event"] == zmq.EVENT_DISCONNECTED:
                self._dropped_s[endpoint] = now_s
            else:
                self._dropped_s.pop(endpoint, None)
        for endpoint, since_s in list(self._dropped_s.items()):
            if now_s - since_s > RECONNECT_AFTER_S:
                del self._dropped_s[endpoint]
                self.broken_connections += 1
                log.warning("%s: broke the protocol or sent too large a message: connecting again", endpoint)
                with contextlib.suppress(zmq.ZMQError):  # libzmq may have forgotten it
                    self._socket.disconnect(endpoint)
                self._socket.connect(endpoint)
