"""Recorders under test, run in a thread, and what they hear."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recorded import START_NS, iq_message

from edge.config import FlightConfig, RecordingConfig, StreamConfig
from edge.recording.flight_files import FlightFiles
from edge.recording.reader import open_recording
from edge.recording.recorder import Recorder
from edge.transport.messages import Pose, Truth
from edge.transport.sockets import BlockingPublisher, Publisher
from models.errors import RecordingError

PATIENCE_S = 20.0
TRUTH = Truth(capture_ns=START_NS, class_id=2, label="field")
POSE = Pose(capture_ns=START_NS, latitude_deg=1.0, longitude_deg=2.0, altitude_m=3.0)


def config_of(folder: Path, **wanted: object) -> FlightConfig:
    """Return a deployment of one radio stream, with wishes for its recording."""
    streams = {"radio": StreamConfig(modality="iq", endpoint=f"ipc://{folder}/radio", rate_hz=100.0)}
    return FlightConfig(
        bundle="x.uavb",
        streams=streams,
        results=f"ipc://{folder}/results",
        pose=f"ipc://{folder}/pose",
        recording=RecordingConfig(directory=".", min_free_bytes=0, **wanted),  # type: ignore[arg-type]
    )


def await_claim(claim: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline_s, "nothing happened"


def window(sequence: int) -> tuple[bytes, bytes]:
    _, header_bytes, payload = iq_message(sequence, START_NS + sequence)
    return header_bytes, payload


def sequences_in(path: Path) -> list[int]:
    """Return the sequence numbers that a recording, perhaps still being written, gives back."""
    try:
        return [event.header.sequence for event in open_recording(path).events() if event.header]
    except RecordingError:  # not even its first bytes are there yet
        return []


@contextmanager
def recorder_at(
    folder: Path, publisher: type[Publisher] = BlockingPublisher, **wanted: object
) -> Iterator[tuple[Recorder, dict[str, Publisher], Callable[[], None]]]:
    """Run a recorder in a thread; the function it gives stops it, and lets its error out."""
    config = config_of(folder, **wanted)
    assert config.recording is not None
    endpoints = {"radio": config.streams["radio"].endpoint, "results": config.results, "pose": str(config.pose)}
    publishers = {name: publisher(endpoint) for name, endpoint in endpoints.items()}
    stop = threading.Event()
    failures: list[RecordingError] = []

    def work() -> None:
        try:
            recorder.run(stop)
        except RecordingError as error:
            failures.append(error)

    def finish() -> None:
        stop.set()
        thread.join()
        for failure in failures:
            raise failure

    with FlightFiles(folder / "flight.mcap", config.recording) as files:
        recorder = Recorder(config, files)
        thread = threading.Thread(target=work, name="recorder under test")
        thread.start()
        try:
            assert all(bound.wait_for_listeners(1, PATIENCE_S) for bound in publishers.values())
            yield recorder, publishers, finish
        finally:
            stop.set()
            thread.join()
            for bound in publishers.values():
                bound.close()
