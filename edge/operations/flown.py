"""What came out of one flight, live or replayed: the material of summaries and reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.operations.score import TruthTimeline, accounting_summary, latency_summary, score
from edge.transport.messages import Classification, StreamAccounting


@dataclass(frozen=True, kw_only=True, slots=True)
class Flown:
    """A flight that is over."""

    title: str
    model: str
    """Bundle title."""
    labels: tuple[str, ...]
    """Class labels in index order."""
    answers: Sequence[Classification]
    truths: TruthTimeline
    """Empty where the truth is unknown."""
    streams: dict[str, StreamAccounting]

    def summary(self) -> dict[str, Any]:
        """Return accuracy (null where the truth is unknown), results, latency and accounting, as plain data."""
        return {
            **score(self.answers, self.truths),
            "results": len(self.answers),
            "latency_ms": latency_summary(self.answers),
            "accounting": accounting_summary(self.streams),
        }

    @property
    def is_balanced(self) -> bool:
        """Whether every stream accounts for every message."""
        return all(stream.balanced for stream in self.streams.values())
