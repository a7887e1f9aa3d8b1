"""The pipeline on real sockets: what goes in, what comes out, and what it makes of bad input."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.clock import VirtualClock
from edge.config import FlightConfig, PipelineConfig, StreamConfig
from edge.pipeline.live import LivePipeline
from edge.sources.synthetic import SiteGenerator
from edge.transport.messages import Classification, Kind, PipelineStatus, Pose, pack, unpack
from edge.transport.sockets import Publisher, Subscriber
from edge.transport.wire import FLAG_HOST_TIME, FLAG_REPLAY, Header, Stamp, decode_message, encode_array, encode_bytes
from models.bundle import open_bundle, shipped_bundle
from models.errors import ConfigError

CONTENTS = 8
"""Different windows and frames, sent in turn, each with a mark: the same again and again would be called frozen."""
PATIENCE_S = 20.0


@dataclasses.dataclass
class Rig:
    """A pipeline with its two sources and a listener."""

    pipeline: LivePipeline
    radio: Publisher
    camera: Publisher
    pose: Publisher
    results: Subscriber
    windows: list[np.ndarray]
    frames: list[np.ndarray]
    sent: int = 0
    flags: int = 0
    header: Header | None = None

    def stamp(self, sample_rate_hz: float = 0.0) -> Stamp:
        self.sent += 1
        now_ns = time.monotonic_ns()
        return Stamp(1, 1, self.sent, now_ns, now_ns, self.flags, sample_rate_hz)

    def send_window(self, window: np.ndarray | None = None) -> None:
        if window is None:
            window = self.windows[self.sent % CONTENTS].copy()
            window[0, 0] = self.sent
        self.radio.send(encode_array(Kind.IQ, self.stamp(1_000_000.0), window, with_crc=True))

    def send_frame(self) -> None:
        frame = self.frames[self.sent % CONTENTS].copy()
        frame[0, 0] = self.sent % 256
        self.camera.send(encode_array(Kind.FRAME, self.stamp(), frame))

    def answer(self, timeout_ms: int = 10) -> Classification | None:
        """Return the next answer, None after the time-out or for a status."""
        parts = self.results.receive(timeout_ms)
        if parts is None:
            return None
        self.header, payload = decode_message(parts)
        return unpack(payload, Classification) if self.header.kind == Kind.CLASSIFICATION else None

    def feed_until(self, is_wanted, *, radio: bool = True, camera: bool = True) -> list[Classification]:
        """Send about 100 messages a second until an answer is as wanted; return all answers up to it."""
        answers: list[Classification] = []
        deadline_s = time.monotonic() + PATIENCE_S
        while not (answers and is_wanted(answers[-1])):
            assert time.monotonic() < deadline_s, answers[-1:]
            if radio:
                self.send_window()
            if camera:
                self.send_frame()
            answer = self.answer()
            if answer is not None:
                answers.append(answer)
        return answers

    def rejected_after(self, stream: str) -> dict[str, int]:
        """Wait until the stream has lost a message to a reason, stop, and return the reasons."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not self.pipeline.status().streams[stream].rejected:
            assert time.monotonic() < deadline_s
            self.results.receive(5)
        status = self.pipeline.stop()
        assert all(entry.balanced for entry in status.streams.values())
        return status.streams[stream].rejected


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    generator, rng = SiteGenerator(), np.random.default_rng(0)
    bundle = open_bundle(shipped_bundle())
    config = FlightConfig(
        bundle=str(bundle.path),
        streams={
            "radio": StreamConfig(modality="iq", endpoint=f"ipc://{tmp_path}/radio", rate_hz=100.0),
            "camera": StreamConfig(modality="image", endpoint=f"ipc://{tmp_path}/camera", rate_hz=30.0),
        },
        results=f"ipc://{tmp_path}/results",
        pose=f"ipc://{tmp_path}/pose",
    )
    publishers = [Publisher(f"ipc://{tmp_path}/{name}") for name in ("radio", "camera", "pose")]
    pipeline = LivePipeline(config, bundle)
    results = Subscriber(config.results)
    pipeline.start()
    assert all(publisher.wait_for_listeners(1, PATIENCE_S) for publisher in publishers)
    yield Rig(
        pipeline,
        *publishers,
        results,
        windows=[generator.radio(n, rng) for n in range(CONTENTS)],
        frames=[generator.scene(n, rng) for n in range(CONTENTS)],
    )
    pipeline.stop()
    for socket in (*publishers, results):
        socket.close()


def is_fused(answer: Classification) -> bool:
    return all(modality.mask == 1.0 for modality in answer.modalities)


def test_window_and_frame_become_one_answer(rig):
    answer = rig.feed_until(is_fused)[-1]
    assert answer.label in open_bundle(shipped_bundle()).spec.classes
    assert sum(answer.probs) == pytest.approx(1.0, abs=1e-6)
    assert answer.confidence == max(answer.probs)
    assert sum(modality.weight for modality in answer.modalities) == pytest.approx(1.0, abs=1e-5)
    assert answer.skew_ms <= 50.0
    assert set(answer.latency_ms) == {"transport", "queue", "preprocess", "infer", "fuse", "total"}
    stages = sum(value for stage, value in answer.latency_ms.items() if stage != "total")
    assert stages == pytest.approx(answer.latency_ms["total"], abs=0.01)


def test_only_answers_from_a_recording_say_so(rig):
    rig.feed_until(is_fused)
    assert rig.header.flags == 0
    rig.flags = FLAG_REPLAY
    rig.feed_until(lambda answer: rig.header.flags == FLAG_REPLAY)


def test_losing_the_camera_leaves_answers_from_the_radio_and_it_comes_back(rig):
    rig.feed_until(is_fused)
    alone = rig.feed_until(lambda answer: answer.modalities[1].reason == "silent", camera=False)
    later = rig.feed_until(lambda answer: answer.sequence > alone[-1].sequence + 20, camera=False)
    back = rig.feed_until(is_fused)
    for answer in later:
        assert answer.has_answer
        assert [modality.mask for modality in answer.modalities] == [1.0, 0.0]
        assert answer.modalities[1].weight == 0.0
    for answer in (*alone, *later, *back):
        assert all(modality.age_ms <= 300.0 for modality in answer.modalities)
    sequences = [answer.sequence for answer in (*alone, *later, *back)]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_no_data_is_said_when_both_sensors_are_gone(rig):
    rig.feed_until(is_fused)
    answer = rig.feed_until(lambda answer: not answer.has_answer, radio=False, camera=False)[-1]
    assert (answer.label, answer.class_id, answer.probs) == ("NO_DATA", -1, ())
    assert [modality.mask for modality in answer.modalities] == [0.0, 0.0]


def test_everything_sent_is_accounted_for(rig):
    for _ in range(50):
        rig.send_window()
        rig.send_frame()
    deadline_s = time.monotonic() + PATIENCE_S
    while sum(stream.received for stream in rig.pipeline.status().streams.values()) < 100:
        assert time.monotonic() < deadline_s
        rig.results.receive(5)
    status = rig.pipeline.stop()
    for stream in status.streams.values():
        assert stream.received == 50
        assert stream.in_flight == 0
        assert stream.balanced
        assert stream.processed >= 1
        assert stream.superseded + stream.processed == 50


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([b"hello"], "wrong_parts"),
        ([b"hello", b"world"], "short_header"),
        ([b"x" * 64, b""], "bad_magic"),
        ([b"a", b"b", b"c", b"d"], "wrong_parts"),
    ],
)
def test_garbage_is_counted_with_its_reason(rig, parts, reason):
    rig.radio.send(parts)
    assert rig.rejected_after("radio") == {reason: 1}


def test_message_above_the_limit_is_counted_and_the_stream_is_heard_again(rig):
    rig.camera.send([b"x" * 64, bytes((16 << 20) + 1)])
    deadline_s = time.monotonic() + PATIENCE_S
    while not rig.pipeline.status().streams["camera"].rejected:
        assert time.monotonic() < deadline_s
        rig.camera.listeners()
        rig.results.receive(5)
    assert rig.pipeline.status().streams["camera"].rejected == {"broken_connection": 1}
    rig.feed_until(is_fused)


def test_payload_that_contradicts_its_header_is_counted(rig):
    header, payload = encode_array(Kind.IQ, rig.stamp(1e6), rig.windows[0])
    rig.radio.send([header, bytes(payload)[:-1]])
    assert rig.rejected_after("radio") == {"wrong_size": 1}


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (np.full((4096, 2), np.nan, np.float32), "non_finite"),
        (np.zeros((4096, 2), np.int16), "all_zero"),
        (np.zeros((0, 2), np.int16), "short_window"),
        (np.ones((4096, 3), np.int16), "wrong_kind"),
    ],
)
def test_windows_that_must_not_reach_the_network_are_counted(rig, window, reason):
    rig.send_window(window)
    assert rig.rejected_after("radio") == {reason: 1}


def test_short_messages_are_joined_to_a_window_and_answered(rig):
    rig.flags = FLAG_HOST_TIME
    for part in np.split(np.concatenate(rig.windows[:4]), 32):
        rig.send_window(part)
    deadline_s = time.monotonic() + PATIENCE_S
    while (answer := rig.answer()) is None or not answer.has_answer:
        assert time.monotonic() < deadline_s
    assert [modality.mask for modality in answer.modalities] == [1.0, 0.0]
    deadline_s = time.monotonic() + PATIENCE_S
    while rig.pipeline.status().streams["radio"].received < 32:
        assert time.monotonic() < deadline_s
        rig.results.receive(5)
    radio = rig.pipeline.stop().streams["radio"]
    assert (radio.processed, radio.gathered, radio.balanced) == (1, 31, True)


def test_window_at_another_sample_rate_is_refused(rig):
    rig.radio.send(encode_array(Kind.IQ, rig.stamp(2_000_000.0), rig.windows[0]))
    assert rig.rejected_after("radio") == {"wrong_sample_rate": 1}


def test_black_frame_masks_the_camera_with_its_reason(rig):
    rig.feed_until(is_fused)
    rig.frames[:] = [np.zeros_like(rig.frames[0])] * CONTENTS
    answer = rig.feed_until(lambda answer: not is_fused(answer))[-1]
    assert answer.modalities[0].mask == 1.0
    assert answer.modalities[1].reason == "black"


def test_small_jpeg_that_claims_huge_dimensions_is_refused_before_decoding(rig):
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = (30_000).to_bytes(2, "big") * 2
    rig.camera.send(encode_bytes(Kind.ENCODED_FRAME, rig.stamp(), bytes(jpeg)))
    assert rig.rejected_after("camera") == {"too_large": 1}


@pytest.mark.parametrize("part", [0, 10, 0.5])
def test_truncated_jpeg_and_other_bytes_are_undecodable(rig, part):
    jpeg = cv2.imencode(".jpg", rig.frames[0])[1].tobytes()
    payload = jpeg[: int(len(jpeg) * part) if part < 1 else part] or b"not an image"
    rig.camera.send(encode_bytes(Kind.ENCODED_FRAME, rig.stamp(), payload))
    assert rig.rejected_after("camera") == {"undecodable": 1}


def test_radio_message_on_the_camera_stream_is_refused(rig):
    rig.camera.send(encode_array(Kind.IQ, rig.stamp(1e6), rig.windows[0]))
    assert rig.rejected_after("camera") == {"wrong_kind": 1}


def test_answer_carries_the_pose_of_its_moment(rig):
    pose = Pose(capture_ns=time.monotonic_ns(), latitude_deg=47.0, longitude_deg=8.0, altitude_m=460.0)
    rig.pose.send(encode_bytes(Kind.POSE, rig.stamp(), pack(pose)))
    assert rig.feed_until(lambda answer: answer.pose is not None)[-1].pose == pose


def test_garbage_on_the_pose_endpoint_changes_nothing(rig):
    rig.pose.send([b"garbage"])
    rig.pose.send(encode_bytes(Kind.POSE, rig.stamp(), b"garbage"))
    assert rig.feed_until(is_fused)[-1].pose is None


def test_status_names_model_labels_and_streams(rig):
    status = None
    deadline_s = time.monotonic() + PATIENCE_S
    while status is None and time.monotonic() < deadline_s:
        parts = rig.results.receive(50)
        header, payload = decode_message(parts) if parts is not None else (None, b"")
        status = unpack(payload, PipelineStatus) if header is not None and header.kind == Kind.STATUS else None
    assert status.model == "demo-1"
    assert set(status.streams) == {"radio", "camera"}
    assert len(status.labels) >= 7


def _radio_state(results: Subscriber, is_wanted) -> str:
    """Return the radio's state in the first status in which it is as wanted."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        parts = results.receive(50)
        header, payload = decode_message(parts) if parts is not None else (None, b"")
        if header is not None and header.kind == Kind.STATUS:
            state = unpack(payload, PipelineStatus).streams["radio"].state
            if is_wanted(state):
                return state
    raise AssertionError("no such status came")


def test_a_change_of_state_is_said_before_the_next_second(tmp_path):
    bundle, clock = open_bundle(shipped_bundle()), VirtualClock(10**9)
    radio = StreamConfig(modality="iq", endpoint=f"ipc://{tmp_path}/radio", rate_hz=100.0)
    config = FlightConfig(bundle=str(bundle.path), streams={"radio": radio}, results=f"ipc://{tmp_path}/results")
    window = SiteGenerator().radio(0, np.random.default_rng(0))
    with Publisher(radio.endpoint) as source, Subscriber(config.results) as results:
        pipeline = LivePipeline(config, bundle, clock)
        pipeline.start()
        try:
            assert source.wait_for_listeners(1, PATIENCE_S)
            while results.receive(50) is None:  # the first status may come before we listen
                clock.advance_to(clock.now_ns() + 10**9)
            begin_ns = clock.now_ns()
            clock.advance_to(begin_ns + 300_000_000)
            stamp = Stamp(1, 1, 1, clock.now_ns(), clock.now_ns(), 0, 1_000_000.0)
            source.send(encode_array(Kind.IQ, stamp, window, with_crc=True))
            _radio_state(results, lambda state: state == "live")
            clock.advance_to(begin_ns + 900_000_000)
            _radio_state(results, lambda state: state == "silent")
        finally:
            pipeline.stop()


def test_every_unknown_modality_is_refused_at_start(tmp_path):
    bundle = open_bundle(shipped_bundle())
    config = FlightConfig(
        bundle=str(bundle.path),
        streams={"x": StreamConfig(modality="sonar", endpoint=f"ipc://{tmp_path}/x", rate_hz=1.0)},
        results=f"ipc://{tmp_path}/results",
        pipeline=PipelineConfig(trigger_order=("image", "lidar")),
    )
    with pytest.raises(ConfigError) as refusal:
        LivePipeline(config, bundle)
    assert [line.split(":")[0] for line in str(refusal.value).splitlines()] == [
        "streams.x.modality",
        "pipeline.trigger_order.1",
    ]


def test_rehearsals_leave_no_trace_in_answers_and_accounting(tmp_path):
    generator, rng = SiteGenerator(), np.random.default_rng(0)
    bundle = open_bundle(shipped_bundle())
    radio = StreamConfig(modality="iq", endpoint=f"ipc://{tmp_path}/radio", rate_hz=20.0, rehearse=True)
    config = FlightConfig(bundle=str(bundle.path), streams={"radio": radio}, results=f"ipc://{tmp_path}/results")
    pipeline = LivePipeline(config, bundle)
    rehearsed = 0
    rehearse = pipeline._branches["radio"].rehearse

    def count() -> None:
        nonlocal rehearsed
        rehearse()
        rehearsed += 1

    pipeline._branches["radio"].rehearse = count
    with Publisher(radio.endpoint) as publisher, Subscriber(config.results) as results:
        pipeline.start()
        assert publisher.wait_for_listeners(1, PATIENCE_S)
        rig = Rig(pipeline, publisher, publisher, publisher, results, [generator.radio(n, rng) for n in range(8)], [])
        sent: list[Classification] = []
        deadline_s = time.monotonic() + PATIENCE_S
        while rehearsed < 5:
            assert time.monotonic() < deadline_s
            rig.send_window()
            sent += [answer for answer in (rig.answer(25), rig.answer(25)) if answer is not None]
        status = pipeline.stop()
        sent += [answer for answer in (rig.answer(25) for _ in range(20)) if answer is not None]
    answers = [answer for answer in sent if answer.has_answer]
    assert [answer.sequence for answer in answers] == sorted({answer.sequence for answer in answers})
    assert status.streams["radio"].received == status.streams["radio"].processed == len(answers) == rig.sent
    assert not status.streams["radio"].rejected
