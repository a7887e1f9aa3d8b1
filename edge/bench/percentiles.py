"""Percentiles that are only stated when there are samples enough for them, and ratios with their spread."""

from collections.abc import Iterable, Sequence

import numpy as np

from edge.bench.result import Ratio, Spread

MIN_SAMPLES = {50: 10, 90: 64, 99: 662}
"""Samples below which a percentile is not stated; 64 and 662 are what MLPerf's early-stopping rule asks for."""
_MIN_BLOCKS = 4


def percentile(values: Iterable[float], rank: int) -> float | None:
    """Return a percentile, rounded to 0.1 us when in ms; None where there are too few samples."""
    samples = np.fromiter(values, np.float64)
    return round(float(np.percentile(samples, rank)), 4) if len(samples) >= MIN_SAMPLES[rank] else None


def missing_samples(samples: int) -> dict[str, int]:
    """Return the percentiles that are not stated, with the samples that they would need."""
    return {f"p{rank}": least for rank, least in MIN_SAMPLES.items() if samples < least}


def spread(values: Sequence[float]) -> Spread:
    """Return the percentiles of samples."""
    p50, p90, p99 = (percentile(values, rank) for rank in (50, 90, 99))
    return Spread(samples=len(values), p50=p50, p90=p90, p99=p99, too_few_for=missing_samples(len(values)))


def ratio_of(blocks: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Ratio | None:
    """Return how many times as long the first of each pair is as the second, by medians; None with too few samples.

    Args:
        blocks: samples of both, taken in turns: blocks that lack samples of one count for the whole alone.
    """
    over = percentile((value for ours, _ in blocks for value in ours), 50)
    under = percentile((value for _, theirs in blocks for value in theirs), 50)
    if not over or not under:
        return None
    each = [float(np.median(ours) / np.median(theirs)) for ours, theirs in blocks if len(ours) and len(theirs)]
    enough = len(each) >= _MIN_BLOCKS
    low, high = (round(float(value), 3) for value in np.percentile(each, [25, 75])) if enough else (None, None)
    return Ratio(value=round(over / under, 3), low=low, high=high)
