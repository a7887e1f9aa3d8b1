"""The check of an installation: what is sound is ok, and what is not is named with what to do."""

import shutil
import sys
import time
from importlib import metadata
from types import SimpleNamespace

import pytest
from boards import ORIN_NANO_JETPACK_6, PC, THERMAL, make_board

from edge.operations.board import read_board
from edge.selfcheck import installation
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import BundleError, DeviceError


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


def board_of(tmp_path, files):
    return read_board(make_board(tmp_path / "board", files), lambda words: None)


def test_this_installation_is_sound(tmp_path):
    lines = [
        installation.check_python(),
        *installation.check_packages(),
        installation.check_sockets(),
        installation.check_disk(tmp_path),
        *installation.check_clock(),
    ]
    assert [str(line) for line in lines if line.status != "ok"] == []
    assert {"numpy", "pyzmq", "onnxruntime"} <= {line.name for line in lines}


def test_a_python_that_was_not_tried_is_a_warning(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    line = installation.check_python()
    assert (line.status, line.expected) == ("warning", "3.10 to 3.13")


def test_a_library_that_is_too_old_or_absent_fails_with_what_to_type(monkeypatch):
    monkeypatch.setattr(
        metadata, "requires", lambda name: ["numpy>=999", "no-such-library-of-ours>=2.1", "x; extra=='y'"]
    )
    old, absent = installation.check_packages()
    assert (old.status, old.expected, old.remedy) == ("failed", "999 or newer", "pip install 'numpy>=999'")
    assert (absent.status, absent.found) == ("failed", "none")


def test_a_package_that_is_not_installed_is_a_warning():
    (line,) = installation.check_packages("no-such-package-of-ours")
    assert line.status == "warning"


@pytest.mark.parametrize(
    ("build", "status"), [("GStreamer:   YES (1.20.3)", "ok"), ("GStreamer:   NO", "warning"), ("", "warning")]
)
def test_on_a_jetson_opencv_must_open_its_cameras(tmp_path, monkeypatch, build, status):
    cv2 = SimpleNamespace(__version__="4.8.0", getBuildInformation=lambda: build)
    monkeypatch.setattr(installation, "opencv", lambda: cv2)
    line = installation.check_opencv(board_of(tmp_path, ORIN_NANO_JETPACK_6))
    assert line.status == status
    assert installation.check_opencv(board_of(tmp_path / "pc", PC)).status == "ok"


def test_no_opencv_is_a_warning_with_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    line = installation.check_opencv(board_of(tmp_path, PC))
    assert line.status == "warning"
    assert "uav-fusion-edge[camera]" in line.remedy


def test_without_an_nvidia_driver_nobody_misses_tensorrt(monkeypatch):
    monkeypatch.setattr(installation, "load_driver", _refuse)
    (line,) = installation.check_accelerator()
    assert line.status == "ok"


def test_beside_an_nvidia_driver_tensorrt_and_pycuda_are_missed(monkeypatch):
    monkeypatch.setattr(installation, "load_driver", lambda: None)
    for module in ("tensorrt", "pycuda"):
        monkeypatch.setitem(sys.modules, module, None)
    lines = list(installation.check_accelerator())
    assert [(line.name, line.status) for line in lines] == [("TensorRT", "warning"), ("pycuda", "warning")]
    assert all(line.remedy for line in lines)


def _refuse(*_):
    raise DeviceError("expected a thing, found none (nowhere): get one")


def test_a_damaged_bundle_fails(tmp_path):
    copy = tmp_path / "demo-1.uavb"
    shutil.copytree(shipped_bundle(), copy)
    graph = next((copy / "onnx").iterdir())
    graph.write_bytes(graph.read_bytes()[:-1] + b"!")
    bundle, (line,) = installation.check_bundle(copy)
    assert (bundle, line.status) == (None, "failed")
    assert "copy the bundle again" in line.remedy


def test_a_bundle_that_answers_otherwise_fails(monkeypatch, bundle):
    def refuse(*_):
        raise BundleError("demo: answers differ from the golden examples by 3: export the bundle anew")

    monkeypatch.setattr(installation, "check_golden", refuse)
    found, (opened, answers) = installation.check_bundle(bundle.path)
    assert found is not None
    assert (opened.status, answers.status) == ("ok", "failed")
    assert answers.remedy == "export the bundle anew"


def test_too_little_room_on_the_disk_is_told(tmp_path, monkeypatch):
    for free, status in ((1 << 20, "failed"), (1 << 30, "warning"), (1 << 33, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        assert installation.check_disk(tmp_path).status == status


def test_a_clock_that_stands_before_the_installation_is_a_warning():
    day, captures = installation.check_clock(now_s=0.0)
    assert (day.status, captures.status) == ("warning", "ok")


def test_a_clock_with_coarse_steps_fails(monkeypatch):
    monkeypatch.setattr(time, "get_clock_info", lambda name: SimpleNamespace(resolution=0.01))
    _, captures = installation.check_clock()
    assert (captures.status, captures.found) == ("failed", "steps of 10000000 ns")


def test_a_hot_board_without_memory_is_warned_of(tmp_path):
    files = {**ORIN_NANO_JETPACK_6, f"{THERMAL}/thermal_zone1/temp": "91000", "proc/meminfo": "MemAvailable: 1024 kB"}
    board, heat, memory = installation.check_board(board_of(tmp_path, files))
    assert "Jetson Linux 36.4.3, MAXN_SUPER" in board.found
    assert (heat.status, heat.found) == ("warning", "gpu-thermal at 91.0 °C")
    assert memory.status == "warning"


def test_a_board_that_says_nothing_is_no_fault(tmp_path):
    (line,) = installation.check_board(board_of(tmp_path, {}))
    assert (line.status, line.found) == ("ok", "does not say")
