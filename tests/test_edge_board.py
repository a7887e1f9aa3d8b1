"""What a board says of itself, on made-up trees of /sys, and what it took to answer."""

import io
import json
from pathlib import Path

import pytest
from boards import AGX_ORIN_JETPACK_7, HWMON, ORIN_NANO_JETPACK_6, PC, THERMAL, make_board

from edge.operations.board import Board, ask_command, read_board, throttled_between
from edge.operations.board_power import PowerMeter, read_rails, total_mw

SECOND_NS = 1_000_000_000


def nothing(words):
    """Be a machine without the commands."""


def board_of(tmp_path, files, ask=nothing) -> Board:
    return read_board(make_board(tmp_path, files), ask)


def test_an_orin_nano_with_jetpack_6_tells_everything(tmp_path):
    board = board_of(tmp_path, ORIN_NANO_JETPACK_6)
    assert board.model == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (board.l4t, board.power_mode) == ("36.4.3", "MAXN_SUPER")
    assert [(cpu.name, cpu.now_mhz, cpu.limit_mhz, cpu.max_mhz, cpu.governor) for cpu in board.cpus] == [
        ("policy0", 1344.0, 1728.0, 1984.0, "schedutil"),
        ("policy4", 729.6, None, None, None),
    ]
    assert [(gpu.name, gpu.now_mhz, gpu.limit_mhz, gpu.max_mhz) for gpu in board.gpus] == [
        ("17000000.gpu", 306.0, 918.0, 1020.0)
    ]
    assert board.temperatures_c == {"cpu-thermal": 49.156, "gpu-thermal": 48.093}
    assert list(board.throttle_events.values()) == [0, 2, 37]
    assert board.rails_mw == {"VDD_IN": 6289.28, "VDD_CPU_GPU_CV": 972.288, "VDD_SOC": 1620.48}
    assert board.total_mw == 6289.28
    assert (board.memory_mib, board.memory_free_mib) == (7619, 5000)


def test_an_agx_orin_with_jetpack_7_has_no_rail_that_feeds_all(tmp_path):
    board = board_of(tmp_path, AGX_ORIN_JETPACK_7)
    assert (board.l4t, board.power_mode) == ("39.2.0", "mode 0")
    assert board.rails_mw == {
        "VDD_GPU_SOC": 4000.0,
        "VDD_CPU_CV": 1000.0,
        "VIN_SYS_5V0": 4500.0,
        "VDDQ_VDD2_1V8AO": 500.0,
    }
    assert board.total_mw == 10000.0


def test_a_pc_tells_clocks_and_zones_and_nothing_that_identifies_it(tmp_path):
    board = board_of(tmp_path, PC)
    assert (board.model, board.processor) == ("Example Desktop 9000", "Example CPU @ 3.6GHz")
    assert board.temperatures_c == {"acpitz": 27.8, "acpitz 2": 29.8}
    assert board.throttle_events == {"processor cores too hot": 7}
    assert (board.l4t, board.power_mode, board.gpus, board.rails_mw, board.total_mw) == (None,) * 5
    assert "SECRET" not in json.dumps(board.as_dict())


def test_a_machine_that_tells_nothing_is_no_error(tmp_path):
    assert set(board_of(tmp_path, {}).as_dict().values()) == {None}


@pytest.mark.parametrize("text", ["", "\0\0", "garbage", "1e9", "9" * 400, "\x1b[2J", "12 34", "-", "١٢"])
def test_files_with_anything_in_them_are_no_error(tmp_path, text):
    board = board_of(tmp_path, dict.fromkeys({**ORIN_NANO_JETPACK_6, **PC}, text))
    told = json.dumps(board.as_dict())
    assert "\x1b" not in told
    assert (board.rails_mw, board.temperatures_c, board.throttle_events) == (None, None, None)


def test_a_zone_that_answers_eagain_is_left_out(tmp_path, monkeypatch):
    class SwitchedOff(io.BytesIO):
        def read(self, size=-1):
            return None

    opened, root = Path.open, make_board(tmp_path, ORIN_NANO_JETPACK_6)
    off = root / THERMAL / "thermal_zone1/temp"
    monkeypatch.setattr(
        Path, "open", lambda path, *how, **more: SwitchedOff() if path == off else opened(path, *how, **more)
    )
    assert read_board(root, nothing).temperatures_c == {"cpu-thermal": 49.156}


def test_folders_in_the_place_of_files_are_no_error(tmp_path):
    for name in ORIN_NANO_JETPACK_6:
        (tmp_path / name).mkdir(parents=True)
    assert board_of(tmp_path, {}).rails_mw is None


def test_bytes_that_are_no_text_are_no_error(tmp_path):
    make_board(tmp_path, PC)
    (tmp_path / "sys/class/dmi/id/sys_vendor").write_bytes(b"\xff\xfe\x00Maker")
    assert read_board(tmp_path, nothing).model.endswith("Maker Desktop 9000")


def test_nvpmodel_is_asked_where_its_files_do_not_tell(tmp_path):
    asked = []

    def ask(words):
        asked.append(tuple(words))
        return "NV Power Mode: MAXN\n0\n" if words[0] == "nvpmodel" else None

    assert board_of(tmp_path, {}, ask).power_mode == "MAXN"
    assert ("nvpmodel", "-q") in asked


def test_a_gpu_that_is_not_a_jetsons_is_told_of_by_nvidia_smi(tmp_path):
    smi = "1410, 1980, 41, 88.25\n[N/A], [N/A], [N/A], [N/A]\n"
    board = board_of(tmp_path, PC, lambda words: smi if words[0] == "nvidia-smi" else None)
    assert [(gpu.name, gpu.now_mhz, gpu.max_mhz) for gpu in board.gpus] == [("gpu0", 1410.0, 1980.0)]
    assert board.temperatures_c["gpu0"] == 41.0
    assert board.rails_mw == {"gpu0": 88250.0}


@pytest.mark.parametrize("words", [("no-such-command-of-ours",), ("false",)])
def test_a_command_that_is_absent_or_fails_tells_nothing(words):
    assert ask_command(words) is None


def test_a_command_that_works_is_read():
    assert ask_command(("echo", "NV Power Mode: 25W")) == "NV Power Mode: 25W\n"


def test_what_slowed_the_board_down_meanwhile_is_named(tmp_path):
    before = board_of(tmp_path, ORIN_NANO_JETPACK_6)
    after = board_of(tmp_path, {f"{HWMON}/hwmon3/oc3_event_cnt": "40", f"{THERMAL}/cooling_device0/cur_state": "1"})
    assert throttled_between(before, after) == [
        "oc3 instantaneous over-current: 3 times",
        "cpu-throttle-alert was on after",
    ]


def test_a_fan_and_the_steps_of_an_idle_gpu_are_no_throttling(tmp_path):
    board = board_of(tmp_path, ORIN_NANO_JETPACK_6)
    assert "pwm-fan" not in board.cooling_states
    assert throttled_between(board, board) == []


def test_a_board_that_tells_nothing_is_not_said_to_throttle(tmp_path):
    board = board_of(tmp_path, {})
    assert throttled_between(board, board) == []


def test_energy_is_the_area_under_the_samples(tmp_path):
    meter = metered(tmp_path, [(0, 1000), (1, 1000), (3, 2000)])
    energy = meter.energy()
    assert (energy.seconds, energy.samples) == (3.0, 3)
    assert energy.rails_j["VDD_IN"] == pytest.approx(5.0 * (1.0 + 2 * 1.5))
    assert energy.total_j == pytest.approx(20.0)
    assert energy.mean_mw == pytest.approx(20_000 / 3)
    assert json.loads(json.dumps(energy.as_dict()))["samples"] == 3


def metered(tmp_path, samples) -> PowerMeter:
    """Return a meter that has taken samples of VDD_IN at 5 V: (s, mA)."""
    now = [0]
    meter = PowerMeter(make_board(tmp_path, ORIN_NANO_JETPACK_6), lambda: now[0])
    for seconds, current_ma in samples:
        now[0] = seconds * SECOND_NS
        make_board(tmp_path, {f"{HWMON}/hwmon1/in1_input": "5000", f"{HWMON}/hwmon1/curr1_input": str(current_ma)})
        meter.sample()
    return meter


def test_a_thousand_short_intervals_lose_no_energy(tmp_path):
    now = [0]
    meter = PowerMeter(make_board(tmp_path, AGX_ORIN_JETPACK_7), lambda: now[0])
    for _ in range(1001):
        meter.sample()
        now[0] += 12_345
    assert meter.energy().total_j == pytest.approx(10.0 * 1000 * 12_345e-9)


def test_one_sample_is_no_energy(tmp_path):
    assert metered(tmp_path, [(0, 1000)]).energy() is None


def test_two_samples_at_one_moment_are_no_energy(tmp_path):
    assert metered(tmp_path, [(0, 1000), (0, 1000)]).energy() is None


def test_a_board_without_monitors_has_no_energy(tmp_path):
    meter = PowerMeter(make_board(tmp_path, PC))
    assert (meter.sample(), meter.sample(), meter.energy()) == (None, None, None)


def test_energy_of_a_board_without_a_rail_that_feeds_all_is_that_of_all_rails(tmp_path):
    times = iter([0, 2 * SECOND_NS])
    meter = PowerMeter(make_board(tmp_path, AGX_ORIN_JETPACK_7), lambda: next(times))
    meter.sample()
    meter.sample()
    assert meter.energy().total_j == pytest.approx(20.0)
    assert sum(meter.energy().rails_j.values()) == pytest.approx(20.0)


def test_a_monitor_that_tells_power_itself_is_believed(tmp_path):
    files = {f"{HWMON}/hwmon0/name": "ina238", f"{HWMON}/hwmon0/power1_label": "VIN"}
    rails = read_rails(make_board(tmp_path, files | {f"{HWMON}/hwmon0/power1_input": "14680000"}))
    assert rails == {"VIN": 14680.0}
    assert total_mw(rails) == 14680.0
