"""How far an autopilot's clock is from ours, from questions and answers (TIMESYNC) over a link that delays and loses.

A question carries our time `ts1`, the answer the autopilot's time `tc1` beside it. If both ways take equally
long, that is the time in the middle: offset = tc1 - (ts1 + now) / 2, wrong by at most half of the round trip. So the
quickest answers say most. A line is fitted, because the two crystals differ by tens of ppm; each answer counts by how
much longer it took than the quickest one, as half of that is what it may be off.

    measured: tests/timesync_at_loss.py, with 50 ppm, 20 % loss and asymmetric delays
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
BURST_PERIOD_NS = NS_PER_S // 10
BURST_NS = NS_PER_S
SEARCH_PERIOD_NS = NS_PER_S
"""From the end of the burst until locked. A question without a target also reaches the ground."""
PERIOD_NS = 10 * NS_PER_S
"""Once locked; sooner at first, after as long as answers have come for: so drift shows before it is an error."""
MAX_PENDING = 16
WINDOW = 32
LOCK_SAMPLES = 8
LEAST_BEST = 4
"""At least so many of the quickest answers must agree, or a quarter of the window."""
MAX_RTT_RATIO = 3
"""An answer that took longer than this many times the median says nothing."""
LEAST_SPREAD_NS = 2 * NS_PER_MS
PATIENCE_SAMPLES = 2 * LOCK_SAMPLES
"""After so many answers they may lie as far apart as their delays explain: a busy computer delays all but a few."""
HOPELESS_SAMPLES = 3 * LOCK_SAMPLES
"""Where so many do not agree, one is off by more than its delay explains: that clock stood still, say. Asked anew."""
JUMP_NS = 10 * NS_PER_MS
"""An answer that contradicts the fit by more than this and half its round trip: that clock was set anew."""
HOLD_NS = 120 * NS_PER_S
"""So long after the last answer the fit is still believed."""
LEAST_ERROR_MS = 0.5
"""Of an answer that took no longer than the quickest."""
USUAL_DRIFT_MS_S = 0.1
"""Two crystals' difference, one standard deviation: 100 ppm. Keeps short spans from telling of more."""


class _Sample(NamedTuple):
    at_ns: int
    """In the middle of question and answer, by our clock."""
    offset_ns: int
    rtt_ns: int


class _Fit(NamedTuple):
    at_ns: int
    offset_ns: int
    drift: float

    def offset_at(self, now_ns: int) -> int:
        return self.offset_ns + round(self.drift * (now_ns - self.at_ns))


class TimeSync:
    """Estimates the offset of one autopilot's clock. Knows no clock and no link: times come in as arguments."""

    def __init__(self, now_ns: int) -> None:
        self._pending: deque[int] = deque(maxlen=MAX_PENDING)
        self._last_ts1 = 0
        self._samples: deque[_Sample] = deque(maxlen=WINDOW)
        self._fit: _Fit | None = None
        self._is_locked = False
        self._contradictions = 0
        self._rtt_ns = 0
        self.restart(now_ns)

    def restart(self, now_ns: int) -> None:
        """Forget everything and ask anew: the other clock began again."""
        self._pending.clear()
        self._samples.clear()
        self._fit = None
        self._is_locked = False
        self._contradictions = 0
        self._rtt_ns = 0
        self._burst_end_ns = now_ns + BURST_NS
        self._due_ns = now_ns

    def question(self, now_ns: int) -> int | None:
        """Return the `ts1` to send now, None while nothing is to be asked; no two are the same."""
        if now_ns < self._due_ns:
            return None
        quiet_ns = SEARCH_PERIOD_NS
        if self.is_locked_at(now_ns):
            quiet_ns = min(max(now_ns - self._samples[0].at_ns, SEARCH_PERIOD_NS), PERIOD_NS)
        self._due_ns = now_ns + (BURST_PERIOD_NS if now_ns < self._burst_end_ns else quiet_ns)
        self._last_ts1 = max(now_ns, self._last_ts1 + 1)
        self._pending.append(self._last_ts1)
        return self._last_ts1

    def on_answer(self, tc1: int, ts1: int, now_ns: int) -> None:
        """Take an answer; one to nobody's or somebody else's question is left alone, and so is a second one."""
        if ts1 not in self._pending or tc1 <= 0 or now_ns < ts1:
            return
        self._pending.remove(ts1)
        sample = _Sample((ts1 + now_ns) // 2, tc1 - (ts1 + now_ns) // 2, now_ns - ts1)
        if self._contradicts(sample):
            self._contradictions += 1
            if self._contradictions < 2:
                self._due_ns = min(self._due_ns, now_ns + BURST_PERIOD_NS)
                return
            self.restart(now_ns)
        self._contradictions = 0
        self._samples.append(sample)
        self._fit, spread_ns, (least_ns, self._rtt_ns) = _fitted(self._samples)
        most_ns = least_ns // 2 if len(self._samples) < PATIENCE_SAMPLES else self._rtt_ns
        is_tight = spread_ns < max(LEAST_SPREAD_NS, most_ns)
        self._is_locked = self._is_locked or (len(self._samples) >= LOCK_SAMPLES and is_tight)
        if not self._is_locked and len(self._samples) >= HOPELESS_SAMPLES:
            self.restart(now_ns)

    def is_locked_at(self, now_ns: int) -> bool:
        """Say whether the offset is known."""
        return self._is_locked and now_ns - self._samples[-1].at_ns <= HOLD_NS

    def is_waiting_at(self, now_ns: int) -> bool:
        """Say whether an answer may come any moment, so that what delays its reading delays the clock."""
        return bool(self._pending) and now_ns - self._pending[-1] < BURST_PERIOD_NS

    def offset_at(self, now_ns: int) -> int | None:
        """Return the autopilot's time minus ours, in ns; None while that is not known."""
        return self._fit.offset_at(now_ns) if self._fit is not None and self.is_locked_at(now_ns) else None

    @property
    def rtt_ns(self) -> int:
        """The longest round trip of the answers that count, 0 before the first: half of it is the most they are off."""
        return self._rtt_ns

    def _contradicts(self, sample: _Sample) -> bool:
        if self._fit is None or not self._is_locked:
            return False
        return abs(sample.offset_ns - self._fit.offset_at(sample.at_ns)) > sample.rtt_ns // 2 + JUMP_NS


def _fitted(samples: Sequence[_Sample]) -> tuple[_Fit, int, tuple[int, int]]:
    """Return a line through the answers, how far the quickest lie apart beside it, and their round trips' range."""
    by_rtt = sorted(samples, key=lambda sample: sample.rtt_ns)
    limit_ns = MAX_RTT_RATIO * by_rtt[len(samples) // 2].rtt_ns
    usable = [sample for sample in by_rtt if sample.rtt_ns <= limit_ns]
    first = by_rtt[0]
    x_s = [(sample.at_ns - first.at_ns) / NS_PER_S for sample in usable]
    y_ms = [(sample.offset_ns - first.offset_ns) / NS_PER_MS for sample in usable]
    weights = [((sample.rtt_ns - first.rtt_ns) / 2 / NS_PER_MS + LEAST_ERROR_MS) ** -2 for sample in usable]
    mean_x, mean_y = _mean(x_s, weights), _mean(y_ms, weights)
    rows = list(zip(weights, x_s, y_ms, strict=True))
    steepness = sum(weight * (x - mean_x) ** 2 for weight, x, _ in rows) + USUAL_DRIFT_MS_S**-2
    slope = sum(weight * (x - mean_x) * (y - mean_y) for weight, x, y in rows) / steepness
    best = max(LEAST_BEST, len(samples) // 4)
    residuals = [y - mean_y - slope * (x - mean_x) for _, x, y in rows[:best]]
    fit = _Fit(first.at_ns + round(mean_x * NS_PER_S), first.offset_ns + round(mean_y * NS_PER_MS), slope / 1000)
    spread_ns = round((max(residuals) - min(residuals)) * NS_PER_MS)
    return fit, spread_ns, (first.rtt_ns, usable[: len(residuals)][-1].rtt_ns)


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
