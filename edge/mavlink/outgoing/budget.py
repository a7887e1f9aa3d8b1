"""How many bytes a second a link may carry, and who may draw on them. Pure: times come in as arguments.

In no second does more go out than one second's budget and what was saved up: two seconds' worth at most.
"""

import enum

from edge.mavlink.deployment import LEAST_BYTES_S
from edge.mavlink.pace import NS_PER_S

BURST_S = 2.0
"""What was not used is saved for so long."""
BUSY_PERCENT, FREE_PERCENT = 20, 60
"""Of the radio's buffer that is free: below, it is fed too fast; above, there is room."""
LEAST_SHARE = 1 / 16
RAISE_PER_S = 0.1
RADIO_PAUSE_NS = NS_PER_S // 2
"""What it says sooner after the last time is not heard: a change must show first."""
RADIO_SILENT_NS = 10 * NS_PER_S
"""A radio that says nothing for so long holds nobody back any more."""


class Priority(enum.IntEnum):
    """Who goes first."""

    HEARTBEAT = 0
    """That this computer lives."""
    URGENT = 1
    """Answers to commands, and about the time."""
    CHANGE = 2
    """Another class, other modalities, another side of the confidence threshold; warnings."""
    PERIODIC = 3
    """Answers that say the same as the last one."""
    STATUS = 4
    """Status, parameters, names of classes, and what people read."""
    BACKFILL = 5
    """What was asked for of the past."""


RESERVED = (0.0, 0.1, 0.2, 0.5, 0.6, 0.7)
"""By priority, the share of what can be saved up that is left to those before: so that a change finds room at once."""


class Budget:
    """A bucket of bytes that fills at the link's rate, and slower while its radio is choked.

    Args:
        bytes_s: the rate, at least LEAST_BYTES_S.
        now_ns: the time.
        least_saved_bytes: what can be saved up at least, where two seconds' worth are less.
    """

    def __init__(self, bytes_s: float, now_ns: int, least_saved_bytes: float = 0.0) -> None:
        self._bytes_s = bytes_s
        self._least_saved_bytes = least_saved_bytes
        self._most = max(BURST_S * bytes_s, least_saved_bytes)
        self._left = self._most
        self._share = 1.0
        self._counted_ns = now_ns
        self._radio_ns: int | None = None

    @property
    def whole_bytes_s(self) -> float:
        """The rate where no radio is choked."""
        return self._bytes_s

    @property
    def bytes_s(self) -> float:
        """The rate now; whatever a radio says, the largest frame still fits."""
        return max(self._bytes_s * self._share, min(self._bytes_s, LEAST_BYTES_S))

    def change(self, bytes_s: float, now_ns: int) -> None:
        """Set another rate."""
        self._fill(now_ns)
        self._bytes_s, self._most = bytes_s, max(BURST_S * bytes_s, self._least_saved_bytes)
        self._left = min(self._left, self._most)

    def has_room(self, size: int, priority: Priority, now_ns: int) -> bool:
        """Say whether so many bytes may go now: what is reserved for those before stays untouched."""
        self._fill(now_ns)
        reserve = min(RESERVED[priority] * self._most, self._most - size)
        return self._left - size >= max(reserve, 0.0)

    def spend(self, size: int, now_ns: int) -> None:
        """Take notice that so many bytes go out."""
        self._fill(now_ns)
        self._left -= size

    def on_radio(self, free_percent: int, now_ns: int) -> None:
        """Take what the radio at this computer says of its buffer, RADIO_STATUS.txbuf."""
        self._fill(now_ns)
        elapsed_ns = NS_PER_S if self._radio_ns is None else now_ns - self._radio_ns
        if elapsed_ns < RADIO_PAUSE_NS:
            return
        self._radio_ns = now_ns
        if free_percent < BUSY_PERCENT:
            self._share = max(self._share / 2, LEAST_SHARE)
        elif free_percent > FREE_PERCENT:
            self._share = min(self._share + RAISE_PER_S * min(elapsed_ns / NS_PER_S, 1.0), 1.0)

    def _fill(self, now_ns: int) -> None:
        if self._radio_ns is not None and now_ns - self._radio_ns > RADIO_SILENT_NS:
            self._share, self._radio_ns = 1.0, None
        elapsed_ns = max(now_ns - self._counted_ns, 0)
        self._counted_ns = max(now_ns, self._counted_ns)
        self._left = min(self._most, self._left + elapsed_ns * self.bytes_s / NS_PER_S)
