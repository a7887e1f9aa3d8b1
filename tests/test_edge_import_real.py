"""Every real recording beside the checkout is imported: counts and rates as its README states them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.cli import main
from edge.recording.reader import Recording, open_recording
from edge.sources.sdr_file import MIN_WINDOW_SAMPLES
from edge.sources.sigmf import read_sigmf
from edge.transport.messages import Kind, Pose

NS = 1_000_000_000
HOME_M = 581.1
"""Where the simulated vehicle took off."""
ISM = ["TFA-Twin-Plus-30_3049", "UPM", "auriol", "brennstuhl_rcs_2044", "door_bell", "dsc", "ec3k", "hyundai_remote",
       "lacrosse", "oregon_scientific", "rubicson", "silvercrest", "waveman"]  # fmt: skip
SIGMF = [
    ("adsb/modes1", "cu8", 2e6, 1090e6, 356_868),
    ("drone_rf/mavic_air_2", "cf32_le", 50e6, 2457.5e6, 225_280),
    *((f"rf_ism433/recordings/{name}", "cu8", 250e3, 868.3e6 if name == "ec3k" else 433.92e6, None) for name in ISM),
]
"""Type, samples a second, frequency, and samples where the README counts them."""


def _import(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *options: str | Path
) -> tuple[Recording, dict[str, Any]]:
    out = tmp_path / "out.mcap"
    assert main(["import", str(out), "--json", *map(str, options)]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return open_recording(out), told


def test_no_sigmf_recording_is_left_out_here(shared_data: Path) -> None:
    found = {str(path.relative_to(shared_data).with_suffix("")) for path in shared_data.rglob("*.sigmf-meta")}
    assert found == {name for name, *_ in SIGMF}


@pytest.mark.parametrize(("name", "datatype", "rate_hz", "centre_hz", "samples"), SIGMF, ids=[one[0] for one in SIGMF])
def test_a_sigmf_recording_is_imported_whole(
    tmp_path: Path,
    shared_data: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    datatype: str,
    rate_hz: float,
    centre_hz: float,
    samples: int | None,
) -> None:
    path = shared_data / f"{name}.sigmf-meta"
    recording, told = _import(tmp_path, capsys, "--sigmf", path)
    original = read_sigmf(path)
    count = len(original.samples)
    window = max(MIN_WINDOW_SAMPLES, min(round(rate_hz / 100), count))
    assert count == (samples or path.with_suffix(".sigmf-data").stat().st_size // 2)
    assert (original.datatype, told["messages"]) == (datatype, {"radio": count // window})
    events = [event for event in recording.events() if event.kind == Kind.IQ and event.header]
    assert {(event.header.sample_rate_hz, event.header.centre_hz) for event in events if event.header} == {
        (rate_hz, centre_hz)
    }
    joined = b"".join(bytes(event.payload) for event in events)
    assert joined == np.ascontiguousarray(original.samples[: count // window * window]).tobytes()
    steps_ns = np.diff([event.header.capture_ns for event in events if event.header])
    assert np.abs(steps_ns - window * NS / rate_hz).max(initial=0) <= 1


def test_the_drone_ids_of_the_capture_are_known(shared_data: Path) -> None:
    notes = read_sigmf(shared_data / "drone_rf" / "mavic_air_2.sigmf-meta").annotations
    assert [note.label for note in notes] == ["DroneID"] * 4


def test_the_log_of_a_real_quad_is_imported(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording, told = _import(tmp_path, capsys, "--pose", shared_data / "flights" / "log171.bin")
    pose = recording.streams["pose"]
    assert told["messages"] == {"pose": 1_038}
    assert "161 fixes left out (no 3D fix)" in told["origins"]["pose"]
    assert (pose.count - 1) / ((pose.last_ns - pose.first_ns) / NS) == pytest.approx(5.0, abs=0.05)
    assert told["clock_ppm"]["log171"] == pytest.approx(37.7, abs=0.5)


def test_the_telemetry_log_of_a_simulation_is_imported(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording, told = _import(tmp_path, capsys, "--pose", shared_data / "flights" / "vtol_sitl.tlog")
    assert told["messages"]["mavlink/rx"] == 23_894
    frames = recording.streams["mavlink/rx"]
    assert (frames.last_ns - frames.first_ns) / NS == pytest.approx(207.6, abs=0.05)
    altitudes_m = [
        event.message.altitude_m for event in recording.events() if event.kind == Kind.POSE and event.message
    ]
    assert max(altitudes_m) == pytest.approx(HOME_M + 63, abs=1)


def test_the_log_of_a_real_px4_board_is_imported(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyulog")
    recording, told = _import(tmp_path, capsys, "--pose", shared_data / "flights" / "px4_v6c_short.ulg")
    pose = recording.streams["pose"]
    assert told["messages"] == {"pose": 34}
    assert (pose.last_ns - pose.first_ns) / NS == pytest.approx(6.5, abs=0.2)


def test_two_passes_of_real_frames_are_imported_at_their_times(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "flights" / "brighton_beach"
    recording, told = _import(tmp_path, capsys, "--images", folder, "--times", folder / "telemetry.csv")
    assert told["messages"] == {"camera": 18}
    times_s = np.array([event.header.capture_ns / NS for event in recording.events() if event.header])
    steps_s = np.diff(times_s)
    assert np.flatnonzero(steps_s > 3_600).tolist() == [11]
    assert np.median(steps_s[:11]) == 7
    assert (steps_s[12:].min(), steps_s[12:].max()) == (1, 9)


@pytest.mark.parametrize("stem", ["IR_BIRD_070", "V_DRONE_024"])
def test_a_real_clip_is_imported_at_its_rate(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str], stem: str
) -> None:
    pytest.importorskip("cv2")
    folder = shared_data / "sky_multisensor" / "clips"
    recording, told = _import(tmp_path, capsys, "--video", folder / f"{stem}.mp4")
    boxes = json.loads((folder / f"{stem}.boxes.json").read_text())
    assert len(boxes) - told["messages"]["camera"] in (0, 1)  # some tables of boxes have one row more
    assert told["missing"] == {}
    assert recording.streams["camera"].rate_hz == pytest.approx(30.0, abs=0.1)


@pytest.mark.parametrize("name", ["flights/log171.bin", "flights/vtol_sitl.tlog", "flights/px4_v6c_short.ulg"])
def test_a_real_log_with_bytes_changed_is_recovered_with_counts(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if name.endswith(".ulg"):
        pytest.importorskip("pyulog")
    data = bytearray((shared_data / name).read_bytes())
    places = np.random.default_rng(5).integers(len(data) // 4, len(data), 64)
    for place in places:
        data[place] ^= 0xFF
    copy = tmp_path / Path(name).name
    copy.write_bytes(data)
    _, whole = _import(tmp_path, capsys, "--pose", shared_data / name)
    _, told = _import(tmp_path, capsys, "--pose", copy)
    assert " bytes skipped" in told["origins"]["pose"]
    assert all(0.9 * count <= told["messages"][stream] <= count for stream, count in whole["messages"].items())


@pytest.mark.parametrize("name", ["adsb/modes1", "rf_ism433/recordings/UPM"])
def test_a_real_radio_recording_with_a_bit_flipped_is_refused(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    meta = tmp_path / "copy.sigmf-meta"
    meta.write_bytes((shared_data / f"{name}.sigmf-meta").read_bytes())
    data = bytearray((shared_data / f"{name}.sigmf-data").read_bytes())
    data[len(data) // 2] ^= 1
    meta.with_suffix(".sigmf-data").write_bytes(data)
    assert main(["import", str(tmp_path / "out.mcap"), "--sigmf", str(meta)]) == 6
    assert "the data were changed or damaged" in capsys.readouterr().err


def test_the_track_of_real_frames_is_imported_beside_them(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_data / "flights" / "brighton_beach"
    options = ["--images", folder, "--times", folder / "telemetry.csv", "--pose", folder / "telemetry.csv"]
    recording, told = _import(tmp_path, capsys, *options, "--align", "utc")
    assert told["messages"] == {"camera": 18, "pose": 18}
    images_ns = [event.header.capture_ns for event in recording.events() if event.header]
    poses_ns = [event.message.capture_ns for event in recording.events() if isinstance(event.message, Pose)]
    assert images_ns == poses_ns
