"""launch/jetson: what is missing on a Jetson is named with its remedy, and what is not there to be found is not."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import PACKAGES, ROOT
from jetsons import MODULES, OPENCV, ORIN, make_jetson, make_venv

from edge import cli as edge_cli

FOLDER = ROOT / "launch" / "jetson"
NUMPY_2 = (
    "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.2.6 as it may crash.\n"
    "ImportError: numpy.core.multiarray failed to import\n"
)


def check(root: Path, *options: str | Path) -> tuple[int, dict[str, str]]:
    """Return the exit code, and what is said of each check that failed."""
    command = [sys.executable, FOLDER / "check", "--root", root, "--into", root, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert all(line.startswith(("ok   ", "FAIL ")) and "expected" in line and "found" in line for line in lines)
    return done.returncode, {line[5:21].strip(): line for line in lines if line.startswith("FAIL")}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_an_orin_with_jetpack_passes_before_and_after_an_installation(tmp_path: Path) -> None:
    make_jetson(tmp_path)
    assert check(tmp_path) == (0, {})
    assert check(tmp_path, "--venv", make_venv(tmp_path)) == (0, {})


MISSING: list[tuple[Callable[[Path], object], str, str, str]] = [
    (lambda root: (root / "etc/nv_tegra_release").unlink(), "L4T", "no /etc/nv_tegra_release", "flash the board"),
    (lambda root: write(root / "etc/nv_tegra_release", ORIN.replace("R36", "R35")), "L4T", "35.4.3", "flash the board"),
    (lambda root: write(root / "etc/nv_tegra_release", ORIN.replace(": 4.3", ": 3.0")), "L4T", "36.3.0", "JetPack 6.2"),
    (lambda root: (root / "usr/local/cuda/include/cuda.h").unlink(), "CUDA", "cuda.h", "apt install nvidia-jetpack"),
    (lambda root: (root / "usr/bin/g++").unlink(), "compiler", "found no g++", "apt install g++ python3-dev"),
    (lambda root: (root / "usr/include/python3.10/Python.h").unlink(), "compiler", "found no Python.h", "python3-dev"),
    (
        lambda root: (root / "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1").unlink(),
        "driver",
        "none in /usr/lib/aarch64-linux-gnu",
        "nvidia-l4t-cuda",
    ),
    (
        lambda root: (root / "usr/lib/aarch64-linux-gnu/libnvinfer_builder_resource.so.10.3.0").unlink(),
        "builder resource",
        "found none under /usr/lib",
        "--reinstall libnvinfer10",
    ),
    (
        lambda root: (root / "usr/lib/aarch64-linux-gnu/libnvinfer_builder_resource.so.10.3.0").rename(
            root / "usr/lib/aarch64-linux-gnu/libnvinfer_builder_resource.so.10.7.0"
        ),
        "builder resource",
        "expected libnvinfer_builder_resource.so.10.3.0",
        "--reinstall libnvinfer10",
    ),
]


@pytest.mark.parametrize(("spoil", "name", "found", "remedy"), MISSING)
def test_what_is_missing_is_named_with_its_remedy(
    tmp_path: Path, spoil: Callable[[Path], object], name: str, found: str, remedy: str
) -> None:
    spoil(make_jetson(tmp_path))
    code, failed = check(tmp_path)
    assert (code, list(failed)) == (4, [name])
    assert found in failed[name]
    assert remedy in failed[name].partition(", found ")[2]


@pytest.mark.parametrize(
    ("module", "facts", "name", "said"),
    [
        ("platform", {"version": "3.11.9", "file": "/usr/lib/platform.py"}, "Python", "expected 3.10, found 3.11.9"),
        (
            "tensorrt",
            {"version": "8.6.2", "file": "/usr/lib/trt.py"},
            "TensorRT",
            "from 10.3 up, below 12, found 8.6.2",
        ),
        ("tensorrt", {"version": "12.0.0", "file": "/usr/lib/trt.py"}, "TensorRT", "below 12, found 12.0.0"),
        ("tensorrt", {"fails": "ModuleNotFoundError: No module"}, "TensorRT", "apt install python3-libnvinfer"),
        ("cv2", {"fails": "ModuleNotFoundError: No module"}, "OpenCV", "apt install nvidia-opencv"),
        ("cv2", {**OPENCV, "gstreamer": "NO"}, "OpenCV", "GStreamer: NO"),
        ("cv2", {**OPENCV, "gstreamer": ""}, "OpenCV", "GStreamer: NO"),
    ],
)
def test_a_wrong_library_of_the_system_is_named(
    tmp_path: Path, module: str, facts: dict[str, Any], name: str, said: str
) -> None:
    code, failed = check(make_jetson(tmp_path, {module: facts}))
    assert code == 4
    assert said in failed[name]


def test_an_opencv_of_pip_in_the_environment_is_named_with_the_command_that_removes_it(tmp_path: Path) -> None:
    make_jetson(tmp_path)
    shadow = {"version": "4.11.0", "file": "/venv/cv2/__init__.py", "gstreamer": "NO", "wheels": ["opencv-python"]}
    venv = make_venv(tmp_path, {"cv2": shadow})
    code, failed = check(tmp_path, "--venv", venv)
    assert (code, list(failed)) == (4, ["OpenCV"])
    assert f"{venv}/bin/python -m pip uninstall opencv-python" in failed["OpenCV"]


def test_a_numpy_that_jetpacks_opencv_was_not_compiled_for_is_named(tmp_path: Path) -> None:
    make_jetson(tmp_path)
    newer = {"version": "2.2.6", "file": "/venv/numpy/__init__.py"}
    venv = make_venv(tmp_path, {"numpy": newer, "cv2": {"fails": NUMPY_2}})
    code, failed = check(tmp_path, "--venv", venv)
    assert (code, list(failed)) == (4, ["OpenCV", "NumPy"])
    assert "see NumPy below" in failed["OpenCV"]
    assert "expected 1.26 up, below 2" in failed["NumPy"]
    assert f"{venv}/bin/python -m pip install 'numpy>=1.26,<2'" in failed["NumPy"]


def test_a_numpy_too_old_for_this_project_is_named_in_the_environment_and_not_before(tmp_path: Path) -> None:
    make_jetson(tmp_path)
    venv = make_venv(tmp_path, {"numpy": MODULES["numpy"]})
    assert check(tmp_path) == (0, {})
    code, failed = check(tmp_path, "--venv", venv)
    assert (code, list(failed)) == (4, ["NumPy"])
    assert "found 1.21.5" in failed["NumPy"]


def test_a_pycuda_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    make_jetson(tmp_path)
    venv = make_venv(tmp_path, {"pycuda.driver": {"fails": "ImportError: libcuda.so.1: cannot open shared object"}})
    code, failed = check(tmp_path, "--venv", venv)
    assert (code, list(failed)) == (4, ["pycuda"])
    assert "libcuda.so.1" in failed["pycuda"]


JETPACK_7 = {
    "platform": {"version": "3.12.3", "file": "/usr/lib/python3.12/platform.py"},
    "tensorrt": {"version": "10.16.2.10", "file": "/usr/lib/python3.12/dist-packages/tensorrt/__init__.py"},
}


@pytest.mark.parametrize(
    ("board", "kinds", "expected"),
    [
        ("Jetson AGX Orin", ("ptx", "sm86", "sm110"), 0),
        ("Jetson AGX Orin", ("ptx", "sm87", "sm110"), 4),
        ("Jetson AGX Thor", ("ptx", "sm110"), 0),
        ("Jetson AGX Thor", ("ptx", "sm86"), 4),
    ],
)
def test_with_a_builder_for_each_gpu_the_one_of_this_board_must_be_there(
    tmp_path: Path, board: str, kinds: tuple[str, ...], expected: int
) -> None:
    make_jetson(tmp_path, JETPACK_7)
    write(tmp_path / "etc/nv_tegra_release", ORIN.replace("R36", "R39").replace(": 4.3", ": 2.0"))
    write(tmp_path / "proc/device-tree/model", f"NVIDIA {board} Developer Kit\0")
    for kind in kinds:
        write(tmp_path / f"usr/lib/aarch64-linux-gnu/libnvinfer_builder_resource_{kind}.so.10.16.2", "")
    code, failed = check(tmp_path)
    assert (code, list(failed)) == (expected, ["builder resource"] if expected else [])


def test_an_image_is_not_asked_for_what_the_board_brings(tmp_path: Path) -> None:
    make_jetson(tmp_path)
    (tmp_path / "etc/nv_tegra_release").unlink()
    (tmp_path / "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1").unlink()
    venv = make_venv(tmp_path, {"pycuda.driver": {"fails": "ImportError: libcuda.so.1"}})
    assert check(tmp_path, "--image") == (0, {})
    assert check(tmp_path, "--image", "--venv", venv) == (0, {})


def test_a_board_without_an_interpreter_fails_and_no_check_throws(tmp_path: Path) -> None:
    code, failed = check(tmp_path)
    assert code == 4
    assert {"L4T", "Python", "CUDA", "TensorRT", "OpenCV", "NumPy"} <= set(failed)


def test_the_installation_stops_before_it_makes_anything_where_a_check_fails(tmp_path: Path) -> None:
    if Path("/etc/nv_tegra_release").exists():
        pytest.skip("this is a Jetson: the installation would begin")
    folder = tmp_path / "uav-edge"
    done = subprocess.run([FOLDER / "install", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "no /etc/nv_tegra_release" in done.stdout
    assert not folder.exists()


def test_the_installation_refuses_an_option_that_it_does_not_know() -> None:
    done = subprocess.run([FOLDER / "install", "--chek"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected [FOLDER] [--check] [--image], got --chek" in done.stderr


def test_the_check_is_executable() -> None:
    assert os.access(FOLDER / "check", os.X_OK)


def test_the_image_holds_every_package_and_names_no_base_of_its_own() -> None:
    text = (FOLDER / "Containerfile").read_text()
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()}
    assert copied >= {*PACKAGES, "launch", "pyproject.toml", "README.md", "LICENSE"}
    assert all((ROOT / name).exists() for name in copied)
    assert re.findall(r"^(?:ARG|FROM) .*", text, re.MULTILINE) == ["ARG BASE", "FROM ${BASE}"]


def test_the_service_flies_what_the_installation_made_and_comes_back() -> None:
    lines = (FOLDER / "uav-edge.service").read_text().splitlines()
    assert "Restart=always" in lines
    started = [line.partition("=")[2].split() for line in lines if line.startswith("Exec")]
    assert [words[0] for words in started] == ["/opt/uav-edge/venv/bin/uav-edge"]
    assert started[0][1] in edge_cli.COMMANDS


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_service_is_exposed_to_little() -> None:
    limit = "--threshold=20"  # of 100; a unit that says nothing of the kind has 92
    command = ["systemd-analyze", "security", "--offline=true", limit, FOLDER / "uav-edge.service"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
