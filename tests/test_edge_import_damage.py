"""Damaged copies of every kind of file: refused in one line, or recovered with a count; never a traceback."""

import functools
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import dataflash, dataflash_attitude, dataflash_gps, telemetry, ulog, ulog_attitude, ulog_gps, ulog_position

from edge.cli import main
from edge.mavlink.logs.flight_log import read_flight_log
from edge.recording.imports.radio import radio_source, sigmf_source
from edge.recording.reader import open_recording
from edge.sources.raw_iq import read_raw
from models.errors import OnboardError, RecordingError

EXAMPLES = 300
"""Of each parser: some seconds."""
REFUSED = RecordingError.exit_code


@functools.cache
def _bin() -> bytes:
    return dataflash([part for n in range(30) for part in (dataflash_gps(1 + n / 5, 400.0), dataflash_attitude(n, 1))])


@functools.cache
def _tlog() -> bytes:
    return telemetry(15).data


@functools.cache
def _ulog() -> bytes:
    level = (1.0, 0.0, 0.0, 0.0)
    times_s = [1 + n / 5 for n in range(20)]
    return ulog([part for t in times_s for part in (ulog_gps(t, 3), ulog_attitude(t, level), ulog_position(t, 400.0))])


@functools.cache
def _sigmf_meta() -> bytes:
    captures = [{"core:sample_start": n * 20_000, "core:datetime": f"2026-01-31T14:25:3{n}Z"} for n in range(3)]
    return json.dumps({"global": {"core:datatype": "cu8", "core:sample_rate": 1e6}, "captures": captures}).encode()


LOGS: dict[str, Callable[[], bytes]] = {"bin": _bin, "tlog": _tlog, "ulg": _ulog}
needs_pyulog = pytest.mark.skipif(find_spec("pyulog") is None, reason="needs pyulog")
EACH_LOG = pytest.mark.parametrize("kind", ["bin", "tlog", pytest.param("ulg", marks=needs_pyulog)])


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a copy with bytes changed, inserted, or cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 12))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(data)))
        data[at:at] = draw(st.binary(max_size=60))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def outcome(read: Callable[[], Any]) -> tuple[Any, str]:
    """Return what is read and nothing, or nothing and why it is refused; any other error ends the test."""
    try:
        return read(), ""
    except OnboardError as error:
        return None, str(error)


@EACH_LOG
def test_any_damage_to_a_log_leaves_poses_in_order_or_one_clear_line(
    tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    path = tmp_path_factory.mktemp("log") / f"log.{kind}"

    @settings(max_examples=EXAMPLES)
    @given(damaged(LOGS[kind]()))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        flight, refusal = outcome(lambda: read_flight_log(path))
        if flight is None:
            assert refusal.startswith(f"{path}: ")
            return
        times_ns = [pose.capture_ns for pose in flight.poses]
        assert times_ns == sorted(set(times_ns))
        assert all(abs(pose.latitude_deg) <= 90 for pose in flight.poses)
        packets = list(flight.packets()) if flight.packets is not None else []
        assert [time_ns for time_ns, _ in packets] == sorted(time_ns for time_ns, _ in packets)
        assert sum(len(frame) for _, frame in packets) <= len(data)

    check()


@EACH_LOG
@settings(max_examples=EXAMPLES)
@given(data=st.binary(max_size=3000))
def test_bytes_after_the_beginning_of_a_log_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("log") / f"log.{kind}"
    path.write_bytes(LOGS[kind]()[:300] + data)
    flight, refusal = outcome(lambda: read_flight_log(path))
    assert refusal.startswith(f"{path}: ") if flight is None else sum(flight.damage.values()) <= len(data) + 300


@settings(max_examples=EXAMPLES)
@given(data=damaged(_sigmf_meta()))
def test_any_damage_to_sigmf_metadata_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("sigmf") / "r.sigmf-meta"
    path.write_bytes(data)
    path.with_suffix(".sigmf-data").write_bytes(bytes(2 * 60_000))
    source, refusal = outcome(lambda: sigmf_source(path))
    assert refusal.startswith(str(path.with_suffix(""))) if source is None else source.span_ns > 0


@given(size=st.integers(0, 5 * 8192))
def test_a_bare_file_of_any_length_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    path = tmp_path_factory.mktemp("raw") / "r.cs16"
    path.write_bytes(bytes(size))
    source, refusal = outcome(lambda: radio_source(path, read_raw(path, 1e6)))
    assert (source is None) == (size < 4 * 8192)
    assert refusal.startswith(f"{path}: ") if source is None else source.span_ns == size // 4 * 1000


def _files(folder: Path) -> dict[str, tuple[Path, list[str]]]:
    """Return a whole file of each kind, and the options that import it."""
    cv2 = pytest.importorskip("cv2")
    for kind, make in LOGS.items():
        (folder / f"log.{kind}").write_bytes(make())
    (folder / "r.sigmf-meta").write_bytes(_sigmf_meta())
    (folder / "r.sigmf-data").write_bytes(bytes(2 * 60_000))
    (folder / "r.cs16").write_bytes(bytes(4 * 45_000))
    (folder / "images").mkdir()
    frames = np.random.default_rng(1).integers(0, 255, (5, 48, 64, 3), np.uint8)
    for n, frame in enumerate(frames):
        cv2.imwrite(str(folder / "images" / f"{n}.jpg"), frame)
    writer = cv2.VideoWriter(str(folder / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64, 48))
    for frame in frames:
        writer.write(frame)
    writer.release()
    (folder / "t.csv").write_text("".join(["file,time\n", *(f"{n}.jpg,{n}.5\n" for n in range(5))]))
    files = {kind: (folder / f"log.{kind}", ["--pose", str(folder / f"log.{kind}")]) for kind in LOGS}
    images = ["--images", str(folder / "images")]
    return files | {
        "sigmf-meta": (folder / "r.sigmf-meta", ["--sigmf", str(folder / "r.sigmf-meta")]),
        "sigmf-data": (folder / "r.sigmf-data", ["--sigmf", str(folder / "r.sigmf-meta")]),
        "cs16": (folder / "r.cs16", ["--raw", str(folder / "r.cs16"), "--sample-rate", "1000000"]),
        "jpg": (folder / "images" / "3.jpg", images),
        "csv": (folder / "t.csv", [*images, "--times", str(folder / "t.csv")]),
        "avi": (folder / "v.avi", ["--video", str(folder / "v.avi")]),
    }


KINDS = [
    "bin",
    "tlog",
    pytest.param("ulg", marks=needs_pyulog),
    "sigmf-meta",
    "sigmf-data",
    "cs16",
    "jpg",
    "csv",
    "avi",
]


def _import(folder: Path, options: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["import", str(folder / "out.mcap"), *options])
    out, err = capfd.readouterr()
    return code, out, err


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_imported_while_it_is_whole(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _, options = _files(tmp_path)[kind]
    code, out, _ = _import(tmp_path, options, capfd)
    assert code == 0
    assert "skipped" not in out
    assert open_recording(tmp_path / "out.mcap").event_count >= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", [b"", b"\x89PNG not what is expected", bytes(2000)], ids=["empty", "other", "zeros"])
def test_a_file_of_other_content_is_refused_and_nothing_is_left(
    tmp_path: Path, kind: str, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path, options = _files(tmp_path)[kind]
    path.write_bytes(data)
    code, _, err = _import(tmp_path, options, capfd)
    assert code == REFUSED
    ours = [line for line in err.splitlines() if str(tmp_path) in line and "Traceback" not in line]
    assert len(ours) == 1
    assert "Traceback" not in err
    assert list(tmp_path.glob("out.mcap*")) == []


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("bin", "bytes skipped"),
        ("tlog", "bytes skipped"),
        pytest.param("ulg", "bytes skipped", marks=needs_pyulog),
        ("cs16", "bytes after the last whole sample left out"),
    ],
)
def test_a_file_that_is_cut_off_is_recovered_and_says_what_is_lost(
    tmp_path: Path, kind: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path, options = _files(tmp_path)[kind]
    path.write_bytes(path.read_bytes()[:-5])
    code, out, _ = _import(tmp_path, options, capfd)
    assert code == 0
    assert told in out
    assert open_recording(tmp_path / "out.mcap").event_count >= 3


@pytest.mark.parametrize("kind", ["sigmf-meta", "sigmf-data", "jpg"])
def test_a_file_that_is_cut_off_where_nothing_can_be_saved_is_refused(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path, options = _files(tmp_path)[kind]
    path.write_bytes(path.read_bytes()[:-5])
    code, _, err = _import(tmp_path, options, capfd)
    assert code == REFUSED
    assert err.count("\n") == 1
    assert list(tmp_path.glob("out.mcap*")) == []
