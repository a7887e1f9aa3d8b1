"""Exact replay: a recording through the real scheduler on a virtual clock, no sockets.

Same recording, same bundle, same bytes out, in however many threads. What inference costs in virtual time is told, or
known from the flight, so that what is superseded does not depend on how fast this machine is.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from edge.recording.crew import Crew
from edge.recording.feeding import fed_modalities
from edge.recording.reader import Event, Recording
from edge.recording.timetable import Cleared, Done, Pace, Posed, Received, Skipped, Step, Taken, Timetable
from edge.transport.messages import Classification, PipelineStatus, StreamAccounting
from edge.transport.wire import Header
from models.bundle import Bundle
from models.spec import ModelSpec

STATUS_PERIOD_NS = 1_000 * NS_PER_MS
_LOWEST_HZ, _HIGHEST_HZ = 0.1, 10_000.0
"""Of a stream's configured rate."""
STEPS_AHEAD = 1_000
"""At most: where nothing is inferred there is nothing to be ahead of."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """Who hears of a replay while it goes on, in the order of virtual time."""

    note_status: Callable[[PipelineStatus], object] = lambda _: None
    """Told the pipeline's status once a second, and at the end."""
    note_skipped: Callable[[int], object] = lambda _: None
    """Told until when a long silence was left out."""


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
        self._config = config
        self._start_ns = start_ns
        self._clock = VirtualClock(start_ns)
        engines = engines or load_engines(bundle, config.precision)
        self.precisions: dict[str, str] = dict(engines.precisions)
        """Of the graph that flies for each role."""
        self._head = FusionHead(bundle.manifest, engines.fusion, self._clock, config.max_age_ms)
        still = VirtualClock(start_ns)  # branches may run beside everything else: to them no time passes
        self._branches = {
            name: Branch(bundle.spec.modality(stream.modality), engines.branches[stream.modality], still, stream)
            for name, stream in streams.items()
        }
        self._scheduler = self._new_scheduler()
        self._taken: dict[str, Header] = {}
        """By stream, the message that its branch has."""
        self._status_ns = start_ns
        self._listener = Listener()
        self.inferred = 0
        """Messages so far."""
        self.as_in_flight = 0
        """Of these, those that the flight's trace names."""

    def run(
        self, events: Iterable[Event], listener: Listener | None = None, pace: Pace | None = None, threads: int = 1
    ) -> Iterator[Classification]:
        """Yield the answers that recorded messages cause, in the order of virtual time. To be called once.

        Args:
            events: ordered by `log_ns`, the time of arrival, from the start on.
            listener: hears of all but the answers.
            pace: when messages are taken, and how long that takes; by default 3 ms each, as soon as possible.
            threads: how many infer; what is answered does not depend on it.
        """
        self._listener = listener or Listener()
        table = Timetable(self._branches, self._streams, self._new_scheduler(), pace or Pace(), self._start_ns)
        modalities = self._bundle.spec.modality_names
        with Crew(self._branches, modalities, min(threads, len(modalities))) as crew:
            for step in _ahead(table.steps(events, crew.submit), crew.ahead):
                self._clock.advance_to(step.at_ns)
                answer = self._do(step)
                self.inferred, self.as_in_flight = table.inferred, table.as_in_flight
                if answer is not None:
                    yield answer
        self._listener.note_status(self.status())

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

    def _new_scheduler(self) -> Scheduler:
        spec = self._bundle.spec
        shedder = open_shedder(spec.modalities, self._streams, self._config, self._start_ns)
        return Scheduler(spec.modality_names, self._streams, self._config, self._start_ns, shedder)

    def _do(self, step: Step) -> Classification | None:
        """Do what is due, and return the answer that it causes."""
        scheduler, pairing = self._scheduler, None
        if isinstance(step, Received):
            scheduler.receive(step.stream, step.message, step.at_ns)
        elif isinstance(step, Taken):
            arrival = scheduler.take(step.modality, step.at_ns)
            if arrival is not None:
                self._taken[arrival.stream] = arrival.header
        elif isinstance(step, Done):
            pairing = self._complete(step)
        elif isinstance(step, Cleared):
            scheduler.drop_late(step.modality, step.at_ns)
        elif isinstance(step, Posed):
            self._head.pose = step.pose
        elif isinstance(step, Skipped):
            self._listener.note_skipped(step.at_ns)
        else:
            pairing = scheduler.tick(step.at_ns)
            self._tell_status()
        return self._head.answer(pairing) if pairing is not None else None

    def _complete(self, step: Done) -> Pairing | None:
        outcome = step.outcome()
        if self._taken.pop(step.stream, None) is not step.header:
            return None  # a scheduler that goes by outcomes took something else: its accounting must not be mended here
        if isinstance(outcome, Feature):
            outcome = dataclasses.replace(outcome, completed_ns=step.at_ns)
        return self._scheduler.complete(step.stream, outcome, step.at_ns)

    def _tell_status(self) -> None:
        """Tell the status once a second, as in flight."""
        now_ns = self._clock.now_ns()
        if now_ns >= self._status_ns:
            self._status_ns = now_ns + STATUS_PERIOD_NS
            self._listener.note_status(self.status())


def _ahead(steps: Iterator[Step], most_taken: int) -> Iterator[Step]:
    """Yield steps, as soon as so many outcomes that are due later are in work."""
    waiting: deque[Step] = deque()
    taken = 0
    for step in steps:
        waiting.append(step)
        taken += isinstance(step, Done)
        while waiting and (taken >= most_taken or len(waiting) > STEPS_AHEAD):
            taken -= isinstance(waiting[0], Done)
            yield waiting.popleft()
    yield from waiting


def streams_of(
    recording: Recording, spec: ModelSpec, runtime: Path, rates_hz: Mapping[str, float] | None = None
) -> dict[str, StreamConfig]:
    """Return how a recording's sensor streams feed a model, with endpoints below `runtime`.

    Their rates are those in `rates_hz`, by stream, as they were deployed, or else those at which they were recorded, as
    far as a stream may have them: a few messages on end, or two of them, have any.

    A stream's socket is numbered: the name comes from a file, and must not say where on the disk sockets are.

    Raises:
        ConfigError: as `fed_modalities`.
    """
    deployed_hz = rates_hz or {}
    return {
        name: StreamConfig(
            modality=modality,
            endpoint=f"ipc://{runtime}/stream-{n}",
            rate_hz=deployed_hz.get(name) or min(max(recording.streams[name].rate_hz, _LOWEST_HZ), _HIGHEST_HZ),
        )
        for n, (name, modality) in enumerate(fed_modalities(recording, spec.modalities).items())
    }
