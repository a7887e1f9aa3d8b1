"""Virtual flights that cost next to nothing: sensors made up beforehand, fake branches, and all the rest real."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from edge.backends.onnx import load_engines
from edge.backends.session import Engines
from edge.config import PipelineConfig, StreamConfig
from edge.faults.injector import FaultPlan
from edge.judging.verdict import Judgement
from edge.operations.replays import judge_of
from edge.recording.reader import Event
from edge.recording.replay import ExactReplay, Listener
from edge.sources.synthetic import SiteGenerator
from edge.transport.messages import Classification, Kind, PipelineStatus, Pose, StreamAccounting
from edge.transport.wire import Stamp, decode_message, encode_array
from models.bundle import Bundle, open_bundle, shipped_bundle

BEGIN_NS = 1_000_000_000
TRANSPORT_NS = 500_000
CONTENTS = 16
"""Different windows and frames, in turn: the same again and again would be called frozen."""
FRAME_PX = (72, 96)
SAMPLE_RATE_HZ = 1_000_000.0
WINDOW_SAMPLES = 4096
POSE_HZ = 5.0
_NS_PER_S = 1_000_000_000


class FakeBranch:
    """Says the same of whatever it is shown, in no time."""

    def __init__(self, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
        self.inputs = {name: np.zeros_like(array) for name, array in inputs.items()}
        self.outputs = {name: np.zeros_like(array) for name, array in outputs.items()}
        self.outputs["logits"][0, 0] = 2.0

    def run(self) -> bool:
        return True


@dataclass(frozen=True)
class Sensor:
    """One stream of a virtual flight."""

    modality: str
    rate_hz: float
    shortened: int = 1
    """A radio's messages are as many times shorter than a window; those of a short one follow without a gap."""

    @property
    def messages_hz(self) -> float:
        return self.rate_hz if self.shortened == 1 else SAMPLE_RATE_HZ * self.shortened / WINDOW_SAMPLES


def two_sensors() -> dict[str, Sensor]:
    return {"radio": Sensor("iq", 100.0), "camera": Sensor("image", 30.0)}


@dataclass
class Flight:
    """A flight that is over."""

    answers: list[Classification] = field(default_factory=list)
    statuses: list[PipelineStatus] = field(default_factory=list)
    offered: dict[str, int] = field(default_factory=dict)
    streams: dict[str, StreamAccounting] = field(default_factory=dict)
    judgement: Judgement | None = None

    def broken(self) -> list[str]:
        """Return what was broken of the promises, and of the accounting that only a test can know."""
        lines = [] if self.judgement.has_held else self.judgement.lines()
        for name, stream in self.streams.items():
            if stream.received != self.offered[name] or stream.in_flight:
                lines.append(f"{name}: {self.offered[name]} sent, {stream.received} received, {stream.in_flight} left")
        return lines


@functools.cache
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


@functools.cache
def engines() -> Engines:
    """Return fake branches, and the real fusion."""
    real = load_engines(bundle())
    branches = {name: FakeBranch(session.inputs, session.outputs) for name, session in real.branches.items()}
    return Engines(branches=branches, fusion=real.fusion, precisions=real.precisions)


@functools.cache
def contents(modality: str) -> list[np.ndarray]:
    generator, rng = SiteGenerator(), np.random.default_rng(0)
    if modality == "iq":
        return [generator.radio(n % 4, rng) for n in range(CONTENTS)]
    rows, columns = FRAME_PX
    return [np.ascontiguousarray(generator.scene(n % 4, rng)[:rows, :columns]) for n in range(CONTENTS)]


def events(sensors: Mapping[str, Sensor], seconds: float) -> Iterator[Event]:
    """Yield what sensors send, and poses, one at a time in the order of arrival."""
    rates_hz = [sensor.messages_hz for sensor in sensors.values()]
    makers = [functools.partial(_sensed, number, *item) for number, item in enumerate(sensors.items())]
    due = [(n * 1e-6, 0, which) for n, which in enumerate((*range(len(makers)), -1))]  # no two at the same moment
    while due:
        at_s, n, which = min(due)
        due.remove((at_s, n, which))
        if at_s >= seconds:
            continue
        at_ns = BEGIN_NS + round(at_s * _NS_PER_S)
        yield makers[which](n, at_ns) if which >= 0 else _pose(at_ns)
        due.append((at_s + 1 / (rates_hz[which] if which >= 0 else POSE_HZ), n + 1, which))


def _sensed(number: int, name: str, sensor: Sensor, n: int, at_ns: int) -> Event:
    kept = contents(sensor.modality)
    stamp = Stamp(number, 1, n & 0xFFFF_FFFF, at_ns, at_ns)
    if sensor.modality == "iq":
        part, size = n % sensor.shortened, WINDOW_SAMPLES // sensor.shortened
        samples = kept[n // sensor.shortened % CONTENTS][part * size : (part + 1) * size]
        message = encode_array(Kind.IQ, stamp._replace(sample_rate_hz=SAMPLE_RATE_HZ), samples)
    else:
        message = encode_array(Kind.FRAME, stamp, kept[n % CONTENTS])
    header, payload = decode_message(message)
    return Event(
        log_ns=at_ns + TRANSPORT_NS,
        kind=Kind(header.kind),
        stream=name,
        header=header,
        payload=bytes(payload),
        message=None,
    )


def _pose(at_ns: int) -> Event:
    pose = Pose(capture_ns=at_ns, latitude_deg=47.0, longitude_deg=8.0, altitude_m=500.0)
    return Event(log_ns=at_ns + TRANSPORT_NS, kind=Kind.POSE, stream="pose", header=None, payload=b"", message=pose)


def fly(
    plan: FaultPlan,
    sensors: Mapping[str, Sensor] | None = None,
    seconds: float = 20.0,
    config: PipelineConfig | None = None,
) -> Flight:
    """Return a flight that faults befell, judged."""
    sensors, config = sensors or two_sensors(), config or PipelineConfig()
    flight = Flight(offered=dict.fromkeys(sensors, 0))
    for answer in _answers(flight, plan, sensors, seconds, config):
        flight.answers.append(answer)
    return flight


def _answers(
    flight: Flight, plan: FaultPlan, sensors: Mapping[str, Sensor], seconds: float, config: PipelineConfig
) -> Iterator[Classification]:
    streams = stream_configs(sensors)
    replay = ExactReplay(bundle(), streams, config, BEGIN_NS, engines())
    judge = judge_of(streams, config, plan, BEGIN_NS)

    def note(status: PipelineStatus) -> None:
        judge.note_status(status)
        flight.statuses.append(status)

    flying = counted(plan.befall(events(sensors, seconds), BEGIN_NS), flight.offered)
    for answer in replay.run(flying, Listener(note_status=note)):
        judge.note_answer(answer)
        yield answer
    flight.streams = replay.accounting()
    flight.judgement = judge.judgement(replay.status().time_ns)


def stream_configs(sensors: Mapping[str, Sensor]) -> dict[str, StreamConfig]:
    return {
        name: StreamConfig(modality=sensor.modality, endpoint=f"inproc://{name}", rate_hz=sensor.rate_hz)
        for name, sensor in sensors.items()
    }


def counted(flying: Iterator[Event], offered: dict[str, int]) -> Iterator[Event]:
    """Count what comes of each stream; it comes in the order of time, whatever befell it."""
    before_ns = 0
    for event in flying:
        assert event.log_ns >= before_ns, (event.log_ns, before_ns)
        before_ns = event.log_ns
        if event.stream in offered:
            offered[event.stream] += 1
        yield event
