"""Exact replay: a recording through the real scheduler on a virtual clock, one thread, no sockets.

Same recording, same bundle, same bytes out. Engines are charged a fixed cost in virtual time, so that what is
superseded does not depend on how fast this machine is.
"""

import dataclasses
import heapq
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edge.backends.onnx import load_engines
from edge.backends.session import Engines
from edge.clock import VirtualClock
from edge.config import PipelineConfig, StreamConfig, check_modalities
from edge.pipeline.alignment import Feature
from edge.pipeline.answer import FusionHead
from edge.pipeline.branch import Branch
from edge.pipeline.scheduler import NS_PER_MS, Pairing, Scheduler
from edge.pipeline.shedding import open_shedder
from edge.recording.feeding import fed_modalities
from edge.recording.reader import Event, Recording
from edge.transport.messages import Classification, Kind, PipelineStatus, Pose, StreamAccounting
from edge.transport.wire import Reason, decode_message, encode_header
from models.bundle import Bundle
from models.spec import ModelSpec

ENGINE_COST_NS = 3 * NS_PER_MS
"""Virtual time that a branch takes for one message."""
TICK_NS = 20 * NS_PER_MS
STATUS_PERIOD_NS = 1_000 * NS_PER_MS
LONGEST_SILENCE_NS = 60_000 * NS_PER_MS
"""Of a longer gap in a recording only the end is lived through."""


class ExactReplay:
    """Drives the pipeline's own parts through recorded events in virtual time."""

    def __init__(
        self,
        bundle: Bundle,
        streams: Mapping[str, StreamConfig],
        config: PipelineConfig,
        start_ns: int,
        engines: Engines | None = None,
    ) -> None:
        """Make everything ready at a virtual time.

        Args:
            bundle: the model.
            streams: that feed it.
            config: limits, and the precision of the graphs.
            start_ns: the time.
            engines: what infers; by default the bundle's graphs on ONNX Runtime.
        Raises:
            ConfigError: a stream feeds a modality that the model does not have.
            BundleError: as `load_engines`.
        """
        check_modalities(streams, config, bundle.spec.modality_names)
        self._bundle = bundle
        self._streams = streams
        self._clock = VirtualClock(start_ns)
        engines = engines or load_engines(bundle, config.precision)
        self.precisions: dict[str, str] = dict(engines.precisions)
        """Of the graph that flies for each role."""
        self._head = FusionHead(bundle.manifest, engines.fusion, self._clock, config.max_age_ms)
        self._branches = {
            name: Branch(bundle.spec.modality(stream.modality), engines.branches[stream.modality], self._clock, stream)
            for name, stream in streams.items()
        }
        shedder = open_shedder(bundle.spec.modalities, streams, config, start_ns)
        self._scheduler = Scheduler(bundle.spec.modality_names, streams, config, start_ns, shedder)
        self._idle = set(bundle.spec.modality_names)
        self._inferring: list[tuple[int, str, Feature | Reason]] = []
        """Heap of (due time, stream, outcome)."""
        self._tick_ns = start_ns + TICK_NS
        self._status_ns = start_ns
        self._note: Callable[[PipelineStatus], object] = _forget

    def run(
        self, events: Iterator[Event], note: Callable[[PipelineStatus], object] | None = None
    ) -> Iterator[Classification]:
        """Yield the answers that recorded messages cause, in the order of virtual time.

        Args:
            events: ordered by `log_ns`, the time of arrival, from `start_ns` on.
            note: told the pipeline's status once a second, and at the end.
        """
        self._note = note or _forget
        for event in events:
            yield from self._advance(event.log_ns)
            self._offer(event)
        while self._inferring:
            yield from self._advance(self._inferring[0][0])
        self._note(self.status())

    def status(self) -> PipelineStatus:
        """Return health and accounting at the present virtual time."""
        return PipelineStatus(
            time_ns=self._clock.now_ns(),
            results=self._head.answers,
            streams=self.accounting(),
            model=self._bundle.manifest.title,
            bundle_sha256=self._bundle.sha256,
            labels=self._bundle.spec.classes,
            precisions=self.precisions,
            load=self._scheduler.load,
        )

    def accounting(self) -> dict[str, StreamAccounting]:
        """Return every stream's ledger at the present virtual time."""
        return self._scheduler.accounting(self._clock.now_ns())

    def _advance(self, to_ns: int) -> Iterator[Classification]:
        """Let everything happen that is due by `to_ns`, then stand at that time."""
        while True:
            if not self._inferring:
                self._tick_ns = max(self._tick_ns, to_ns - LONGEST_SILENCE_NS)
            done_ns = self._inferring[0][0] if self._inferring else self._tick_ns
            if min(done_ns, self._tick_ns) > to_ns:
                break
            pairing: Pairing | None
            if self._inferring and done_ns <= self._tick_ns:
                self._clock.advance_to(done_ns)
                pairing = self._complete()
            else:
                self._clock.advance_to(self._tick_ns)
                self._tick_ns += TICK_NS
                pairing = self._scheduler.tick(self._clock.now_ns())
                self._tell_status()
            answer = self._head.answer(pairing) if pairing is not None else None
            if answer is not None:
                yield answer
        self._clock.advance_to(to_ns)

    def _tell_status(self) -> None:
        """Tell the status once a second, as in flight."""
        now_ns = self._clock.now_ns()
        if now_ns >= self._status_ns:
            self._status_ns = now_ns + STATUS_PERIOD_NS
            self._note(self.status())

    def _offer(self, event: Event) -> None:
        if event.kind == Kind.POSE and isinstance(event.message, Pose):
            self._head.pose = event.message
        if event.header is None or event.stream not in self._streams:
            return
        received = decode_message((encode_header(event.header), event.payload))
        message = self._branches[event.stream].admit(received)
        self._scheduler.receive(event.stream, message, self._clock.now_ns())
        self._start(self._streams[event.stream].modality)

    def _start(self, modality: str) -> None:
        """Let an idle modality take its next message; the outcome comes due after the engine's cost."""
        arrival = self._scheduler.take(modality, self._clock.now_ns()) if modality in self._idle else None
        if arrival is None:
            return
        self._idle.discard(modality)
        done_ns = self._clock.now_ns() + ENGINE_COST_NS
        outcome = self._branches[arrival.stream].process(arrival)
        if isinstance(outcome, Feature):
            outcome = dataclasses.replace(outcome, completed_ns=done_ns)
        heapq.heappush(self._inferring, (done_ns, arrival.stream, outcome))

    def _complete(self) -> Pairing | None:
        done_ns, stream, outcome = heapq.heappop(self._inferring)
        modality = self._streams[stream].modality
        pairing = self._scheduler.complete(stream, outcome, done_ns)
        self._idle.add(modality)
        self._start(modality)
        return pairing


def _forget(_: PipelineStatus) -> None:
    """Note nothing."""


def streams_of(recording: Recording, spec: ModelSpec, runtime: Path) -> dict[str, StreamConfig]:
    """Return how a recording's sensor streams feed a model, with endpoints below `runtime`.

    A stream's socket is numbered: the name comes from a file, and must not say where on the disk sockets are.

    Raises:
        ConfigError: as `fed_modalities`.
    """
    return {
        name: StreamConfig(
            modality=modality,
            endpoint=f"ipc://{runtime}/stream-{n}",
            rate_hz=max(recording.streams[name].rate_hz, 0.1),
        )
        for n, (name, modality) in enumerate(fed_modalities(recording, spec.modalities).items())
    }
