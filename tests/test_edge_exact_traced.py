"""Exact replay of recordings whose traces need care: parts, other names of streams, numbers that come again."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from faulty_flights import BEGIN_NS, Sensor, bundle, events

from edge.config import FlightConfig, StreamConfig
from edge.operations.replays import fly_exact
from edge.recording.deployed import deployment_of, rates_of
from edge.recording.flight_trace import read_trace
from edge.recording.reader import Event, open_recording
from edge.recording.writer import RecordingWriter
from edge.transport.messages import Inference, Trace
from edge.transport.wire import encode_header
from models.schema import dump_yaml

S = 1_000_000_000
TOOK_NS = 2_000_000
TWO = {"radio": Sensor("iq", 20.0), "camera": Sensor("image", 10.0)}
SIDES = {"radio": Sensor("iq", 20.0), "left": Sensor("image", 8.0), "right": Sensor("image", 5.0)}


def inferred(event: Event) -> Inference:
    header, at_ns = event.header, event.log_ns
    return Inference(
        stream=event.stream, epoch=header.epoch, sequence=header.sequence,
        arrived_ns=at_ns, taken_ns=at_ns, done_ns=at_ns + TOOK_NS,
    )  # fmt: skip


def deployment(sensors: Mapping[str, Sensor]) -> FlightConfig:
    streams = {
        name: StreamConfig(modality=sensor.modality, endpoint=f"ipc:///tmp/none/{name}", rate_hz=sensor.rate_hz)
        for name, sensor in sensors.items()
    }
    return FlightConfig(bundle="none.uavb", streams=streams, results="ipc:///tmp/none/results")


def record(path: Path, flying: Iterable[Event], inferences: Iterable[Inference], sensors=None) -> Path:
    """Write sensors' messages, and each second which of them were inferred; and what flew, where sensors are given."""
    sensed = [event for event in flying if event.header is not None]
    told = [(event.log_ns, event) for event in sensed]
    known = sorted(inferences, key=lambda one: one.done_ns)
    for since_ns in range(BEGIN_NS, sensed[-1].log_ns + S, S):
        within = tuple(one for one in known if since_ns <= one.done_ns < since_ns + S)
        told.append((since_ns + S, Trace(since_ns=since_ns, time_ns=since_ns + S, inferences=within)))
    with RecordingWriter(path, utc_offset_ns=0) as writer:
        if sensors is not None:
            writer.attach("flight.yaml", "application/yaml", dump_yaml(deployment(sensors)))
        for at_ns, message in sorted(told, key=lambda item: item[0]):
            if isinstance(message, Trace):
                writer.write_message(message, at_ns)
            else:
                header = message.header
                writer.write_sensor(message.stream, header, encode_header(header), message.payload, at_ns)
    return path


@pytest.fixture(scope="module")
def shed(tmp_path_factory) -> Path:
    """A flight of 5 s whose camera was not inferred any more after the first second."""
    sensed = [event for event in events(TWO, 5.0) if event.header is not None]
    done = [inferred(event) for event in sensed if event.stream == "radio" or event.log_ns < BEGIN_NS + S]
    return record(tmp_path_factory.mktemp("shed") / "flight.mcap", sensed, done, TWO)


def test_a_part_of_a_flight_does_not_infer_what_was_left_out_all_around_it(shed):
    recording = open_recording(shed)
    part = fly_exact(recording.part(BEGIN_NS + 3 * S, BEGIN_NS + 4 * S), bundle())
    assert (part.streams["camera"].received, part.streams["camera"].processed) == (10, 0)
    assert (part.streams["radio"].received, part.streams["radio"].processed) == (20, 20)
    assert part.as_in_flight == part.inferred == 20
    assert fly_exact(recording, bundle()).streams["camera"].processed == 10


def test_a_part_of_which_nothing_was_inferred_infers_nothing(tmp_path):
    camera = {"camera": TWO["camera"]}
    path = record(tmp_path / "flight.mcap", events(camera, 2.0), [], TWO)
    flown = fly_exact(open_recording(path), bundle())
    assert (flown.streams["camera"].received, flown.streams["camera"].processed, flown.inferred) == (20, 0, 0)


def test_without_the_deployment_a_stream_counts_as_traced_where_the_trace_names_it(tmp_path):
    sensed = [event for event in events(TWO, 2.0) if event.header is not None]
    done = [inferred(event) for event in sensed if event.stream == "radio"]
    flown = fly_exact(open_recording(record(tmp_path / "flight.mcap", sensed, done)), bundle())
    assert flown.as_in_flight == flown.streams["radio"].processed == 40
    assert flown.streams["camera"].processed == 20


@pytest.fixture(scope="module")
def sides(tmp_path_factory) -> Path:
    """A flight of 3 s with two cameras, whose radio was left out every other time."""
    sensed = [event for event in events(SIDES, 3.0) if event.header is not None]
    done = [inferred(event) for event in sensed if event.stream != "radio" or event.header.sequence % 2]
    return record(tmp_path_factory.mktemp("sides") / "flight.mcap", sensed, done, SIDES)


@pytest.mark.parametrize(
    "names",
    [{"left": "right", "right": "left"}, {"left": "nose"}, {"radio": "left", "left": "radio"}],
    ids=["swapped", "new", "radio-and-camera"],
)
def test_a_traced_flight_is_followed_whatever_its_streams_are_called(sides, names):
    recording = open_recording(sides)
    flown, renamed = (fly_exact(one, bundle()) for one in (recording, recording.renamed(names)))
    assert flown.streams["radio"].processed == 30
    assert renamed.streams == {names.get(name, name): stream for name, stream in flown.streams.items()}
    assert renamed.as_in_flight == renamed.inferred == flown.inferred
    part = recording.renamed(names).part(BEGIN_NS + S, BEGIN_NS + 2 * S)
    part_flown = fly_exact(part, bundle())
    assert 0 < part_flown.as_in_flight == part_flown.inferred


def test_rates_of_a_deployment_follow_the_names_of_its_streams(sides):
    recording = open_recording(sides)
    swapped = recording.renamed({"left": "right", "right": "left"})
    assert rates_of(deployment_of(swapped), swapped.names) == {"radio": 20.0, "left": 5.0, "right": 8.0}
    back = swapped.renamed({"left": "right", "right": "left"})
    assert back.names == recording.names == {"radio": "radio", "left": "left", "right": "right"}


def test_a_stream_of_the_trace_that_was_not_recorded_is_not_taken_for_another_of_its_name(tmp_path):
    sensed = [event for event in events(SIDES, 2.0) if event.header is not None]
    done = [inferred(event) for event in sensed if event.stream != "left"]
    recorded = [event for event in sensed if event.stream != "right"]
    renamed = open_recording(record(tmp_path / "flight.mcap", recorded, done, SIDES)).renamed({"left": "right"})
    assert rates_of(deployment_of(renamed), renamed.names) == {"radio": 20.0, "right": 8.0}
    flown = fly_exact(renamed, bundle())
    assert (flown.streams["right"].received, flown.streams["right"].processed) == (16, 0)


def counted_anew(flying: Iterable[Event]) -> list[Event]:
    """Number the radio's messages from 0 again after a second, in the same epoch."""
    numbers = itertools.chain(range(20), itertools.count())
    return [
        dataclasses.replace(event, header=event.header._replace(sequence=next(numbers)))
        if event.stream == "radio"
        else event
        for event in flying
        if event.header is not None
    ]


def test_a_source_that_counts_anew_in_its_epoch_is_followed_before_and_after_it(tmp_path):
    sensed = counted_anew(events(TWO, 3.0))
    done = [inferred(event) for event in sensed]
    flown = fly_exact(open_recording(record(tmp_path / "flight.mcap", sensed, done, TWO)), bundle())
    assert flown.as_in_flight == flown.inferred == len(done) > 80
    assert flown.streams["radio"].processed == flown.streams["radio"].received


def test_of_equal_numbers_the_inference_that_is_nearest_in_time_is_taken():
    at_ns = [3 * S, 1 * S, 2 * S]
    same = [Inference(stream="radio", epoch=1, sequence=5, arrived_ns=t, taken_ns=t + 1, done_ns=t + 2) for t in at_ns]
    other = [Inference(stream="radio", epoch=2, sequence=5, arrived_ns=7 * S, taken_ns=7 * S, done_ns=7 * S)]
    trace = read_trace([Trace(since_ns=0, time_ns=9 * S, inferences=(*same, *other))], {"radio": "iq"})
    asked_ns = (S - 1, S + S // 2, S + S // 2 + 1, 2 * S + 5, 3 * S + S // 2, 3 * S + S // 2 + 1, 7 * S)
    found = [trace.of(("radio", 1, 5), one) for one in asked_ns]
    assert [one and one.arrived_ns // S for one in found] == [1, 1, 2, 2, 3, None, None]
    assert trace.of(("radio", 2, 5), 7 * S) == (7 * S, 7 * S, 7 * S)
    assert trace.of(("radio", 1, 6), S) is trace.of(("camera", 1, 5), S) is None
