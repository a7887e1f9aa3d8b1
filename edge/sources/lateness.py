"""Whether samples that come late have waited here, or belong to a flowgraph that is late itself."""

HELD_NS = 250_000_000
"""A message that came within this after its socket was empty has not waited there: while nothing comes the socket is
looked at every 100 ms. And for so long after one that has, others may still come from the queues before the socket."""
BEHIND_NS = 1_000_000_000
"""Samples that are all later than this, for SLOW_NS, are of a flowgraph that is slower than its sample rate."""
SLOW_NS = 1_000_000_000


class Lateness:
    """Judges messages by how late they come by their samples' own times.

    Bytes that wait are no measure of age where sockets are full: these keep the oldest messages, however short, and
    drop the newest. Times are one, but only beside the queue: samples that come late are thrown away where they may
    have waited here, and pass on as old as they are where not. Nor do late samples make a new clock, unless all are
    late for long while nothing waits: a clock that is set anew calls the old ones new.
    """

    def __init__(self, allowed_ns: int | None) -> None:
        """Take how late samples may come that have waited, HELD_NS at least; None where none is ever too late."""
        self.is_stale = False
        """Whether the message's samples have waited here for too long."""
        self.is_slow = False
        """Whether its flowgraph is slower than its sample rate, so that its times make no sense any more."""
        self._allowed_ns = None if allowed_ns is None else max(allowed_ns, HELD_NS)
        self._waited_at_ns: int | None = None
        """When the last message came that may have waited for too long."""
        self._behind_since_ns: int | None = None
        """Since when all samples have been late by more than BEHIND_NS, and none of them has waited."""

    def judge(self, late_ns: int, empty_ns: int, now_ns: int) -> None:
        """Judge a message that has just been taken.

        Args:
            late_ns: of its last sample, beyond the least delay that samples had.
            empty_ns: a moment at which all that had come was taken, and after which this message came.
            now_ns: the board's time.
        """
        allowed_ns = self._allowed_ns
        if allowed_ns is not None and now_ns - empty_ns > allowed_ns:
            self._waited_at_ns, self._behind_since_ns = now_ns, now_ns
        has_waited = self._waited_at_ns is not None and now_ns - self._waited_at_ns < HELD_NS
        self.is_stale = allowed_ns is not None and has_waited and late_ns > allowed_ns
        if late_ns <= BEHIND_NS:
            self._behind_since_ns = None
        elif self._behind_since_ns is None:
            self._behind_since_ns = now_ns
        self.is_slow = self._behind_since_ns is not None and now_ns - self._behind_since_ns >= SLOW_NS
        if self.is_slow:
            self._behind_since_ns = None
