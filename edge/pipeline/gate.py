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
LARGEST_LEVEL = 1e15
"""Of a sample; the power of larger ones is not finite in single precision."""
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
_SAMPLE_PX = (64, 16)
"""Columns and rows looked at: few rows, as each one costs memory that the processor has not read yet."""
_CROP_PX = (128, 64)
_GLANCE = 16
_LIMITS = {np.dtype(kind): np.iinfo(kind) for kind in (np.uint8, np.int8, np.int16)}


class Gate:
    """Judges the contents of one stream, one after the other; remembers only what frozen data needs."""

    def __init__(self) -> None:
        self._digest = -1
        self._repeats = 0
        self._at_end: NDArray[np.bool_] = np.empty(0, np.bool_)
        """Which samples are at the end of their range: kept, as an overdriven receiver sends such windows for long."""

    def check_iq(self, window: NDArray[Any]) -> Reason | None:
        """Return why a window of I/Q, (samples, 2), is refused; None when it is sound."""
        limits = _LIMITS.get(window.dtype)
        low, high = float(window.min()), float(window.max())  # NaN where any sample is
        if not (low >= -LARGEST_LEVEL and high <= LARGEST_LEVEL):
            return Reason.NON_FINITE
        if low == 0 and high == 0:
            return Reason.ALL_ZERO
        if _is_constant(window, DC_RATIO * max(abs(low), abs(high)) if limits is None else 0.0):
            return Reason.DC_ONLY
        if limits is not None and (low <= limits.min or high >= limits.max) and self._is_clipped(window, limits):
            return Reason.CLIPPED
        return self._check_frozen(zlib.crc32(np.ascontiguousarray(window).data), FROZEN_WINDOWS)

    def check_frame(self, frame: NDArray[np.uint8]) -> Reason | None:
        """Return why a BGR frame, (height, width, 3), is refused; None when it is sound."""
        cv2 = opencv()
        size = (min(frame.shape[1], _SAMPLE_PX[0]), min(frame.shape[0], _SAMPLE_PX[1]))
        sample = cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST)
        means, deviations = cv2.meanStdDev(sample)
        mean = sum(means[:, 0].tolist()) / 3
        if mean < BLACK_LEVEL:
            return Reason.BLACK
        if mean > OVEREXPOSED_LEVEL:
            return Reason.OVEREXPOSED
        if float(deviations.max()) < FLAT_DEVIATION:
            return Reason.FLAT
        if _is_blurred(frame):
            return Reason.BLURRED
        return self._check_frozen(zlib.crc32(sample.data), FROZEN_FRAMES)

    def _is_clipped(self, window: NDArray[Any], limits: "np.iinfo[Any]") -> bool:
        if self._at_end.shape != window.shape:
            self._at_end = np.empty(window.shape, np.bool_)
        clipped = 0
        for end in (limits.min, limits.max):
            np.equal(window, window.dtype.type(end), out=self._at_end)
            clipped += int(np.count_nonzero(self._at_end))
        return clipped > CLIPPED_FRACTION * window.size

    def _check_frozen(self, digest: int, limit: int) -> Reason | None:
        self._repeats = self._repeats + 1 if digest == self._digest else 1
        self._digest = digest
        return Reason.FROZEN if self._repeats >= limit else None


def _is_constant(window: NDArray[Any], tolerance: float) -> bool:
    """Whether I and Q each stay within `tolerance`; the first samples of any live receiver settle it."""
    first_i, first_q = window[0].tolist()
    if any(abs(i - first_i) > tolerance or abs(q - first_q) > tolerance for i, q in window[1:_GLANCE].tolist()):
        return False
    return all(float(channel.max()) - float(channel.min()) <= tolerance for channel in window.T)


def _is_blurred(frame: NDArray[np.uint8]) -> bool:
    """Whether the middle of a frame has contrast, but not even the sharpness of noise."""
    cv2 = opencv()
    width, height = _CROP_PX
    top, left = max(0, (frame.shape[0] - height) // 2), max(0, (frame.shape[1] - width) // 2)
    green = np.ascontiguousarray(frame[top : top + height, left : left + width, 1])
    # The Laplacian's mean is nearly 0, so its mean square is its variance, at a tenth of the cost.
    sharpness = float(cv2.norm(cv2.Laplacian(green, cv2.CV_16S), cv2.NORM_L2SQR)) / green.size
    return sharpness < BLURRED_SHARPNESS and float(green.std()) > FLAT_DEVIATION
