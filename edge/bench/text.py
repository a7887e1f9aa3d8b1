"""A benchmark's figures for people."""

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Table

from edge.backends.select import precisions_text
from edge.bench.baseline import Verdict, tail_ratio
from edge.bench.result import Contest, Core, Handover, Ingest, Latency, Machine, Overload, Ratio, Report, Spread

_NOISY_PERCENT = 5.0
_NAMED = 5


def print_bench(report: Report, console: Console | None = None) -> None:
    """Print a report: latency against its floor, stage by stage, what happens at the limit, and how noisy it was.

    The floor is a bare program at the same pace, the hot floor adds up the same work back to back.
    """
    console = console or Console()
    machine = report.machine
    console.print(f"[bold]{report.model}[/bold] on {machine.cpu}, {machine.cores} cores, {machine.arch}")
    if report.backend:
        console.print(f"graphs: {precisions_text(report.precisions)} on {report.backend}", highlight=False)
    if report.latencies:
        console.print(_latency_table(report.latencies))
        console.print(_more_table(report.latencies))
        console.print(_stage_table(report.latencies))
    for line in too_few(report.latencies):
        console.print(line)
    if report.offline:
        rates = ", ".join(f"{one.path} {one.results_per_s:,.0f}" for one in report.offline)
        console.print(f"most results a second: {rates}", highlight=False)
    if report.overloads:
        console.print(_overload_table(report.overloads))
    if report.ingest is not None:
        console.print(_ingest_table(report.ingest))
    if report.handover is not None:
        console.print(_handover_lines(report.handover), highlight=False)
    for contest in report.contests:
        console.print(_contest_table(contest))
    for absent in report.absent:
        console.print(f"{absent.name} is left out: {absent.remedy}", highlight=False)
    if report.core is not None:
        console.print(_core_line(report.core), highlight=False)
    for line in _noise(machine):
        console.print(line)
    if report.accounting:
        console.print(_balance(report))


def print_verdict(verdict: Verdict, console: Console | None = None) -> None:
    """Print what became of a baseline's figures: the worse ones one by one."""
    console = console or Console()
    for one in verdict.regressions:
        console.print(f"[red]worse: {one.name}: {one.old:.3f} -> {one.new:.3f}[/red], more than {one.tolerance:.0%}")
    if verdict.missing:
        more = f" and {len(verdict.missing) - _NAMED} more" if len(verdict.missing) > _NAMED else ""
        console.print(f"not measured this time: {', '.join(verdict.missing[:_NAMED])}{more}", highlight=False)
    if verdict.times_left_out:
        console.print("another machine or power mode than the baseline's: ratios and counts were compared, times not")
    console.print(f"{len(verdict.findings)} figures compared with the baseline, {len(verdict.regressions)} worse")


def too_few(latencies: Iterable[Latency]) -> Iterator[str]:
    """Yield a line for each percentile that lacks samples."""
    for one in latencies:
        for rank, least in one.from_send.too_few_for.items():
            yield f"{name_of(one)}: not enough samples for a {rank}: {one.from_send.samples} of {least}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a value as the tables show it."""
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio_text(ratio: Ratio | None) -> str:
    """Return a ratio with the quartiles of its blocks."""
    if ratio is None:
        return "-"
    return f"{ratio.value:.2f}" if ratio.low is None else f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _table(title: str, words: Iterable[str], numbers: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in words:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right")
    return table


def _percentiles(spread: Spread) -> tuple[str, ...]:
    return (number(spread.p50), number(spread.p90), number(spread.p99))


def _latency_table(latencies: Iterable[Latency]) -> Table:
    heads = ("answers", "p50", "p90", "p99", "floor", "ratio")
    table = _table("sensor message sent to answer made, ms", ("path",), heads)
    for one in latencies:
        floor = (number(one.floor.paced_ms), ratio_text(one.ratio)) if one.floor is not None else ("", "")
        table.add_row(name_of(one), str(one.from_send.samples), *_percentiles(one.from_send), *floor)
    return table


def _more_table(latencies: Iterable[Latency]) -> Table:
    heads = (
        "p50 from schedule",
        "p99",
        "p99/p50",
        "unanswered",
        "hot floor",
        "its ratio",
        "CPU ms a result",
        "J a result",
    )
    table = _table("beside it", ("path",), heads)
    for one in latencies:
        late = one.from_schedule
        unanswered = str(one.unanswered) if one.unanswered is not None else ""
        times = (number(late.p50), number(late.p99)) if late is not None else ("", "")
        hot = (number(one.floor.hot_ms), number(one.hot_ratio, 2)) if one.floor is not None else ("", "")
        joules = number(one.joules_per_result) if one.joules_per_result is not None else ""
        tail = number(tail_ratio(one), 2)
        table.add_row(name_of(one), *times, tail, unanswered, *hot, number(one.cpu_ms_per_result), joules)
    return table


def name_of(one: Latency) -> str:
    """Return how a measured path is called."""
    return f"{one.path} {one.scenario}"


def _stage_table(latencies: Iterable[Latency]) -> Table:
    of = list(latencies)
    stages = list(dict.fromkeys(stage for one in of for stage in one.stages))
    table = _table("by stage, ms", ("path", ""), stages)
    for one in of:
        rows: list[tuple[str, Mapping[str, float | None]]] = [
            ("p50", {stage: value.p50 for stage, value in one.stages.items()})
        ]
        rows += [("p99", {stage: value.p99 for stage, value in one.stages.items()})]
        if one.floor is not None:
            rows += [("floor", one.floor.paced_parts_ms), ("hot floor", one.floor.hot_parts_ms)]
        for label, parts in rows:
            cells = (number(parts[stage]) if stage in parts else "" for stage in stages)
            table.add_row(name_of(one) if label == "p50" else "", label, *cells)
    return table


def _overload_table(overloads: Iterable[Overload]) -> Table:
    heads = ("offered", "most", "results", "of most", "busy", "age p50", "p99", "share", "lost", "RSS MiB", "exact")
    title = "overload: messages a second; age of results in ms, and its share of one period and the inference"
    table = _table(title, ("path",), heads)
    for one in overloads:
        table.add_row(
            f"{one.path} x{one.factor:g}",
            number(one.offered_per_s, 0),
            number(one.maximum_per_s, 0),
            number(one.results_per_s, 0),
            number(one.throughput_share, 2),
            number(one.busy_share, 2),
            number(one.age.p50, 1),
            number(one.age.p99, 1),
            number(one.age_share, 2),
            str(one.counts.lost_transport),
            f"{one.rss_start_mib:.0f}, {one.rss_end_mib:.0f}",
            "yes" if one.is_exact else "[red]no[/red]",
        )
    return table


def _ingest_table(ingest: Ingest) -> Table:
    peak = "none" if ingest.peak_ms_per_s is None else f"{ingest.peak_ms_per_s:g}"
    heads = ("MS/s", "sent", "message bytes", "lost", "rejected", "inferred", "% of a core")
    table = _table(f"int16 I/Q taken in; highest lossless rate tried: {peak} MS/s", (), heads)
    for one in ingest.points:
        table.add_row(
            f"{one.wanted_ms_per_s:g}",
            number(one.sent_ms_per_s, 2),
            f"{one.message_bytes:,}",
            str(one.lost),
            str(one.rejected),
            f"{one.inferred} of {one.messages}",
            number(one.cpu_percent, 1),
        )
    return table


def _handover_lines(handover: Handover) -> str:
    costs = ", ".join(f"{call} {ns:.0f} ns" for call, ns in handover.header_ns.items())
    return (
        f"1080p frame from send to receipt, p50: {number(handover.socket.p50)} ms by socket,"
        f" {number(handover.shm.p50)} ms in shared memory, ratio {ratio_text(handover.socket_over_shm)}\n"
        f"header: {costs}"
    )


def _contest_table(contest: Contest) -> Table:
    heads = ("samples", "p50", "p90", "p99", "times as long as the first")
    table = _table(f"{contest.subject}: {contest.measured}, ms", ("backend",), heads)
    for one in contest.contenders:
        cells = (str(one.latency.samples), *_percentiles(one.latency))
        table.add_row(one.name, *cells, ratio_text(one.ratio) if one.ratio is not None else "")
    return table


def _core_line(core: Core) -> str:
    watts = f", the board {core.idle_watts:.2f} W" if core.idle_watts is not None else ""
    return (
        f"the pipeline's process: imports in {core.import_s:.2f} s, takes {core.rss_mib:.0f} MiB after its start and"
        f" {core.idle_cpu_percent:.1f}% of a core while nothing comes{watts}"
    )


def _noise(machine: Machine) -> Iterator[str]:
    other = machine.other_cpu_percent
    if other is not None:
        advice = ": close other programs, and trust ratios more than milliseconds" if other > _NOISY_PERCENT else ""
        yield f"other processes used {other:.1f}% of the machine meanwhile{advice}"
    if machine.throttled:
        yield f"[red]the board was slowed down: {'; '.join(machine.throttled)}[/red]"


def _balance(report: Report) -> str:
    unbalanced = [
        f"{rig}/{name}"
        for rig, streams in report.accounting.items()
        for name, stream in streams.items()
        if not stream.balanced
    ]
    if unbalanced:
        return f"[red]not balanced: {unbalanced}[/red]"
    if report.unaccounted:
        return f"[red]sent, but neither received nor counted as lost: {report.unaccounted}[/red]"
    return "every message is accounted for"
