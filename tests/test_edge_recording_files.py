"""The files of one flight: a new one when one is large or old, none while the disk is full, each complete in itself."""

import errno
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import PERIOD_NS, START_NS, WINDOW_BYTES, iq_message

from edge.config import FlightConfig, RecordingConfig, StreamConfig
from edge.recording.flight_facts import about_flight
from edge.recording.flight_files import DISK_FULL, Attachment, Contents, FlightFiles
from edge.recording.reader import Recording, open_recording
from edge.transport.messages import RecorderStatus, Truth
from models.bundle import open_bundle, shipped_bundle
from models.errors import ConfigError, RecordingError
from models.schema import load_yaml

Usage = namedtuple("Usage", "total used free")
ABOUT = Contents(
    metadata={"pilot": "me"}, attachments=(Attachment(name="flight.yaml", media_type="application/yaml", data=b"x"),)
)


def _wanted(**limits: float) -> RecordingConfig:
    return RecordingConfig(directory=".", **{"min_free_bytes": 0, **limits})  # type: ignore[arg-type]


def _write(files: FlightFiles, first: int, count: int) -> list[str | None]:
    return [
        files.write_sensor("radio", *iq_message(sequence, START_NS), START_NS + sequence * PERIOD_NS)
        for sequence in range(first, first + count)
    ]


def _numbers(recording: Recording) -> list[int]:
    return [event.header.sequence for event in recording.events(["radio"]) if event.header]


def _status(files: FlightFiles) -> Callable[[], RecorderStatus]:
    return lambda: RecorderStatus(time_ns=START_NS, free_bytes=0, pause=files.pause, recorded={}, lost={}, refused={})


def test_a_file_that_is_large_is_followed_by_the_next_and_nothing_is_lost_between(tmp_path: Path) -> None:
    with FlightFiles(tmp_path / "flight.mcap", _wanted(max_file_bytes=1 << 20), ABOUT) as files:
        for part in range(3):
            _write(files, 20 * part, 20)
            files.tend()
    assert [path.name for path in files.paths] == ["flight.mcap", "flight-2.mcap", "flight-3.mcap", "flight-4.mcap"]
    parts = [open_recording(path) for path in files.paths]
    assert [number for part in parts for number in _numbers(part)] == list(range(60))
    assert [part.metadata["part"] for part in parts] == ["1", "2", "3", "4"]
    assert not any(part.damage.is_damaged for part in parts)


def test_every_part_says_what_the_flight_was(tmp_path: Path) -> None:
    with FlightFiles(tmp_path / "flight.mcap", _wanted(max_file_bytes=1 << 20), ABOUT) as files:
        _write(files, 0, 20)
        files.tend()
        _write(files, 20, 1)
    parts = [open_recording(path) for path in files.paths]
    assert [part.metadata["pilot"] for part in parts] == ["me", "me"]
    assert [part.attachments for part in parts] == [{"flight.yaml": b"x"}] * 2
    assert len({part.utc_offset_ns for part in parts}) == 1


def test_a_file_that_is_old_is_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr("edge.recording.flight_files.time.monotonic", lambda: now_s)
    with FlightFiles(tmp_path / "flight.mcap", _wanted(max_file_s=60.0)) as files:
        _write(files, 0, 1)
        now_s += 59.0
        files.tend()
        assert len(files.paths) == 1
        now_s += 1.0
        files.tend()
        _write(files, 1, 1)
    assert [_numbers(open_recording(path)) for path in files.paths] == [[0], [1]]


def _disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Let the disk have as much space as the entry `free` says."""
    space = {"free": 1_000}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10_000, 0, space["free"]))
    return space


def test_recording_ends_in_order_before_the_disk_is_full_and_goes_on_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = _disk(monkeypatch)
    with FlightFiles(tmp_path / "flight.mcap", _wanted(min_free_bytes=1_000)) as files:
        assert _write(files, 0, 3) == [None] * 3
        disk["free"] = 999
        files.tend(_status(files))
        assert "recording.min_free_bytes wants" in files.pause
        assert _write(files, 3, 2) == [DISK_FULL] * 2
        assert not open_recording(tmp_path / "flight.mcap").damage.is_damaged
        disk["free"] = 1_099
        files.tend(_status(files))
        assert files.pause  # a little space is not enough to begin again
        disk["free"] = 1_100
        files.tend(_status(files))
        assert files.pause == ""
        assert _write(files, 5, 1) == [None]
    first, second = (open_recording(path) for path in files.paths)
    assert (_numbers(first), _numbers(second)) == ([0, 1, 2], [5])
    (last_word,) = (event.message for event in first.events(["recorder"]))
    assert isinstance(last_word, RecorderStatus)
    assert "min_free_bytes" in last_word.pause
    assert caplog.text.count("recording paused") == caplog.text.count("recording goes on, into") == 1


def test_a_disk_that_is_full_at_the_start_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = _disk(monkeypatch)
    with FlightFiles(tmp_path / "flight.mcap", _wanted(min_free_bytes=1_001)) as files:
        assert _write(files, 0, 1) == [DISK_FULL]
        assert files.paths == []
        disk["free"] = 5_000
        files.tend()
        assert _write(files, 1, 1) == [None]
    assert _numbers(open_recording(tmp_path / "flight.mcap")) == [1]


def _break(monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    def fail(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(f"edge.recording.chunk_writer.os.{name}", fail)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_write_that_finds_no_space_pauses_and_says_what_it_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    now_s = 1000.0
    monkeypatch.setattr("edge.recording.flight_files.time.monotonic", lambda: now_s)
    with FlightFiles(tmp_path / "flight.mcap", _wanted()) as files:
        _write(files, 0, 20)
        with monkeypatch.context() as full:
            _break(full, "write", code)
            files.tend()
            assert os.strerror(code) in files.pause
            assert files.unwritten == {"radio": 4}
            now_s += 9.9
            files.tend()
        assert _write(files, 20, 1) == [DISK_FULL]
        now_s += 0.1
        files.tend()
        _write(files, 21, 1)
    assert [_numbers(open_recording(path)) for path in files.paths] == [list(range(16)), [21]]


def test_a_next_file_that_finds_no_space_leaves_none_behind_and_nobody_says_that_recording_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge.recording.flight_files.RETRY_S", 0.0)
    with FlightFiles(tmp_path / "flight.mcap", _wanted(max_file_bytes=1 << 20)) as files:
        _write(files, 0, 16)
        with monkeypatch.context() as full:
            _break(full, "write", errno.ENOSPC)
            files.tend()
        assert not (tmp_path / "flight-2.mcap").exists()
        assert "recording goes on" not in caplog.text
        files.tend()
        _write(files, 16, 1)
    assert [path.name for path in files.paths] == ["flight.mcap", "flight-2.mcap"]
    assert [_numbers(open_recording(path)) for path in files.paths] == [list(range(16)), [16]]


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_a_disk_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    with FlightFiles(tmp_path / "flight.mcap", _wanted()) as files:
        _write(files, 0, 1)
        with monkeypatch.context() as broken:
            _break(broken, call, errno.EIO)
            with pytest.raises(RecordingError, match="Input/output error"):
                files.tend()


def test_what_is_written_is_synced_each_time_it_is_tended_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("edge.recording.chunk_writer.os.fdatasync", lambda file: synced.append(os.fstat(file).st_size))
    with FlightFiles(tmp_path / "flight.mcap", _wanted()) as files:
        _write(files, 0, 1)
        files.tend()
        _write(files, 1, 1)
        files.tend()
    assert len(synced) == 3
    assert synced[0] > WINDOW_BYTES
    assert synced[1] > 2 * WINDOW_BYTES


def test_every_file_that_is_begun_is_there_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[list[str]] = []
    fsync = os.fsync

    def note(file: int) -> None:
        synced.append(sorted(os.listdir(file)))
        fsync(file)

    monkeypatch.setattr("edge.recording.disk.os.fsync", note)
    with FlightFiles(tmp_path / "flight.mcap", _wanted(max_file_bytes=1 << 20)) as files:
        _write(files, 0, 16)
        files.tend()
    assert synced == [["flight.mcap"], ["flight-2.mcap", "flight.mcap"]]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with FlightFiles(tmp_path / "flight.mcap", _wanted(max_file_bytes=1 << 20)) as files:
        for part in range(3):
            _write(files, 16 * part, 16)
            files.tend()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before  # ZeroMQ closes those of earlier tests when it likes


def _deployment(tmp_path: Path, bundle: Path) -> tuple[FlightConfig, Path]:
    path = tmp_path / "flight.yaml"
    path.write_text("a deployment")
    streams = {"radio": StreamConfig(modality="iq", endpoint=f"ipc://{tmp_path}/a", rate_hz=1.0)}
    return FlightConfig(bundle=str(bundle), streams=streams, results=f"ipc://{tmp_path}/b"), path


def test_a_recording_says_which_model_flew_with_which_versions(tmp_path: Path) -> None:
    about = about_flight(*_deployment(tmp_path, shipped_bundle()))
    with FlightFiles(tmp_path / "flight.mcap", _wanted(), about) as files:
        files.write_message(Truth(capture_ns=1, class_id=0, label="site"), 1)
    recording = open_recording(tmp_path / "flight.mcap")
    assert recording.metadata["bundle_sha256"] == open_bundle(shipped_bundle()).sha256
    assert recording.attachments["manifest.yaml"] == (shipped_bundle() / "manifest.yaml").read_bytes()
    assert recording.attachments["flight.yaml"] == b"a deployment"
    assert b'"numpy"' in recording.attachments["versions.json"]


def test_a_flight_whose_bundle_is_gone_is_recorded_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    about = about_flight(*_deployment(tmp_path, tmp_path / "gone.uavb"))
    assert {attachment.name for attachment in about.attachments} == {"flight.yaml", "versions.json"}
    assert "will not say which model flew" in caplog.text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_file_bytes: 1000", "max_file_bytes is 1000"),
        ("max_file_s: 0.5", "max_file_s is 0.5"),
        ("min_free_bytes: -1", "min_free_bytes is -1"),
        ("every: {radio: 0}", "every.radio is 0: expected 1 to"),
        ("every: {sonar: 2}", "recording names .'sonar'.: known are"),
        ("topics: [sonar]", "recording names .'sonar'.: known are"),
        ("topics: radio", "recording.topics"),
        ("rotate: 5", "rotate"),
        ("status: 'ipc:///tmp/b'", "recording.status and results have the endpoint"),
        ("status: 'tcp://0.0.0.0:5555'", "expected ipc://PATH or"),
    ],
)
def test_a_wish_for_the_recording_that_makes_no_sense_stops_the_start(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "flight.yaml").write_text(f"""
bundle: x
streams: {{radio: {{modality: iq, endpoint: "ipc:///tmp/a", rate_hz: 1.0}}}}
results: ipc:///tmp/b
recording: {{directory: ., {text}}}
""")
    with pytest.raises(ConfigError, match=complaint):
        load_yaml(tmp_path / "flight.yaml", FlightConfig)
