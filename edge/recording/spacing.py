"""How far the spacing of played messages is from the recorded one."""

import collections

import msgspec

_BIN_NS = 10_000
_NS_PER_MS = 1e6


class Spacing(msgspec.Struct, frozen=True, kw_only=True):
    """Errors of the time between a message and the one before it in its stream, against the schedule."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    def summary(self) -> dict[str, float]:
        """Return it as plain data, in ms."""
        return {"count": self.count, "p50": self.p50_ms, "p99": self.p99_ms, "max": self.max_ms}


class SpacingErrors:
    """Counts errors in steps of 10 us, so that a flight of any length takes little memory."""

    def __init__(self) -> None:
        self._late_ns: dict[str, int] = {}
        self._bins: collections.Counter[int] = collections.Counter()
        self._max_ns = 0

    def note(self, stream: str, late_ns: int) -> None:
        """Take how late a message is on a schedule that nothing but the user's wish ever moves."""
        if stream in self._late_ns:
            error_ns = abs(late_ns - self._late_ns[stream])
            self._bins[error_ns // _BIN_NS] += 1
            self._max_ns = max(self._max_ns, error_ns)
        self._late_ns[stream] = late_ns

    def spacing(self) -> Spacing | None:
        """Return the errors so far, None before there is any."""
        count = self._bins.total()
        if not count:
            return None
        return Spacing(
            count=count,
            p50_ms=self._quantile_ms(0.5, count),
            p99_ms=self._quantile_ms(0.99, count),
            max_ms=round(self._max_ns / _NS_PER_MS, 3),
        )

    def _quantile_ms(self, share: float, count: int) -> float:
        """Return an upper bound, by at most a bin, of the share's error."""
        left, place = share * count, 0
        for place in sorted(self._bins):
            left -= self._bins[place]
            if left <= 0:
                break
        return round(min((place + 1) * _BIN_NS, self._max_ns) / _NS_PER_MS, 3)
