"""What the selfcheck found, as one JSON object and one HTML page that a user can send us.

No host name, user name, serial number or address is in them, and of paths the last part alone.
"""

import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from edge.operations.board import Board
from edge.selfcheck.device import DeviceCheck
from edge.selfcheck.installation import PACKAGE
from edge.selfcheck.line import Line, worst
from edge.selfcheck.measuring import Measured
from edge.selfcheck.page import page_of
from models.bundle import Bundle
from models.disk import write_whole

SCHEMA = 1
_LIBRARIES = (PACKAGE, "numpy", "onnxruntime", "pyzmq", "msgspec", "opencv-python", "opencv-python-headless", "pycuda")
_PATH = re.compile(r"(?<![\w.:/~-])~?(?:/[\w.+@-]+)+/?")
_PUBLIC = ("/usr/", "/proc/", "/sys/", "/dev/", "/etc/", "/opt/", "/lib/", "/boot/")
"""Paths that are the same on everybody's machine."""
_LEAST_NAME = 3
"""A host name shorter than this would be found in ordinary words."""


def document_of(
    lines: Sequence[Line], bundle: Bundle | None, board: Board, check: DeviceCheck | None
) -> dict[str, Any]:
    """Return everything as plain data, without what identifies the machine or its user."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "uav-edge selfcheck",
        "verdict": worst(lines),
        "lines": [asdict(line) for line in lines],
        "versions": versions(check),
        "model": {"title": bundle.manifest.title, "sha256": bundle.sha256} if bundle is not None else None,
        "board": _board_part(board, check),
        "device": _device_part(check) if check is not None else None,
    }
    cleaned: dict[str, Any] = without_names(document)
    return cleaned


def versions(check: DeviceCheck | None) -> dict[str, str]:
    """Return the versions of all that takes part; what is absent is left out."""
    found = {"python": platform.python_version(), "kernel": platform.release(), "architecture": platform.machine()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if check is not None and check.gpu is not None:
        parts = check.gpu.platform
        found |= {parts.provider: parts.version, "driver": parts.facts.driver}
        found |= {"jetson linux": parts.facts.l4t} if parts.facts.l4t else {}
    return found


def without_names(value: Any, host: str | None = None) -> Any:
    """Return plain data whose texts tell neither host nor user, and of a path no more than its last part.

    Args:
        value: texts, numbers, lists and mappings.
        host: this machine's name, by default as it says.
    """
    name = platform.node() if host is None else host
    if isinstance(value, str):
        return _without_names(value, name)
    if isinstance(value, Mapping):
        return {_without_names(str(key), name): without_names(one, name) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_names(one, name) for one in value]
    return value


def write_report(folder: Path, document: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write the JSON file and the page, and return their paths; each appears whole or not at all.

    Raises:
        RecordingError: the folder cannot be written to.
    """
    data, page = folder / "selfcheck.json", folder / "selfcheck.html"
    write_whole(data, json.dumps(document, indent=1, allow_nan=False) + "\n")
    page_of(document).write(page)
    return data, page


def _board_part(board: Board, check: DeviceCheck | None) -> dict[str, Any]:
    looks = {"before": board, "at work": check.during if check else None, "after": check.after if check else None}
    return {when: one.as_dict() if one is not None else None for when, one in looks.items()}


def _device_part(check: DeviceCheck) -> dict[str, Any]:
    facts = asdict(check.gpu.platform.facts) if check.gpu is not None else None
    return {
        "gpu": facts,
        "measured": {precision: _measured_part(measured) for precision, measured in check.measured.items()},
        "flights": [asdict(flight) for flight in check.flights],
        "energy": check.energy.as_dict() if check.energy is not None else None,
    }


def _measured_part(measured: Measured) -> dict[str, Any]:
    fastest = measured.fastest
    return {
        "precisions": dict(measured.precisions),
        "gpu_free_mib": measured.gpu_free_mib,
        "parities": [
            {**asdict(parity), "agreement": parity.agreement, "most_difference": _finite(parity.most_difference)}
            for parity in measured.parities
        ],
        "ways": [{**asdict(way), "difference": _finite(way.difference)} for way in measured.ways],
        "fastest": {"memory": fastest.memory, "cuda_graphs": fastest.cuda_graphs} if fastest is not None else None,
    }


def _finite(value: float | None) -> float | None:
    """Return a number that JSON knows; null stands for infinite, beside a line that says so."""
    return value if value is not None and abs(value) < float("inf") else None


def _without_names(text: str, host: str) -> str:
    text = text.replace(str(Path.home()), "~") if len(str(Path.home())) > 1 else text
    text = _PATH.sub(lambda path: path[0] if path[0].startswith(_PUBLIC) else _last_part(path[0]), text)
    return re.sub(rf"\b{re.escape(host)}\b", "this-host", text) if len(host) >= _LEAST_NAME else text


def _last_part(path: str) -> str:
    return f"…/{Path(path).name}" if path != "~" else path
