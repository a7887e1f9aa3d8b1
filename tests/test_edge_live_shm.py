"""A camera in shared memory, in a process of its own that is killed, and the pipeline and recorder that look at it."""

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
from edge.recording.reader import open_recording
from edge.recording.recorder import Recorder
from edge.recording.writer import RecordingWriter
from edge.transport import ring
from edge.transport.messages import Kind, StreamAccounting
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


def test_pipeline_and_recorder_look_at_the_same_memory(root: Path, tmp_path: Path, config: FlightConfig):
    stop = threading.Event()
    pipeline = LivePipeline(config, open_bundle(shipped_bundle()))
    pipeline.start()
    with RecordingWriter(tmp_path / "flight.mcap") as writer:
        recorder = Recorder(config, writer)
        thread = threading.Thread(target=recorder.run, args=(stop,))
        thread.start()
        with source(root, tmp_path):
            wait_until(lambda: recorder.tallies["camera"].recorded >= 20)
            wait_until(lambda: pipeline.status().streams["camera"].processed >= 20)
            stop.set()
            thread.join()
    assert pipeline.stop().streams["camera"].balanced
    frames = [event for event in open_recording(tmp_path / "flight.mcap").events() if event.kind == Kind.FRAME]
    assert len(frames) == recorder.tallies["camera"].recorded
    assert {frame.header.dims for frame in frames} == {(SIZE[1], SIZE[0], 3)}
    assert len({frame.payload for frame in frames}) == 8
