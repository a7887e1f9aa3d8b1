"""A radio's clock on the board's time scale."""

MAX_DRIFT = 200e-6
"""Largest difference in speed between the radio's clock and the board's that is followed."""


class DeviceTime:
    """Maps a radio's time stamps to the board's clock.

    A read is noticed late by a varying delay and never early, so the least difference seen is the best one. It may
    grow by MAX_DRIFT, because no two clocks run alike.
    """

    def __init__(self) -> None:
        self._offset_ns: int | None = None
        self._checked_ns = 0

    def offset_ns(self, device_ns: int, now_ns: int) -> int:
        """Return what to add to device times: `device_ns`, a moment that is past by now, has just been heard of."""
        observed_ns = now_ns - device_ns
        if self._offset_ns is None:
            self._offset_ns = observed_ns
        allowed_ns = self._offset_ns + round(MAX_DRIFT * (now_ns - self._checked_ns))
        self._offset_ns = min(allowed_ns, observed_ns)
        self._checked_ns = now_ns
        return self._offset_ns

    def host_ns(self, device_ns: int, now_ns: int) -> int:
        """Return the board's time of `device_ns`, a moment that is past by now."""
        return device_ns + self.offset_ns(device_ns, now_ns)
