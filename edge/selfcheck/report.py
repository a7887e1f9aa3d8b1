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
from models.bundle import Bundle
from models.disk import write_whole
from models.page import Page

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
        "board": {"before": board.as_dict(), "after": check.after.as_dict() if check and check.after else None},
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


def page_of(document: Mapping[str, Any]) -> Page:
    """Return the page of a document: verdict and lines first, then the tables behind them."""
    board = document["board"]["before"]
    page = Page(f"Selfcheck: {document['verdict']}")
    model = document["model"]["title"] if document["model"] else "no bundle"
    page.text(f"{model} on {board['model'] or 'a board that does not say what it is'}")
    page.heading("Checks")
    page.table(
        ("check", "status", "why"),
        [(line["name"], line["status"], _line_text(line)) for line in document["lines"]],
    )
    device = document["device"]
    if device is not None:
        for name, measured in device["measured"].items():
            _add_measured(page, name, measured)
        _add_flights(page, device["flights"])
    _add_board(page, document["board"])
    page.heading("Versions")
    page.table(("of", "version"), list(document["versions"].items()))
    return page


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


def _line_text(line: Mapping[str, str]) -> str:
    if line["status"] == "ok":
        return line["found"]
    return f"expected {line['expected']}, found {line['found']}: {line['remedy']}"


def _add_measured(page: Page, name: str, measured: Mapping[str, Any]) -> None:
    page.heading(f"Plans in {name}")
    page.text("Answers beside FP32 on ONNX Runtime; the fused answer has come through all graphs.")
    page.table(
        ("graph", "examples", "same first class", "largest difference of a logit"),
        [
            (one["role"], str(one["examples"]), f"{one['agreement']:.1%}", _number(one["most_difference"], ".2g"))
            for one in measured["parities"]
        ],
    )
    roles = [*measured["precisions"], "all"]
    page.text(
        "Times in ms, medians: of the host from writing the inputs to having read the outputs, and of the GPU between"
        " two marks in its stream, with the copies. All: the branches side by side, then the fusion head."
    )
    heads = (
        "memory",
        "CUDA graphs",
        *(f"{role} {what}" for role in roles[:-1] for what in ("host", "GPU")),
        "all host",
    )
    page.table(heads, [_way_cells(way, roles) for way in measured["ways"]], _fastest_cell(measured))


def _fastest_cell(measured: Mapping[str, Any]) -> str | None:
    return measured["fastest"]["memory"] if measured["fastest"] else None


def _way_cells(way: Mapping[str, Any], roles: Sequence[str]) -> list[str]:
    used = (
        "failed" if way["failure"] else "no" if not way["cuda_graphs"] else ", ".join(way["captured"]) or "not captured"
    )
    cells = [way["memory"], used]
    for role in roles:
        timing = way["timings"].get(role, {})
        cells.append(_number(timing.get("host_p50_ms"), ".3f"))
        if role != "all":
            cells.append(_number(timing.get("gpu_p50_ms"), ".3f"))
    return cells


def _add_flights(page: Page, flights: Sequence[Mapping[str, Any]]) -> None:
    if not flights:
        return
    page.heading("Flights")
    page.text(
        "A synthetic flight through the pipeline in its own processes; from a sensor's sending to the answer, in ms."
    )
    rows = []
    for flight in flights:
        energy = flight["energy"]
        for sensors, latency in flight["latency_ms"].items():
            power = _number(energy["mean_mw"] / 1e3 if energy else None, ".2f")
            rows.append(
                (flight["flown"], sensors, _number(latency["p50"], ".3f"), _number(latency["p99"], ".3f"), power)
            )
    page.table(("engines", "sensors", "p50", "p99", "mean power, W"), rows)


def _add_board(page: Page, boards: Mapping[str, Any]) -> None:
    page.heading("Board")
    before, after = boards["before"], boards["after"] or {}
    page.table(
        ("", "before", "after"),
        [(name, _text(value), _text(after.get(name))) for name, value in before.items() if value is not None],
    )


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one:g}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(
            f"{one['name']} {_number(one['now_mhz'], 'g')} of {_number(one['max_mhz'], 'g')} MHz" for one in value
        )
    return "-" if value is None else str(value)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
