"""The ledger of one stream: every message that arrives meets exactly one fate, and the sum is checked."""

from collections import Counter

from edge.pipeline.framing import Gathered
from edge.transport.messages import StreamAccounting
from edge.transport.wire import Header, Reason

_SEQUENCE_SPAN = 1 << 32
_LARGEST_GAP = 1_000_000
"""More than any link loses at a stretch: such a number is wrong, not a loss."""


class Ledger:
    """Counts the fates of one stream's messages and the gaps in their sequence numbers. Not thread-safe."""

    def __init__(self) -> None:
        self.received = 0
        self.processed = 0
        self.superseded = 0
        self.dropped_late = 0
        self.gathered = 0
        self.restarted_windows = 0
        self.shed = 0
        self.rejected: Counter[str] = Counter()
        self.lost_transport = 0
        self._epoch: int | None = None
        self._sequence = -1
        self._unnumbered = 0
        """Messages refused since the last number: they are among those that the next one seems to have skipped."""
        self._odd: int | None = None
        """The last number that was no successor; the next one goes on from it if the source counts anew."""

    def note_sequence(self, header: Header) -> bool:
        """Count messages lost before this one; say whether its source has restarted (or is new)."""
        if header.epoch != self._epoch:
            self._epoch, self._sequence, self._odd, self._unnumbered = header.epoch, header.sequence, None, 0
            return True
        gap = (header.sequence - self._sequence) % _SEQUENCE_SPAN
        if 0 < gap <= _LARGEST_GAP:
            self.lost_transport += max(gap - 1 - self._unnumbered, 0)
            self._sequence, self._odd = header.sequence, None
        elif self._odd is not None and header.sequence == (self._odd + 1) % _SEQUENCE_SPAN:
            self._sequence, self._odd = header.sequence, None
        else:
            self._odd = header.sequence
        self._unnumbered = 0
        return False

    def gather(self, fate: Gathered) -> None:
        """Count a message whose samples are kept for a later window."""
        self.gathered += 1
        self.restarted_windows += fate is Gathered.RESTARTED

    def reject(self, reason: Reason) -> None:
        """Count a refused message whose number has been noted."""
        self.rejected[reason.value] += 1

    def reject_unnumbered(self, reason: Reason) -> None:
        """Count a message that was refused before anybody could trust its number."""
        self.rejected[reason.value] += 1
        self._unnumbered += 1

    def summary(self, in_flight: int, state: str) -> StreamAccounting:
        """Return the counts as they stand."""
        return StreamAccounting(
            received=self.received,
            processed=self.processed,
            superseded=self.superseded,
            dropped_late=self.dropped_late,
            gathered=self.gathered,
            restarted_windows=self.restarted_windows,
            shed=self.shed,
            rejected=dict(sorted(self.rejected.items())),
            in_flight=in_flight,
            lost_transport=self.lost_transport,
            state=state,
        )
