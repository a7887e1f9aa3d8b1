"""How a recording was played."""

from collections.abc import Mapping
from typing import Any

import msgspec

from edge.recording.spacing import Spacing

_NS_PER_S = 1e9


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What was played, and how well."""

    rate: float | None
    """That was asked for at first; None: as fast as all listeners take it."""
    messages: dict[str, int]
    """Sent, by stream."""
    recorded_ns: int
    """Time of the recording that went by."""
    wall_ns: int
    """How long that took."""
    paused_ns: int
    """For how much of it nobody wanted anything to be played."""
    put_off_ns: int
    """By how much the flight was slowed down, because this machine was behind."""
    spacing: Spacing | None
    """How well the messages kept their distances; None where there is no schedule."""
    is_whole: bool
    """Whether it was played to its end, and not stopped before."""

    @property
    def achieved_rate(self) -> float:
        """Times real time, pauses left out."""
        return self.recorded_ns / max(self.wall_ns - self.paused_ns, 1)

    def summary(self, received: Mapping[str, int]) -> dict[str, Any]:
        """Return it as plain data; a rate of null is as fast as it goes.

        Args:
            received: of what was sent, by stream, where somebody counted.
        """
        return {
            "rate": self.rate,
            "achieved_rate": round(self.achieved_rate, 4),
            "is_whole": self.is_whole,
            "paused_s": round(self.paused_ns / _NS_PER_S, 3),
            "put_off_s": round(self.put_off_ns / _NS_PER_S, 3),
            "sent": dict(self.messages),
            "not_received": {name: self.messages.get(name, 0) - count for name, count in received.items()},
            "spacing_error_ms": self.spacing.summary() if self.spacing is not None else None,
        }
