"""Few answers instead of many where a radio is slow: changes at once, the rest summed up. Pure: times come in.

A change is another class, other modalities, or a confidence on the other side of the threshold. That has a margin on
both sides, so that an answer that wavers about it does not make a change each time.
"""

from typing import Any, NamedTuple

from edge.mavlink.outgoing import lite
from edge.mavlink.wire import codec
from edge.mavlink.wire.codec import Flag

THRESHOLD = 0.5
"""Below, an answer is a guess."""
MARGIN = 0.05
MAX_COUNT = 255


class Told(NamedTuple):
    """One answer to send."""

    message: Any
    """FUSION_CLASSIFICATION; the same object as came in where it stands for itself alone."""
    answers: int
    """Which it stands for."""
    is_change: bool


class Aggregation:
    """Decides which answers of a link's stream are told.

    Args:
        period_ns: answers that change nothing are told so often, as one; 0: each.
        threshold: of the confidence, 0 to 1.
    """

    def __init__(self, period_ns: int, threshold: float = THRESHOLD) -> None:
        self.period_ns = period_ns
        self.threshold = threshold
        self.left_out = 0
        """Answers that were to be summed up when a change came: they are told by none."""
        self._key: tuple[int, int, bool] | None = None
        self._told_ns = 0
        self._waiting: Any | None = None
        self._count = 0

    def take(self, message: Any, now_ns: int) -> Told | None:
        """Take an answer, FUSION_CLASSIFICATION; return what to tell now, if anything."""
        key = (message.class_id[0], message.modality_present, self._is_sure(message.confidence[0]))
        if key != self._key:
            self._key, self._told_ns = key, now_ns
            self.left_out += self._count
            self._waiting, self._count = None, 0
            return Told(message, 1, True)
        self._waiting, self._count = message, self._count + 1
        return self.due(now_ns)

    def due(self, now_ns: int) -> Told | None:
        """Return what is told of the answers since the last time, once it is time for that."""
        if self._waiting is None or (now_ns - self._told_ns < self.period_ns and self._count < MAX_COUNT):
            return None
        self._told_ns = now_ns
        return self.rest()

    def rest(self) -> Told | None:
        """Return what was not told yet, whatever the time."""
        if self._waiting is None:
            return None
        told = Told(self._waiting if self._count == 1 else summed(self._waiting), self._count, False)
        self._waiting, self._count = None, 0
        return told

    def _is_sure(self, confidence: int) -> bool:
        """Say on which side of the threshold an answer is; one that is near it stays where the last one was."""
        share = 0.0 if confidence == codec.UINT16_MAX else confidence / codec.SHARES
        was_sure = self._key is not None and self._key[2]
        return share >= self.threshold - MARGIN if was_sure else share >= self.threshold + MARGIN


def summed(message: Any) -> Any:
    """Return the newest of several answers, marked as standing for all of them."""
    return lite.marked(message, Flag.AGGREGATED)
