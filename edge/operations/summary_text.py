"""A flight's summary for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from edge.backends.select import precisions_text

_FATES = (
    "received",
    "processed",
    "superseded",
    "dropped_late",
    "shed",
    "gathered",
    "rejected",
    "in_flight",
    "lost_transport",
)


def print_summary(summary: dict[str, Any], console: Console | None = None) -> None:
    """Print accuracy, latency and where every message went.

    Args:
        summary: plain data, as `Flown.summary` returns it.
        console: where to; standard output by default.
    """
    console = console or Console()
    console.print(f"[bold]{summary['results']} answers[/bold]")
    if summary.get("precisions"):
        engines = f" on {summary['backend']}" if summary.get("backend") else ""
        graphs = f"graphs that flew: {precisions_text(summary['precisions'])}{engines}"
        console.print(graphs, soft_wrap=True, highlight=False)
    if summary.get("backend_reason"):
        console.print(summary["backend_reason"], soft_wrap=True, highlight=False, markup=False)
    if summary.get("accuracy") is not None:
        shares = [f"fused {summary['accuracy']:.1%}"]
        shares += [
            f"{name.removeprefix('accuracy_')} alone {share:.1%}"
            for name, share in summary.items()
            if name.startswith("accuracy_") and share is not None
        ]
        console.print(f"right against the truth ({summary['scored']} scored): " + ", ".join(shares), soft_wrap=True)
    for names, values in summary.get("latency_ms", {}).items():
        console.print(
            f"sensor message to answer, {names}: p50 {values['p50']:.2f} ms, p99 {values['p99']:.2f} ms", soft_wrap=True
        )
    if summary.get("replay"):
        for line in _replay_lines(summary["replay"]):
            console.print(line, soft_wrap=True, highlight=False)
    if (inferred := summary.get("inferred")) is not None:
        again = f", {inferred['as_in_flight']} of them when they were in flight" if inferred["as_in_flight"] else ""
        console.print(f"{inferred['messages']} messages inferred{again}", soft_wrap=True, highlight=False)
    console.print(_accounting_table(summary["accounting"]))
    for change in summary["loads"]:
        shed = f"shed from then on: {change['name']} ({change['why']})" if change["level"] else "nothing shed any more"
        console.print(f"after {change['after_s']:.1f} s {shed}", soft_wrap=True, highlight=False, markup=False)
    if summary["restarts"]:
        console.print(
            f"[red]restarts of the pipeline: {summary['restarts']}[/red]; messages in flight when it died, lost:"
            f" {summary['lost_in_restarts']}",
            soft_wrap=True,
        )


def _replay_lines(replay: dict[str, Any]) -> list[str]:
    """Return how a recording was played, and what of it did not arrive."""
    asked = "as fast as it went" if replay["rate"] is None else f"at {replay['rate']:g} x"
    end = "" if replay["is_whole"] else ", not to its end"
    pause = f", paused for {replay['paused_s']:.1f} s" if replay["paused_s"] else ""
    behind = f", put off by {replay['put_off_s']:.3f} s because this machine was behind" if replay["put_off_s"] else ""
    lines = [f"replayed {asked}{end}: {replay['achieved_rate']:.3f} x achieved{pause}{behind}"]
    if (error := replay["spacing_error_ms"]) is not None:
        lines.append(
            f"time between messages against the schedule: off by p50 {error['p50']:.2f} ms, p99 {error['p99']:.2f} ms,"
            f" at most {error['max']:.2f} ms"
        )
    lost, sent = (
        sum(replay["not_received"].values()),
        sum(replay["sent"].get(name, 0) for name in replay["not_received"]),
    )
    text = f"{lost} of {sent} sensor messages lost on their way to the pipeline"
    return [*lines, f"[red]{text}[/red]" if lost else text]


def _accounting_table(accounting: dict[str, dict[str, Any]]) -> Table:
    """Return a table with a column a stream and a row a fate, which fits any terminal."""
    table = Table(title="where every message went", title_justify="left", title_style="bold")
    table.add_column("")
    for name in accounting:
        table.add_column(name, justify="right")
    reasons = sorted({reason for stream in accounting.values() for reason in stream["rejected_by_reason"]})
    for fate in _FATES:
        table.add_row(fate.replace("_", " "), *(str(stream[fate]) for stream in accounting.values()))
        if fate == "rejected":
            for reason in reasons:
                counts = (str(stream["rejected_by_reason"].get(reason, 0)) for stream in accounting.values())
                table.add_row(f"  {reason}", *counts, style="dim")
    balanced = ("yes" if stream["balanced"] else "[red]NO[/red]" for stream in accounting.values())
    table.add_row("balanced", *balanced, style="bold")
    return table
