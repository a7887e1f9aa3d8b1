"""A radio stream as SigMF: samples as they came, one after the other, and where each stretch begins.

Source: SigMF specification 1.2 (github.com/sigmf/SigMF).
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from edge.recording.disk import WholePieces
from edge.recording.exports.task import Task
from edge.transport.wire import Header, check_payload

GAP_NS = 1_000_000
"""A message that begins so much off the end of the one before begins a new stretch; less is the clock's doing."""
_DATATYPES = {1: "cu8", 2: "ci8", 3: "ci16_le", 4: "cf32_le"}


def write_radio(task: Task) -> None:
    """Write STREAM.sigmf-data and -meta; STREAM-2 and so on where rate or type change."""
    file: _SigmfFile | None = None
    count = 0
    try:
        for header, payload in task.sensed():
            if not _is_usable(header, payload):
                task.note(False)
                continue
            if file is None or not file.takes(header):
                if file is not None:
                    file.close()
                count += 1
                name = task.stream if count == 1 else f"{task.stream}-{count}"
                file = _SigmfFile(task, name, header)
            file.add(header, payload)
            task.note(True)
    finally:
        if file is not None:
            file.close()


def _is_usable(header: Header, payload: bytes) -> bool:
    is_rate = math.isfinite(header.sample_rate_hz) and header.sample_rate_hz > 0
    return is_rate and math.isfinite(header.centre_hz) and header.dim1 == 2 and check_payload(header, payload) is None


class _SigmfFile:
    """Samples of one rate and type."""

    def __init__(self, task: Task, name: str, first: Header) -> None:
        self._task = task
        self._path = task.folder / name
        self._first = first
        self._data = WholePieces(_with_ending(self._path, ".sigmf-data"))
        self._hash = hashlib.sha512()
        self._captures: list[dict[str, Any]] = []
        self._samples = 0
        self._expected: tuple[int, int, int, float] | None = None
        """Epoch, number, capture time and frequency that the next message has if nothing is missing."""

    def takes(self, header: Header) -> bool:
        """Say whether a message is of this file's rate and type."""
        return (header.sample_rate_hz, header.dtype) == (self._first.sample_rate_hz, self._first.dtype)

    def add(self, header: Header, payload: bytes) -> None:
        """Add the samples of a message; OSError where the disk is full, and then nothing of it is there."""
        self._data.write(payload)
        self._hash.update(payload)
        if not self._continues(header):
            self._captures.append(self._capture(header))
        self._samples += header.dim0
        end_ns = header.capture_ns + round(header.dim0 * 1e9 / header.sample_rate_hz)
        self._expected = (header.epoch, header.sequence + 1, end_ns, header.centre_hz)

    def close(self) -> None:
        """End the data, and say beside them what they are, also where the disk filled before they were complete."""
        self._data.close()
        meta = {
            "global": {
                "core:datatype": _DATATYPES[self._first.dtype],
                "core:sample_rate": self._first.sample_rate_hz,
                "core:version": "1.2.0",
                "core:num_channels": 1,
                "core:sha512": self._hash.hexdigest(),
                "core:recorder": "uav-edge",
                "core:description": f"{self._task.recording.path.name}, stream {self._task.stream}",
            },
            "captures": self._captures,
            "annotations": self._annotations(),
        }
        with WholePieces(_with_ending(self._path, ".sigmf-meta")) as file:
            file.write(json.dumps(meta, indent=1).encode())

    def _annotations(self) -> list[dict[str, Any]]:
        """Return that these samples are a test's, where faults were injected."""
        if not self._task.injected:
            return []
        text = f"faults were injected on purpose: {', '.join(self._task.injected)}"
        count = self._samples
        return [{"core:sample_start": 0, "core:sample_count": count, "core:label": "TEST", "core:comment": text}]

    def _continues(self, header: Header) -> bool:
        if self._expected is None:
            return False
        epoch, sequence, capture_ns, centre_hz = self._expected
        is_next = (header.epoch, header.sequence, header.centre_hz) == (epoch, sequence, centre_hz)
        return is_next and abs(header.capture_ns - capture_ns) <= GAP_NS

    def _capture(self, header: Header) -> dict[str, Any]:
        utc = self._task.utc(header.capture_ns)
        capture = {"core:sample_start": self._samples, "core:frequency": header.centre_hz}
        return {**capture, "core:datetime": utc} if utc else capture


def _with_ending(path: Path, ending: str) -> Path:
    """Return a name with an ending; a stream's name may hold dots itself."""
    return path.with_name(path.name + ending)
