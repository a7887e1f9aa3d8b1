"""ONBOARD_COMPUTER_STATUS, of made-up boards."""

import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from boards import ORIN_NANO_JETPACK_6, THERMAL, make_board, over_current
from pymavlink.dialects.v20 import common

from edge.clock import SystemClock, VirtualClock
from edge.mavlink.control.onboard import Besides, BoardWatch, onboard_status
from edge.mavlink.wire.frames import FrameCounts, FrameParser
from edge.operations.board import read_board
from edge.operations.board_load import CoreTime, Disk, percent_between, read_core_times, read_gpu_percent

PATIENCE_S = 30
STAT = "cpu  300 0 300 400 0 0 0 0 0 0\ncpu0 100 0 100 200 0 0 0 0 0 0\ncpu1 200 0 200 200 100 0 0 0 50 0\nintr 1\n"
LOAD = "sys/class/devfreq/17000000.gpu/device/load"


def test_a_jetson_tells_what_its_sensors_say(tmp_path: Path) -> None:
    board = read_board(make_board(tmp_path, ORIN_NANO_JETPACK_6), lambda _: None)

    status = onboard_status(board, [10, 90], 42, 5_000_000_000)

    assert (status.uptime, status.time_usec) == (5000, 5_000_000)
    assert (status.cpu_cores, status.gpu_cores) == ([10, 90] + [255] * 6, [42, 255, 255, 255])
    assert (status.temperature_board, status.temperature_core) == (49, [49] + [127] * 7)
    assert (status.ram_total, status.ram_usage) == (7619, 2619)


def test_what_a_board_does_not_tell_is_unknown(tmp_path: Path) -> None:
    status = onboard_status(read_board(tmp_path, lambda _: None), [], None, 0)
    frame = status.pack(common.MAVLink(None, 1, 191))

    (heard,) = FrameParser(FrameCounts()).feed(frame)
    assert (heard.cpu_cores, heard.gpu_cores) == ([255] * 8, [255] * 4)
    assert (heard.temperature_board, heard.temperature_core, heard.fan_speed) == (127, [127] * 8, [32767] * 4)
    assert (heard.ram_total, heard.ram_usage, heard.storage_total) == (2**32 - 1, 2**32 - 1, [2**32 - 1] * 4)


def test_many_cores_and_strange_times_fit_into_the_message(tmp_path: Path) -> None:
    status = onboard_status(read_board(tmp_path, lambda _: None), [50] * 64, 100, 2**63)

    status.pack(common.MAVLink(None, 1, 191))
    assert status.cpu_cores == [50] * 8


def test_a_board_that_is_slowed_down_by_heat_says_so(tmp_path: Path) -> None:
    cooling = {
        "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0",
        "sys/class/thermal/cooling_device0/cur_state": "3",
    }
    board = read_board(make_board(tmp_path, cooling), lambda _: None)

    assert onboard_status(board, [], None, 0).status_flags == common.COMPUTER_STATUS_FLAGS_THERMAL_THROTTLE


def test_fans_and_the_disk_are_told_and_what_there_is_not_stays_unknown(tmp_path: Path) -> None:
    fans = {"sys/class/hwmon/hwmon2/rpm": "2450", "sys/class/hwmon/hwmon4/fan2_input": "90000"}
    root = make_board(tmp_path, fans)
    watch = BoardWatch(VirtualClock(0), root, period_s=PATIENCE_S, folder=tmp_path / "not" / "there" / "yet")
    status = watch.look()
    watch.close()

    assert status.fan_speed == [2450, 32766, 32767, 32767]
    disk = shutil.disk_usage(tmp_path)
    assert status.storage_total == [disk.total >> 20, *[2**32 - 1] * 3]
    assert status.storage_usage[0] == pytest.approx((disk.total - disk.free) >> 20, abs=1024)  # others write
    assert status.storage_type == [0, *[2**32 - 1] * 3]


@pytest.mark.parametrize(("used_mib", "is_full"), [(979, False), (980, True)])
def test_a_disk_that_is_as_good_as_full_says_so(tmp_path: Path, used_mib: int, is_full: bool) -> None:
    board = read_board(tmp_path, lambda _: None)

    flags = onboard_status(board, [], None, 0, Besides(disk=Disk(used_mib, 1000))).status_flags
    assert flags == is_full * common.COMPUTER_STATUS_FLAGS_DISK_FULL


def test_a_voltage_that_was_too_low_in_this_flight_says_so_and_one_before_does_not(tmp_path: Path) -> None:
    make_board(tmp_path, over_current("sys/class/hwmon/hwmon3", (3, 0, 0)))
    watch = BoardWatch(VirtualClock(0), tmp_path, period_s=PATIENCE_S)
    before = watch.look().status_flags
    make_board(tmp_path, over_current("sys/class/hwmon/hwmon3", (4, 0, 0)))
    after = [watch.look().status_flags for _ in range(2)]
    watch.close()

    assert (before, after) == (0, [common.COMPUTER_STATUS_FLAGS_UNDER_VOLTAGE] * 2)


def test_how_busy_cores_were_follows_from_the_kernels_counters(tmp_path: Path) -> None:
    before = read_core_times(make_board(tmp_path, {"proc/stat": STAT}))

    assert before == (CoreTime(200, 400), CoreTime(400, 700))
    assert percent_between(before, (CoreTime(275, 500), CoreTime(400, 800))) == (75, 0)


@pytest.mark.parametrize(
    ("after", "percent"),
    [((), ()), ((CoreTime(1, 2),), ()), ((CoreTime(200, 400), CoreTime(400, 700)), (0, 0))],
    ids=["nothing", "a core went", "no time passed"],
)
def test_cores_that_come_and_go_tell_nothing(after: tuple[CoreTime, ...], percent: tuple[int, ...]) -> None:
    assert percent_between((CoreTime(200, 400), CoreTime(400, 700)), after) == percent


@pytest.mark.parametrize("stat", ["", "cpu0 x y\n", "cpu0\n", "nonsense"])
def test_counters_that_are_none_tell_nothing(tmp_path: Path, stat: str) -> None:
    assert read_core_times(make_board(tmp_path, {"proc/stat": stat})) == ()


@pytest.mark.parametrize(
    ("load", "percent"), [("423", 42), ("0", 0), ("1000", 100), ("1001", None), ("-1", None), ("", None)]
)
def test_a_jetsons_gpu_tells_how_busy_it_is(tmp_path: Path, load: str, percent: int | None) -> None:
    assert read_gpu_percent(["17000000.gpu"], make_board(tmp_path, {LOAD: load})) == percent
    assert read_gpu_percent([], tmp_path) is None


def test_each_look_is_taken_once_and_none_follows_the_end(tmp_path: Path) -> None:
    files = {**ORIN_NANO_JETPACK_6, "proc/stat": STAT, LOAD: "500"}
    watch = BoardWatch(SystemClock(), make_board(tmp_path, files), period_s=0.01)
    deadline_s, taken = time.monotonic() + PATIENCE_S, []
    while len(taken) < 2 and time.monotonic() < deadline_s:
        taken += [status] if (status := watch.take()) is not None else []
    watch.close()

    assert [(status.cpu_cores[:2], status.gpu_cores[0]) for status in taken] == [([0, 0], 50)] * 2
    assert "board" not in [thread.name for thread in threading.enumerate()]


def test_a_sensor_that_hangs_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.mavlink.control.onboard.END_S", 0.05)
    root = make_board(tmp_path, ORIN_NANO_JETPACK_6)
    sensor = root / THERMAL / "thermal_zone0/temp"
    sensor.unlink()
    os.mkfifo(sensor)
    watch = BoardWatch(SystemClock(), root, period_s=0.01)
    release = os.open(sensor, os.O_WRONLY)  # as soon as it is read
    watch.close()
    hangs = watch._thread.is_alive()
    os.write(release, b"49156")
    os.close(release)
    watch._thread.join(PATIENCE_S)

    assert hangs
    assert not watch._thread.is_alive()


def test_this_machine_can_be_looked_at() -> None:
    watch = BoardWatch(VirtualClock(7_000_000_000))
    status = watch.look()
    watch.close()

    assert status.uptime == 7000
    assert status.ram_total > 0
