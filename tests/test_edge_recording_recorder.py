"""The recorder process, with real sockets, real signals and real kills."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from recorded import START_NS, WINDOW_BYTES, iq_message
from recorders import PATIENCE_S, POSE, TRUTH, await_claim, recorder_at, sequences_in, window

from edge.config import FlightConfig, RecordingConfig, StreamConfig
from edge.recording.chunk_writer import CHUNK_BYTES
from edge.recording.flight_files import DISK_FULL, FlightFiles
from edge.recording.reader import open_recording
from edge.recording.recorder import TOO_LATE, Recorder
from edge.transport.messages import Kind, Pose, Truth, pack
from edge.transport.sockets import BlockingPublisher, Publisher
from edge.transport.wire import Stamp, encode_bytes
from models.errors import ConfigError, RecordingError

YAML = """
bundle: demo.uavb
streams:
  radio: {{modality: iq, endpoint: "ipc://{folder}/radio", rate_hz: 100.0}}
results: ipc://{folder}/results
recording: {{directory: flights, min_free_bytes: 0}}
"""


@contextmanager
def _process(root: Path, folder: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", Publisher]]:
    """Run `uav-edge record` on a radio stream, and wait until it listens."""
    (folder / "flight.yaml").write_text(YAML.format(folder=folder))
    command = [sys.executable, "-m", "edge.cli", "record", "--config", str(folder / "flight.yaml"), *options]
    with (
        BlockingPublisher(f"ipc://{folder}/radio") as publisher,
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert publisher.wait_for_listeners(1, PATIENCE_S)
            yield process, publisher
        finally:
            process.kill()


def test_sigterm_ends_the_recording_in_order(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "flight.mcap"
    with _process(root, tmp_path, "--out", str(path), "--json") as (process, publisher):
        for sequence in range(20):
            publisher.send(window(sequence))
        await_claim(lambda: path.stat().st_size > CHUNK_BYTES)
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    summary = json.loads(stdout.splitlines()[-1])
    assert summary["streams"]["radio"] == {
        "recorded": 20, "bytes": 20 * WINDOW_BYTES, "lost": 0, "refused": {}, "left_out": 0,
    }  # fmt: skip
    assert summary["files"] == [str(path)]
    assert "radio: 20 messages recorded, 1.3 MB, 0 lost" in stdout
    recording = open_recording(path)
    assert [event.header.sequence for event in recording.events() if event.header] == list(range(20))
    assert not recording.damage.is_damaged
    assert recording.attachments["flight.yaml"] == (tmp_path / "flight.yaml").read_bytes()


def test_recorder_never_takes_a_core_from_a_process_at_work(tmp_path: Path, root: Path) -> None:
    with _process(root, tmp_path) as (process, _):
        threads = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]
        assert {os.sched_getscheduler(thread) for thread in threads} <= {os.SCHED_BATCH, os.SCHED_IDLE}


def test_kill_costs_only_the_chunk_that_was_being_filled(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "flight.mcap"
    windows = 100
    windows_per_chunk = CHUNK_BYTES // WINDOW_BYTES
    with _process(root, tmp_path, "--out", str(path)) as (process, publisher):
        for sequence in range(windows):
            publisher.send(window(sequence))
        complete = windows // windows_per_chunk * windows_per_chunk
        await_claim(
            lambda: len(sequences_in(path)) == complete
        )  # by content: a file's size runs ahead of what is in it
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
    assert sequences_in(path) == list(range(complete))
    assert open_recording(path).damage.is_truncated


def test_recording_is_named_by_time_in_the_configured_directory(tmp_path: Path, root: Path) -> None:
    with _process(root, tmp_path, "--seconds", "0.2") as (process, _):
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    (path,) = (tmp_path / "flights").glob("2*Z.mcap")
    assert list(open_recording(path).streams) == ["recorder"]


def test_results_and_poses_are_recorded_beside_the_sensors(tmp_path: Path) -> None:
    with recorder_at(tmp_path) as (recorder, publishers, finish):
        publishers["radio"].send(window(0))
        publishers["results"].send(encode_bytes(Kind.TRUTH, Stamp(0, 1, 0, 0, 0), pack(TRUTH)))
        publishers["pose"].send(encode_bytes(Kind.POSE, Stamp(0, 1, 0, 0, 0), pack(POSE)))
        await_claim(lambda: all(tally.recorded for tally in recorder.tallies.values()))
        finish()
    events = list(open_recording(tmp_path / "flight.mcap").events())
    assert {event.stream for event in events} == {"radio", "truth", "pose", "recorder"}
    assert {event.message for event in events if isinstance(event.message, Truth | Pose)} == {TRUTH, POSE}


def test_gaps_are_counted_as_lost_and_a_restart_is_not(tmp_path: Path) -> None:
    with recorder_at(tmp_path) as (recorder, publishers, finish):
        for epoch, sequence in [(1, 0), (1, 1), (1, 5), (2, 0), (2, 2)]:
            header, _, payload = iq_message(sequence, START_NS)
            stamp = Stamp(1, epoch, sequence, START_NS, START_NS)
            header_bytes, _ = encode_bytes(Kind.ENCODED_FRAME, stamp, payload)
            publishers["radio"].send((header_bytes, payload))
            assert header.sequence == sequence
        await_claim(lambda: recorder.tallies["radio"].recorded == 5)
        finish()
    assert recorder.tallies["radio"].lost == 3 + 1


def test_garbage_is_counted_by_reason_and_not_recorded(tmp_path: Path) -> None:
    with recorder_at(tmp_path) as (recorder, publishers, finish):
        publishers["radio"].send([b"garbage"])
        publishers["radio"].send([b"short", b""])
        publishers["radio"].send([b"x" * 64, b""])
        publishers["radio"].send(encode_bytes(Kind.TRUTH, Stamp(0, 1, 0, 0, 0), pack(TRUTH)))
        publishers["results"].send(encode_bytes(Kind.TRUTH, Stamp(0, 1, 0, 0, 0), b"\xc1"))
        publishers["results"].send(window(0))
        refused = [recorder.tallies[name].refused for name in ("radio", "results")]
        await_claim(lambda: [count.total() for count in refused] == [4, 2])
        finish()
    assert refused[0] == {"wrong_parts": 1, "short_header": 1, "bad_magic": 1, "wrong_kind": 1}
    assert list(open_recording(tmp_path / "flight.mcap").streams) == ["recorder"]


def test_message_whose_payload_contradicts_its_header_is_recorded_as_it_came(tmp_path: Path) -> None:
    header_bytes, payload = window(0)
    with recorder_at(tmp_path) as (recorder, publishers, finish):
        publishers["radio"].send((header_bytes, payload[:-5]))
        await_claim(lambda: recorder.tallies["radio"].recorded == 1)
        finish()
    (event,) = open_recording(tmp_path / "flight.mcap").events(["radio"])
    assert event.payload == payload[:-5]


@pytest.mark.parametrize("name", ["pose", "truth", "results"])
def test_stream_whose_name_no_recording_can_hold_is_refused_before_the_flight(tmp_path: Path, name: str) -> None:
    streams = {name: StreamConfig(modality="iq", endpoint=f"ipc://{tmp_path}/a", rate_hz=1.0)}
    config = FlightConfig(bundle="x.uavb", streams=streams, results=f"ipc://{tmp_path}/b")
    wanted = RecordingConfig(directory=".", min_free_bytes=0)
    with FlightFiles(tmp_path / "flight.mcap", wanted) as files, pytest.raises(ConfigError, match="expected a name"):
        Recorder(config, files)


def _stall_disk(monkeypatch: pytest.MonkeyPatch, until: threading.Event) -> threading.Event:
    """Let the first write of a chunk last until an event; return what is set as it begins."""
    begun = threading.Event()
    write = os.write

    def stall(file: int, data: memoryview) -> int:
        if len(data) >= CHUNK_BYTES:
            begun.set()
            until.wait(PATIENCE_S)
        return write(file, data)

    monkeypatch.setattr("edge.recording.chunk_writer.os.write", stall)
    monkeypatch.setattr("edge.recording.recorder.TEND_PERIOD_S", PATIENCE_S)
    return begun


def test_messages_lost_while_the_disk_stalls_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    begun = _stall_disk(monkeypatch, go_on)
    with recorder_at(tmp_path, Publisher) as (recorder, publishers, finish):
        sent = itertools.count()
        while not begun.is_set():
            publishers["radio"].send(window(next(sent)))
        for _ in range(500):
            publishers["radio"].send(window(next(sent)))
        go_on.set()
        tally = recorder.tallies["radio"]
        last = next(sent)

        def has_heard_the_last() -> bool:
            publishers["radio"].send(window(last))
            return tally.last is not None and tally.last.sequence == last

        await_claim(has_heard_the_last)
        finish()
    numbers = {event.header.sequence for event in open_recording(tmp_path / "flight.mcap").events() if event.header}
    assert tally.lost > 0
    assert len(numbers) + tally.lost == last + 1


def test_messages_that_wait_when_the_recorder_must_end_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.recording.recorder.DRAIN_S", 0.0)
    monkeypatch.setattr("edge.recording.recorder.COUNT_S", PATIENCE_S)
    go_on = threading.Event()
    begun = _stall_disk(monkeypatch, go_on)
    with recorder_at(tmp_path) as (recorder, publishers, finish):
        for sequence in range(60):
            publishers["radio"].send(window(sequence))
        assert begun.wait(PATIENCE_S)
        ending = threading.Thread(target=finish)
        ending.start()
        await_claim(recorder._stopping.is_set)
        go_on.set()
        ending.join()
    tally = recorder.tallies["radio"]
    assert tally.refused[TOO_LATE] > 0
    assert tally.recorded + tally.refused[TOO_LATE] == 60


def _fail(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let every write to a recording fail."""

    def fail(file: int, data: memoryview) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("edge.recording.chunk_writer.os.write", fail)


def test_disk_that_fails_ends_the_recorder_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with recorder_at(tmp_path) as (_, publishers, finish):
        _fail(monkeypatch, errno.EIO)
        for sequence in range(2 * CHUNK_BYTES // WINDOW_BYTES):
            publishers["radio"].send(window(sequence))
        await_claim(lambda: not _is_recording())
        with pytest.raises(RecordingError, match="Input/output error"):
            finish()


def test_disk_that_fills_between_two_looks_costs_what_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.recording.recorder.TEND_PERIOD_S", 0.02)
    monkeypatch.setattr("edge.recording.flight_files.RETRY_S", 0.0)
    windows = 3 * CHUNK_BYTES // WINDOW_BYTES
    with recorder_at(tmp_path) as (recorder, publishers, finish):
        tally = recorder.tallies["radio"]
        with monkeypatch.context() as full:
            _fail(full, errno.ENOSPC)
            for sequence in range(windows):
                publishers["radio"].send(window(sequence))
            await_claim(lambda: tally.refused[DISK_FULL] == windows)
        sent = itertools.count(windows)

        def is_recording_again() -> bool:
            publishers["radio"].send(window(next(sent)))
            return tally.recorded > 0

        await_claim(is_recording_again)
        last = next(sent)
        publishers["radio"].send(window(last))
        await_claim(lambda: tally.last is not None and tally.last.sequence == last)
        finish()
    found = [number for path in sorted(tmp_path.glob("*.mcap")) for number in sequences_in(path)]
    assert len(found) == tally.recorded > 0
    assert tally.recorded + tally.refused[DISK_FULL] + tally.lost == last + 1
    assert "No space left on device" in caplog.text
    assert "recording goes on" in caplog.text


def _is_recording() -> bool:
    return any(thread.name == "recorder under test" for thread in threading.enumerate())
