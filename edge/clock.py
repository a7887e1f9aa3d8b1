"""Time as the pipeline sees it: nanoseconds since an arbitrary start, never going back."""

import time
from typing import Protocol


class Clock(Protocol):
    """Whatever tells the time: the system in flight, a virtual clock in exact replay and tests."""

    def now_ns(self) -> int:
        """Return nanoseconds, monotonic, in the time base of all capture times."""
        ...


class SystemClock:
    """The board's monotonic clock, shared by all processes on it."""

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC in nanoseconds."""
        return time.monotonic_ns()


class VirtualClock:
    """A clock that moves only when told to, forward."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Return the time last advanced to."""
        return self._now_ns

    def advance_to(self, now_ns: int) -> None:
        """Move forward to `now_ns`; an earlier time changes nothing."""
        self._now_ns = max(self._now_ns, now_ns)
