"""A report held against an older one: ratios and counts always, times only where both come from the same machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.bench.result import Latency, Ratio, Report, parse_report
from models.errors import InputError

RATIO = 0.15
TAIL = 0.5
"""A p99 rests on a few samples."""
SHARE = 0.1
TIME = 0.25
MEMORY = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number of a report that another run must not make worse."""

    name: str
    value: float
    better: Literal["lower", "higher"]
    tolerance: float
    """Relative change for the worse that is still called the same."""
    is_time: bool = False
    """Means nothing on another machine."""
    low: float | None = None
    high: float | None = None
    """Quartiles of its blocks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One number then and now."""

    name: str
    old: float
    new: float
    tolerance: float
    is_regression: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What became of an older report's numbers."""

    findings: tuple[Finding, ...]
    missing: tuple[str, ...]
    """Numbers that this run did not measure, or had too few samples for."""
    times_left_out: bool
    """Whether the machines differ, so that no times were compared."""

    @property
    def regressions(self) -> tuple[Finding, ...]:
        """What has become worse."""
        return tuple(finding for finding in self.findings if finding.is_regression)


def read_baseline(path: Path) -> Report:
    """Read an older report: the JSON object alone, or all that `uav-edge bench --json` printed.

    Raises:
        InputError: it cannot be read, or is no report of this schema.
    """
    try:
        data = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): name what --json printed") from error
    lines = data.splitlines()
    return parse_report(lines[-1] if lines and lines[-1].startswith(b'{"') else data, str(path))


def compare_reports(old: Report, new: Report) -> Verdict:
    """Hold every figure of an older report against the same one now."""
    same_machine = old.machine.fingerprint == new.machine.fingerprint
    now = {figure.name: figure for figure in figures(new)}
    findings, missing = [], []
    for figure in figures(old):
        if figure.is_time and not same_machine:
            continue
        if figure.name not in now:
            missing.append(figure.name)
            continue
        findings.append(_finding(figure, now[figure.name]))
    return Verdict(findings=tuple(findings), missing=tuple(missing), times_left_out=not same_machine)


def figures(report: Report) -> Iterator[Figure]:
    """Yield what is compared."""
    lost = sum(abs(count) for count in report.unaccounted.values())
    yield Figure(name="messages unaccounted for", value=lost, better="lower", tolerance=0.0)
    for latency in report.latencies:
        yield from _of_latency(latency)
    for load in report.overloads:
        name = f"{load.path} overload x {load.factor:g}"
        yield Figure(
            name=f"{name}: share of the maximum", value=load.throughput_share, better="higher", tolerance=SHARE
        )
        if load.age_share is not None:
            yield Figure(name=f"{name}: age over its limit", value=load.age_share, better="lower", tolerance=TAIL)
        growth = load.rss_end_mib / max(load.rss_start_mib, 1.0)
        yield Figure(name=f"{name}: growth of memory", value=growth, better="lower", tolerance=MEMORY)
        yield Figure(name=f"{name}: inexact", value=float(not load.is_exact), better="lower", tolerance=0.0)
    if report.ingest is not None:
        peak = report.ingest.peak_ms_per_s or 0.0
        yield Figure(name="ingest: peak MS/s", value=peak, better="higher", tolerance=0.0)
        for point in report.ingest.points:
            name = f"ingest at {point.wanted_ms_per_s:g} MS/s: % of a core"
            yield Figure(name=name, value=point.cpu_percent, better="lower", tolerance=TIME, is_time=True)
    if report.handover is not None and report.handover.socket_over_shm is not None:
        ratio = report.handover.socket_over_shm
        yield Figure(name="hand-over: socket over shm", value=ratio.value, better="higher", tolerance=RATIO)
    for contest in report.contests:
        for one in contest.contenders:
            if one.ratio is not None:
                yield _ratio(f"{contest.subject} {contest.measured}: {one.name}", one.ratio)
    for offline in report.offline:
        name = f"{offline.path} offline: results/s"
        yield Figure(name=name, value=offline.results_per_s, better="higher", tolerance=TIME, is_time=True)
    if report.core is not None:
        yield Figure(name="memory after start, MiB", value=report.core.rss_mib, better="lower", tolerance=MEMORY)
        yield Figure(name="import, s", value=report.core.import_s, better="lower", tolerance=TIME, is_time=True)


def _of_latency(one: Latency) -> Iterator[Figure]:
    name, sent = f"{one.path} {one.scenario}", one.from_send
    if one.ratio is not None:
        yield _ratio(f"{name}: ratio to the floor", one.ratio)
    tail = tail_ratio(one)
    if tail is not None:
        yield Figure(name=f"{name}: {_tail_name(one)}", value=tail, better="lower", tolerance=TAIL)
    if one.fused_share is not None:
        yield Figure(name=f"{name}: share fused", value=one.fused_share, better="higher", tolerance=SHARE)
    if sent.p50 is not None:
        yield Figure(name=f"{name}: p50, ms", value=sent.p50, better="lower", tolerance=TIME, is_time=True)
    for what, cost in (("CPU ms a result", one.cpu_ms_per_result), ("J a result", one.joules_per_result)):
        if cost is not None:
            yield Figure(name=f"{name}: {what}", value=cost, better="lower", tolerance=TIME, is_time=True)


def tail_ratio(one: Latency) -> float | None:
    """Return p99 over p50, from the schedule where there is one; None with too few samples."""
    spread = one.from_schedule or one.from_send
    return round(spread.p99 / spread.p50, 3) if spread.p50 and spread.p99 is not None else None


def _tail_name(one: Latency) -> str:
    """Return what `tail_ratio` is called: reports that do not tell what was unanswered left it out of percentiles."""
    return "p99 over p50" if one.unanswered is None else "p99 over p50 of all due"


def _ratio(name: str, ratio: Ratio) -> Figure:
    return Figure(name=name, value=ratio.value, better="lower", tolerance=RATIO, low=ratio.low, high=ratio.high)


def _finding(old: Figure, new: Figure) -> Finding:
    if old.better == "lower":
        is_worse = new.value > old.value * (1 + old.tolerance)
    else:
        is_worse = new.value < old.value * (1 - old.tolerance)
    overlap = new.low is not None and old.high is not None and new.low <= old.high
    return Finding(
        name=old.name,
        old=old.value,
        new=new.value,
        tolerance=old.tolerance,
        is_regression=is_worse and not overlap,
    )
