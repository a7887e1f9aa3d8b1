"""What needs no GPU: Python, libraries, the bundle and its golden answers, sockets, disk, clock, the board itself."""

import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import edge
from edge.backends.cuda import load_pycuda
from edge.backends.device import load_driver
from edge.backends.golden import GOLDEN_TOLERANCE, check_golden
from edge.backends.onnx import load_engines
from edge.backends.select import precisions_text
from edge.backends.trt import load_tensorrt
from edge.operations.board import Board
from edge.selfcheck.line import Line, judged, line_of_error
from edge.transport.sockets import Publisher, Subscriber
from models.bundle import Bundle, open_bundle
from models.errors import DeviceError, OnboardError
from models.preprocess import opencv

PACKAGE = "uav-fusion-edge"
_OLDEST, _NEWEST = (3, 10), (3, 13)
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*>=\s*([0-9.]+)\s*\Z")
"""What ours need, extras apart: a name and the least version."""
_LEAST_FREE_BYTES, _ENOUGH_FREE_BYTES = 200 << 20, 2 << 30
_LEAST_FREE_MIB = 512
_HOT_C = 85.0
"""An Orin slows itself down a few degrees above."""
_COARSEST_CLOCK_S = 1e-3
_DAY_S = 86_400
_PATIENCE_S = 5.0


def check_python() -> Line:
    """Say whether this Python is one that ours were tested with."""
    found = sys.version_info[:2]
    return judged(
        "Python",
        _OLDEST <= found <= _NEWEST,
        "3.10 to 3.13",
        platform.python_version(),
        "make the virtual environment with such a Python",
        "warning",
    )


def check_packages(package: str = PACKAGE) -> Iterator[Line]:
    """Yield a line for each library that ours need: there, and new enough."""
    try:
        needed = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        yield Line(
            name=package,
            status="warning",
            expected="an installed package",
            found="none",
            remedy="pip install it, so that its libraries come along",
        )
        return
    for requirement in needed:
        match = _REQUIREMENT.match(requirement)
        if match is not None:
            yield _package_line(match[1], match[2])


def check_opencv(board: Board) -> Line:
    """Say whether OpenCV is there, and on a Jetson whether it is the one that opens the board's cameras."""
    name, expected = "OpenCV", "one, for encoded frames and cameras"
    try:
        cv2 = opencv()
    except DeviceError as error:
        return line_of_error(name, expected, error, "warning")
    found = re.search(r"GStreamer:\s*(YES|NO)", cv2.getBuildInformation())
    has_gstreamer = found is not None and found[1] == "YES"
    return judged(
        name,
        has_gstreamer or board.l4t is None,
        "JetPack's own, with GStreamer, for CSI cameras",
        f"{cv2.__version__} {'with' if has_gstreamer else 'without'} GStreamer",
        "pip uninstall opencv-python-headless in this environment, made with --system-site-packages",
        "warning",
    )


def check_accelerator() -> Iterator[Line]:
    """Yield what there is of TensorRT and pycuda; without an NVIDIA driver nobody misses them."""
    try:
        load_driver()
    except DeviceError:
        yield Line(name="TensorRT", status="ok", expected="nothing", found="no NVIDIA driver: ONNX Runtime flies")
        return
    try:
        yield Line(name="TensorRT", status="ok", expected="", found=str(load_tensorrt().__version__))
    except DeviceError as error:
        yield line_of_error("TensorRT", "one beside the NVIDIA driver", error, "warning")
    try:
        yield Line(name="pycuda", status="ok", expected="", found=load_pycuda() and _version("pycuda"))
    except DeviceError as error:
        yield line_of_error("pycuda", "one beside the NVIDIA driver", error, "warning")


def check_bundle(path: Path) -> tuple[Bundle | None, list[Line]]:
    """Open a bundle, and let its graphs answer its golden examples on ONNX Runtime."""
    try:
        bundle = open_bundle(path)
    except OnboardError as error:
        return None, [line_of_error("bundle", "one whose every file is as its manifest says", error)]
    opened = Line(name="bundle", status="ok", expected="", found=bundle.manifest.title)
    expected = f"the answers of the export, within {GOLDEN_TOLERANCE:g} in FP32"
    try:
        engines = load_engines(bundle)
        difference = check_golden(bundle, engines)
    except OnboardError as error:
        return bundle, [opened, line_of_error("golden answers", expected, error)]
    found = f"{precisions_text(engines.precisions)} on ONNX Runtime, largest difference in FP32 {difference:.1e}"
    return bundle, [opened, Line(name="golden answers", status="ok", expected=expected, found=found)]


def check_sockets() -> Line:
    """Send a message from one socket to another, as processes of a flight do."""
    name, expected, remedy = (
        "sockets",
        "a message over ipc",
        "make room in the folder for temporary files; look at ulimit -n",
    )
    with tempfile.TemporaryDirectory(prefix="uav-edge-") as folder:
        endpoint = f"ipc://{folder}/selfcheck"
        try:
            with Publisher(endpoint) as publisher, Subscriber(endpoint) as subscriber:
                publisher.wait_for_listeners(1, _PATIENCE_S)
                publisher.send([b"header", b"payload"])
                parts = subscriber.receive(int(_PATIENCE_S * 1000))
        except OnboardError as error:
            return line_of_error(name, expected, error)
    is_there = parts is not None and [bytes(part) for part in parts] == [b"header", b"payload"]
    return judged(name, is_there, expected, "a message over ipc" if is_there else "none", remedy)


def check_disk(folder: Path) -> Line:
    """Say whether there is room for recordings where this command runs."""
    free = shutil.disk_usage(folder).free
    return judged(
        "disk",
        free >= _ENOUGH_FREE_BYTES,
        f"{_ENOUGH_FREE_BYTES >> 30} GiB free in this folder",
        f"{free / (1 << 30):.1f} GiB",
        "make room, or record to another disk",
        "failed" if free < _LEAST_FREE_BYTES else "warning",
    )


def check_clock(now_s: float | None = None) -> Iterator[Line]:
    """Yield what the clocks are worth: a board without a battery wakes up in the past."""
    is_later = (time.time() if now_s is None else now_s) >= Path(edge.__file__).stat().st_mtime - _DAY_S
    yield judged(
        "clock of the day",
        is_later,
        "later than the day on which this was installed",
        "later" if is_later else "earlier",
        "set the clock: connect to a network, or to an autopilot with GPS; recordings are named by it",
        "warning",
    )
    resolution_s = time.get_clock_info("monotonic").resolution
    yield judged(
        "clock of the captures",
        resolution_s <= _COARSEST_CLOCK_S,
        "steps of at most 1 ms",
        f"steps of {resolution_s * 1e9:.0f} ns",
        "run a kernel with high-resolution timers",
    )


def check_board(board: Board) -> Iterator[Line]:
    """Yield what the board says of itself, where it says it."""
    parts = (board.model, f"Jetson Linux {board.l4t}" if board.l4t else None, board.power_mode)
    yield Line(
        name="board", status="ok", expected="", found=", ".join(part for part in parts if part) or "does not say"
    )
    if board.temperatures_c:
        zone, hottest_c = max(board.temperatures_c.items(), key=lambda one: one[1])
        yield judged(
            "temperature",
            hottest_c < _HOT_C,
            f"every zone below {_HOT_C:g} °C",
            f"{zone} at {hottest_c:.1f} °C",
            "let it cool down, or cool it better: it slows itself down soon",
            "warning",
        )
    if board.memory_free_mib is not None:
        yield judged(
            "memory",
            board.memory_free_mib >= _LEAST_FREE_MIB,
            f"{_LEAST_FREE_MIB} MiB free",
            f"{board.memory_free_mib} MiB of {board.memory_mib}",
            "end other programs; a graphical desktop takes much",
            "warning",
        )


def _package_line(name: str, least: str) -> Line:
    found = _version(name)
    return judged(
        name,
        _numbers(found) >= _numbers(least),
        f"{least} or newer",
        found or "none",
        f"pip install '{name}>={least}'",
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]{1,9}", version)[:4])
