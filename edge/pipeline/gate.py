"""The quality gate: data that would mislead a network is named and kept from it.

It matters for more than hygiene: a branch fed with pure noise or a blank frame grows more certain, not less, so that
entropy alone is fooled. The gate never raises; thresholds are far outside what the networks are trained on.
"""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.transport.wire import Reason
from models.preprocess import opencv

CLIPPED_FRACTION = 0.5
"""More samples than this at the ends of the integer range: the receiver is overdriven."""
DC_RATIO = 1e-4
"""Less variation than this share of the mean (and below one integer step): a carrier-free, stuck front end."""
FROZEN_WINDOWS = 3
FROZEN_FRAMES = 5
"""So many identical contents in a row: a sensor with noise never repeats itself exactly."""
BLACK_LEVEL = 6.0
OVEREXPOSED_LEVEL = 249.0
"""Mean grey level, 0 to 255."""
FLAT_DEVIATION = 1.0
"""Standard deviation of grey levels; any scene has more, if only by noise."""
BLURRED_SHARPNESS = 3.0
"""Variance of the Laplacian, grey levels squared: rounding to 8 bits alone makes about 1.7, any sensor noise more."""
_SAMPLE_PX = 64
_CROP_PX = 128
_GLANCE = 32


class Gate:
    """Judges the contents of one stream, one after the other; remembers only what frozen data needs."""

    def __init__(self) -> None:
        self._digest = -1
        self._repeats = 0

    def check_iq(self, window: NDArray[Any]) -> Reason | None:
        """Return why a window of I/Q, (samples, 2), is refused; None when it is sound."""
        is_integer = np.issubdtype(window.dtype, np.integer)
        if not is_integer and not np.isfinite(window).all():
            return Reason.NON_FINITE
        low, high = window.min(), window.max()
        if low == 0 and high == 0:
            return Reason.ALL_ZERO
        if _is_constant(window, 0.0 if is_integer else DC_RATIO * max(abs(float(low)), abs(float(high)))):
            return Reason.DC_ONLY
        if is_integer and _is_clipped(window, low, high):
            return Reason.CLIPPED
        return self._check_frozen(zlib.crc32(np.ascontiguousarray(window).data), FROZEN_WINDOWS)

    def check_frame(self, frame: NDArray[np.uint8]) -> Reason | None:
        """Return why a BGR frame, (height, width, 3), is refused; None when it is sound."""
        cv2 = opencv()
        size = (min(frame.shape[1], _SAMPLE_PX), min(frame.shape[0], _SAMPLE_PX))
        sample = cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST)
        means, deviations = cv2.meanStdDev(sample)
        mean = float(means.mean())
        if mean < BLACK_LEVEL:
            return Reason.BLACK
        if mean > OVEREXPOSED_LEVEL:
            return Reason.OVEREXPOSED
        if float(deviations.max()) < FLAT_DEVIATION:
            return Reason.FLAT
        if _is_blurred(frame):
            return Reason.BLURRED
        return self._check_frozen(zlib.crc32(sample.data), FROZEN_FRAMES)

    def _check_frozen(self, digest: int, limit: int) -> Reason | None:
        self._repeats = self._repeats + 1 if digest == self._digest else 1
        self._digest = digest
        return Reason.FROZEN if self._repeats >= limit else None


def _is_constant(window: NDArray[Any], tolerance: float) -> bool:
    """Whether I and Q each stay within `tolerance`; a look at the first samples settles it for any live receiver."""
    return all(float(np.ptp(part.astype(np.float64), axis=0).max()) <= tolerance for part in (window[:_GLANCE], window))


def _is_clipped(window: NDArray[Any], low: Any, high: Any) -> bool:
    limits = np.iinfo(window.dtype)
    if low > limits.min and high < limits.max:
        return False
    clipped = np.count_nonzero(window == limits.min) + np.count_nonzero(window == limits.max)
    return bool(clipped > CLIPPED_FRACTION * window.size)


def _is_blurred(frame: NDArray[np.uint8]) -> bool:
    cv2 = opencv()
    top = max(0, (frame.shape[0] - _CROP_PX) // 2)
    left = max(0, (frame.shape[1] - _CROP_PX) // 2)
    green = np.ascontiguousarray(frame[top : top + _CROP_PX, left : left + _CROP_PX, 1])
    variance = float(cv2.meanStdDev(green)[1][0, 0]) ** 2
    # The Laplacian's mean is nearly 0, so its mean square is its variance, at a tenth of the cost.
    sharpness = float(cv2.norm(cv2.Laplacian(green, cv2.CV_16S), cv2.NORM_L2SQR)) / green.size
    return variance > FLAT_DEVIATION**2 and sharpness < BLURRED_SHARPNESS
