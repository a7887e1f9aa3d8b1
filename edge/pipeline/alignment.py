"""Features of one stream by capture time, and the nearest of them to a given moment."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RING_FEATURES = 64
"""Covers camera transport, inference and queue at 100 windows a second with room to spare."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """What a branch made of one message."""

    modality: str
    stream: str
    """That the message came on."""
    capture_ns: int
    send_ns: int
    arrived_ns: int
    taken_ns: int
    preprocess_ns: int
    """Time spent on decoding, gate and preprocessing."""
    completed_ns: int
    vector: NDArray[np.float32]
    """(feature_size,)"""
    logits: NDArray[np.float32]
    """(classes,)"""


class FeatureRing:
    """The newest features of one stream."""

    def __init__(self, capacity: int = RING_FEATURES) -> None:
        self._features: deque[Feature] = deque(maxlen=capacity)
        self._newest_ns: int | None = None

    def push(self, feature: Feature) -> None:
        """Add a feature; the oldest one leaves when the ring is full."""
        leaving = self._features[0] if len(self._features) == self._features.maxlen else None
        self._features.append(feature)
        if self._newest_ns is None or feature.capture_ns > self._newest_ns:
            self._newest_ns = feature.capture_ns
        elif leaving is not None and leaving.capture_ns == self._newest_ns:  # capture times went back since
            self._newest_ns = max(feature.capture_ns for feature in self._features)

    def nearest(self, capture_ns: int) -> Feature | None:
        """Return the feature captured nearest to `capture_ns`, the later one of two equally near; None when empty."""
        best: Feature | None = None
        for feature in reversed(self._features):
            if best is None or abs(feature.capture_ns - capture_ns) < abs(best.capture_ns - capture_ns):
                best = feature
        return best

    def newest_capture_ns(self) -> int | None:
        """Return the newest capture time, or None when empty."""
        return self._newest_ns
