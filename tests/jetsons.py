"""Made-up Jetsons: the files and interpreters that launch/jetson/check looks for, in a folder."""

import json
from pathlib import Path
from typing import Any

ORIN = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC 2025"
)
OPENCV = {"version": "4.8.0", "file": "/usr/lib/python3.10/dist-packages/cv2/__init__.py", "gstreamer": "YES (1.20.3)"}
DIST = "/usr/lib/python3/dist-packages"
MODULES: dict[str, dict[str, Any]] = {
    "platform": {"version": "3.10.12", "file": "/usr/lib/python3.10/platform.py"},
    "numpy": {"version": "1.21.5", "file": f"{DIST}/numpy/__init__.py"},
    "cv2": {**OPENCV, "wheels": []},
    "tensorrt": {"version": "10.3.0", "file": "/usr/lib/python3.10/dist-packages/tensorrt/__init__.py"},
}
"""What JetPack 6.2's own interpreter imports."""
FILES = (
    "usr/local/cuda/include/cuda.h",
    "usr/bin/g++",
    "usr/include/python3.10/Python.h",
    "usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1",
    "usr/lib/aarch64-linux-gnu/libnvinfer_builder_resource.so.10.3.0",
)
# Stands for an interpreter that is asked for a module: prints what it was told, or fails with what it was told.
INTERPRETER = """#!/bin/sh
answer="$0-imports/$3"
if [ -e "$answer" ]; then cat "$answer"; else cat "$answer-fails" >&2 || echo "ImportError: $3" >&2; exit 1; fi
"""


def make_interpreter(path: Path, modules: dict[str, dict[str, Any]]) -> None:
    """Write an interpreter that imports these modules; one with `fails` ends with that text."""
    answers = Path(f"{path}-imports")
    answers.mkdir(parents=True)
    for name, facts in modules.items():
        if "fails" in facts:
            (answers / f"{name}-fails").write_text(facts["fails"])
        else:
            (answers / name).write_text(json.dumps(facts))
    path.write_text(INTERPRETER)
    path.chmod(0o755)


def make_jetson(root: Path, modules: dict[str, dict[str, Any]] | None = None) -> Path:
    """Make the tree of an Orin with JetPack 6.2; `modules` are imported otherwise than usual."""
    for name in FILES:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (root / "etc").mkdir()
    (root / "etc/nv_tegra_release").write_text(ORIN)
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "proc/device-tree/model").write_text("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0")
    make_interpreter(root / "usr/bin/python3", {**MODULES, **(modules or {})})
    return root


def make_venv(root: Path, modules: dict[str, dict[str, Any]] | None = None) -> Path:
    """Make an environment as the installation leaves it; `modules` are imported otherwise than usual."""
    venv = root / "opt/uav-edge/venv"
    numpy = {"version": "1.26.4", "file": f"{venv}/lib/python3.10/site-packages/numpy/__init__.py"}
    pycuda = {"version": "", "file": f"{venv}/lib/python3.10/site-packages/pycuda/driver.py"}
    (venv / "bin").mkdir(parents=True)
    make_interpreter(venv / "bin/python", {**MODULES, "numpy": numpy, "pycuda.driver": pycuda, **(modules or {})})
    return venv
