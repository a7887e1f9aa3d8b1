"""Kills a recorder at random moments, many times, and looks at what is left: python tests/record_until_killed.py 100

Each time a process records 33 MB/s from real sockets into files that change every 40 MB, counts in shared memory what
it has taken, and is killed with SIGKILL. What is left must be a recording without a hole, at most 1 MiB behind that
count, and repair must make one with an index of it.
"""

import contextlib
import io
import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mcap.reader import make_reader

from edge.cli import main
from edge.config import FlightConfig, RecordingConfig, StreamConfig
from edge.recording.chunk_writer import CHUNK_BYTES
from edge.recording.flight_files import FlightFiles
from edge.recording.reader import open_recording
from edge.recording.recorder import Recorder
from edge.transport.messages import Kind
from edge.transport.sockets import BlockingPublisher
from edge.transport.wire import Stamp, encode_array
from models.errors import RecordingError

WINDOW = np.random.default_rng(1).integers(0, 255, (131_072, 2), dtype=np.uint8)
RATE_HZ = 126
PATIENCE_S = 20.0
FILE_BYTES = 40_000_000
"""So that about every second moment falls into a file that is not the first."""


@dataclass(frozen=True)
class Left:
    """What a kill left."""

    taken: int
    """Messages that the recorder had taken."""
    readable: int
    files: int

    @property
    def lost_bytes(self) -> int:
        """What was taken and cannot be read."""
        return max(self.taken - self.readable, 0) * WINDOW.nbytes


def _config(folder: Path) -> FlightConfig:
    return FlightConfig(
        bundle="x.uavb",
        streams={"radio": StreamConfig(modality="iq", endpoint=f"ipc://{folder}/radio", rate_hz=RATE_HZ)},
        results=f"ipc://{folder}/results",
        recording=RecordingConfig(directory=".", max_file_bytes=FILE_BYTES, min_free_bytes=0),
    )


class _Counting(FlightFiles):
    """Notes in shared memory how many messages it has taken."""

    def __init__(self, folder: Path, config: RecordingConfig) -> None:
        super().__init__(folder / "flight.mcap", config)
        self._taken = 0
        with (folder / "taken").open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)

    def write_sensor(self, *message):
        refused = super().write_sensor(*message)
        self._taken += 1
        self._memory[:] = struct.pack("<q", self._taken)
        return refused


def record(folder: Path) -> None:
    """Record until killed."""
    config = _config(folder)
    with _Counting(folder, config.recording) as files:
        Recorder(config, files).run(threading.Event())


def _send(publisher: BlockingPublisher, stop: threading.Event) -> None:
    begin_s = time.monotonic()
    sequence = 0
    while not stop.wait(max(begin_s + sequence / RATE_HZ - time.monotonic(), 0)):
        stamp = Stamp(1, 1, sequence, time.monotonic_ns(), time.monotonic_ns(), sample_rate_hz=1e6)
        publisher.send(encode_array(Kind.IQ, stamp, WINDOW))
        sequence += 1


@contextlib.contextmanager
def _recorder(folder: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, __file__, "--record", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_once(folder: Path, after_s: float) -> Left:
    """Record for a while, kill, and return what is left; AssertionError where it is not what it should be."""
    (folder / "taken").write_bytes(bytes(8))
    stop = threading.Event()
    with BlockingPublisher(f"ipc://{folder}/radio") as publisher, _recorder(folder) as process:
        assert publisher.wait_for_listeners(1, PATIENCE_S), "the recorder did not start"
        sending = threading.Thread(target=_send, args=(publisher, stop))
        sending.start()
        stop.wait(after_s)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        stop.set()
        sending.join()
    (taken,) = struct.unpack("<q", (folder / "taken").read_bytes())
    paths = sorted(folder.glob("flight*.mcap"), key=lambda path: (len(path.name), path.name))
    numbers = [number for path in paths for number in _numbers(path)]
    assert numbers == list(range(len(numbers))), "there is a hole"
    for path in paths:
        _repair(path)
    left = Left(taken=taken, readable=len(numbers), files=len(paths))
    assert left.lost_bytes <= CHUNK_BYTES, f"{left.lost_bytes} bytes lost"
    return left


def _numbers(path: Path) -> list[int]:
    """Return the numbers of the windows that a file gives back."""
    try:
        return [event.header.sequence for event in open_recording(path).events(["radio"]) if event.header]
    except RecordingError:
        assert b"/iq/radio" not in path.read_bytes(), "what was written cannot be read"  # it was only just begun
        return []


def _repair(path: Path) -> None:
    """Repair a file, and read it by its index with a reader that is not ours."""
    numbers = _numbers(path)
    if not numbers:
        return
    out = path.with_name(f"repaired-{path.name}")
    assert main(["--quiet", "recording", "repair", str(path), str(out)]) == 0
    with out.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None, "the repaired file has no index"
        assert [message.sequence for _, _, message in reader.iter_messages(["/iq/radio"])] == numbers


def run(count: int, seed: int) -> list[Left]:
    """Kill so many recorders."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            found.append(kill_once(Path(folder), chance.uniform(0.05, 2.5)))
        left = found[-1]
        print(f"{number + 1}: {left.taken} taken, {left.lost_bytes} bytes lost, {left.files} files", flush=True)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "--record":
        record(Path(sys.argv[2]))
    else:
        all_left = run(int(sys.argv[1]), seed=1)
        print(json.dumps({"kills": len(all_left), "most_lost_bytes": max(left.lost_bytes for left in all_left)}))
