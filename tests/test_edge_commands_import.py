"""`uav-edge import` as it is typed: every kind of source, their times, and what the user gets wrong."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from logs import UTC_S, telemetry

from edge.cli import main
from edge.recording.composition import START_NS
from edge.recording.imports.utc import utc_text
from edge.recording.reader import Recording, open_recording
from edge.transport.messages import Kind, Pose
from models.errors import RecordingError

NS = 1_000_000_000
ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077" + "53de0000000c4944415408d763f8ffff3f0005fe02fe"
    "dccc59e70000000049454e44ae426082"
)


def _import(tmp_path: Path, *options: str | Path | float) -> tuple[Recording, dict[str, Any]]:
    out = tmp_path / "out.mcap"
    assert main(["import", str(out), "--json", *map(str, options)]) == 0
    return open_recording(out), {}


def _told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return told


def _raw(tmp_path: Path, name: str, seconds: float) -> Path:
    path = tmp_path / name
    np.zeros((round(1e6 * seconds), 2), np.int16).tofile(path)
    return path


def _sigmf(tmp_path: Path, name: str, begin: str | None = None, samples: int = 2_000_000) -> Path:
    path = tmp_path / f"{name}.sigmf-meta"
    time = {} if begin is None else {"core:datetime": begin}
    meta = {
        "global": {"core:datatype": "cu8", "core:sample_rate": 1_000_000},
        "captures": [{"core:sample_start": 0, **time}],
    }
    path.write_text(json.dumps(meta))
    path.with_suffix(".sigmf-data").write_bytes(bytes(2 * samples))
    return path


def _images(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(ONE_PIXEL)
    return folder


def _tlog(tmp_path: Path, positions: int = 20) -> Path:
    (tmp_path / "flight.tlog").write_bytes(telemetry(positions).data)
    return tmp_path / "flight.tlog"


def _begins(recording: Recording) -> dict[str, float]:
    return {name: round((stream.first_ns - START_NS) / NS, 3) for name, stream in recording.streams.items()}


def test_bare_samples_become_windows_at_their_rate(tmp_path: Path) -> None:
    recording, _ = _import(tmp_path, "--raw", _raw(tmp_path, "a.cs16", 0.5), "--sample-rate", 1e6, "--centre", 868e6)
    assert recording.streams["radio"].count == 50
    headers = [event.header for event in recording.events() if event.header]
    assert {(header.sample_rate_hz, header.centre_hz) for header in headers} == {(1e6, 868e6)}


def test_a_telemetry_log_gives_poses_and_every_frame_of_mavlink(tmp_path: Path) -> None:
    recording, _ = _import(tmp_path, "--pose", _tlog(tmp_path))
    assert {name: stream.count for name, stream in recording.streams.items()} == {"pose": 20, "mavlink/rx": 80}
    frames = [event.payload for event in recording.events() if event.kind == Kind.MAVLINK]
    assert b"".join(bytes(frame[:1]) for frame in frames) == b"\xfd" * 80
    assert "utc_offset_ns" in recording.metadata
    assert int(recording.metadata["utc_offset_ns"]) + START_NS == (UTC_S + 1) * NS


def test_a_log_is_cut_to_the_time_of_the_sensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording, _ = _import(
        tmp_path, "--raw", _raw(tmp_path, "a.cs16", 1.0), "--sample-rate", 1e6, "--pose", _tlog(tmp_path)
    )
    assert recording.streams["pose"].count == 5
    assert "15 poses outside of the flight" in _told(capsys)["origins"]["pose"]


def test_sources_that_tell_their_utc_are_put_where_it_says(tmp_path: Path) -> None:
    recording, _ = _import(
        tmp_path,
        *("--sigmf", _sigmf(tmp_path, "radio", utc_text((UTC_S + 2) * NS))),
        *("--images", _images(tmp_path, f"{UTC_S + 3}.5.png", f"{UTC_S + 4}.png"), "--times", "names"),
        *("--pose", _tlog(tmp_path), "--align", "utc"),
    )
    poses = [event.message for event in recording.events() if isinstance(event.message, Pose)]
    assert poses[0].capture_ns - START_NS == round(0.01 * NS)
    images = [event.header.capture_ns for event in recording.events() if event.stream == "camera" and event.header]
    assert [(time_ns - START_NS) / NS for time_ns in images] == [1.5, 2.0]
    assert int(recording.metadata["utc_offset_ns"]) + START_NS == (UTC_S + 2) * NS


def test_an_anchor_and_an_offset_place_a_source_by_utc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    radio = _sigmf(tmp_path, "radio", utc_text(UTC_S * NS))
    images = _images(tmp_path, "a.png", "b.png")
    anchor = f"pictures={utc_text((UTC_S + 1) * NS)}"
    _import(tmp_path, "--sigmf", radio, "--images", images, "--anchor", anchor, "--offset", "pictures=-0.25")
    assert _told(capsys)["begin_s"] == {"radio": 1.0, "pictures": 1.75}


def test_drift_is_reported_and_corrected_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captures = [
        {"core:sample_start": n * 200_000, "core:datetime": utc_text_ns(UTC_S * NS + round(n * 0.2 * 1.0005 * NS))}
        for n in range(10)
    ]
    meta = _sigmf(tmp_path, "radio")
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"captures": captures}))
    plain, _ = _import(tmp_path, "--sigmf", meta)
    assert _told(capsys)["clock_ppm"]["radio"] == pytest.approx(-500, abs=2)
    corrected, _ = _import(tmp_path, "--sigmf", meta, "--correct-drift")
    spans_ns = [stream.last_ns - stream.first_ns for stream in (plain.streams["radio"], corrected.streams["radio"])]
    assert spans_ns[1] / spans_ns[0] == pytest.approx(1.0005, abs=2e-6)


def test_the_drift_between_two_sources_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captures = [
        {"core:sample_start": n * 200_000, "core:datetime": utc_text_ns(UTC_S * NS + round(n * 0.2 * 1.0005 * NS))}
        for n in range(10)
    ]
    meta = _sigmf(tmp_path, "radio")
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"captures": captures}))
    assert main(["import", str(tmp_path / "o.mcap"), "--sigmf", str(meta), "--pose", str(_tlog(tmp_path, 40))]) == 0
    out = capsys.readouterr().out
    assert "radio: clock -500.0 ppm against UTC" in out
    assert "radio against flight: -500.0 ppm" in out


def test_a_drift_that_is_not_certain_is_not_corrected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = _tlog(tmp_path, 40)
    assert main(["import", str(tmp_path / "o.mcap"), "--pose", str(log), "--correct-drift"]) == 0
    assert "too uncertain to be corrected" in capsys.readouterr().out


def utc_text_ns(time_ns: int) -> str:
    return utc_text(time_ns).replace("Z", f"{time_ns % 1_000_000:06d}Z")


def test_images_at_the_times_of_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "t.csv").write_text("file,time\nb.png,0.25\na.png,1.5\n")
    recording, _ = _import(tmp_path, "--images", folder, "--times", tmp_path / "t.csv")
    headers = [event.header for event in recording.events() if event.header]
    assert [header.capture_ns - START_NS for header in headers] == [0, 1_250_000_000]
    assert "1 left out (no time)" in _told(capsys)["origins"]["camera"]


def test_what_was_exported_is_imported_again_at_the_same_times(tmp_path: Path) -> None:
    radio = _sigmf(tmp_path, "radio", utc_text((UTC_S + 2) * NS))
    images = _images(tmp_path, f"{UTC_S + 3}.5.png", f"{UTC_S + 4}.png")
    sources = ["--sigmf", radio, "--images", images, "--times", "names", "--pose", _tlog(tmp_path), "--align", "utc"]
    first, _ = _import(tmp_path, *sources)
    out = tmp_path / "exported"
    assert main(["recording", "export", str(tmp_path / "out.mcap"), str(out)]) == 0
    again = ["--sigmf", out / "radio.sigmf-meta", "--images", out / "camera", "--times", out / "camera.csv"]
    second, _ = _import(tmp_path, *again, "--pose", out / "pose.csv", "--align", "utc")
    assert second.metadata["utc_offset_ns"] == first.metadata["utc_offset_ns"]
    for name in ("radio", "camera", "pose"):
        spans = [
            (one.streams[name].count, one.streams[name].first_ns, one.streams[name].last_ns) for one in (first, second)
        ]
        assert spans[0] == spans[1]


def test_a_video_that_ends_early_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64, 48))
    for frame in np.random.default_rng(1).integers(0, 255, (12, 48, 64, 3), np.uint8):
        writer.write(frame)
    writer.release()
    data = bytearray(path.read_bytes())
    at = [n for n in range(len(data) - 4) if data[n : n + 4] == b"00dc"][6]
    path.write_bytes(data[: at + 100])
    recording, _ = _import(tmp_path, "--video", path)
    told = _told(capsys)
    count = recording.streams["camera"].count
    assert 5 <= count <= 7
    assert told["missing"] == {"camera": 12 - count}
    assert told["messages"] == {"camera": count}


def test_sources_named_alike_are_told_apart_by_their_endings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    radio = _sigmf(tmp_path, "flight")
    _import(tmp_path, "--sigmf", radio, "--pose", _tlog(tmp_path), "--offset", "flight.tlog=0.5")
    assert _told(capsys)["begin_s"] == {"flight.sigmf-meta": 1.0, "flight.tlog": 1.5}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--raw", "RAW"], "--raw and --sample-rate go together"),
        (["--images", "IMAGES", "--sample-rate", "1e6"], "--raw and --sample-rate go together"),
        (["--raw", "RAW", "--sample-rate", "nan"], "--sample-rate nan: expected above 0"),
        (["--raw", "RAW", "--sample-rate", "-1"], "expected above 0"),
        (["--raw", "RAW", "--sample-rate", "1e6", "--centre", "inf"], "--centre inf: expected a frequency"),
        (["--raw", "RAW", "--sample-rate", "1e6", "--raw-type", "cs24"], "--raw-type cs24: expected one of cu8"),
        (["--raw", "RAW", "--raw", "RAW", "--sample-rate", "1e6"], "two sources are named"),
        (["--raw", "RAW", "--sample-rate", "1e6", "--times", "exif"], "--times says when images were taken"),
        (["--images", "IMAGES", "--align", "utc"], "pictures does not tell its UTC: name it by --anchor pictures="),
        (["--images", "IMAGES", "--correct-drift"], "no source carries both its own time and UTC"),
        (["--images", "IMAGES", "--anchor", "pictures=noon"], "--anchor pictures=noon: expected SOURCE=UTC"),
        (["--images", "IMAGES", "--anchor", "other=1700000000"], "expected SOURCE=UTC of one of pictures"),
        (["--images", "IMAGES", "--anchor", "pictures=1700000000", "--align", "begin"], "leave out --align begin"),
        (["--images", "IMAGES", "--pose", "TLOG", "--anchor", "pictures=100"], "years apart: correct one by --anchor"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    files = {
        "RAW": _raw(tmp_path, "a.cs16", 0.1),
        "IMAGES": _images(tmp_path, "a.png"),
        "TLOG": _tlog(tmp_path),
    }
    assert main(["import", str(tmp_path / "out.mcap"), *(str(files.get(word, word)) for word in options)]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_a_log_from_another_time_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    radio = _sigmf(tmp_path, "radio", utc_text((UTC_S + 3_600) * NS))
    options = ["--sigmf", str(radio), "--pose", str(_tlog(tmp_path)), "--align", "utc"]
    assert main(["import", str(tmp_path / "out.mcap"), *options]) == RecordingError.exit_code
    assert "no pose in the time of the other sources: correct --offset or --anchor" in capsys.readouterr().err


def test_real_images_come_at_the_times_of_their_table(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "flights" / "brighton_beach"
    recording, _ = _import(tmp_path, "--images", folder, "--times", folder / "telemetry.csv")
    times_ns = [event.header.capture_ns for event in recording.events() if event.header]
    steps_s = [round((later - earlier) / NS) for earlier, later in itertools.pairwise(times_ns)]
    assert steps_s == [7, 7, 7, 7, 7, 53, 7, 7, 8, 7, 7, 10_235, 2, 2, 1, 9, 3]
    assert utc_text(times_ns[0] + int(recording.metadata["utc_offset_ns"])) == "2016-06-23T16:31:59.000Z"
