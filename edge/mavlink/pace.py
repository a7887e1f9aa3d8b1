"""How often something may be sent."""

NS_PER_S = 1_000_000_000


class Period:
    """Due once every so often, the first time at once; a late call does not make the next ones early."""

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._due_ns: int | None = None

    def is_due(self, now_ns: int) -> bool:
        """Say whether it is time, and if so wait for the next one."""
        if self._due_ns is None:
            self._due_ns = now_ns
        if now_ns < self._due_ns:
            return False
        self._due_ns += self._period_ns
        if self._due_ns <= now_ns:
            self._due_ns = now_ns + self._period_ns
        return True


class Allowance:
    """Lets so many a second through; what was not used is saved for at most `burst_s`."""

    def __init__(self, rate_hz: float, burst_s: float) -> None:
        self._rate_hz = rate_hz
        self._most = max(1.0, rate_hz * burst_s)
        self._left = self._most
        self._counted_ns: int | None = None

    def take(self, now_ns: int) -> bool:
        """Say whether one more may go now, and if so count it."""
        elapsed_ns = now_ns - (now_ns if self._counted_ns is None else self._counted_ns)
        self._counted_ns = now_ns
        self._left = min(self._most, self._left + elapsed_ns * self._rate_hz / NS_PER_S)
        if self._left < 1:
            return False
        self._left -= 1
        return True
