"""A recorded flight flown again exactly, on a virtual clock, and who judges it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.backends.select import PrecisionChoice
from edge.config import PipelineConfig, StreamConfig
from edge.faults.fault import check_faults
from edge.faults.injector import NO_FAULTS, FaultPlan
from edge.judging.judge import Judge, Terms, kills_of, quiet_ns
from edge.judging.trouble import PERIODIC_LATE_NS, STATUS_LATE_NS, troubles_of
from edge.operations.flown import Flown
from edge.operations.kept_answers import KeptAnswers
from edge.recording.deployed import deployment_of, limits_of, rates_of
from edge.recording.engine_cost import EngineCost
from edge.recording.following import as_received
from edge.recording.reader import Event, Recording
from edge.recording.recorded_pace import recorded_pace
from edge.recording.replay import ExactReplay, Listener, streams_of
from edge.recording.timetable import Pace
from edge.transport.messages import Truth
from edge.transport.truths import TruthTimeline
from models.bundle import Bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class ExactOptions:
    """How to replay on a virtual clock."""

    precision: PrecisionChoice = "auto"
    """Of the graphs that fly."""
    plan: FaultPlan = NO_FAULTS
    """Faults that befall it."""
    cost: EngineCost | None = None
    """Of inference in virtual time; None: as the flight itself says, see `recorded_pace`."""
    threads: int = 1
    """How many infer, which changes nothing but the speed: more than 1 pay only where inference takes most of it."""


def fly_exact(
    recording: Recording,
    bundle: Bundle,
    options: ExactOptions | None = None,
    watch: Callable[[int], None] = lambda _: None,
) -> Flown:
    """Replay on a virtual clock, and judge it.

    Args:
        recording: the flight.
        bundle: the model to fly with.
        options: of the graphs, and what befalls it.
        watch: told the number of events done, for a progress bar.
    Raises:
        ConfigError: the recording's streams do not fit the model, or a fault or a cost does not fit them.
        BundleError: a graph fails its self-test, or there is none of the precision.
        RecordingError: a message of the recording is not what its channel says.
    """
    options = options or ExactOptions()
    plan = options.plan
    deployment = deployment_of(recording)
    rates = rates_of(deployment, recording.names)
    streams = streams_of(recording, bundle.spec, Path("/nowhere"), rates)
    check_faults(plan.faults, streams, is_live=False)
    config = limits_of(deployment, bundle.spec.modality_names, options.precision)
    if options.cost is not None:
        options.cost.check(bundle.spec.modality_names)
        pace = Pace(cost=options.cost)
    else:
        pace = recorded_pace(recording, streams, config.trigger_order, rates, is_followed=not plan.faults)
    replay = ExactReplay(bundle, streams, config, recording.start_ns)
    judge = judge_of(streams, config, plan, recording.start_ns)
    truths = TruthTimeline()
    recorded = as_received(recording.events(), pace.trace) if pace.trace.is_told else recording.events()
    events = plan.befall(_noting(recorded, truths, watch), recording.start_ns)
    listener = Listener(note_status=judge.note_status, note_skipped=judge.pardon)
    answers = KeptAnswers()
    for answer in replay.run(events, listener, pace, options.threads):
        judge.note_answer(answer)
        answers.append(answer)
    return Flown(
        title=recording.path.name,
        model=bundle.manifest.title,
        labels=bundle.spec.classes,
        answers=answers,
        truths=truths,
        streams=replay.accounting(),
        precisions=replay.precisions,
        judgement=judge.judgement(replay.status().time_ns),
        inferred=replay.inferred,
        as_in_flight=replay.as_in_flight,
    )


def judge_of(
    streams: Mapping[str, StreamConfig],
    config: PipelineConfig,
    plan: FaultPlan,
    begin_ns: int,
    rate: float | None = None,
) -> Judge:
    """Return who judges a flight that faults befall.

    Args:
        streams: as flown.
        config: of the pipeline.
        plan: the faults.
        begin_ns: of the flight, in the time of its answers.
        rate: times real time; None: on a virtual clock, where statuses come once a second alone.
    """
    speed = rate or 1.0
    slowest_hz = min(stream.rate_hz for stream in streams.values()) * speed
    terms = Terms(
        begin_ns=begin_ns,
        max_age_ms=config.max_age_ms,
        quiet_ns=quiet_ns(slowest_hz, config.silent_after_periods),
        status_late_ns=PERIODIC_LATE_NS if rate is None else STATUS_LATE_NS,
        kills_ns=kills_of(plan.faults, begin_ns, speed),
    )
    modalities = {name: stream.modality for name, stream in streams.items()}
    return Judge(terms, troubles_of(plan.faults, modalities, begin_ns, speed))


def _noting(events: Iterable[Event], truths: TruthTimeline, watch: Callable[[int], None]) -> Iterator[Event]:
    for done, event in enumerate(events, 1):
        if isinstance(event.message, Truth):
            truths.note(event.message)
        watch(done)
        yield event
