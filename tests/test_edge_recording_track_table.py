"""Tracks as tables: what they need, and what is left out of them."""

import math
from pathlib import Path

import pytest

from edge.mavlink.logs.logged_flight import LoggedFlight
from edge.recording.imports.track_table import read_track
from models.errors import RecordingError

HEADING = "time,lat_deg,lon_deg,abs_alt_m,roll_deg,yaw_deg"
START_NS = 1_769_869_530 * 10**9


def _read(tmp_path: Path, text: str) -> LoggedFlight:
    (tmp_path / "track.csv").write_text(text)
    return read_track(tmp_path / "track.csv")


def test_rows_become_poses(tmp_path: Path) -> None:
    flight = _read(
        tmp_path, f"{HEADING}\n2026-01-31T14:25:30Z,47,8.5,400,90,180\n2026-01-31T14:25:31.5Z,47,8.5,401,0,0\n"
    )
    first, second = flight.poses
    assert (first.capture_ns, second.capture_ns) == (START_NS, START_NS + 1_500_000_000)
    assert (first.latitude_deg, first.longitude_deg, first.altitude_m) == (47.0, 8.5, 400.0)
    assert (first.roll_rad, first.pitch_rad, first.yaw_rad) == pytest.approx((math.pi / 2, 0.0, math.pi))
    assert flight.utc_offset_ns == 0


def test_times_of_another_beginning_tell_no_utc(tmp_path: Path) -> None:
    assert _read(tmp_path, f"{HEADING}\n12.5,47,8.5,400,0,0\n").utc_offset_ns is None


def test_rows_that_cannot_be_true_are_left_out_by_reason(tmp_path: Path) -> None:
    rows = [
        "1,47,8.5,400",
        "x,47,8.5,400",
        "2,,8.5,400",
        "3,95,8.5,400",
        "4,47,8.5,nan",
        "5,47,8.5,402",
        "0.5,47,8.5,400",
        "6",
    ]
    flight = _read(tmp_path, "\n".join([HEADING, *rows]))
    assert [pose.altitude_m for pose in flight.poses] == [400.0, 402.0]
    assert flight.refused == {"incomplete": 1, "impossible position": 4, "time goes back": 1}


def test_rows_without_a_3d_fix_are_left_out(tmp_path: Path) -> None:
    flight = _read(
        tmp_path, "utc,latitude,longitude,altitude,fix_type\n1,47,8.5,400,2\n2,47,8.5,400,3\n3,47,8.5,400,inf\n"
    )
    assert (len(flight.poses), flight.refused) == (1, {"no 3D fix": 2})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no column time, latitude_deg, longitude_deg, altitude_m: found ''"),
        ("time,lat,lon\n1,2,3\n", "no column altitude_m"),
        (HEADING, "no usable GPS fix among 0"),
        (f"{HEADING}\nnoon,1,2,3\n", "no usable GPS fix among 1"),
    ],
)
def test_a_table_without_a_track_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(RecordingError, match=complaint):
        _read(tmp_path, text)


def test_the_track_of_real_frames_is_read(shared_data: Path) -> None:
    flight = read_track(shared_data / "flights" / "brighton_beach" / "telemetry.csv")
    assert (len(flight.poses), flight.refused) == (18, {})
    assert flight.poses[0].altitude_m == pytest.approx(198.31)
