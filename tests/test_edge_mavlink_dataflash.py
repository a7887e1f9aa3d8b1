from collections.abc import Sequence
from pathlib import Path

import pytest
from logs import GPS_KIND, dataflash, dataflash_attitude, dataflash_format, dataflash_gps

from edge.mavlink.logs.dataflash import read_dataflash
from models.errors import RecordingError


def _log(path: Path, messages: Sequence[bytes]) -> Path:
    path.write_bytes(dataflash(messages))
    return path


def test_fixes_become_poses_with_the_attitude_nearest_in_time(tmp_path: Path) -> None:
    messages = [
        dataflash_attitude(0.9, 5.0),
        dataflash_gps(1.0, 400.0),
        dataflash_attitude(1.11, 30.0),
        dataflash_gps(1.2, 401.0),
        dataflash_attitude(1.4, 50.0),
    ]
    flight = read_dataflash(_log(tmp_path / "log.bin", messages))
    first, second = flight.poses
    assert (first.capture_ns, second.capture_ns) == (1_000_000_000, 1_200_000_000)
    assert (first.latitude_deg, first.longitude_deg, first.altitude_m) == pytest.approx((47.0, 8.5, 400.0))
    assert (first.roll_rad, second.roll_rad, first.yaw_rad) == pytest.approx((0.0872665, 0.5235988, 1.5707963))
    assert flight.refused == {}


def test_fixes_before_the_first_3d_fix_are_left_out(tmp_path: Path) -> None:
    messages = [dataflash_gps(1.0, 1892.0, status=1), dataflash_gps(1.2, 90.0, status=2), dataflash_gps(1.4, 400.0)]
    flight = read_dataflash(_log(tmp_path / "log.bin", messages))
    assert [pose.altitude_m for pose in flight.poses] == [400.0]
    assert flight.refused == {"no 3D fix": 2}


def test_jump_in_altitude_is_left_out_but_a_new_level_is_accepted(tmp_path: Path) -> None:
    altitudes = [400.0, 401.0, 1892.0, 402.0, 402.0, 900.0, 901.0]
    messages = [dataflash_gps(1.0 + 0.2 * n, altitude_m) for n, altitude_m in enumerate(altitudes)]
    flight = read_dataflash(_log(tmp_path / "log.bin", messages))
    assert [pose.altitude_m for pose in flight.poses] == [400.0, 401.0, 402.0, 901.0]
    assert flight.refused == {"altitude jumps": 3}


def test_impossible_fixes_are_left_out_by_reason(tmp_path: Path) -> None:
    messages = [
        dataflash_gps(2.0, 400.0),
        dataflash_gps(1.0, 400.0),
        dataflash_gps(2.2, 400.0, latitude_deg=95.0),
        dataflash_gps(2.4, float("nan")),
    ]
    flight = read_dataflash(_log(tmp_path / "log.bin", messages))
    assert len(flight.poses) == 1
    assert flight.refused == {"time goes back": 1, "impossible position": 2}


def test_gps_time_gives_utc(tmp_path: Path) -> None:
    flight = read_dataflash(_log(tmp_path / "log.bin", [dataflash_gps(1.0, 400.0)]))
    assert flight.utc_offset_ns is not None
    assert flight.utc_offset_ns + flight.poses[0].capture_ns == 1_646_525_782 * 10**9


def test_log_without_gps_time_has_no_utc(tmp_path: Path) -> None:
    assert read_dataflash(_log(tmp_path / "log.bin", [dataflash_gps(1.0, 400.0, week=0)])).utc_offset_ns is None


def test_log_cut_off_anywhere_gives_what_is_there(tmp_path: Path) -> None:
    messages = [dataflash_gps(1.0 + 0.2 * n, 400.0) for n in range(5)]
    data = _log(tmp_path / "log.bin", messages).read_bytes()
    (tmp_path / "cut.bin").write_bytes(data[:-40])
    assert len(read_dataflash(tmp_path / "cut.bin").poses) == 3


def test_log_without_a_usable_fix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no usable GPS fix among 1"):
        read_dataflash(_log(tmp_path / "log.bin", [dataflash_gps(1.0, 400.0, status=1)]))


@pytest.mark.parametrize("data", [b"", b"PNG", bytes(200)])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "log.bin").write_bytes(data)
    with pytest.raises(RecordingError, match=r"expected an ArduPilot \.bin log"):
        read_dataflash(tmp_path / "log.bin")


def test_absent_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be read"):
        read_dataflash(tmp_path / "absent.bin")


def test_bad_first_fixes_of_a_real_flight_are_left_out(shared_data: Path) -> None:
    flight = read_dataflash(shared_data / "flights" / "log171.bin")
    altitudes_m = [pose.altitude_m for pose in flight.poses]
    assert (len(flight.poses), flight.refused) == (1038, {"no 3D fix": 161})
    assert (min(altitudes_m), max(altitudes_m)) == pytest.approx((589.3, 601.74))
    assert flight.poses[0].capture_ns == 45_136_000_000


def test_every_message_of_a_real_log_is_counted(shared_data: Path) -> None:
    flight = read_dataflash(shared_data / "flights" / "log171.bin")
    assert (flight.messages, flight.damage) == (91_530, {})


def test_damage_costs_the_messages_it_touches_and_is_counted_in_bytes(tmp_path: Path) -> None:
    whole = _log(tmp_path / "log.bin", [dataflash_gps(1.0 + 0.2 * n, 400.0) for n in range(9)]).read_bytes()
    size = len(dataflash_gps(0, 0))
    data = bytearray(whole)
    fourth = len(whole) - 6 * size
    data[fourth] ^= 0xFF
    (tmp_path / "flipped.bin").write_bytes(data)
    flight = read_dataflash(tmp_path / "flipped.bin")
    assert len(flight.poses) == 7
    assert flight.damage == {"bytes skipped": 2 * size}


def test_a_damaged_time_does_not_cost_the_fixes_after_it(tmp_path: Path) -> None:
    times_s = [1.0, 1.2, 5_000_000.0, 1.6, 1.8]
    flight = read_dataflash(_log(tmp_path / "log.bin", [dataflash_gps(time_s, 400.0) for time_s in times_s]))
    assert len(flight.poses) == 4
    assert flight.refused == {"time leaps": 1}


def test_a_fix_beside_the_track_is_left_out(tmp_path: Path) -> None:
    places = [47.0, 47.0, 48.0, 47.0]
    messages = [dataflash_gps(1.0 + 0.2 * n, 400.0, latitude_deg=place) for n, place in enumerate(places)]
    flight = read_dataflash(_log(tmp_path / "log.bin", messages))
    assert flight.refused == {"position jumps": 2}
    assert len(flight.poses) == 2


def test_padding_after_the_last_message_is_counted(tmp_path: Path) -> None:
    path = _log(tmp_path / "log.bin", [dataflash_gps(1.0, 400.0), dataflash_gps(1.2, 400.0)])
    path.write_bytes(path.read_bytes() + bytes(1000))
    flight = read_dataflash(path)
    assert len(flight.poses) == 1
    assert flight.damage == {"bytes skipped": 1000 + len(dataflash_gps(0, 0))}


@pytest.mark.parametrize("letters", [b"QBIHLL", b"QBIHLLQ", b"QBI?LLf", b"ZBIHLLf"])
def test_formats_that_contradict_themselves_are_not_decoded(tmp_path: Path, letters: bytes) -> None:
    head = dataflash_format(128, 89, b"FMT", b"BBnNZ", b"Type,Length,Name,Format,Columns")
    head += dataflash_format(GPS_KIND, 30, b"GPS", letters, b"TimeUS,Status,GMS,GWk,Lat,Lng,Alt")
    (tmp_path / "log.bin").write_bytes(head + dataflash_gps(1.0, 400.0))
    with pytest.raises(RecordingError, match="no usable GPS fix among 0"):
        read_dataflash(tmp_path / "log.bin")
