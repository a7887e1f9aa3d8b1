"""From a histogram to the range that its tensor is quantized over. Each method is a function of the histogram alone."""

import math

import numpy as np
from numpy.typing import NDArray

from calibration.quantization.histogram import BINS, Histogram
from models.errors import ConfigError, InputError
from models.quantization import Affine, Scheme, affine

METHODS = ("mse", "minmax", "percentile", "entropy")
PERCENTILE = 99.99
"""Share of the values, in percent, that the range of `percentile` holds."""
_CANDIDATES = 128


def clip_range(histogram: Histogram, method: str, scheme: Scheme) -> tuple[float, float]:
    """Return the range (low, high) by one of METHODS, for the integers of `scheme`.

    Raises:
        InputError: the histogram is empty or met values that are not finite.
        ConfigError: there is no such method.
    """
    if histogram.not_finite or not histogram.count:
        raise InputError(
            f"{histogram.count} finite and {histogram.not_finite} other values: expected finite values only:"
            " look for NaN in the examples and in the weights"
        )
    if method == "minmax":
        return histogram.minimum, histogram.maximum
    if method == "percentile":
        return percentile(histogram, PERCENTILE)
    if method == "mse":
        return least_error(histogram, scheme)
    if method == "entropy":
        return least_divergence(histogram, 128 if scheme.is_symmetric else 256)
    raise ConfigError(f"method {method!r}: expected one of {', '.join(METHODS)}")


def percentile(histogram: Histogram, percent: float) -> tuple[float, float]:
    """Return the range that leaves out half of the rest at either end, to the width of a bin."""
    outside = histogram.count * (100 - percent) / 200
    below = np.cumsum(histogram.counts)
    above = np.cumsum(histogram.counts[::-1])[::-1]
    low = (int(np.flatnonzero(below > outside)[0]) - BINS) * histogram.width
    high = (int(np.flatnonzero(above > outside)[-1]) + 1 - BINS) * histogram.width
    return max(low, histogram.minimum), min(high, histogram.maximum)


def least_error(histogram: Histogram, scheme: Scheme) -> tuple[float, float]:
    """Return the range with the least squared error over the histogram: min-max, or less of it.

    Both ends are first limited to one magnitude, then each is moved alone; among equals the widest is taken.
    """
    low, high = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    shares = [n / _CANDIDATES for n in range(_CANDIDATES, 0, -1)]
    limits = [share * max(-low, high) for share in shares]
    chosen = _quietest(histogram, scheme, [(low, high), *((max(low, -one), min(high, one)) for one in limits)])
    if scheme.is_symmetric:
        return chosen
    chosen = _quietest(histogram, scheme, [chosen, *((chosen[0], share * high) for share in shares)])
    return _quietest(histogram, scheme, [chosen, *((share * low, chosen[1]) for share in shares)])


def least_divergence(histogram: Histogram, levels: int) -> tuple[float, float]:
    """Return the range whose `levels` magnitudes keep most of the information: least Kullback-Leibler divergence.

    The magnitudes' distribution, what lies beyond the range added to its last bin, is compared with the same quantized:
    each level's mass spread evenly over those of its bins that held something. There are many more bins than levels;
    with as many, nothing is lost at any width and the method could only answer min-max.
    """
    values, weights = histogram.weighted_values()
    if not values.size:
        return histogram.minimum, histogram.maximum
    magnitudes = np.bincount((np.abs(values) / histogram.width).astype(np.int64), weights, minlength=BINS).astype(
        np.float64
    )
    last = int(np.flatnonzero(magnitudes)[-1]) + 1
    ends = np.unique(np.linspace(min(levels, last), last, _CANDIDATES).astype(np.int64))[::-1]
    divergences = [_divergence(magnitudes, int(end), levels) for end in ends]
    limit = float(ends[int(np.argmin(divergences))] * histogram.width)
    return max(histogram.minimum, -limit), min(histogram.maximum, limit)


def noise_power(histogram: Histogram, how: Affine) -> float:
    """Return the sum of squared errors that quantizing makes, over the histogram."""
    values, weights = histogram.weighted_values()
    lowest, highest = how.scheme.lowest - how.zero_point, how.scheme.highest - how.zero_point
    errors = values - np.clip(np.rint(values / how.scale), lowest, highest) * how.scale
    return float(weights @ (errors * errors))


def expected_sqnr_db(histogram: Histogram, how: Affine) -> float:
    """Return the ratio of signal to quantization noise that the histogram foretells; infinite without noise."""
    values, weights = histogram.weighted_values()
    return decibels(float(weights @ (values * values)), noise_power(histogram, how))


def sqnr_db(exact: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """Return the ratio of an exact array to its error; infinite where they are equal."""
    wanted, got = exact.astype(np.float64), found.astype(np.float64)
    return decibels(float(np.sum(wanted**2)), float(np.sum((wanted - got) ** 2)))


def decibels(signal: float, noise: float) -> float:
    """Return a ratio of powers in dB; infinite without noise, minus infinite without signal or where it is drowned."""
    if noise <= 0:
        return math.inf
    ratio = signal / noise
    return 10 * math.log10(ratio) if ratio > 0 else -math.inf


def _quietest(histogram: Histogram, scheme: Scheme, ranges: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the range with the least squared error, the first of equals."""
    return min(ranges, key=lambda one: noise_power(histogram, affine(one[0], one[1], scheme)))


def _divergence(magnitudes: NDArray[np.float64], end: int, levels: int) -> float:
    """Return KL(P || Q) in nats of the first `end` bins, clipped, from the same in `levels` levels."""
    kept = magnitudes[:end]
    clipped = kept.copy()
    clipped[-1] += magnitudes[end:].sum()
    level = np.arange(end) * levels // end
    is_filled = kept > 0
    filled = np.bincount(level, is_filled, minlength=levels)
    masses = np.bincount(level, kept, minlength=levels)
    spread = np.where(is_filled, masses[level] / np.maximum(filled[level], 1), 0.0)
    p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1e-300)
    known = p > 0
    return float(np.sum(p[known] * np.log(p[known] / np.maximum(q[known], 1e-12))))
