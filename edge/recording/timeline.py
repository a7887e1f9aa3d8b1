"""Where a flight that is played stands: recorded time against the present, one for all of its streams."""

import collections

_REMEMBERED_MOMENTS = 512
_REMEMBERED_RATES = 64


class PacedTimeline:
    """At a rate, which may change on the way."""

    def __init__(self, rate: float, recorded_start_ns: int) -> None:
        self.rate = rate
        """Times real time."""
        self._pieces: list[tuple[int, int, float]] = [(recorded_start_ns, 0, rate)]
        """From which recorded moment on, when that was or will be, and the rate from there."""

    def begin(self, now_ns: int) -> None:
        """Let the recording's start be now."""
        self._pieces = [(self._pieces[0][0], now_ns, self.rate)]

    def present_ns(self, recorded_ns: int) -> int:
        """Return when a recorded moment was or will be."""
        pieces = (piece for piece in reversed(self._pieces) if piece[0] <= recorded_ns)
        since_ns, present_ns, rate = next(pieces, self._pieces[0])
        return present_ns + round((recorded_ns - since_ns) / rate)

    def pass_by(self, recorded_ns: int, now_ns: int) -> None:
        """Note that a recorded moment is now: at a fixed rate that was known."""

    def put_off(self, by_ns: int) -> None:
        """Let everything be later: what is still to come, and what it says of times gone by."""
        self._pieces = [(since_ns, present_ns + by_ns, rate) for since_ns, present_ns, rate in self._pieces]

    def change_rate(self, rate: float, now_ns: int) -> None:
        """Go on at another rate; what was before keeps its times."""
        since_ns, present_ns, before = self._pieces[-1]
        reached_ns = since_ns + round((now_ns - present_ns) * before)
        self._pieces = [*self._pieces[1 - _REMEMBERED_RATES :], (reached_ns, now_ns, rate)]
        self.rate = rate


class FastTimeline:
    """As fast as the listeners take it: remembers which moment was when."""

    rate = None
    """There is none."""

    def __init__(self) -> None:
        self._moments: collections.deque[tuple[int, int]] = collections.deque(maxlen=_REMEMBERED_MOMENTS)

    def begin(self, now_ns: int) -> None:
        """Forget what was before."""
        self._moments.clear()

    def present_ns(self, recorded_ns: int) -> int:
        """Return when a recorded moment went by here, between the two events around it."""
        after = self._moments[-1]
        for moment in reversed(self._moments):
            if moment[0] <= recorded_ns:
                span_ns = after[0] - moment[0]
                part = (recorded_ns - moment[0]) / span_ns if span_ns else 0.0
                return moment[1] + round(part * (after[1] - moment[1]))
            after = moment
        return after[1] - (after[0] - recorded_ns)

    def pass_by(self, recorded_ns: int, now_ns: int) -> None:
        """Note that a recorded moment is now."""
        self._moments.append((recorded_ns, now_ns))

    def put_off(self, by_ns: int) -> None:
        """Let what went by have been later."""
        self._moments = collections.deque(((at, now + by_ns) for at, now in self._moments), maxlen=_REMEMBERED_MOMENTS)
