"""Radio recordings, SigMF or bare, as windows. A window never reaches over a gap or a change of the frequency."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.recording.composition import RADIO, Moment, Part, Window
from edge.recording.imports.clock_fit import ClockFit, fit_clock
from edge.recording.imports.source import NS_PER_S, Place, Source
from edge.recording.imports.utc import parse_utc
from edge.sources.raw_iq import read_raw
from edge.sources.sdr_file import MIN_WINDOW_SAMPLES, window_and_hop
from edge.sources.sigmf import SigmfRecording, check_digest, read_sigmf
from models.errors import RecordingError

MAX_WINDOWS_HZ = 100.0
_GAPLESS = (1_000_000, 1e-3)
"""Captures follow each other without a gap where their times are within 1 ms and 0.1 % of what their samples say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Samples of one tuning without a gap."""

    first: int
    end: int
    """The sample after its last one."""
    elapsed_ns: int
    """Between the recording's first sample and this one's first."""
    centre_hz: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Times:
    elapsed_ns: tuple[int, ...]
    utc_ns: int | None
    clock: ClockFit | None


def sigmf_source(path: Path, rate_hz: float | None = None) -> Source:
    """Return a SigMF recording, its checksum verified where it has one; raises RecordingError where it is unusable."""
    recording = read_sigmf(path)
    check_digest(path, recording)
    return radio_source(path, recording, rate_hz)


def raw_source(path: Path, about: tuple[float, float, str | None], rate_hz: float | None = None) -> Source:
    """Return a bare file of samples.

    Args:
        path: the file.
        about: sample rate and tuned frequency in Hz, and its type where the ending does not say it.
        rate_hz: as in `radio_source`.
    Raises:
        ConfigError: nothing says the type.
        RecordingError: cannot be read, or is shorter than one window.
    """
    recording = read_raw(path, *about)
    rest = path.stat().st_size - recording.samples.nbytes
    return radio_source(
        path, recording, rate_hz, f", {rest} bytes after the last whole sample left out" if rest else ""
    )


def radio_source(path: Path, recording: SigmfRecording, rate_hz: float | None = None, left_out: str = "") -> Source:
    """Return a recording's windows.

    Args:
        path: where it comes from.
        recording: its samples.
        rate_hz: windows a second, overlapping where they must; None: back to back.
        left_out: what of the file is no sample, for its origin.
    Raises:
        RecordingError: shorter than one window, or with a time that is none.
    """
    if rate_hz is None:
        window = hop = max(MIN_WINDOW_SAMPLES, round(recording.sample_rate_hz / MAX_WINDOWS_HZ))
    else:
        window, hop = window_and_hop(recording.sample_rate_hz, rate_hz)
    times = _times(path, recording)
    segments = _segments(recording, times.elapsed_ns)
    if rate_hz is None:  # a short recording is one window
        longest = max(segment.end - segment.first for segment in segments)
        window = hop = max(MIN_WINDOW_SAMPLES, min(window, longest))
    starts = [range(segment.first, segment.end - window + 1, hop) for segment in segments]
    count = sum(map(len, starts))
    samples = len(recording.samples)
    if not count:
        raise RecordingError(
            f"{path}: {samples} samples are fewer than a window of {window}: take a longer recording"
            if len(segments) == 1
            else f"{path}: none of its {len(segments)} captures has the {window} samples of a window: take longer ones"
        )
    ns_per_sample = NS_PER_S / recording.sample_rate_hz
    ends = sum(segment.end - (firsts[-1] + window if firsts else segment.first)
               for segment, firsts in zip(segments, starts, strict=True))  # fmt: skip
    about = f"{path.name} ({recording.datatype}, {recording.sample_rate_hz:g} samples/s), {samples} samples"
    about += f" in {len(segments)} captures" if len(segments) > 1 else ""
    about += f", {ends} too few for a window" if ends else ""

    def moments(place: Place) -> Iterator[Moment]:
        for segment, firsts in zip(segments, starts, strict=True):
            for first in firsts:
                elapsed_ns = segment.elapsed_ns + round((first - segment.first) * ns_per_sample)
                content = Window(
                    samples=recording.window(first, window),
                    sample_rate_hz=recording.sample_rate_hz,
                    centre_hz=segment.centre_hz,
                )
                arrival_ns = place.at(elapsed_ns + round(window * ns_per_sample))
                yield Moment(capture_ns=place.at(elapsed_ns), arrival_ns=arrival_ns, content=content)

    last = segments[-1]
    span_ns = last.elapsed_ns + round((last.end - last.first) * ns_per_sample)

    def parts(place: Place) -> list[Part]:
        return [
            Part(name=RADIO, origin=about + left_out, moments=moments(place), count=count, end_ns=place.at(span_ns))
        ]

    return Source(name=path.stem, kind=RADIO, span_ns=span_ns, utc_ns=times.utc_ns, clock=times.clock, parts=parts)


def _segments(recording: SigmfRecording, elapsed_ns: tuple[int, ...]) -> list[Segment]:
    """Return what lies between captures; such as only go on with the one before are one with it."""
    captures = recording.captures
    starts = [0, *(capture.sample_start for capture in captures[1:])]
    ends = [*starts[1:], len(recording.samples)]
    segments: list[Segment] = []
    for capture, first, end, begun_ns in zip(captures, starts, ends, elapsed_ns, strict=True):
        if segments and segments[-1].centre_hz == capture.centre_hz:
            before = segments[-1]
            due_ns = before.elapsed_ns + round((first - before.first) * NS_PER_S / recording.sample_rate_hz)
            if abs(due_ns - begun_ns) <= 1:  # both are rounded
                segments[-1] = Segment(
                    first=before.first, end=end, elapsed_ns=before.elapsed_ns, centre_hz=before.centre_hz
                )
                continue
        if end > first:
            segments.append(Segment(first=first, end=end, elapsed_ns=begun_ns, centre_hz=capture.centre_hz))
    return segments


def _times(path: Path, recording: SigmfRecording) -> _Times:
    """Return when each capture began: by the samples where these follow each other, else by what the captures say."""
    captures = recording.captures
    counted_ns = tuple(round(c.sample_start * NS_PER_S / recording.sample_rate_hz) if n else 0
                       for n, c in enumerate(captures))  # fmt: skip
    told = [_datetime(path, capture.datetime) for capture in captures]
    if told[0] is None:
        return _Times(elapsed_ns=counted_ns, utc_ns=None, clock=None)
    if any(time_ns is None for time_ns in told):
        return _Times(elapsed_ns=counted_ns, utc_ns=told[0], clock=None)
    utc_ns = [time_ns for time_ns in told if time_ns is not None]
    slack_ns, slack = _GAPLESS
    steps = [(utc_ns[n] - utc_ns[n - 1], counted_ns[n] - counted_ns[n - 1]) for n in range(1, len(captures))]
    if all(abs(told_ns - by_samples_ns) <= slack_ns + slack * by_samples_ns for told_ns, by_samples_ns in steps):
        readings = list(zip(counted_ns, utc_ns, strict=True))
        return _Times(elapsed_ns=counted_ns, utc_ns=utc_ns[0], clock=fit_clock(readings))
    elapsed_ns = [0]
    for told_ns, by_samples_ns in steps:
        if told_ns < by_samples_ns - slack_ns - slack * by_samples_ns:
            raise RecordingError(
                f"{path}: a capture of {by_samples_ns / 1e9:g} s by its samples and sample rate lasts"
                f" {told_ns / 1e9:g} s by core:datetime: correct core:sample_rate or the times"
            )
        elapsed_ns.append(elapsed_ns[-1] + max(told_ns, by_samples_ns))
    return _Times(elapsed_ns=tuple(elapsed_ns), utc_ns=utc_ns[0], clock=None)


def _datetime(path: Path, text: str | None) -> int | None:
    if text is None:
        return None
    time_ns = parse_utc(text)
    if time_ns is None:
        raise RecordingError(f"{path}: core:datetime is {text[:40]!r}, expected a time such as 2026-01-31T14:25:30.25Z")
    return time_ns
