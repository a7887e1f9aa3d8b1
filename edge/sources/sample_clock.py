"""When samples were captured, by their count and by whatever time stamps a radio gives."""

from edge.sources.device_time import DeviceTime

_NS_PER_S = 1_000_000_000
LONGEST_LOSS_NS = 10 * _NS_PER_S
"""A radio's time that jumps further than this, or back, was set anew; a smaller jump ahead is lost samples."""
_ROUNDING_NS = 10.0
"""Of a time stamp in doubles."""


class SampleClock:
    """Tells the board's time of a sample by its offset from the start of a flowgraph."""

    def __init__(self, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self.has_time = False
        """Whether the radio has said what time it is."""
        self._offset = 0
        self._ns = 0
        self._device = DeviceTime()
        self._shift_ns = 0

    @property
    def follows_radio(self) -> bool:
        """Whether times are the radio's, and their way to the board's clock is known as well as it can be."""
        return self.has_time and self._device.is_settled

    def host_ns(self, offset: int) -> int:
        """Return when a sample was captured, on the board's clock."""
        return self._device_ns(offset) + self._shift_ns

    def late_ns(self, end: int, now_ns: int) -> int:
        """Return how much later than at best the samples before `end` are there; 0 where none have been heard yet."""
        return self._device.late_ns(self._device_ns(end), now_ns)

    def heard(self, end: int, now_ns: int) -> None:
        """Learn that the samples before `end` are there by now."""
        self._shift_ns = self._device.offset_ns(self._device_ns(end), now_ns)

    def forget_delays(self) -> None:
        """Begin the way from the radio's time to the board's anew: no delay so far says anything of those to come."""
        self._device = DeviceTime()

    def arrived(self, end: int, now_ns: int) -> None:
        """Take the board's time for the end of samples whose number tells nothing."""
        self._offset, self._ns = end, now_ns

    def change_rate(self, offset: int, rate_hz: float) -> None:
        """Count in another rate from a sample on; delays that were told by the old one are forgotten."""
        self._offset, self._ns = offset, self._device_ns(offset)
        self.rate_hz = rate_hz
        self._device = DeviceTime()

    def missing(self, offset: int, device_ns: int) -> int | None:
        """Return how many samples the radio lost before the one that it gives this time; None: its time begins anew."""
        ahead_ns = device_ns - self._device_ns(offset)
        tolerance_ns = max(0.5 * _NS_PER_S / self.rate_hz, _ROUNDING_NS)
        if not self.has_time or not -tolerance_ns <= ahead_ns <= LONGEST_LOSS_NS:
            return None
        return round(ahead_ns * 1e-9 * self.rate_hz) if ahead_ns > tolerance_ns else 0

    def stamp(self, offset: int, device_ns: int, *, begins: bool) -> None:
        """Take the radio's time of a sample; `begins` where it does not go on from the last one."""
        self._offset, self._ns = offset, device_ns
        self.has_time = True
        if begins:
            self._device = DeviceTime()

    def _device_ns(self, offset: int) -> int:
        return self._ns + round((offset - self._offset) / self.rate_hz * _NS_PER_S)
