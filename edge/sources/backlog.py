"""What waits in a socket of samples: as much as may be late, and no more."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol


class Receives(Protocol):
    """A socket."""

    def receive(self, timeout_ms: int) -> list[memoryview] | None:
        """Return the next message's parts; None where none came within `timeout_ms`."""


class Waited(NamedTuple):
    """A message that a socket had."""

    parts: list[memoryview]
    empty_ns: int
    """A moment at which the socket was empty, and after which the message came."""
    is_stale: bool = False
    """Whether too much waited behind it."""


class Backlog:
    """Hands out a socket's messages in their order, and says which of them come too late to be worth anything.

    A socket's own limit counts messages, whatever is in them, and it is the newest that it then drops. So it is emptied
    here, and bytes are counted: where more than `limit_bytes` wait behind a message, all that waits is stale.
    """

    limit_bytes: int | None
    """What may wait; None where nothing is ever too late. It may change at any time."""

    def __init__(self, socket: Receives, limit_bytes: int | None, now_ns: Callable[[], int]) -> None:
        """Take a socket, what may wait in it, and the board's clock."""
        self.limit_bytes = limit_bytes
        self._socket = socket
        self._now_ns = now_ns
        self._empty_ns = now_ns()
        self._waiting: deque[Waited] = deque()
        self._waiting_bytes = 0
        self._is_behind = False

    def receive(self, timeout_ms: int) -> Waited | None:
        """Return the oldest message; None where none came within `timeout_ms`."""
        if not self._waiting and not self._take(timeout_ms):
            return None
        limit_bytes = self.limit_bytes
        if limit_bytes is None:
            return self._pop()
        oldest_bytes = _size(self._waiting[0].parts)
        while self._waiting_bytes - oldest_bytes <= limit_bytes and self._take(0):
            pass
        self._is_behind |= self._waiting_bytes - oldest_bytes > limit_bytes
        oldest = self._pop()
        if not self._is_behind:
            return oldest
        self._is_behind = bool(self._waiting)
        return oldest._replace(is_stale=True)

    def _pop(self) -> Waited:
        oldest = self._waiting.popleft()
        self._waiting_bytes -= _size(oldest.parts)
        return oldest

    def _take(self, timeout_ms: int) -> bool:
        looked_ns = self._now_ns()
        parts = self._socket.receive(timeout_ms)
        if parts is None:
            self._empty_ns = looked_ns
            return False
        self._waiting.append(Waited(parts, self._empty_ns))
        self._waiting_bytes += _size(parts)
        return True


def _size(parts: list[memoryview]) -> int:
    return sum(len(part) for part in parts)
