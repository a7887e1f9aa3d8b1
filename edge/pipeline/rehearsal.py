"""When to compute once for practice: shortly before the next message is due, so that it finds warm caches.

Between two messages of a 100 Hz radio a processor sleeps, and other work takes its caches: the same inference takes
twice its time, all the rest five times. A rehearsal on the last message just before the next one takes that away, at
the price of computing everything twice. It pays where a source keeps time: a message that comes early has to wait.
"""

NEVER_NS = 1 << 62
_LEARNING_SHARE = 1 / 16
_TIMING_SHARE = 1 / 8
_FORGETTING_SHARE = 1 / 64
_LEAD = 1.5
"""Times that a rehearsal took: half of that is left for a message that comes a little early."""


class Rehearsal:
    """Foretells a stream's next message from those before, in one thread."""

    def __init__(self, period_ns: int) -> None:
        """Begin with the period that the deployment states."""
        self._period_ns = float(period_ns)
        self._arrived_ns: int | None = None
        self._took_ns = period_ns / 8
        """Of a rehearsal, smoothed: a guess, until some were timed."""
        self._is_done = True

    def note_arrival(self, now_ns: int) -> None:
        """Learn from a message that came in."""
        if self._arrived_ns is not None:
            gap_ns = now_ns - self._arrived_ns
            if self._period_ns / 2 < gap_ns < self._period_ns * 2:  # others tell of a loss or a burst, not of the pace
                self._period_ns += _LEARNING_SHARE * (gap_ns - self._period_ns)
        self._arrived_ns = now_ns
        self._is_done = False
        if self._takes_long():
            self._took_ns *= 1 - _FORGETTING_SHARE  # so that it is tried again once in a while

    def note_done(self, started_ns: int, now_ns: int) -> None:
        """Learn how long a rehearsal takes; there is none more until the next message."""
        self._took_ns += _TIMING_SHARE * (now_ns - started_ns - self._took_ns)
        self._is_done = True

    def due_ns(self) -> int:
        """Return when to begin, so as to be done before the message comes; NEVER_NS where it is done or takes long."""
        if self._is_done or self._arrived_ns is None or self._takes_long():
            return NEVER_NS
        return self._arrived_ns + round(self._period_ns - _LEAD * self._took_ns)

    def _takes_long(self) -> bool:
        return _LEAD * self._took_ns > self._period_ns / 2
