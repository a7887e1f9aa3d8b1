"""What was really there, when."""

import bisect
from collections.abc import Iterable

from edge.transport.messages import TRUTH_HOLDS_NS, Truth


class TruthTimeline:
    """The truths of a flight in the order of time, whatever order they came in."""

    def __init__(self, truths: Iterable[Truth] = ()) -> None:
        self._times: list[int] = []
        self._truths: list[Truth] = []
        for truth in truths:
            self.note(truth)

    def note(self, truth: Truth) -> None:
        """Learn what is there from `truth.capture_ns` on."""
        place = bisect.bisect_right(self._times, truth.capture_ns)
        self._times.insert(place, truth.capture_ns)
        self._truths.insert(place, truth)

    def at(self, capture_ns: int) -> Truth | None:
        """Return what is there at a time, or None before the first truth and where the latest one holds no more."""
        place = bisect.bisect_right(self._times, capture_ns) - 1
        is_known = place >= 0 and capture_ns - self._times[place] <= TRUTH_HOLDS_NS
        return self._truths[place] if is_known else None
