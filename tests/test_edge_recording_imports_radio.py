"""Radio recordings with several captures: windows keep to them, and times to what they say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.recording.composition import START_NS, Moment, Window
from edge.recording.imports.radio import radio_source, sigmf_source
from edge.recording.imports.source import Place, Source
from edge.sources.raw_iq import read_raw
from models.errors import RecordingError

SECOND_NS = 1_000_000_000
WINDOW = 10_000
"""At 1 MS/s: 10 ms."""


def _write(tmp_path: Path, samples: int, captures: list[dict[str, Any]]) -> Path:
    numbers = np.arange(samples) % 30_000
    np.stack((numbers, -numbers), axis=1).astype("<i2").tofile(tmp_path / "r.sigmf-data")
    meta = {"global": {"core:datatype": "ci16_le", "core:sample_rate": 1e6}, "captures": captures}
    (tmp_path / "r.sigmf-meta").write_text(json.dumps(meta))
    return tmp_path / "r.sigmf-meta"


def _capture(first: int, time: str | None = None, centre_hz: float = 1e9) -> dict[str, Any]:
    told = {} if time is None else {"core:datetime": f"2026-01-31T14:25:{time}Z"}
    return {"core:sample_start": first, "core:frequency": centre_hz} | told


def _moments(source: Source, place: Place | None = None) -> list[tuple[Moment, Window]]:
    (part,) = source.parts(place or Place(begin_ns=START_NS))
    moments = list(part.moments)
    assert len(moments) == part.count
    return [(moment, moment.content) for moment in moments if isinstance(moment.content, Window)]


def test_a_window_never_reaches_over_a_change_of_the_frequency(tmp_path: Path) -> None:
    source = sigmf_source(_write(tmp_path, 60_000, [_capture(0), _capture(25_000, centre_hz=2e9)]))
    found = _moments(source)
    assert [(int(window.samples[0, 0]), window.centre_hz) for _, window in found] == [
        (0, 1e9), (10_000, 1e9), (25_000, 2e9), (5_000, 2e9), (15_000, 2e9),
    ]  # fmt: skip
    assert [(moment.capture_ns - START_NS) // 1000 for moment, _ in found] == [0, 10_000, 25_000, 35_000, 45_000]
    (part,) = source.parts(Place(begin_ns=START_NS))
    assert "60000 samples in 2 captures, 10000 too few for a window" in part.origin


def test_captures_that_only_go_on_are_one(tmp_path: Path) -> None:
    found = _moments(sigmf_source(_write(tmp_path, 40_000, [_capture(0), _capture(15_000), _capture(28_000)])))
    assert len(found) == 4


def test_a_gap_between_captures_is_kept(tmp_path: Path) -> None:
    source = sigmf_source(_write(tmp_path, 40_000, [_capture(0, "30.000"), _capture(20_000, "32.500")]))
    found = _moments(source)
    assert [(moment.capture_ns - START_NS) // 1_000_000 for moment, _ in found] == [0, 10, 2500, 2510]
    assert source.span_ns == 2_520_000_000
    assert source.utc_ns == 1_769_869_530 * SECOND_NS


def test_without_a_gap_the_samples_tell_the_time(tmp_path: Path) -> None:
    source = sigmf_source(_write(tmp_path, 40_000, [_capture(0, "30.0000"), _capture(20_000, "30.0205")]))
    assert [moment.capture_ns - START_NS for moment, _ in _moments(source)] == [n * 10_000_000 for n in range(4)]


def test_the_drift_of_the_sample_clock_is_measured_by_its_captures(tmp_path: Path) -> None:
    captures = [_capture(n * 20_000, f"{30 + n * 0.020002:.7f}") for n in range(10)]
    clock = sigmf_source(_write(tmp_path, 200_000, captures)).clock
    assert clock is not None
    assert clock.ppm == pytest.approx(-100.0, abs=5.0)


def test_drift_stretches_what_is_imported(tmp_path: Path) -> None:
    source = sigmf_source(_write(tmp_path, 40_000, [_capture(0)]))
    found = _moments(source, Place(begin_ns=START_NS, stretch=1.001))
    assert [moment.capture_ns - START_NS for moment, _ in found] == [n * 10_010_000 for n in range(4)]


@pytest.mark.parametrize(
    ("captures", "complaint"),
    [
        ([_capture(0, "99")], r"core:datetime is '2026-01-31T14:25:99Z', expected a time such as"),
        ([_capture(0, "30"), _capture(20_000, "29")], "a capture of 0.02 s by its samples and sample rate lasts -1 s"),
        ([_capture(0, "30"), _capture(20_000, "30.005")], "a capture of 0.02 s .* lasts 0.005 s"),
        ([_capture(n * 5_000, centre_hz=n) for n in range(8)], "none of its 8 captures has the 8192 samples"),
    ],
)
def test_captures_that_cannot_be_are_refused(tmp_path: Path, captures: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(RecordingError, match=complaint):
        sigmf_source(_write(tmp_path, 40_000, captures))


def test_a_bare_file_becomes_windows(tmp_path: Path) -> None:
    path = tmp_path / "a.cs16"
    path.write_bytes(np.arange(60_000, dtype="<i2").tobytes())
    found = _moments(radio_source(path, read_raw(path, 1e6, 868e6)))
    assert [(window.samples.shape, window.centre_hz) for _, window in found] == [((WINDOW, 2), 868e6)] * 3
