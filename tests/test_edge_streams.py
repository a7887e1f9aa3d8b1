"""Several cameras and several radios: each is served, judged and counted by itself, and none hides another."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from flights import MS, feature_of, sensor_header
from live_rig import LiveRig, Make, Source
from overload import FakeStream, Overload

from edge.config import PipelineConfig, StreamConfig
from edge.operations.replays import fly_exact
from edge.pipeline.scheduler import Scheduler
from edge.recording.reader import open_recording
from edge.recording.writer import RecordingWriter
from edge.sources.synthetic import SiteGenerator
from edge.transport.messages import Kind
from edge.transport.wire import Reason, Stamp, encode_array
from models.bundle import open_bundle, shipped_bundle

S = 1_000_000_000
FOUR = {"left": "iq", "right": "iq", "front": "image", "down": "image"}


def triggers(flight: Overload) -> Counter[str]:
    return Counter(pairing.trigger.stream for _, pairing in flight.answers if pairing.trigger is not None)


@pytest.mark.parametrize("cost_ms", [5.0, 20.0, 1000 / 30, 40.0, 90.0])
@pytest.mark.parametrize("offset_ms", [0.0, 1.0, 17.0, 33.0])
def test_cameras_share_an_engine_evenly_whatever_it_takes_and_however_they_are_in_step(cost_ms, offset_ms):
    streams = {
        "first": FakeStream("image", 30, cost_ms),
        "second": FakeStream("image", 30, cost_ms, offset_ms=offset_ms),
    }
    flight = Overload(streams, sheds=False).fly(30)
    first, second = (flight.scheduler.accounting(30 * S)[name].processed for name in streams)
    assert abs(first - second) <= 2
    assert first + second >= 0.95 * min(2 * 30, 1000 / cost_ms) * 30


def test_a_slow_camera_beside_a_fast_one_gets_all_of_its_frames_inferred():
    streams = {"fast": FakeStream("image", 100, 25.0), "slow": FakeStream("image", 10, 25.0)}
    accounting = Overload(streams, sheds=False).fly(30).scheduler.accounting(30 * S)
    assert accounting["slow"].processed >= 298
    assert accounting["fast"].processed >= 0.95 * 30 * 30


@pytest.mark.parametrize("delay_ms", [0.0, 45.0])
def test_each_camera_is_paired_with_the_window_of_its_own_capture_time(delay_ms):
    streams = {
        "radio": FakeStream("iq", 100, 0.5),
        "front": FakeStream("image", 30, 4.0, delay_ms=5.0),
        "down": FakeStream("image", 30, 4.0, delay_ms=5.0 + delay_ms, offset_ms=14.0),
    }
    flight = Overload(streams).fly(10)
    late = [pairing for ns, pairing in flight.answers if ns > S]
    assert all(abs(p.features[0].capture_ns - p.features[1].capture_ns) <= 5 * MS for p in late)
    assert all(p.features[1] is p.trigger for p in late)
    assert min(triggers(flight)["front"], triggers(flight)["down"]) >= 290


def test_of_two_radios_the_nearer_window_is_taken():
    streams = {
        "left": FakeStream("iq", 50, 0.5),
        "right": FakeStream("iq", 50, 0.5, offset_ms=10.0),
        "camera": FakeStream("image", 25, 4.0, offset_ms=11.0, delay_ms=8.0),
    }
    flight = Overload(streams).fly(5)
    partners = [pairing.features[0] for ns, pairing in flight.answers if ns > S and pairing.trigger.modality == "image"]
    assert {feature.stream for feature in partners} == {"right"}


def test_the_other_camera_goes_on_pacing_when_one_dies():
    streams = {
        "radio": FakeStream("iq", 100, 0.5),
        "front": FakeStream("image", 30, 4.0, dead_from_s=2.0),
        "down": FakeStream("image", 15, 4.0),
    }
    flight = Overload(streams).fly(6)
    late = [pairing for ns, pairing in flight.answers if ns > 2.5 * S]
    assert {pairing.trigger.stream for pairing in late} == {"down"}
    assert all(None not in pairing.features for pairing in late)
    accounting = flight.scheduler.accounting(6 * S)
    assert (accounting["front"].state, accounting["down"].state) == ("silent", "live")


def test_features_of_a_camera_that_is_refused_now_are_not_used_and_the_other_s_are():
    """Where the radio paces: the black camera's old frames are nearest in time, and must not be taken."""
    streams = {
        "radio": StreamConfig(modality="iq", endpoint="inproc://r", rate_hz=100.0),
        "front": StreamConfig(modality="image", endpoint="inproc://f", rate_hz=30.0),
        "down": StreamConfig(modality="image", endpoint="inproc://d", rate_hz=30.0),
    }
    scheduler = Scheduler(("iq", "image"), streams, PipelineConfig(trigger_order=("iq", "image")), 0)

    def pass_on(stream: str, capture_ms: int, reason: Reason | None = None):
        now_ns = (capture_ms + 1) * MS
        scheduler.receive(stream, (sensor_header(capture_ms, capture_ms * MS), b""), now_ns)
        arrival = scheduler.take(streams[stream].modality, now_ns)
        outcome = reason or feature_of(arrival, streams[stream].modality, now_ns)
        return scheduler.complete(stream, outcome, now_ns)

    pass_on("down", 70)
    pass_on("front", 99)
    assert pass_on("radio", 100).features[1].stream == "front"
    pass_on("front", 101, Reason.BLACK)
    pairing = pass_on("radio", 110)
    assert (pairing.features[1].stream, pairing.reasons) == ("down", ("", ""))
    pass_on("down", 112, Reason.FROZEN)
    assert pass_on("radio", 120).reasons == ("", "black")


def test_a_recording_of_two_cameras_and_two_radios_is_replayed_with_all_of_them(tmp_path):
    generator, rng, start_ns = SiteGenerator(), np.random.default_rng(0), 10 * S
    with RecordingWriter(tmp_path / "flight.mcap", utc_offset_ns=0) as writer:
        for n in range(60):
            for number, (name, modality) in enumerate(FOUR.items()):
                at_ns = start_ns + n * 20 * MS + number * MS
                stamp = Stamp(number, 1, n, at_ns, at_ns, 0, 1_000_000.0 if modality == "iq" else 0.0)
                content = generator.radio(n % 8, rng) if modality == "iq" else generator.scene(n % 8, rng)
                kind = Kind.IQ if modality == "iq" else Kind.FRAME
                writer.write_parts(name, encode_array(kind, stamp, content), at_ns)
    flown = fly_exact(open_recording(tmp_path / "flight.mcap"), open_bundle(shipped_bundle()))
    assert {name: stream.processed for name, stream in flown.streams.items()} == dict.fromkeys(FOUR, 60)
    frames = Counter(answer.modalities[1].stream for answer in flown.answers)
    assert min(frames["front"], frames["down"]) >= 58


@pytest.fixture(scope="module")
def flight(tmp_path_factory) -> Iterator[LiveRig]:
    """A live pipeline with two cameras and two radios, through one fault after the other."""
    rig = LiveRig(tmp_path_factory.mktemp("streams"), FOUR)
    yield rig
    status = rig.end()
    rig.close()
    assert all(stream.lost_transport == 0 for stream in status.streams.values())


@pytest.fixture
def rig(flight: LiveRig) -> LiveRig:
    flight.feed(lambda rig: all(rig.stream(name).state == "live" for name in FOUR))
    return flight


def streams_of(rig: LiveRig, answers: int, faults: dict[str, Make] | None = None) -> list[Counter[str]]:
    """Return whose inputs the next answers are made of: of the radios, and of the cameras."""
    told = rig.feed(rig.more(answers), faults)
    return [Counter(answer.modalities[n].stream for answer in told) for n in range(2)]


def frozen(source: Source):
    return source.message(source.contents[0])


def nothing(_: Source) -> None:
    """Send nothing: the sensor is dead."""


def test_live_answers_say_whose_inputs_they_are_made_of(rig):
    radios, cameras = streams_of(rig, 60)
    assert set(radios) <= {"left", "right"}
    assert min(cameras["front"], cameras["down"]) >= 20
    assert set(cameras) == {"front", "down"}


@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize(("fault", "state"), [(frozen, "frozen"), (nothing, "silent")])
def test_a_live_sensor_that_fails_hides_none_of_the_others(rig, name, fault, state):
    others = [other for other in FOUR if other != name]
    rejected = {other: rig.stream(other).rejected for other in others}
    before = len(rig.answers)
    rig.feed(lambda rig: rig.stream(name).state == state, {name: fault})
    used = streams_of(rig, 30, {name: fault})
    assert all(name not in streams for streams in used)
    assert all(modality.mask == 1.0 for answer in rig.answers[before:] for modality in answer.modalities)
    # A machine that stands still for a moment makes any of them late: each is live again with its next message.
    rig.feed(lambda rig: all(rig.stream(other).state == "live" for other in others), {name: fault})
    assert {other: rig.stream(other).rejected for other in others} == rejected
