"""A camera in shared memory, in a process of its own that is killed, and the pipeline and recorder that look at it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge.config import FlightConfig, load_flight
from edge.pipeline.live import LivePipeline
from edge.recording.reader import Event, open_recording
from edge.sources.stream import StreamSender
from edge.transport import ring
from edge.transport.messages import Kind, StreamAccounting
from edge.transport.sockets import BlockingPublisher
from models.bundle import open_bundle, shipped_bundle
from models.preprocess import opencv

PATIENCE_S = 30.0
SIZE = (320, 240)
YAML = """
bundle: {bundle}
streams:
  camera: {{modality: image, endpoint: "ipc://{folder}/camera", rate_hz: 60, transport: shm, shm_slots: 4,
            max_message_bytes: 1_000_000}}
results: ipc://{folder}/results
sources: [{{kind: camera, stream: camera, device: scene.avi, loop: true}}]
pipeline: {{backend: onnxruntime}}
"""


@pytest.fixture
def config(tmp_path: Path) -> FlightConfig:
    cv2, rng = opencv(), np.random.default_rng(5)
    video = cv2.VideoWriter(str(tmp_path / "scene.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 60.0, SIZE)
    for _ in range(8):
        video.write(rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8))
    video.release()
    (tmp_path / "flight.yaml").write_text(YAML.format(bundle=shipped_bundle(), folder=tmp_path))
    return load_flight(tmp_path / "flight.yaml")


@contextmanager
def source(root: Path, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [
        sys.executable,
        "-m",
        "edge.cli",
        "source",
        "--config",
        str(folder / "flight.yaml"),
        "--stream",
        "camera",
    ]
    with subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(claim: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline_s, "nothing happened"


def rings_of(config: FlightConfig) -> list[Path]:
    return list(ring.FOLDER.glob(f"{ring._prefix(config.streams['camera'].endpoint)}*"))


@pytest.mark.slow
def test_the_pipeline_outlives_the_death_of_who_made_its_memory(root: Path, tmp_path: Path, config: FlightConfig):
    pipeline = LivePipeline(config, open_bundle(shipped_bundle()))
    pipeline.start()

    def ledger() -> StreamAccounting:
        return pipeline.status().streams["camera"]

    makers = set()
    for _ in range(3):
        before = ledger().processed
        with source(root, tmp_path) as process:
            wait_until(lambda: ledger().processed >= before + 20)  # noqa: B023 (asked at once)
            (path,) = rings_of(config)
            makers.add(path.name)
            process.send_signal(signal.SIGKILL)
    status = pipeline.stop().streams["camera"]
    ring.remove_dead_rings()
    assert len(makers) == 3
    assert rings_of(config) == []
    assert status.balanced
    assert (status.rejected, status.in_flight) == ({}, 0)


def test_a_slow_pipeline_supersedes_and_counts_every_frame(
    root: Path, tmp_path: Path, config: FlightConfig, monkeypatch
):
    pipeline = LivePipeline(config, open_bundle(shipped_bundle()))
    branch = pipeline._branches["camera"]
    overtaken = threading.Event()
    prepare = branch._prepare

    def be_overtaken(arrival, *others):
        wait_until(lambda: not arrival.payload.is_intact())
        overtaken.set()
        return prepare(arrival, *others)

    monkeypatch.setattr(branch, "_prepare", be_overtaken)
    pipeline.start()
    with source(root, tmp_path):
        assert overtaken.wait(PATIENCE_S)
        wait_until(lambda: pipeline.status().streams["camera"].superseded >= 20)
        status = pipeline.stop().streams["camera"]
    assert status.balanced
    assert status.processed == 0
    assert status.rejected == {}
    assert status.received == status.superseded


FRAME = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)


@contextmanager
def recorder(root: Path, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "edge.cli", "record", "--config", str(folder / "flight.yaml")]
    command += ["--out", str(folder / "flight.mcap"), "--json"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: "subprocess.Popen[str]") -> dict:
    """Stop a recorder and return what it says of the camera."""
    process.terminate()
    stdout, _ = process.communicate(timeout=PATIENCE_S)
    return json.loads(stdout.splitlines()[-1])["streams"]["camera"]


@pytest.fixture
def camera(config: FlightConfig) -> Iterator[StreamSender]:
    stream = config.streams["camera"]
    limits = {"max_message_bytes": stream.max_message_bytes, "ring_slots": stream.ring_slots}
    sender = StreamSender(stream.endpoint, 1, publisher=BlockingPublisher, **limits)
    yield sender
    sender.close()


def recorded_frames(folder: Path) -> list[Event]:
    return [event for event in open_recording(folder / "flight.mcap").events() if event.kind == Kind.FRAME]


def test_pipeline_and_recorder_look_at_the_same_memory_and_a_recording_holds_plain_messages(
    root: Path, tmp_path: Path, config: FlightConfig, camera: StreamSender
):
    pipeline = LivePipeline(config, open_bundle(shipped_bundle()))
    pipeline.start()
    with recorder(root, tmp_path) as process:
        assert camera.wait_for_listeners(2, PATIENCE_S)
        for n in range(3):
            camera.send_frame(FRAME + n, time.monotonic_ns())
        wait_until(lambda: pipeline.status().streams["camera"].received == 3)
        said = ended(process)
    assert pipeline.stop().streams["camera"].balanced
    frames = recorded_frames(tmp_path)
    assert (said["recorded"], said["lost"], said["refused"]) == (3, 0, {})
    assert [set(frame.payload) for frame in frames] == [{0}, {1}, {2}]
    assert [frame.header.flags for frame in frames] == [0, 0, 0]


def test_a_recorder_that_is_held_up_says_what_it_came_too_late_for(
    root: Path, tmp_path: Path, config: FlightConfig, camera: StreamSender
):
    sent = 3 * config.streams["camera"].shm_slots
    with recorder(root, tmp_path) as process:
        assert camera.wait_for_listeners(1, PATIENCE_S)
        process.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        for n in range(sent):
            camera.send_frame(FRAME + n, time.monotonic_ns())
        process.send_signal(signal.SIGCONT)
        said = ended(process)
    assert set(said["refused"]) == {"overwritten"}
    assert (said["recorded"] + said["refused"]["overwritten"], said["lost"]) == (sent, 0)
    frames = recorded_frames(tmp_path)
    assert len(frames) == said["recorded"] > 0
    assert all(set(frame.payload) == {frame.header.sequence} for frame in frames)
