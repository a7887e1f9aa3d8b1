"""Telemetry logs: every frame, the vehicle's track, and what damage costs."""

from pathlib import Path

import pytest
import signatures
from logs import UTC_S, TelemetryLog, telemetry

from edge.mavlink.logs.flight_log import read_flight_log
from edge.mavlink.logs.logged_flight import LoggedFlight
from edge.mavlink.logs.tlog import read_tlog
from models.errors import RecordingError

NS = 1_000_000_000
KEY_ON_AIR = signatures.common.MAVLink_setup_signing_message(1, 191, list(signatures.KEY), signatures.NOW)


def _read(tmp_path: Path, data: bytes) -> LoggedFlight:
    (tmp_path / "log.tlog").write_bytes(data)
    return read_tlog(tmp_path / "log.tlog")


def _packets(flight: LoggedFlight) -> list[tuple[int, bytes]]:
    assert flight.packets is not None
    return list(flight.packets())


def test_every_frame_comes_out_with_its_time_of_arrival(tmp_path: Path) -> None:
    log = TelemetryLog()
    frames = [log.add_heartbeat(n / 4) for n in range(8)]
    flight = _read(tmp_path, log.data)
    assert _packets(flight) == [(UTC_S * NS + n * NS // 4, frame) for n, frame in enumerate(frames)]
    assert (flight.messages, flight.poses, flight.damage) == (8, (), {})


@pytest.mark.parametrize("frame", [signatures.plain(KEY_ON_AIR), signatures.signed(KEY_ON_AIR, signatures.NOW)])
def test_a_key_that_was_sent_over_the_air_is_left_out(tmp_path: Path, frame: bytes) -> None:
    log = TelemetryLog()
    log.add_heartbeat(0)
    log.data += log.data[:8] + frame
    log.add_heartbeat(0.5)
    flight = _read(tmp_path, log.data)
    assert flight.messages == 2
    assert flight.damage == {"keys left out": 1}
    assert not any(signatures.KEY in packet for _, packet in _packets(flight))


def test_positions_become_poses_with_the_attitude_nearest_in_time(tmp_path: Path) -> None:
    flight = _read(tmp_path, telemetry(10).data)
    assert len(flight.poses) == 10
    assert flight.refused == {}
    last = flight.poses[-1]
    assert (last.latitude_deg, last.longitude_deg, last.altitude_m) == pytest.approx((47.0, 8.5, 401.8))
    assert last.roll_rad == pytest.approx(0.09, abs=1e-6)
    assert last.capture_ns == UTC_S * NS + round(2.81 * NS)


def test_delays_of_the_radio_do_not_move_positions(tmp_path: Path) -> None:
    log = TelemetryLog()
    log.add_gps(0.5, 3)
    for n in range(5):
        log.add_position(1 + n / 5, 400.0, delay_s=[0.3, 0.02, 0.4, 0.2, 0.02][n])
    times_ns = [pose.capture_ns - UTC_S * NS for pose in _read(tmp_path, log.data).poses]
    assert times_ns == [round((1.02 + n / 5) * NS) for n in range(5)]


@pytest.mark.parametrize("fix_type", [0, 1, 2])
def test_positions_without_a_3d_fix_are_refused_and_counted(tmp_path: Path, fix_type: int) -> None:
    flight = _read(tmp_path, telemetry(4, fix_type).data)
    assert (flight.poses, flight.refused) == ((), {"no 3D fix": 4})


def test_positions_before_any_word_of_the_gps_are_refused(tmp_path: Path) -> None:
    log = TelemetryLog()
    log.add_position(1.0, 400.0)
    assert _read(tmp_path, log.data).refused == {"no 3D fix": 1}


def test_a_restart_of_the_autopilot_does_not_end_its_track(tmp_path: Path) -> None:
    log = telemetry(10)
    again = telemetry(10)
    later = b"".join(_later(again.data, 60))
    flight = _read(tmp_path, log.data + later)
    assert len(flight.poses) == 20
    assert flight.poses[10].capture_ns - flight.poses[0].capture_ns == 60 * NS


def _later(data: bytes, seconds: int) -> list[bytes]:
    """Return the records of a log with later times."""
    records, at = [], 0
    while at < len(data):
        size = 8 + 12 + data[at + 9]
        time_us = int.from_bytes(data[at : at + 8], "big") + seconds * 1_000_000
        records.append(time_us.to_bytes(8, "big") + data[at + 8 : at + size])
        at += size
    return records


def test_another_vehicles_positions_are_left_out(tmp_path: Path) -> None:
    log, other = telemetry(3), TelemetryLog()
    other._vehicle.srcSystem = 2
    other.add_position(1.9, 20.0)
    flight = _read(tmp_path, log.data + other.data)
    assert {round(pose.altitude_m) for pose in flight.poses} == {400}
    assert flight.messages == 13


def test_a_damaged_frame_costs_itself_and_is_counted(tmp_path: Path) -> None:
    log = telemetry(10)
    data = bytearray(log.data)
    data[len(data) // 2] ^= 0x10
    flight = _read(tmp_path, bytes(data))
    assert flight.messages == log.frames - 1
    assert set(flight.damage) <= {"bytes skipped", "frames of a wrong time", "frames whose time goes back"}
    assert sum(flight.damage.values()) > 0


@pytest.mark.parametrize(("byte", "reason"), [(0, "frames of a wrong time"), (2, "frames of a wrong time")])
def test_a_damaged_time_does_not_cost_what_follows(tmp_path: Path, byte: int, reason: str) -> None:
    log = telemetry(10)
    data = bytearray(log.data)
    third = 2 * (8 + 12) + data[9] + data[8 + 12 + data[9] + 9]
    data[third + byte] ^= 0x40
    flight = _read(tmp_path, bytes(data))
    assert flight.damage == {reason: 1}
    assert flight.messages == log.frames - 1


def test_a_log_cut_off_anywhere_gives_what_is_there(tmp_path: Path) -> None:
    log = telemetry(10)
    flight = _read(tmp_path, log.data[:-5])
    assert flight.messages == log.frames - 1
    assert list(flight.damage) == ["bytes skipped"]


def test_frames_of_an_unknown_dialect_are_kept(tmp_path: Path) -> None:
    frame = bytes([0xFD, 3, 0, 0, 0, 1, 1, 0xFF, 0xFF, 0x0A, 1, 2, 3, 0, 0])
    stamp = (UTC_S * 1_000_000).to_bytes(8, "big")
    flight = _read(tmp_path, (stamp + frame) * 2 + telemetry(1).data)
    assert flight.messages == 6
    assert _packets(flight)[0][1] == frame


def test_the_clocks_readings_are_of_arrival_and_gps(tmp_path: Path) -> None:
    flight = _read(tmp_path, telemetry(3).data)
    assert flight.readings[0] == (UTC_S * NS + round(1.03 * NS), UTC_S * NS + round(1.03 * NS))
    assert len(flight.readings) == 3


@pytest.mark.parametrize("data", [b"", b"x", bytes(1000), b"\xfe" * 1000, b"\xfd\xff" * 100_000])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "log.tlog").write_bytes(data)
    with pytest.raises(RecordingError, match=r"expected a \.tlog"):
        read_flight_log(tmp_path / "log.tlog")


def test_an_absent_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        read_tlog(tmp_path / "absent.tlog")
    with pytest.raises(RecordingError, match="cannot be read"):
        read_flight_log(tmp_path / "absent.tlog")


def test_a_file_of_another_kind_is_refused_by_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"PNG and more")
    with pytest.raises(RecordingError, match=r"starts with 50 4e 47 .* expected an ArduPilot \.bin, a PX4 \.ulg or"):
        read_flight_log(tmp_path / "x.log")


def test_every_frame_of_a_real_log_is_read(shared_data: Path) -> None:
    flight = read_flight_log(shared_data / "flights" / "vtol_sitl.tlog")
    assert (flight.messages, flight.damage) == (23_894, {})
    assert (flight.span_ns[1] - flight.span_ns[0]) / NS == pytest.approx(207.6, abs=0.05)
    assert (len(flight.poses), flight.refused) == (804, {"time goes back": 3})
