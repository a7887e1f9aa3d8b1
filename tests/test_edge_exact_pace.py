"""Exact replay: what inference costs in virtual time, and how the trace of a flight is followed."""

import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from random import Random

import numpy as np
import pytest
from faulty_flights import BEGIN_NS, FakeBranch, Sensor, bundle, engines, events, stream_configs, two_sensors

from edge.backends.session import Engines
from edge.config import PipelineConfig
from edge.pipeline.scheduler import Arrival
from edge.pipeline.tracing import Tracer
from edge.recording.crew import Crew, Outcome
from edge.recording.engine_cost import Costs, EngineCost, answered_cost, parse_engine_cost, traced_cost
from edge.recording.flight_trace import NO_TRACE, FlightTrace, read_trace
from edge.recording.following import as_received
from edge.recording.reader import Event
from edge.recording.replay import ExactReplay
from edge.recording.timetable import Done, Pace
from edge.transport.block_pool import BlockPool
from edge.transport.messages import Classification, Inference, ModalityAnswer, StreamAccounting, Trace
from models.errors import ConfigError

MS = 1_000_000
SECONDS = 4.0
PATIENCE_S = 30.0
SLOW = EngineCost(costs={"image": Costs((0,), (90 * MS,)), "iq": Costs((0, BEGIN_NS + 2_000 * MS), (17 * MS, 4 * MS))})
THREE = {"radio": Sensor("iq", 100.0), "left": Sensor("image", 30.0), "right": Sensor("image", 29.0)}
SHORT = {"radio": Sensor("iq", 100.0, shortened=4), "camera": Sensor("image", 30.0)}


class Replay:
    """A replay of made-up sensors, which keeps what was inferred, and when."""

    def __init__(
        self,
        sensors: dict[str, Sensor],
        flying: Iterable[Event],
        pace: Pace,
        threads: int = 1,
        using: Engines | None = None,
    ) -> None:
        replay = ExactReplay(bundle(), stream_configs(sensors), PipelineConfig(), BEGIN_NS, using or engines())
        self.tracer, self.taken = Tracer(BEGIN_NS), {}
        self._keep(replay)
        self.answers = list(replay.run(flying, pace=pace, threads=threads))
        self.streams: dict[str, StreamAccounting] = replay.accounting()
        self.trace = self.tracer.collect(BEGIN_NS + 60_000 * MS)
        self.replay = replay

    def _keep(self, replay: ExactReplay) -> None:
        """Let what is done be noted where a live pipeline notes it."""
        take, complete = replay._scheduler.take, replay._complete

        def taking(modality: str, now_ns: int) -> Arrival | None:
            arrival = take(modality, now_ns)
            if arrival is not None:
                self.taken[arrival.stream] = arrival
            return arrival

        def completing(step: Done) -> object:
            self.tracer.note(self.taken.pop(step.stream), step.at_ns)
            return complete(step)

        replay._scheduler.take, replay._complete = taking, completing  # type: ignore[method-assign]


def shaken(flying: Iterator[Event], seed: int) -> Iterator[Event]:
    """Return events as a recorder hears them: up to 20 ms later, each stream in its order."""
    chance, heard_ns, heard = Random(seed), {}, []
    for event in flying:
        late_ns = event.log_ns + chance.randrange(20 * MS)
        heard_ns[event.stream] = max(heard_ns.get(event.stream, 0) + 1, late_ns)
        heard.append(dataclasses.replace(event, log_ns=heard_ns[event.stream]))
    return iter(sorted(heard, key=lambda event: event.log_ns))


def followed(sensors: dict[str, Sensor], traces: list[Trace]) -> FlightTrace:
    return read_trace(traces, {name: sensor.modality for name, sensor in sensors.items()})


@pytest.mark.parametrize("sensors", [two_sensors(), THREE, SHORT])
def test_a_traced_flight_is_repeated_to_the_message_however_late_the_recorder_heard_of_it(sensors):
    flight = Replay(sensors, events(sensors, SECONDS), Pace(cost=SLOW))
    trace = followed(sensors, [flight.trace])
    assert sum(stream.superseded for stream in flight.streams.values()) > 100
    for seed in range(3):
        heard = as_received(shaken(events(sensors, SECONDS), seed), trace)
        again = Replay(sensors, heard, Pace(trace=trace))
        assert again.trace.inferences == flight.trace.inferences
        assert again.streams == flight.streams
        assert again.replay.as_in_flight == again.replay.inferred == len(flight.trace.inferences)
        assert [(a.answer_ns, a.probs, a.modalities) for a in again.answers] == [
            (a.answer_ns, a.probs, a.modalities) for a in flight.answers
        ]


def test_without_the_trace_another_cost_supersedes_others():
    flight = Replay(two_sensors(), events(two_sensors(), SECONDS), Pace(cost=SLOW))
    other = Replay(two_sensors(), events(two_sensors(), SECONDS), Pace())
    assert other.streams["camera"].superseded == 0
    assert flight.streams["camera"].superseded > other.streams["camera"].superseded
    assert other.replay.as_in_flight == 0


def test_what_a_trace_lost_is_filled_with_what_inference_cost_before():
    sensors = two_sensors()
    flight = Replay(sensors, events(sensors, SECONDS), Pace(cost=SLOW))
    whole = flight.trace
    cuts = [BEGIN_NS, BEGIN_NS + 1_000 * MS, BEGIN_NS + 2_000 * MS, whole.time_ns]
    parts = [
        Trace(since_ns=a, time_ns=b, inferences=tuple(one for one in whole.inferences if a <= one.done_ns < b))
        for a, b in itertools.pairwise(cuts)
    ]
    known = followed(sensors, [parts[2], parts[0]])
    assert known.covers("iq", cuts[1] - 1)
    assert not known.covers("iq", cuts[1])
    assert known.covers("image", cuts[2])
    cost = traced_cost(known, {name: sensor.modality for name, sensor in sensors.items()})
    again = Replay(sensors, as_received(events(sensors, SECONDS), known), Pace(cost=cost, trace=known))
    assert 0 < again.replay.inferred - again.replay.as_in_flight < len(parts[1].inferences) + 5
    assert again.replay.as_in_flight >= len(parts[0].inferences) + len(parts[2].inferences) - 5
    for name, stream in flight.streams.items():
        assert stream.balanced
        assert abs(again.streams[name].superseded - stream.superseded) <= 5


def test_messages_of_a_trace_that_were_not_recorded_are_passed_over():
    sensors = two_sensors()
    flight = Replay(sensors, events(sensors, SECONDS), Pace(cost=SLOW))
    trace = followed(sensors, [flight.trace])
    heard = (event for event in events(sensors, SECONDS) if event.header is None or event.header.sequence % 5)
    again = Replay(sensors, as_received(heard, trace), Pace(trace=trace))
    recorded = [one for one in flight.trace.inferences if one.sequence % 5]
    assert again.trace.inferences == tuple(recorded)


def test_a_modality_with_a_stream_that_no_trace_names_is_not_followed():
    flight = Replay(two_sensors(), events(two_sensors(), SECONDS), Pace(cost=SLOW))
    trace = followed(THREE, [flight.trace])
    assert trace.modalities == {"iq"}
    again = Replay(THREE, as_received(events(THREE, SECONDS), trace), Pace(trace=trace))
    radio = [one for one in flight.trace.inferences if one.stream == "radio"]
    assert [one for one in again.trace.inferences if one.stream == "radio"] == radio
    assert again.streams["left"].processed + again.streams["right"].processed > 200


def test_inferences_that_contradict_themselves_are_not_believed():
    sound = Inference(stream="radio", epoch=1, sequence=1, arrived_ns=10, taken_ns=20, done_ns=30)
    odd = [
        altered(sound, sequence=2, taken_ns=5),
        altered(sound, sequence=3, done_ns=15),
        altered(sound, sequence=4, done_ns=1 << 62),
        altered(sound, sequence=6, taken_ns=1 << 61, done_ns=1 << 61),
        altered(sound, sequence=5, stream="gone"),
        altered(sound, sequence=-1),
        altered(sound, sequence=1 << 32),
        altered(sound, epoch=1 << 32),
        altered(sound, sequence=7, arrived_ns=-(1 << 63), taken_ns=-(1 << 63), done_ns=-(1 << 63)),
        altered(sound, sequence=8, arrived_ns=1 << 63, taken_ns=1 << 63, done_ns=1 << 63),
    ]
    lies = Trace(since_ns=50, time_ns=40, inferences=())
    trace = followed(two_sensors(), [lies, Trace(since_ns=0, time_ns=40, inferences=(sound, *odd))])
    assert trace.of(("radio", 1, 1), 10) == (10, 20, 30)
    assert trace.turns("radio").tolist() == [[10, 20, 30]]
    assert trace.streams.keys() == {"radio"}
    assert not trace.covers("iq", 45)
    assert trace.modalities == {"iq"}


def altered(one: Inference, **changes: object) -> Inference:
    return Inference(**{**{name: getattr(one, name) for name in one.__struct_fields__}, **changes})


def test_late_messages_are_dropped_where_a_trace_is_followed_as_in_flight():
    sensors = two_sensors()

    def flying() -> Iterator[Event]:
        """Yield messages of which those of the radio stop growing younger after a second, for a second."""
        for event in events(sensors, SECONDS):
            header = event.header
            if event.stream == "radio" and header is not None and 100 <= header.sequence < 200:
                event = dataclasses.replace(event, header=header.captured(BEGIN_NS + 1_000 * MS))
            yield event

    flight = Replay(sensors, flying(), Pace(cost=SLOW))
    trace = followed(sensors, [flight.trace])
    again = Replay(sensors, as_received(flying(), trace), Pace(trace=trace))
    assert again.streams == flight.streams
    assert 30 < flight.streams["radio"].dropped_late <= 70


class Seeing(FakeBranch):
    """Says of each input something of its own, but in a thread not before that is asked for."""

    def __init__(self, fake: FakeBranch) -> None:
        super().__init__(fake.inputs, fake.outputs)
        self.asked = threading.Semaphore(0)

    def run(self) -> bool:
        if threading.current_thread() is not threading.main_thread():
            assert self.asked.acquire(timeout=PATIENCE_S)
        for output in self.outputs.values():
            parts = np.array_split(self.inputs["input"].ravel(), output.size)
            output[0] = [part.mean() for part in parts]
        return True


def seeing() -> Engines:
    fakes = engines()
    branches = {name: Seeing(fake) for name, fake in fakes.branches.items()}
    return Engines(branches=branches, fusion=fakes.fusion, precisions=fakes.precisions)


@pytest.fixture
def lagging(monkeypatch):
    """Threads end with a message no sooner than its outcome is needed: they lag behind as far as they may."""
    submit = Crew.submit

    def submitting(crew: Crew, arrival: Arrival) -> Callable[[], Outcome]:
        engine, wait = crew._branches[arrival.stream]._engine, submit(crew, arrival)

        def asking() -> Outcome:
            engine.asked.release()
            return wait()

        return asking

    monkeypatch.setattr(Crew, "submit", submitting)


@pytest.mark.parametrize("sensors", [SHORT, THREE])
@pytest.mark.parametrize("pace", [Pace(), Pace(cost=SLOW)])
def test_threads_change_nothing_however_far_they_lag_behind(lagging, sensors, pace):
    one = Replay(sensors, events(sensors, 2.0), pace, using=seeing())
    two = Replay(sensors, events(sensors, 2.0), pace, threads=2, using=seeing())
    assert len({answer.probs for answer in one.answers}) > 10
    assert (two.answers, two.streams, two.trace) == (one.answers, one.streams, one.trace)


def test_samples_that_are_overwritten_before_a_thread_has_read_them_would_be_noticed(lagging, monkeypatch):
    monkeypatch.setattr(BlockPool, "take", lambda pool: pool._blocks[0])
    one = Replay(SHORT, events(SHORT, 1.0), Pace(), using=seeing())
    two = Replay(SHORT, events(SHORT, 1.0), Pace(), threads=2, using=seeing())
    assert one.streams == two.streams
    assert one.answers != two.answers


def test_a_replay_that_is_given_up_ends_its_threads_and_leaves_python_as_it_was():
    threads, interval_s = threading.active_count(), sys.getswitchinterval()
    replay = ExactReplay(bundle(), stream_configs(SHORT), PipelineConfig(), BEGIN_NS, engines())
    answers = replay.run(events(SHORT, SECONDS), threads=2)
    next(answers)
    assert threading.active_count() > threads
    answers.close()
    assert (threading.active_count(), sys.getswitchinterval()) == (threads, interval_s)


def test_cost_of_an_engine_sets_how_much_is_superseded():
    cost = EngineCost(costs={"image": Costs((0,), (100 * MS,))}, otherwise_ns=MS)
    replay = Replay(two_sensors(), events(two_sensors(), SECONDS), Pace(cost=cost))
    assert 38 <= replay.streams["camera"].processed <= 41
    assert replay.streams["camera"].superseded == 120 - replay.streams["camera"].processed
    assert replay.streams["radio"].superseded == 0


def test_recorded_cost_is_that_of_the_last_inference_before():
    cost = EngineCost(costs={"iq": Costs((100, 200, 300), (1, 2, 3))}, otherwise_ns=9)
    assert [cost.at("iq", at_ns) for at_ns in (0, 100, 199, 200, 1000)] == [1, 1, 1, 2, 3]
    assert cost.at("image", 0) == 9


def test_an_inference_that_was_held_up_says_nothing_of_the_next():
    took_ns = [4, 4, 5, 900, 4, 5] + [50] * 9
    inferences = [
        Inference(stream="radio", epoch=1, sequence=n, arrived_ns=n, taken_ns=1_000 * n, done_ns=1_000 * n + took)
        for n, took in enumerate(took_ns)
    ]
    trace = Trace(since_ns=0, time_ns=20_000, inferences=tuple(inferences))
    cost = traced_cost(read_trace([trace], {"radio": "iq"}), {"radio": "iq"})
    assert [cost.at("iq", 1_000 * n) for n in (0, 3, 5, 14)] == [4, 5, 5, 50]


def test_costs_are_read_from_the_answers_that_they_delayed():
    def answer(at_ns: int, infer_ms: float, masks: tuple[float, float]) -> Classification:
        names = zip(("iq", "image"), masks, strict=True)
        return Classification(
            sequence=1, capture_ns=0, answer_ns=at_ns, class_id=0, label="x", confidence=1.0, probs=(1.0,),
            modalities=tuple(ModalityAnswer(name=name, mask=mask) for name, mask in names),
            latency_ms={"preprocess": 1.0, "infer": infer_ms},
        )  # fmt: skip

    answers = [answer(10, 4.0, (1, 1)), answer(20, 6.0, (1, 0)), answer(30, -9.0, (1, 1)), answer(40, 1.0, (0, 0))]
    cost = answered_cost(answers, ["image", "iq"])
    found = {name: (list(costs.since_ns), list(costs.cost_ns)) for name, costs in cost.costs.items()}
    assert found == {"image": ([10], [5 * MS]), "iq": ([20], [7 * MS])}


@pytest.mark.parametrize(
    ("text", "costs"), [("2.5", (2_500_000, 2_500_000)), ("iq=0.5,image=20", (500_000, 20 * MS)), ("iq=0", (0, 3 * MS))]
)
def test_engine_cost_is_read_from_the_command_line(text, costs):
    cost = parse_engine_cost(text)
    assert cost is not None
    assert (cost.at("iq", 5), cost.at("image", 5)) == costs


@pytest.mark.parametrize("text", ["", "fast", "-1", "nan", "inf", "1e9", "iq=", "=3", "iq=3,,image=4", "iq=3,4"])
def test_engine_cost_that_is_none_is_refused_with_what_is_expected(text):
    with pytest.raises(ConfigError, match=r"expected recorded, milliseconds .* such as iq=0.5,image=20"):
        parse_engine_cost(text)


def test_recorded_is_the_engine_cost_of_the_flight_and_no_trace_covers_nothing():
    assert parse_engine_cost("recorded") is None
    assert not NO_TRACE.covers("iq", 0)


def test_cost_of_a_modality_that_the_model_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="radar"):
        EngineCost(costs={"radar": Costs((0,), (1,))}).check({"iq", "image"})
