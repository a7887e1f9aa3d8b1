"""A benchmark as one HTML page that needs no network: distributions, stages, time, comparisons, the machine."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import to_builtins

from edge.bench.latency import Timed, totals_ms
from edge.bench.pictures import bars, cumulative, series, waterfall
from edge.bench.result import Latency, Report
from edge.bench.text import name_of, number, ratio_text, too_few
from models.page import Page


def write_page(path: Path, report: Report, timed: Sequence[Timed]) -> None:
    """Write a report, and the answers behind it, as a page.

    Raises:
        RecordingError: it cannot be written.
    """
    machine = report.machine
    page = Page(f"Benchmark of {report.model} on {machine.cpu}")
    page.text(
        "Times are from the send of a sensor's message to the answer. The floor is a bare program at the same pace, the"
        " hot floor the same work back to back in warm caches. Ratios may be compared with other machines', times not."
    )
    if timed:
        _latencies(page, report, timed)
    if report.overloads or report.offline:
        _throughput(page, report)
    if report.ingest is not None:
        page.heading("Samples taken in: % of a core by million samples a second")
        page.svg(bars([(f"{p.sent_ms_per_s:.2f} MS/s", p.cpu_percent) for p in report.ingest.points], "%"))
    if report.handover is not None:
        page.heading("A 1080p frame from one process to another, p50")
        ways = (("socket", report.handover.socket.p50), ("shared memory", report.handover.shm.p50))
        page.svg(bars([(way, value) for way, value in ways if value is not None], "ms"))
    for contest in report.contests:
        page.heading(f"Side by side: {contest.subject}, {contest.measured}, p50")
        rows = [(one.name, one.latency.p50) for one in contest.contenders if one.latency.p50 is not None]
        page.svg(bars(rows, "ms"))
        page.table(("", "times as long as the first"), [(c.name, ratio_text(c.ratio)) for c in contest.contenders])
    for absent in report.absent:
        page.text(f"{absent.name} is left out: {absent.remedy}")
    page.heading("Machine")
    facts = {**to_builtins(machine), "board": json.dumps(machine.board), "throttled": "; ".join(machine.throttled)}
    facts |= to_builtins(report.core) if report.core is not None else {}
    page.table(("", "why"), [(name.replace("_", " "), str(value)) for name, value in facts.items()])
    page.write(path)


def _latencies(page: Page, report: Report, timed: Sequence[Timed]) -> None:
    page.heading("Share of answers within a time")
    page.svg(cumulative({name_of(one.result): totals_ms(one.answers) for one in timed}))
    page.heading("Latency, ms")
    heads = ("", "answers", "p50", "p90", "p99", "floor", "ratio", "hot floor", "its ratio")
    page.table(heads, [_row(one) for one in report.latencies])
    for line in too_few(report.latencies):
        page.text(line)
    page.heading("Where the time goes, medians")
    page.svg(waterfall([row for one in report.latencies for row in _stages(one)]))
    page.heading("Over time")
    for one in timed:
        start_ns = one.answers[0].answer_ns if one.answers else 0
        times_s = [(answer.answer_ns - start_ns) / 1e9 for answer in one.answers]
        page.svg(series(times_s, totals_ms(one.answers), name_of(one.result)))


def _row(one: Latency) -> tuple[str, ...]:
    spread = one.from_send
    cells = (name_of(one), str(spread.samples), number(spread.p50), number(spread.p90), number(spread.p99))
    if one.floor is None:
        return (*cells, "", "", "", "")
    return (
        *cells,
        number(one.floor.paced_ms),
        ratio_text(one.ratio),
        number(one.floor.hot_ms),
        number(one.hot_ratio, 2),
    )


def _stages(one: Latency) -> list[tuple[str, Mapping[str, float]]]:
    """Return the rows of a path's waterfall: its own, and its floor's."""
    own = {stage: spread.p50 for stage, spread in one.stages.items() if spread.p50 is not None}
    rows: list[tuple[str, Mapping[str, float]]] = [(name_of(one), own)] if own else []
    if one.floor is not None:
        rows.append((f"{name_of(one)}: floor", one.floor.paced_parts_ms))
    return rows


def _throughput(page: Page, report: Report) -> None:
    page.heading("Most results a second")
    rows = [(f"{one.path} offline", one.results_per_s) for one in report.offline]
    rows += [(f"{one.path}, offered {one.factor:g} times that", one.results_per_s) for one in report.overloads]
    page.svg(bars(rows, "/s"))
    if report.overloads:
        heads = ("overload", "offered/s", "age p50, ms", "age p99", "of its limit", "lost", "RSS MiB", "exact")
        page.table(
            heads,
            [
                (
                    f"{one.path} x {one.factor:g}",
                    number(one.offered_per_s, 0),
                    number(one.age.p50),
                    number(one.age.p99),
                    number(one.age_share, 2),
                    str(one.counts.lost_transport),
                    f"{one.rss_start_mib:.0f}, {one.rss_end_mib:.0f}",
                    "yes" if one.is_exact else "no",
                )
                for one in report.overloads
            ],
        )
