"""PX4 logs: the track, gated by the GPS, and what damage costs."""

import builtins
import math
from pathlib import Path
from typing import Any

import pytest
from logs import ULOG_FORMATS, UTC_S, ulog, ulog_attitude, ulog_gps, ulog_position

from edge.mavlink.logs.flight_log import read_flight_log
from edge.mavlink.logs.logged_flight import LoggedFlight
from models.errors import DeviceError, RecordingError

pytest.importorskip("pyulog")
NS = 1_000_000_000


def _read(tmp_path: Path, data: bytes) -> LoggedFlight:
    (tmp_path / "log.ulg").write_bytes(data)
    return read_flight_log(tmp_path / "log.ulg")


def _flight(fix_type: int = 3, count: int = 5) -> list[bytes]:
    messages = []
    for n in range(count):
        half = 0.1 * n / 2
        messages.append(ulog_gps(1 + n / 5, fix_type))
        messages.append(ulog_attitude(1.01 + n / 5, (math.cos(half), math.sin(half), 0.0, 0.0)))
        messages.append(ulog_position(1.02 + n / 5, 400.0 + n))
    return messages


def test_positions_become_poses_with_the_attitude_nearest_in_time(tmp_path: Path) -> None:
    flight = _read(tmp_path, ulog(_flight()))
    assert [round(pose.altitude_m) for pose in flight.poses] == [400, 401, 402, 403, 404]
    last = flight.poses[-1]
    assert last.capture_ns == round(1.82 * NS)
    assert (last.latitude_deg, last.longitude_deg, last.roll_rad) == pytest.approx((47.0, 8.5, 0.4))
    assert (flight.messages, flight.refused, flight.damage) == (15, {}, {})


def test_gps_time_gives_utc(tmp_path: Path) -> None:
    flight = _read(tmp_path, ulog(_flight()))
    assert flight.utc_offset_ns == UTC_S * NS
    assert len(flight.readings) == 5


def test_positions_without_a_3d_fix_beside_them_are_refused(tmp_path: Path) -> None:
    messages = [ulog_gps(1.0, 2), ulog_position(1.1, 400.0), ulog_gps(2.0, 3), ulog_position(2.1, 400.0)]
    flight = _read(tmp_path, ulog(messages))
    assert len(flight.poses) == 1
    assert flight.refused == {"no 3D fix": 1}


def test_without_estimates_the_gps_tells_the_position(tmp_path: Path) -> None:
    flight = _read(tmp_path, ulog([ulog_gps(1.0, 3), ulog_gps(1.2, 3)]))
    assert [(pose.latitude_deg, pose.altitude_m) for pose in flight.poses] == [(47.0, 400.0)] * 2


def test_a_log_without_a_usable_fix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no usable GPS fix among 5"):
        _read(tmp_path, ulog(_flight(fix_type=1)))
    with pytest.raises(RecordingError, match="no usable GPS fix among 0"):
        _read(tmp_path, ulog([]))


def test_a_log_cut_off_anywhere_gives_what_is_there(tmp_path: Path) -> None:
    flight = _read(tmp_path, ulog(_flight())[:-10])
    assert len(flight.poses) == 4
    attitude, position = ulog_attitude(0, (1.0, 0.0, 0.0, 0.0)), ulog_position(0, 0)
    assert flight.damage == {"bytes skipped": len(attitude) + len(position) - 10}


def test_a_damaged_place_is_told(tmp_path: Path) -> None:
    data = bytearray(ulog(_flight(count=40)))
    at = len(ulog([])) + 100 * (len(ulog_position(0, 0)))
    data[at : at + 40] = b"\xff" * 40
    flight = _read(tmp_path, bytes(data))
    assert list(flight.damage) == ["bytes skipped"]
    assert 40 <= flight.damage["bytes skipped"] <= 120
    assert 0 < len(flight.poses) < 40


def test_a_damaged_length_does_not_hide_what_follows(tmp_path: Path) -> None:
    data = bytearray(ulog(_flight(count=400)))
    at = len(ulog([])) + 3 * len(b"".join(_flight(count=1)))
    data[at + 1] ^= 0x10
    flight = _read(tmp_path, bytes(data))
    assert len(flight.poses) >= 399
    assert 0 < flight.damage["bytes skipped"] < 200


@pytest.mark.parametrize("data", [b"ULog\x01\x125", b"ULog\x01\x125\x01" + bytes(8)])
def test_a_log_of_a_header_alone_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(RecordingError, match=r"not readable as a PX4 log|no usable GPS fix"):
        _read(tmp_path, data)


def test_a_format_with_an_array_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    formats = (ULOG_FORMATS[0], "vehicle_attitude:uint64_t timestamp;float[99999999] q;", ULOG_FORMATS[2])
    with pytest.raises(RecordingError, match="a format of more elements"):
        _read(tmp_path, ulog(_flight(), formats))


def test_formats_within_formats_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    formats = (*ULOG_FORMATS, "a:b[3000] x;", "b:c[3000] x;", "c:uint8_t[3000] x;")
    with pytest.raises(RecordingError, match="a format of more elements"):
        _read(tmp_path, ulog(_flight(), formats))


def test_a_format_that_names_itself_is_refused(tmp_path: Path) -> None:
    formats = (ULOG_FORMATS[0].replace("double lat", "vehicle_global_position lat"), *ULOG_FORMATS[1:])
    with pytest.raises(RecordingError, match="a format of more elements"):
        _read(tmp_path, ulog(_flight(), formats))


def test_without_pyulog_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyulog"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DeviceError, match=r"PX4 logs need pyulog: pip install 'uav-fusion-edge\[import\]'"):
        _read(tmp_path, ulog(_flight()))


def test_a_real_log_gives_its_track(shared_data: Path) -> None:
    flight = read_flight_log(shared_data / "flights" / "px4_v6c_short.ulg")
    assert (len(flight.poses), flight.refused, flight.damage) == (34, {}, {})
    assert flight.poses[0].latitude_deg == pytest.approx(36.36913725)
    assert flight.utc_offset_ns is not None
    assert (flight.utc_offset_ns + flight.poses[0].capture_ns) / NS == pytest.approx(1_765_331_251.9, abs=0.1)
