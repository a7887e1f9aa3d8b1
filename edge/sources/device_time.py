"""A radio's clock on the board's time scale."""

MAX_DRIFT = 200e-6
"""Largest difference in speed between the radio's clock and the board's that is followed."""
SETTLING_NS = 250_000_000
"""Of the radio's time, in which the least delay has not fallen. A flowgraph that had to wait for its listener sends
what it has kept faster than it came, so that each message is less late than the one before."""
SETTLED_NS = 1_000_000
"""Less than this is no fall."""


class DeviceTime:
    """Maps a radio's time stamps to the board's clock.

    A read is noticed late by a varying delay and never early, so the least difference seen is the best one. It may
    grow by MAX_DRIFT, because no two clocks run alike. At first it is as wrong as the first reads are late.
    """

    def __init__(self) -> None:
        self.is_settled = False
        """Whether the least delay had been seen for long enough, once, to be believed."""
        self._offset_ns: int | None = None
        self._checked_ns = 0
        self._fell_from_ns = 0
        """The offset since which SETTLING_NS count."""
        self._fell_at_ns = 0
        """By the radio's clock."""

    def offset_ns(self, device_ns: int, now_ns: int) -> int:
        """Return what to add to device times: `device_ns`, a moment that is past by now, has just been heard of."""
        observed_ns = now_ns - device_ns
        if self._offset_ns is None:
            self._offset_ns = observed_ns
            self._fell_from_ns, self._fell_at_ns = observed_ns, device_ns
        allowed_ns = self._offset_ns + round(MAX_DRIFT * (now_ns - self._checked_ns))
        self._offset_ns = min(allowed_ns, observed_ns)
        self._checked_ns = now_ns
        if not self.is_settled:
            self._settle(device_ns)
        return self._offset_ns

    def late_ns(self, device_ns: int, now_ns: int) -> int:
        """Return how much later than at best `device_ns` is heard of now; 0 where nothing has been heard of yet."""
        return 0 if self._offset_ns is None else now_ns - device_ns - self._offset_ns

    def host_ns(self, device_ns: int, now_ns: int) -> int:
        """Return the board's time of `device_ns`, a moment that is past by now."""
        return device_ns + self.offset_ns(device_ns, now_ns)

    def _settle(self, device_ns: int) -> None:
        """Look whether the least delay has stopped falling."""
        offset_ns = self._offset_ns or 0
        if offset_ns < self._fell_from_ns - SETTLED_NS:
            self._fell_from_ns, self._fell_at_ns = offset_ns, device_ns
        self.is_settled = device_ns - self._fell_at_ns >= SETTLING_NS
