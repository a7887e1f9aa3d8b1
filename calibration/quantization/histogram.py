"""A histogram that can be cut into any parts and added up again: the same whatever the order and the batch size.

Its bins are equal steps over -2^exponent .. 2^exponent. A larger value doubles that span, and two neighbouring bins
become one: exactly the histogram that the wider span would have given from the start.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 4096
"""On either side of zero."""
MIN_EXPONENT = -126
"""Of a tensor of zeros: no normal float32 is smaller."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """How often a tensor took which value."""

    exponent: int
    """All finite values lie within -2^exponent .. 2^exponent, the ends excluded."""
    counts: NDArray[np.int64]
    """(2 * BINS,): bin n holds (n - BINS) * width and up to, not including, the next."""
    minimum: float
    """Of the finite values; infinity where there are none."""
    maximum: float
    zeros: int
    """How many of the values are exactly 0: they quantize without error, wherever the range ends."""
    not_finite: int
    """NaN and infinities; they are in no bin."""

    @property
    def width(self) -> float:
        """Width of a bin."""
        return float(np.ldexp(1.0 / BINS, self.exponent))

    @property
    def count(self) -> int:
        """How many finite values there are."""
        return int(self.counts.sum())

    def weighted_values(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the middles of the bins that hold something, and how much; exact zeros are left out."""
        counts = self.counts.copy()
        counts[BINS] -= self.zeros
        filled = np.flatnonzero(counts)
        middles: NDArray[np.float64] = (filled.astype(np.float64) - BINS + 0.5) * self.width
        return middles, counts[filled].astype(np.int64)


def histogram(values: NDArray[np.floating]) -> Histogram:
    """Return the histogram of an array of any shape."""
    flat = values.astype(np.float64).reshape(-1)
    finite = flat[np.isfinite(flat)]
    peak = float(np.abs(finite).max(initial=0.0))
    exponent = max(int(np.frexp(peak)[1]), MIN_EXPONENT) if peak else MIN_EXPONENT
    bins = np.floor(np.ldexp(finite * BINS, -exponent)).astype(np.int64) + BINS
    return Histogram(
        exponent=exponent,
        counts=np.bincount(bins, minlength=2 * BINS).astype(np.int64),
        minimum=float(finite.min(initial=np.inf)),
        maximum=float(finite.max(initial=-np.inf)),
        zeros=int(np.count_nonzero(finite == 0)),
        not_finite=flat.size - finite.size,
    )


def merged(one: Histogram, other: Histogram) -> Histogram:
    """Return the histogram of what two were made of."""
    exponent = max(one.exponent, other.exponent)
    return Histogram(
        exponent=exponent,
        counts=_widened(one, exponent) + _widened(other, exponent),
        minimum=min(one.minimum, other.minimum),
        maximum=max(one.maximum, other.maximum),
        zeros=one.zeros + other.zeros,
        not_finite=one.not_finite + other.not_finite,
    )


def _widened(one: Histogram, exponent: int) -> NDArray[np.int64]:
    """Return the counts over a wider span; a shift of a signed bin number rounds down, as the bins do."""
    doublings = min(exponent - one.exponent, 62)
    if doublings == 0:
        return one.counts
    counts = np.zeros(2 * BINS, np.int64)
    np.add.at(counts, (np.arange(-BINS, BINS) >> doublings) + BINS, one.counts)
    return counts
