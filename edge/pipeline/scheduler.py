"""Who is inferred next, and which features are fused when: a pure object, its time handed in by the caller.

Live flight and exact replay drive this very class, so a decision seen in one can be reproduced in the other.
The caller serialises the calls (one lock in flight, one thread in replay).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from edge.config import PipelineConfig, StreamConfig
from edge.pipeline.accounting import Ledger
from edge.pipeline.alignment import Feature, FeatureRing
from edge.pipeline.framing import Gathered
from edge.pipeline.shedding import Shedder
from edge.transport.inbox import Payload
from edge.transport.messages import Load, StreamAccounting
from edge.transport.wire import Header, Reason

Admitted = tuple[Header, Payload | Gathered] | Reason
"""A message as its branch takes it, or why it does not."""
NS_PER_MS = 1_000_000
FUTURE_TOLERANCE_NS = 50 * NS_PER_MS
NO_DATA_PERIOD_NS = 1_000 * NS_PER_MS

STARTING = "starting"
LIVE = "live"
SILENT = "silent"
STALE = "stale"
SKEWED = "skewed"
SHED = "shed"
NO_STREAM = "no_stream"


class Arrival(NamedTuple):
    """A decoded message on its way to a branch. The payload is a view on the transport's buffer.

    One is made of every message that comes: as a frozen dataclass it took three times as long.
    """

    stream: str
    header: Header
    payload: Payload
    arrived_ns: int
    taken_ns: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """Features to fuse now: one entry a modality, in spec order; with no trigger there is nothing to fuse."""

    trigger: Feature | None
    features: tuple[Feature | None, ...]
    reasons: tuple[str, ...]
    """Why a modality is absent; empty where it is present."""


@dataclass(slots=True)
class _Stream:
    name: str
    modality: str
    period_ns: int
    ledger: Ledger = field(default_factory=Ledger)
    ring: FeatureRing = field(default_factory=FeatureRing)
    waiting: Arrival | None = None
    taken_ns: int = -1
    """When its last message was taken."""
    busy: bool = False
    newest_capture_ns: int = -1
    usable_ns: int | None = None
    """When its last good feature was completed."""
    masked: str = ""
    """Why its branch refused its last message, until a good feature comes."""
    refused: str = ""
    """Why its last message was refused on arrival, until a good feature comes: tells why a stream is not live."""


class Scheduler:
    """Latest-wins slots, alignment by capture time, pacing, and the accounting of every message."""

    def __init__(
        self,
        modalities: Sequence[str],
        streams: Mapping[str, StreamConfig],
        config: PipelineConfig,
        start_ns: int,
        shedder: Shedder | None = None,
    ) -> None:
        """Begin with nothing received.

        Args:
            modalities: names, in spec order.
            streams: that feed them, any number each.
            config: limits of age and skew, and who paces the answers.
            start_ns: the time.
            shedder: leaves messages out when the board cannot do it all; without one nothing is left out.
        """
        self._modalities = tuple(modalities)
        self._streams = {
            name: _Stream(name=name, modality=stream.modality, period_ns=int(1e9 / stream.rate_hz))
            for name, stream in streams.items()
        }
        self._feeding = {
            modality: tuple(entry for entry in self._streams.values() if entry.modality == modality)
            for modality in self._modalities
        }
        self._shedder = shedder
        self._max_age_ns = int(config.max_age_ms * NS_PER_MS)
        self._max_skew_ns = int(config.max_skew_ms * NS_PER_MS)
        self._patience = config.silent_after_periods
        self._order = config.trigger_order or self._slowest_first()
        self._output_ns = start_ns
        self._output_had_data = False

    def receive(self, stream: str, message: Admitted, now_ns: int) -> None:
        """Account for a message that arrived, and put it in its stream's slot if it is sound and newer."""
        entry = self._streams[stream]
        entry.ledger.received += 1
        if isinstance(message, Reason):
            entry.ledger.reject_unnumbered(message)
            entry.refused = message.value
            return
        header, payload = message
        if entry.ledger.note_sequence(header):
            entry.newest_capture_ns = -1
        if isinstance(payload, Gathered):
            entry.ledger.gather(payload)
            return
        if header.capture_ns > now_ns + FUTURE_TOLERANCE_NS or header.capture_ns < entry.newest_capture_ns:
            entry.ledger.reject(Reason.TIME)
            entry.refused = Reason.TIME.value
            return
        entry.newest_capture_ns = header.capture_ns
        if self._shedder is not None and not self._shedder.admits(stream, entry.waiting is not None, now_ns):
            entry.ledger.shed += 1
            return
        if entry.waiting is not None:
            entry.ledger.superseded += 1
        entry.waiting = Arrival(stream, header, payload, now_ns)

    def take(self, modality: str, now_ns: int) -> Arrival | None:
        """Hand out what waits on a modality's streams, in turn; late messages are dropped and counted.

        Whose turn it is goes by when a stream was last served, not by how long its message has waited: the message of a
        stream that is superseded just before each turn would always be the youngest.
        """
        ready = [entry for entry in self._feeding[modality] if entry.waiting is not None and not entry.busy]
        for entry in sorted(ready, key=_last_served) if len(ready) > 1 else ready:
            waiting, entry.waiting = entry.waiting, None
            if waiting is None:
                continue
            if now_ns - waiting.header.capture_ns > self._max_age_ns:
                entry.ledger.dropped_late += 1
                entry.refused = STALE
                continue
            entry.busy, entry.taken_ns = True, now_ns
            return Arrival(entry.name, waiting.header, waiting.payload, waiting.arrived_ns, now_ns)
        return None

    def drop_late(self, modality: str, now_ns: int) -> None:
        """Drop what waits on a modality's streams and is too old, as `take` does on its way."""
        for entry in self._feeding[modality]:
            waiting = entry.waiting
            if waiting is not None and not entry.busy and now_ns - waiting.header.capture_ns > self._max_age_ns:
                entry.waiting = None
                entry.ledger.dropped_late += 1
                entry.refused = STALE

    def complete(self, stream: str, outcome: Feature | Reason, now_ns: int) -> Pairing | None:
        """Account for a taken message, and return what to fuse now, if its modality paces the answers."""
        entry = self._streams[stream]
        entry.busy = False
        if self._shedder is not None:
            self._shedder.note_inferred(stream, now_ns - entry.taken_ns)
        if outcome is Reason.OVERWRITTEN:
            entry.ledger.superseded += 1
            return None
        if isinstance(outcome, Reason):
            entry.ledger.reject(outcome)
            entry.masked = outcome.value
            return None
        entry.ledger.processed += 1
        entry.masked = entry.refused = ""
        entry.usable_ns = now_ns
        entry.ring.push(outcome)
        if not self._paces(entry.modality, now_ns) or now_ns - outcome.capture_ns > self._max_age_ns:
            return None
        return self._pair(outcome, now_ns)

    def tick(self, now_ns: int) -> Pairing | None:
        """Return a pairing without a trigger when every modality is absent and that has to be said (again).

        To be called some 50 times a second: what is shed is decided here, too.
        """
        if self._shedder is not None:
            self._shedder.tick(now_ns)
        patience_ns = self._max_age_ns if self._output_had_data else NO_DATA_PERIOD_NS
        if now_ns - self._output_ns < patience_ns:
            return None
        reasons = tuple(self._absence(name, now_ns) for name in self._modalities)
        if not all(reasons):
            return None
        self._output_ns, self._output_had_data = now_ns, False
        return Pairing(trigger=None, features=(None,) * len(reasons), reasons=reasons)

    def note_heat(self, why: str) -> None:
        """Take what slows the board down, in words; empty when nothing does."""
        if self._shedder is not None:
            self._shedder.note_heat(why)

    @property
    def load(self) -> Load:
        """What is shed now, and why."""
        return self._shedder.load if self._shedder is not None else Load()

    def accounting(self, now_ns: int) -> dict[str, StreamAccounting]:
        """Return every stream's ledger and state."""
        return {
            name: entry.ledger.summary((entry.waiting is not None) + entry.busy, self._state(entry, now_ns))
            for name, entry in self._streams.items()
        }

    def states(self, now_ns: int) -> dict[str, str]:
        """Return every stream's state."""
        return {name: self._state(entry, now_ns) for name, entry in self._streams.items()}

    def _slowest_first(self) -> tuple[str, ...]:
        """Order modalities by period, longest first; of equals the later in the spec comes first."""
        periods = dict.fromkeys(self._modalities, 0)
        for entry in self._streams.values():
            periods[entry.modality] = max(periods[entry.modality], entry.period_ns)
        place = {name: n for n, name in enumerate(self._modalities)}
        return tuple(sorted(self._modalities, key=lambda name: (-periods[name], -place[name])))

    def _state(self, entry: _Stream, now_ns: int) -> str:
        if self._shedder is not None and self._shedder.is_off(entry.name):
            return SHED
        if entry.masked:
            return entry.masked
        if entry.usable_ns is None:
            return entry.refused or STARTING
        is_live = self._is_prompt(entry, now_ns) or self._is_in_work(entry, now_ns)
        return LIVE if is_live else entry.refused or SILENT

    def _is_prompt(self, entry: _Stream, now_ns: int) -> bool:
        """Whether something usable came of a stream within a few of its periods."""
        if entry.usable_ns is None or entry.masked:
            return False
        period_ns = entry.period_ns
        if self._shedder is not None:
            if self._shedder.is_off(entry.name):
                return False
            period_ns = max(period_ns, self._shedder.period_ns(entry.name))
        return now_ns - entry.usable_ns <= self._patience * period_ns

    def _is_in_work(self, entry: _Stream, now_ns: int) -> bool:
        """Whether a message of a stream is being inferred or waits: its source is not silent, its engine is slow."""
        if not entry.busy and entry.waiting is None:
            return False
        taken_ns = [other.taken_ns for other in self._feeding[entry.modality] if other.busy]
        since_ns = entry.waiting.header.capture_ns if not taken_ns and entry.waiting is not None else max(taken_ns)
        return now_ns - since_ns <= self._max_age_ns  # for longer nothing useful is inferred: the engine hangs

    def _paces(self, modality: str, now_ns: int) -> bool:
        """Whether every modality that comes before this one in the order has fallen silent, or is slow."""
        for earlier in self._order:
            if earlier == modality:
                return True
            if any(self._is_prompt(entry, now_ns) for entry in self._feeding[earlier]):
                return False
        return True

    def _pair(self, trigger: Feature, now_ns: int) -> Pairing:
        pairs = [
            ("", trigger) if name == trigger.modality else self._partner(name, trigger.capture_ns, now_ns)
            for name in self._modalities
        ]
        self._output_ns, self._output_had_data = now_ns, True
        return Pairing(
            trigger=trigger,
            features=tuple(feature for _, feature in pairs),
            reasons=tuple(reason for reason, _ in pairs),
        )

    def _partner(self, modality: str, capture_ns: int, now_ns: int) -> tuple[str, Feature | None]:
        """Return a modality's feature nearest to `capture_ns`, or why there is none to use."""
        reason = self._absence(modality, now_ns)
        feature = self._nearest(modality, capture_ns)
        if reason or feature is None:
            return reason, None
        too_old = now_ns - feature.capture_ns > self._max_age_ns
        if not too_old and abs(feature.capture_ns - capture_ns) <= self._max_skew_ns:
            return "", feature
        state = self._modality_state(modality, now_ns)
        return (state if state != LIVE else STALE if too_old else SKEWED), None

    def _absence(self, modality: str, now_ns: int) -> str:
        """Return why a modality has nothing to give at all, or an empty string."""
        for entry in self._feeding[modality]:
            newest = entry.ring.newest_capture_ns() if not entry.masked else None
            if newest is not None and now_ns - newest <= self._max_age_ns:
                return ""
        state = self._modality_state(modality, now_ns)
        return STALE if state == LIVE else state

    def _nearest(self, modality: str, capture_ns: int) -> Feature | None:
        """Return the feature captured nearest to `capture_ns` of the streams that are not masked."""
        best: Feature | None = None
        for entry in self._feeding[modality]:
            feature = entry.ring.nearest(capture_ns) if not entry.masked else None
            if feature is None:
                continue
            if best is None or abs(feature.capture_ns - capture_ns) < abs(best.capture_ns - capture_ns):
                best = feature
        return best

    def _modality_state(self, modality: str, now_ns: int) -> str:
        """Return LIVE if any of the modality's streams is, else what its first stream is."""
        states = [self._state(entry, now_ns) for entry in self._feeding[modality]]
        return LIVE if LIVE in states else states[0] if states else NO_STREAM


def _last_served(entry: _Stream) -> int:
    return entry.taken_ns
