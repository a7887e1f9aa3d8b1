import math
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from playing import FRAMES, LEVELS, Received, kept_sender, virtual_pacer, write_video

from edge.clock import SystemClock, VirtualClock
from edge.config import CameraSource
from edge.sources import camera
from edge.sources.camera import FrameReader, NewestFrame, is_live, open_camera, play_camera
from edge.sources.stream import Pacer, StreamSender
from edge.transport.messages import Kind
from edge.transport.wire import FLAG_HOST_TIME, FLAG_REPLAY, as_array
from models.errors import ConfigError, DeviceError
from models.preprocess import opencv

ABSENT_DEVICE = "97"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "v.avi"
    write_video(path)
    return path


def play(path: Path, limit_s: float | None = None, **options: Any) -> Received:
    clock = VirtualClock(1_000_000_000)
    sender, messages = kept_sender(clock)
    source = CameraSource(stream="camera", device=path.name, **options)
    play_camera(source, path.parent, sender, virtual_pacer(clock, limit_s=limit_s))
    return messages


class FakeCapture:
    """Stands in for a cv2.VideoCapture: delivers frames as long as it is given permits, then fails."""

    def __init__(self, frames: int, shape: tuple[int, int, int] = (2, 2, 3)) -> None:
        self.permits = threading.Semaphore(0)
        self.shape = shape
        self.frames = frames
        self.read_frames = 0
        self.ended = threading.Event()

    def read(self, image: Any = None) -> tuple[bool, Any]:
        self.permits.acquire()
        if self.read_frames == self.frames:
            self.ended.set()
            return False, None
        self.read_frames += 1
        if image is None or image.shape != self.shape:
            image = np.empty(self.shape, np.uint8)
        image[:] = self.read_frames
        return True, image

    def release(self) -> None:
        pass


def test_a_video_is_sent_frame_by_frame_at_its_own_times(video: Path) -> None:
    messages = play(video)
    assert [header.capture_ns for header, _ in messages] == [1_000_000_000 + n * 50_000_000 for n in range(FRAMES)]
    levels = [as_array(header, payload).mean() for header, payload in messages]
    np.testing.assert_allclose(levels, LEVELS, atol=3)
    assert {(header.kind, header.dims, header.flags) for header, _ in messages} == {
        (Kind.FRAME, (48, 64, 3), FLAG_REPLAY)
    }
    assert all(0 <= header.send_ns - header.capture_ns <= 1 for header, _ in messages)


def test_a_looping_video_begins_again_one_frame_later(video: Path) -> None:
    messages = play(video, limit_s=0.98, loop=True)
    assert [header.capture_ns for header, _ in messages] == [1_000_000_000 + n * 50_000_000 for n in range(20)]
    again = [as_array(header, payload).mean() for header, payload in messages[FRAMES : 2 * FRAMES]]
    np.testing.assert_allclose(again, LEVELS, atol=3)


def test_frames_go_out_as_jpeg_when_a_quality_is_set(video: Path) -> None:
    header, payload = play(video, jpeg_quality=90)[3]
    assert header.kind == Kind.ENCODED_FRAME
    frame = opencv().imdecode(np.frombuffer(payload, dtype=np.uint8), 1)
    assert frame.shape == (48, 64, 3)
    assert frame.mean() == pytest.approx(80, abs=3)


@pytest.mark.parametrize(
    ("device", "live"),
    [("0", True), ("v4l2src ! videoconvert ! appsink", True), ("flight.mp4", False), ("dir/2.avi", False)],
)
def test_cameras_and_pipelines_are_live_and_files_are_not(device: str, live: bool) -> None:
    assert is_live(device) == live


@pytest.mark.parametrize("content", [None, b"", b"this is no video" * 100])
def test_a_file_that_is_absent_or_no_video_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "v.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeviceError, match=r"v\.mp4.*cannot be opened.*is the file there"):
        play(path)


def test_an_absent_camera_is_refused_with_what_to_check() -> None:
    with pytest.raises(DeviceError, match=f"is /dev/video{ABSENT_DEVICE} there"):
        open_camera(ABSENT_DEVICE)


def test_a_pipeline_needs_an_opencv_with_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    built_without = SimpleNamespace(getBuildInformation=lambda: "  Video I/O:\n    GStreamer:                   NO\n")
    monkeypatch.setattr(camera, "opencv", lambda: built_without)
    with pytest.raises(DeviceError, match=r"without GStreamer.*uninstall opencv-python"):
        open_camera("videotestsrc ! appsink")


def test_without_opencv_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, video: Path) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DeviceError, match="OpenCV is not installed: pip install"):
        open_camera(str(video))


def test_only_the_newest_frame_of_a_live_camera_is_kept() -> None:
    capture = FakeCapture(5)
    newest = NewestFrame(FrameReader(capture), VirtualClock(77))
    capture.permits.release(6)
    assert capture.ended.wait(10.0)
    assert newest.close()
    taken = newest.take(0.0)
    assert taken is not None
    assert (int(taken[0][0, 0, 0]), taken[1]) == (5, 77)
    assert newest.superseded == 4
    assert newest.is_over


@pytest.mark.parametrize("delay_ms", [0.0, 40.0])
def test_a_live_camera_sends_each_frame_once_with_the_time_before_its_arrival(
    monkeypatch: pytest.MonkeyPatch, delay_ms: float
) -> None:
    capture = FakeCapture(1)
    monkeypatch.setattr(camera, "open_camera", lambda device: capture)
    sender, messages = kept_sender(VirtualClock())
    before_ns = SystemClock().now_ns()
    capture.permits.release(2)
    with pytest.raises(DeviceError, match="delivers no more frames"):
        play_camera(CameraSource(stream="c", device="0", delay_ms=delay_ms), Path(), sender, Pacer(threading.Event()))
    assert len(messages) == 1
    assert messages[0][0].flags == FLAG_HOST_TIME
    arrived_ns = messages[0][0].capture_ns + round(delay_ms * 1e6)
    assert before_ns <= arrived_ns <= SystemClock().now_ns()


@pytest.mark.parametrize("delay_ms", [-1.0, 1001.0, math.nan])
def test_a_delay_that_no_camera_has_is_refused(delay_ms: float) -> None:
    with pytest.raises(ValueError, match=r"delay_ms is .*: expected 0 to 1000"):
        CameraSource(stream="c", device="0", delay_ms=delay_ms)


def test_a_camera_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = FakeCapture(1)
    monkeypatch.setattr(camera, "open_camera", lambda device: capture)
    monkeypatch.setattr(camera, "FRAME_TIMEOUT_S", 0.2)
    monkeypatch.setattr(camera, "_JOIN_TIMEOUT_S", 0.01)
    sender, _ = kept_sender(VirtualClock())
    with pytest.raises(DeviceError, match="no frame for"):
        play_camera(CameraSource(stream="c", device="0"), Path(), sender, Pacer(threading.Event()))
    capture.permits.release(2)


def test_a_live_camera_ends_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = FakeCapture(100)
    capture.permits.release(10)
    monkeypatch.setattr(camera, "open_camera", lambda device: capture)
    monkeypatch.setattr(camera, "_JOIN_TIMEOUT_S", 0.01)
    sender, _ = kept_sender(VirtualClock())
    stop = threading.Event()
    stop.set()
    play_camera(CameraSource(stream="c", device="0"), Path(), sender, Pacer(stop))
    capture.permits.release(200)


LARGE = (128, 256, 3)


@pytest.fixture
def ring_sender(tmp_path: Path) -> Iterator[StreamSender]:
    sender = StreamSender(f"ipc://{tmp_path}/s", 1, max_message_bytes=1 << 20, ring_slots=4)
    yield sender
    sender.close()


def test_raw_frames_are_read_into_the_memory_that_they_are_sent_from(ring_sender: StreamSender) -> None:
    capture = FakeCapture(20, LARGE)
    capture.permits.release(20)
    reader = FrameReader(capture, ring_sender)
    frames = [reader.read()]
    for _ in range(10):
        frame = reader.read()
        assert frame is not None
        frames.append(frame)
        ring_sender.send_frame(frame, 1)
    assert [frame is not None and frame.flags.owndata for frame in frames] == [True] + [False] * 10
    assert [int(frame[0, 0, 0]) for frame in frames[-2:] if frame is not None] == [10, 11]


def test_frames_that_are_not_sent_and_those_of_another_size_cost_no_memory(ring_sender: StreamSender) -> None:
    capture = FakeCapture(20, LARGE)
    newest = NewestFrame(FrameReader(capture, ring_sender))
    capture.permits.release(21)
    assert capture.ended.wait(10.0)
    assert newest.close()
    assert newest.superseded == 19
    capture = FakeCapture(10, LARGE)
    capture.permits.release(11)
    reader = FrameReader(capture, ring_sender)
    for width in (300, 400, 500, 600, 700):
        capture.shape = (128, width, 3)
        assert reader.read() is not None
    kept = reader.read()
    assert kept is not None
    assert not kept.flags.owndata


def test_opencv_reads_a_video_into_the_memory_it_is_given(tmp_path: Path, ring_sender: StreamSender) -> None:
    write_video(tmp_path / "v.avi", scale=4)
    capture = open_camera(str(tmp_path / "v.avi"))
    reader = FrameReader(capture, ring_sender)
    frames = []
    while (frame := reader.read()) is not None:
        frames.append((frame.flags.owndata, frame.mean()))
        ring_sender.send_frame(frame, 1)
    capture.release()
    assert [owned for owned, _ in frames] == [True] + [False] * (FRAMES - 1)
    np.testing.assert_allclose([level for _, level in frames], LEVELS, atol=3)


def test_frames_larger_than_the_memory_are_refused_once_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, ring_sender: StreamSender
) -> None:
    capture = FakeCapture(3, (1024, 1024, 3))
    capture.permits.release(4)
    monkeypatch.setattr(camera, "open_camera", lambda device: capture)
    source = CameraSource(stream="c", device="0")
    with pytest.raises(ConfigError, match=r"message of 3145728 bytes .* 1048576.*raise max_message_bytes"):
        play_camera(source, Path(), ring_sender, Pacer(threading.Event()))
