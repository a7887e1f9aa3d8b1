"""How fast a clock goes: a line through moments that two clocks were read at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_READINGS = 8
_ROUNDS = 4
_OUTLIER = 4.0
"""Readings farther from the line than so many typical distances do not count: they waited somewhere."""
_CERTAIN = 2.0
"""Standard errors."""
_MAX_PPM = 100_000.0
_NORMAL_MAD = 1.4826


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockFit:
    """A clock against UTC."""

    ppm: float
    """How many millionths faster than UTC the clock goes; below 0: it is slow."""
    error_ppm: float
    """Standard error of `ppm`."""
    scatter_ms: float
    """Typical distance of a reading from the line."""
    readings: int
    span_s: float

    @property
    def is_certain(self) -> bool:
        """Whether it is known at all that the clock is fast or slow."""
        return abs(self.ppm) > _CERTAIN * self.error_ppm

    def against(self, other: "ClockFit") -> str:
        """Say how much faster this clock goes than another."""
        return f"{self.ppm - other.ppm:+.1f} ppm, +-{math.hypot(self.error_ppm, other.error_ppm):.1f}"

    def __str__(self) -> str:
        return (
            f"clock {self.ppm:+.1f} ppm against UTC, +-{self.error_ppm:.1f}"
            f" ({self.readings} readings in {self.span_s:.0f} s, +-{self.scatter_ms:.1f} ms)"
        )


def fit_clock(readings: Sequence[tuple[int, int]]) -> ClockFit | None:
    """Fit a line through readings of a clock and of UTC, in ns; None where they are too few or say nothing.

    Least squares, repeated without outliers: a packet may be late by seconds, but never early.
    """
    if len(readings) < MIN_READINGS:
        return None
    own0, utc0 = readings[0]
    own_s = np.array([(own - own0) / 1e9 for own, _ in readings])
    ahead_s = np.array([((utc - utc0) - (own - own0)) / 1e9 for own, utc in readings])
    kept = np.ones(len(readings), bool)
    for _ in range(_ROUNDS):
        slope, level = _line(own_s[kept], ahead_s[kept])
        distance_s = np.abs(ahead_s - level - slope * own_s)
        typical_s = max(_NORMAL_MAD * float(np.median(distance_s[kept])), 1e-9)
        kept = distance_s <= _OUTLIER * typical_s
        if np.count_nonzero(kept) < MIN_READINGS:
            return None
    slope, level = _line(own_s[kept], ahead_s[kept])
    own_s, rest_s = own_s[kept], (ahead_s - level - slope * own_s)[kept]
    spread = float(np.sqrt(np.sum((own_s - own_s.mean()) ** 2)))
    scatter_s = float(np.sqrt(np.sum(rest_s**2) / (len(rest_s) - 2)))
    if spread <= 0 or abs(slope) * 1e6 > _MAX_PPM:
        return None
    return ClockFit(
        ppm=-slope * 1e6,
        error_ppm=scatter_s / spread * 1e6,
        scatter_ms=scatter_s * 1e3,
        readings=len(own_s),
        span_s=float(np.ptp(own_s)),
    )


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and level of the least squares line."""
    centred = x - x.mean()
    square = float(centred @ centred)
    slope = float(centred @ (y - y.mean())) / square if square > 0 else 0.0
    return slope, float(y.mean() - slope * x.mean())
