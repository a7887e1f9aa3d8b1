"""What state a link is in. Pure: times come in as arguments.

    CLOSED     the port is not there
    OPEN       it is; nobody was heard
    HEARD      frames come, and no heartbeat yet
    UP         a heartbeat came within 3 s
    LATE       within 10 s
    LOST       not any more; a serial port and a TCP connection are then opened anew

Heartbeats alone tell: writing to UDP never fails, and a serial adapter swallows bytes for a board that is off.
"""

import enum

LATE_NS = 3_000_000_000
LOST_NS = 10_000_000_000


class State(enum.Enum):
    """Of a link."""

    CLOSED = "closed"
    OPEN = "open"
    HEARD = "heard"
    UP = "up"
    LATE = "late"
    LOST = "lost"


class LinkState:
    """Follows one link."""

    def __init__(self) -> None:
        self._is_open = False
        self._is_heard = False
        self._heartbeat_ns: int | None = None

    def note_port(self, *, is_open: bool) -> None:
        """Take notice of whether the port is there; one that went away begins anew."""
        if not is_open:
            self._is_heard, self._heartbeat_ns = False, None
        self._is_open = is_open

    def note_frame(self) -> None:
        """Take notice of a frame of somebody."""
        self._is_heard = True

    def note_heartbeat(self, now_ns: int) -> None:
        """Take notice of a heartbeat of somebody."""
        self._is_heard = True
        self._heartbeat_ns = now_ns

    def at(self, now_ns: int) -> State:
        """Return the state at a time."""
        if not self._is_open:
            return State.CLOSED
        if self._heartbeat_ns is None:
            return State.HEARD if self._is_heard else State.OPEN
        age_ns = now_ns - self._heartbeat_ns
        return State.UP if age_ns <= LATE_NS else State.LATE if age_ns <= LOST_NS else State.LOST
