"""Percentiles that are only stated when there are samples enough for them."""

from collections.abc import Iterable

import numpy as np

MIN_SAMPLES = {50: 10, 90: 64, 99: 662}
"""Samples below which a percentile is not stated; 64 and 662 are what MLPerf's early-stopping rule asks for."""


def percentile(values: Iterable[float], rank: int) -> float | None:
    """Return a percentile, rounded to 0.1 us when in ms; None where there are too few samples."""
    samples = np.fromiter(values, np.float64)
    return round(float(np.percentile(samples, rank)), 4) if len(samples) >= MIN_SAMPLES[rank] else None


def missing_samples(samples: int) -> dict[str, int]:
    """Return the percentiles that are not stated, with the samples that they would need."""
    return {f"p{rank}": least for rank, least in MIN_SAMPLES.items() if samples < least}
