"""Exports: what other programs read is what was recorded, and what a full disk leaves can be used."""

import csv
import errno
import hashlib
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from house import ROOT
from recorded import START_NS, UTC_OFFSET_NS

from edge.cli import main
from edge.recording.writer import RecordingWriter
from edge.sources.sigmf import read_sigmf
from edge.transport.messages import Classification, Kind, ModalityAnswer, Pose, Truth
from edge.transport.wire import Stamp, encode_array, encode_bytes
from models.preprocess import opencv

RATE_HZ = 1e6
SAMPLES = 1000
PERIOD_NS = 1_000_000


def _samples(sequence: int, dtype: Any = np.int16) -> np.ndarray:
    return np.random.default_rng(sequence).integers(0, 100, (SAMPLES, 2)).astype(dtype)


def _window(
    writer: RecordingWriter, sequence: int, array: np.ndarray, centre_hz: float = 1e9, late_ns: int = 0
) -> None:
    at_ns = START_NS + sequence * PERIOD_NS + late_ns
    stamp = Stamp(1, 1, sequence, at_ns, at_ns, sample_rate_hz=RATE_HZ, centre_hz=centre_hz)
    writer.write_parts("radio", encode_array(Kind.IQ, stamp, array), at_ns)


def _frame(writer: RecordingWriter, sequence: int, content: bytes | np.ndarray) -> None:
    at_ns = START_NS + sequence * 40_000_000
    stamp = Stamp(2, 1, sequence, at_ns, at_ns)
    parts = (
        encode_bytes(Kind.ENCODED_FRAME, stamp, content)
        if isinstance(content, bytes)
        else encode_array(Kind.FRAME, stamp, content)
    )
    writer.write_parts("camera", parts, at_ns)


def _writer(folder: Path, **metadata: str) -> RecordingWriter:
    return RecordingWriter(folder / "flight.mcap", metadata=metadata, utc_offset_ns=UTC_OFFSET_NS)


def _export(folder: Path, *options: str) -> int:
    return main(["recording", "export", str(folder / "flight.mcap"), str(folder / "out"), *options])


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _jpeg(seed: int) -> bytes:
    frame = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return bytes(opencv().imencode(".jpg", frame)[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.float32])
def test_radio_comes_back_as_sigmf(tmp_path: Path, dtype: Any) -> None:
    windows = [_samples(sequence, dtype) for sequence in range(3)]
    with _writer(tmp_path) as writer:
        for sequence, window in enumerate(windows):
            _window(writer, sequence, window)
    assert _export(tmp_path) == 0
    radio = read_sigmf(tmp_path / "out" / "radio.sigmf-meta")
    np.testing.assert_array_equal(radio.samples, np.concatenate(windows))
    assert (radio.sample_rate_hz, radio.samples.dtype) == (RATE_HZ, dtype)
    (capture,) = radio.captures
    assert (capture.sample_start, capture.centre_hz) == (0, 1e9)
    assert capture.datetime == "2023-11-14T22:13:25.000000000Z"
    assert datetime.fromisoformat(capture.datetime[:26]).microsecond == 0
    meta = json.loads((tmp_path / "out" / "radio.sigmf-meta").read_text())["global"]
    data = (tmp_path / "out" / "radio.sigmf-data").read_bytes()
    assert meta["core:sha512"] == hashlib.sha512(data).hexdigest()


def test_what_is_exported_of_a_test_says_that_it_is_one(tmp_path: Path) -> None:
    with _writer(tmp_path, injected_faults="radio:wrong@0s camera:off@1s+2s") as writer:
        for sequence in range(2):
            _window(writer, sequence, _samples(sequence))
    assert _export(tmp_path) == 0
    (note,) = json.loads((tmp_path / "out" / "radio.sigmf-meta").read_text())["annotations"]
    assert (note["core:sample_start"], note["core:sample_count"], note["core:label"]) == (0, 2 * SAMPLES, "TEST")
    assert "radio:wrong@0s, camera:off@1s+2s" in note["core:comment"]
    faults = json.loads((tmp_path / "out" / "faults.json").read_text())["faults"]
    assert faults == ["radio:wrong@0s", "camera:off@1s+2s"]


def test_what_is_exported_of_a_flight_says_nothing_of_tests(tmp_path: Path) -> None:
    with _writer(tmp_path) as writer:
        _window(writer, 0, _samples(0))
    assert _export(tmp_path) == 0
    assert json.loads((tmp_path / "out" / "radio.sigmf-meta").read_text())["annotations"] == []
    assert not (tmp_path / "out" / "faults.json").exists()


def test_each_stretch_of_a_radio_stream_says_where_it_begins(tmp_path: Path) -> None:
    with _writer(tmp_path) as writer:
        _window(writer, 0, _samples(0))
        _window(writer, 1, _samples(1), late_ns=900_000)  # the clock's doing
        _window(writer, 3, _samples(3))  # one is missing
        _window(writer, 4, _samples(4), centre_hz=2e9)
        _window(writer, 5, _samples(5), centre_hz=2e9, late_ns=2_000_000)
    assert _export(tmp_path) == 0
    captures = read_sigmf(tmp_path / "out" / "radio.sigmf-meta").captures
    assert [(c.sample_start // SAMPLES, c.centre_hz) for c in captures] == [(0, 1e9), (2, 1e9), (3, 2e9), (4, 2e9)]


def test_radio_whose_type_changes_becomes_two_files(tmp_path: Path) -> None:
    with _writer(tmp_path) as writer:
        _window(writer, 0, _samples(0))
        _window(writer, 1, _samples(1, np.uint8))
    assert _export(tmp_path) == 0
    kinds = [read_sigmf(tmp_path / "out" / name).datatype for name in ("radio.sigmf-meta", "radio-2.sigmf-meta")]
    assert kinds == ["ci16_le", "cu8"]


def test_times_that_nobody_knows_are_left_out(tmp_path: Path) -> None:
    with _writer(tmp_path, utc="unknown") as writer:
        _window(writer, 0, _samples(0))
        writer.write_message(Truth(capture_ns=1, class_id=0, label="a"), START_NS)
    assert _export(tmp_path) == 0
    assert read_sigmf(tmp_path / "out" / "radio.sigmf-meta").captures[0].datetime is None
    assert [line["utc"] for line in _table(tmp_path / "out" / "truth.csv")] == [""]


def test_encoded_images_come_out_as_they_are_and_raw_frames_as_png(tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 255, (8, 6, 3), dtype=np.uint8)
    with _writer(tmp_path) as writer:
        _frame(writer, 0, _jpeg(0))
        _frame(writer, 1, raw)
    assert _export(tmp_path) == 0
    lines = _table(tmp_path / "out" / "camera.csv")
    assert [line["file"] for line in lines] == ["camera/000000.jpg", "camera/000001.png"]
    assert [int(line["capture_ns"]) for line in lines] == [START_NS, START_NS + 40_000_000]
    assert (tmp_path / "out" / lines[0]["file"]).read_bytes() == _jpeg(0)
    cv2 = opencv()
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out" / lines[1]["file"])), raw)


def test_frames_become_a_video_on_request(tmp_path: Path) -> None:
    with _writer(tmp_path) as writer:
        for sequence in range(10):
            _frame(writer, sequence, _jpeg(sequence))
    assert _export(tmp_path, "--video") == 0
    cv2 = opencv()
    capture = cv2.VideoCapture(str(tmp_path / "out" / "camera.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), round(capture.get(cv2.CAP_PROP_FPS), 3)) == (10, 25.0)
    assert capture.read()[1].shape == (48, 64, 3)
    assert len(_table(tmp_path / "out" / "camera.csv")) == 10


def test_video_that_does_not_hold_its_frames_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Silent:
        def __init__(self, *_: object) -> None:
            pass

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def write(self, frame: np.ndarray) -> None:
            pass

        def release(self) -> None:
            pass

    monkeypatch.setattr(opencv(), "VideoWriter", Silent)
    with _writer(tmp_path) as writer:
        _frame(writer, 0, _jpeg(0))
    assert _export(tmp_path, "--video") == 6
    assert "holds 0 of 1 frames: is the disk full?" in capsys.readouterr().err


def test_messages_without_usable_content_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with _writer(tmp_path) as writer:
        header_bytes, payload = encode_array(Kind.IQ, Stamp(1, 1, 0, START_NS, START_NS), _samples(0))
        writer.write_parts("radio", (header_bytes, payload[:-4]), START_NS)
        _frame(writer, 0, b"no image")
        _frame(writer, 1, _jpeg(1))
    assert _export(tmp_path, "--json") == 1
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["messages"], told["skipped"]) == ({"camera": 1}, {"camera": 1, "radio": 1})


def _answer(sequence: int, pose: Pose | None) -> Classification:
    return Classification(
        sequence=sequence, capture_ns=START_NS, answer_ns=START_NS, class_id=0, label='a "b", c', confidence=0.5,
        probs=(0.5, 0.25), pose=pose, latency_ms={"total": 1.5},
        modalities=(ModalityAnswer(name="iq", mask=1.0, weight=0.75, entropy=0.125),),
    )  # fmt: skip


def _write_answers(folder: Path) -> None:
    pose = Pose(capture_ns=START_NS, latitude_deg=47.25, longitude_deg=8.5, altitude_m=1.0)
    with _writer(folder) as writer:
        writer.write_message(_answer(0, None), START_NS)
        writer.write_message(_answer(1, pose), START_NS + 1)
        writer.write_message(pose, START_NS + 2)


def test_answers_become_a_table_with_a_column_for_every_value(tmp_path: Path) -> None:
    _write_answers(tmp_path)
    assert _export(tmp_path) == 0
    first, second = _table(tmp_path / "out" / "classification.csv")
    assert (first["label"], first["confidence"], first["probs.1"]) == ('a "b", c', "0.5", "0.25")
    assert (first["modalities.iq.weight"], first["modalities.iq.entropy"]) == ("0.75", "0.125")
    assert (first["latency_ms.total"], first["pose.latitude_deg"]) == ("1.5", "")
    assert second["pose.latitude_deg"] == "47.25"
    assert (first["received_ns"], first["utc"]) == (str(START_NS), "2023-11-14T22:13:25.000000000Z")
    assert [line["latitude_deg"] for line in _table(tmp_path / "out" / "pose.csv")] == ["47.25"]


def test_parquet_holds_the_same_with_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    _write_answers(tmp_path)
    assert _export(tmp_path, "--tables", "parquet") == 0
    table = parquet.read_table(tmp_path / "out" / "classification.parquet").to_pydict()
    assert (table["sequence"], table["confidence"], table["pose.latitude_deg"]) == ([0, 1], [0.5, 0.5], [None, 47.25])
    assert table["label"] == ['a "b", c'] * 2


def test_parquet_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    _write_answers(tmp_path)
    assert _export(tmp_path, "--tables", "parquet") == 4
    assert "pip install 'uav-fusion-edge[parquet]'" in capsys.readouterr().err
    assert not (tmp_path / "out.part").exists()


def test_topics_choose_what_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_answers(tmp_path)
    assert _export(tmp_path, "--topics", "pose") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pose.csv"]
    assert main(["recording", "export", str(tmp_path / "flight.mcap"), str(tmp_path / "b"), "--topics", "sonar"]) == 2
    assert "no stream sonar: there is" in capsys.readouterr().err


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_answers(tmp_path)
    for name in ("out", "out.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious").touch()
        assert _export(tmp_path) == 2
        assert "is there already" in capsys.readouterr().err
        assert (tmp_path / name / "precious").exists()
        (tmp_path / name / "precious").unlink()
        (tmp_path / name).rmdir()


def _fill_disk_after(monkeypatch: pytest.MonkeyPatch, total: int) -> None:
    """Let the disk be full once so much was written to it."""
    write, left = os.write, total

    def limited(file: int, data: memoryview) -> int:
        nonlocal left
        taken = min(left, len(data))
        left -= taken
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:taken])

    monkeypatch.setattr("edge.recording.disk.os.write", limited)


def test_a_disk_that_fills_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with _writer(tmp_path) as writer:
        for step in range(100):
            writer.write_message(Truth(capture_ns=step, class_id=0, label="a"), START_NS + step)
    with monkeypatch.context() as full:
        _fill_disk_after(full, 2000)
        assert _export(tmp_path) == 6
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert f"what was saved is in {tmp_path / 'out.part'}" in error
    assert not (tmp_path / "out").exists()
    text = (tmp_path / "out.part" / "truth.csv").read_text()
    assert text.endswith(",a\n")
    assert 20 < len(text.splitlines()) < 100


def test_a_disk_that_fills_leaves_radio_that_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _writer(tmp_path) as writer:
        for sequence in range(5):
            _window(writer, sequence, _samples(sequence))
    window_bytes = SAMPLES * 4
    write = os.write

    def limited(file: int, data: memoryview) -> int:
        room = window_bytes * 2 + 100 - os.fstat(file).st_size
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:room])

    with monkeypatch.context() as full:
        full.setattr("edge.recording.disk.os.write", limited)
        assert _export(tmp_path) == 6
    radio = read_sigmf(tmp_path / "out.part" / "radio.sigmf-meta")
    np.testing.assert_array_equal(radio.samples, np.concatenate([_samples(0), _samples(1)]))


LIMITED = """
import resource, sys
from edge.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(["--quiet", "recording", "export", *sys.argv[2:]]))
"""
"""The kernel lets no file grow beyond some bytes, as on a disk that is full in mid-file."""


def _export_limited(tmp_path: Path, limit_bytes: int, *options: str) -> subprocess.CompletedProcess:
    arguments = [str(limit_bytes), str(tmp_path / "flight.mcap"), str(tmp_path / "out"), *options]
    command = [sys.executable, "-c", LIMITED, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_disk_that_fills_leaves_whole_images(tmp_path: Path) -> None:
    small, large = (b"\xff\xd8\xff" + bytes(count) + b"\xff\xd9" for count in (100, 5000))
    with _writer(tmp_path) as writer:
        for sequence, image in enumerate((small, small, large)):
            _frame(writer, sequence, image)
    done = _export_limited(tmp_path, 2000)
    assert done.returncode == 6
    assert f"what was saved is in {tmp_path / 'out.part'}" in done.stderr
    images = sorted((tmp_path / "out.part" / "camera").iterdir())
    assert [path.read_bytes() for path in images] == [small, small]
    named = [row["file"] for row in _table(tmp_path / "out.part" / "camera.csv")]
    assert named == [f"camera/{path.name}" for path in images]


def test_a_disk_that_fills_leaves_no_table_that_nobody_can_read(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with _writer(tmp_path) as writer:
        for step in range(2000):
            writer.write_message(Truth(capture_ns=step, class_id=0, label="a"), START_NS + step)
    done = _export_limited(tmp_path, 1000, "--tables", "parquet")
    assert done.returncode == 6
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.parquet"))
