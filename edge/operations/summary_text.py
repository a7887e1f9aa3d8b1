"""A flight's summary for people."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_summary(summary: dict[str, Any], console: Console | None = None) -> None:
    """Print accuracy, latency and where every message went.

    Args:
        summary: `results`, `accuracy*`, `latency_ms` and `accounting`, as `Observer.summary` returns them.
        console: where to; standard output by default.
    """
    console = console or Console()
    console.print(f"[bold]{summary['results']} answers[/bold]")
    if summary.get("accuracy") is not None:
        shares = [f"fused {summary['accuracy']:.1%}"]
        shares += [
            f"{name.removeprefix('accuracy_')} alone {share:.1%}"
            for name, share in summary.items()
            if name.startswith("accuracy_") and share is not None
        ]
        console.print(f"right against the truth ({summary['scored']} scored): " + ", ".join(shares))
    for names, values in summary.get("latency_ms", {}).items():
        console.print(f"sensor message to answer, {names}: p50 {values['p50']:.2f} ms, p99 {values['p99']:.2f} ms")
    console.print(_accounting_table(summary["accounting"]))


def _accounting_table(accounting: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="where every message went", title_justify="left")
    columns = ("received", "processed", "superseded", "dropped_late", "rejected", "in_flight", "lost_transport")
    table.add_column("stream")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("balanced")
    table.add_column("rejected because")
    for name, stream in accounting.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in stream["rejected_by_reason"].items())
        counts = [str(stream[column]) for column in columns]
        table.add_row(name, *counts, "yes" if stream["balanced"] else "[red]NO[/red]", reasons)
    return table
