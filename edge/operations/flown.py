"""What came out of one flight, live or replayed: the material of summaries and reports."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edge.judging.verdict import Judgement
from edge.operations.score import accounting_summary, latency_summary, score
from edge.recording.played import Played
from edge.transport.messages import Classification, StreamAccounting
from edge.transport.truths import TruthTimeline


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadChange:
    """From when on what was shed."""

    after_s: float
    """Since the first status."""
    level: int
    """0: nothing."""
    name: str
    why: str


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
    precisions: Mapping[str, str] = field(default_factory=dict)
    """Of the graph that flew for each modality, and for the fusion head; empty where nobody knows."""
    backend: str = ""
    """Whose engines flew at the end: `onnxruntime` or `tensorrt`; empty where nobody knows."""
    backend_reason: str = ""
    """Why no other ones, or how they flew; empty where nobody asked."""
    loads: Sequence[LoadChange] = ()
    """Whenever more or less was left out."""
    restarts: int = 0
    """How often the pipeline died and was started again."""
    judgement: Judgement | None = None
    """Whether it kept what is promised of every flight; None where nobody looked."""
    inferred: int | None = None
    """Messages that exact replay inferred; None of a live one."""
    as_in_flight: int = 0
    """Of these, those that were inferred in the recorded flight, by its trace."""
    played: Played | None = None
    """How the recording was played; None where nothing was replayed live."""
    lost_in_restarts: int = 0
    """Messages in flight when it died; they stay in the `in_flight` of their streams."""

    def summary(self) -> dict[str, Any]:
        """Return accuracy (null where the truth is unknown), results, latency and accounting, as plain data."""
        return {
            **score(self.answers, self.truths),
            "precisions": dict(self.precisions),
            "backend": self.backend,
            "backend_reason": self.backend_reason,
            "results": len(self.answers),
            "latency_ms": latency_summary(self.answers),
            "accounting": accounting_summary(self.streams),
            "loads": [asdict(change) for change in self.loads],
            "restarts": self.restarts,
            "lost_in_restarts": self.lost_in_restarts,
            **({"inferred": self._inferred()} if self.inferred is not None else {}),
            **({"replay": self.played.summary(self._received())} if self.played is not None else {}),
            **({"promises": self.judgement.as_json()} if self.judgement is not None else {}),
        }

    def _inferred(self) -> dict[str, int]:
        return {"messages": self.inferred or 0, "as_in_flight": self.as_in_flight}

    def _received(self) -> dict[str, int]:
        return {name: stream.received for name, stream in self.streams.items()}

    @property
    def is_sound(self) -> bool:
        """Whether it is balanced, and no promise is known to be broken."""
        return self.is_balanced and (self.judgement is None or self.judgement.has_held)

    @property
    def is_balanced(self) -> bool:
        """Whether every stream accounts for every message."""
        return all(stream.balanced for stream in self.streams.values())


def sum_ledgers(ledgers: Sequence[dict[str, StreamAccounting]]) -> dict[str, StreamAccounting]:
    """Return each stream's counts summed over successive pipeline processes; the state is the last one's."""
    parts: dict[str, list[StreamAccounting]] = {}
    for ledger in ledgers:
        for name, part in ledger.items():
            parts.setdefault(name, []).append(part)
    return {name: _sum(of_stream) for name, of_stream in parts.items()}


def _sum(parts: Sequence[StreamAccounting]) -> StreamAccounting:
    rejected: Counter[str] = Counter()
    for part in parts:
        rejected.update(part.rejected)
    return StreamAccounting(
        received=sum(part.received for part in parts),
        processed=sum(part.processed for part in parts),
        superseded=sum(part.superseded for part in parts),
        dropped_late=sum(part.dropped_late for part in parts),
        gathered=sum(part.gathered for part in parts),
        restarted_windows=sum(part.restarted_windows for part in parts),
        shed=sum(part.shed for part in parts),
        rejected=dict(rejected),
        in_flight=sum(part.in_flight for part in parts),
        lost_transport=sum(part.lost_transport for part in parts),
        state=parts[-1].state,
    )
