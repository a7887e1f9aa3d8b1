"""What waits in a socket of samples: as much as may be late, and no more."""

from collections import deque
from typing import Protocol


class Receives(Protocol):
    """A socket."""

    def receive(self, timeout_ms: int) -> list[memoryview] | None:
        """Return the next message's parts; None where none came within `timeout_ms`."""


class Backlog:
    """Hands out a socket's messages in their order, and says which of them come too late to be worth anything.

    A socket's own limit counts messages, whatever is in them, and it is the newest that it then drops. So it is emptied
    here, and bytes are counted: where more than `limit_bytes` wait behind a message, all that waits is stale.
    """

    def __init__(self, socket: Receives, limit_bytes: int | None) -> None:
        """Take a socket, and what may wait in it; None where nothing is ever too late."""
        self._socket = socket
        self._limit_bytes = limit_bytes
        self._waiting: deque[list[memoryview]] = deque()
        self._waiting_bytes = 0
        self._is_behind = False

    def receive(self, timeout_ms: int) -> tuple[list[memoryview], bool] | None:
        """Return the oldest message and whether it is stale; None where none came within `timeout_ms`."""
        limit_bytes = self._limit_bytes
        if limit_bytes is None:
            parts = self._socket.receive(timeout_ms)
            return None if parts is None else (parts, False)
        if not self._waiting and not self._take(timeout_ms):
            return None
        oldest_bytes = _size(self._waiting[0])
        while self._waiting_bytes - oldest_bytes <= limit_bytes and self._take(0):
            pass
        self._is_behind |= self._waiting_bytes - oldest_bytes > limit_bytes
        is_stale = self._is_behind
        parts = self._waiting.popleft()
        self._waiting_bytes -= oldest_bytes
        self._is_behind &= bool(self._waiting)
        return parts, is_stale

    def _take(self, timeout_ms: int) -> bool:
        parts = self._socket.receive(timeout_ms)
        if parts is None:
            return False
        self._waiting.append(parts)
        self._waiting_bytes += _size(parts)
        return True


def _size(parts: list[memoryview]) -> int:
    return sum(len(part) for part in parts)
