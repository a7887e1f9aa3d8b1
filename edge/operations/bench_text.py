"""A benchmark's figures for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from edge.operations.bench_statistics import MIN_SAMPLES

_NOISY_PERCENT = 5.0


def print_bench(figures: dict[str, Any], console: Console | None = None) -> None:
    """Print the figures of `run_bench`: latency against its floor, stage by stage, and how noisy the machine was."""
    console = console or Console()
    machine = figures["machine"]
    console.print(f"[bold]{figures['model']}[/bold] on {machine['cpu']}, {machine['cores']} cores, {machine['arch']}")
    console.print(_latency_table(figures["paths"]))
    console.print(_stage_table(figures["paths"]))
    other = machine["other_cpu_percent"]
    if other is not None:
        advice = ": close other programs, and trust ratios more than milliseconds" if other > _NOISY_PERCENT else ""
        console.print(f"other processes used {other:.1f}% of the machine meanwhile{advice}")
    unbalanced = [
        f"{path}/{stream}"
        for path, streams in figures["accounting"].items()
        for stream, counts in streams.items()
        if not counts["balanced"]
    ]
    console.print(f"[red]not balanced: {unbalanced}[/red]" if unbalanced else "every message is accounted for")


def _latency_table(paths: dict[str, Any]) -> Table:
    table = Table(title="sensor message sent to answer made, ms", title_justify="left")
    for column in ("path", "messages", "answers", "p50", "p90", "p99", "floor", "p50 / floor"):
        table.add_column(column, justify="left" if column in ("path", "messages") else "right")
    for name, path in paths.items():
        streams = " + ".join(f"{s['message_bytes']:,} B at {s['rate_hz']:g} Hz" for s in path["streams"].values())
        percentiles = (_ms(path[f"p{rank}_ms"], path["samples"], rank) for rank in MIN_SAMPLES)
        floor = f"{path['floor_ms']:.3f}" if "floor_ms" in path else ""
        ratio = f"{path['ratio']:.2f}" if "ratio" in path else ""
        table.add_row(name, streams, str(path["samples"]), *percentiles, floor, ratio)
    return table


def _stage_table(paths: dict[str, Any]) -> Table:
    table = Table(title="medians by stage, ms: the path, and its floor", title_justify="left")
    stages = list(dict.fromkeys(stage for path in paths.values() for stage in path["stages_ms"]))
    for column in ("path", "", *stages):
        table.add_column(column, justify="right" if column in stages else "left")
    for name, path in paths.items():
        for label, medians in (("path", path["stages_ms"]), ("floor", path.get("floor_parts_ms"))):
            if medians:
                cells = (f"{medians[stage]:.3f}" if medians.get(stage) is not None else "" for stage in stages)
                table.add_row(name if label == "path" else "", label, *cells)
    return table


def _ms(value: float | None, samples: int, rank: int) -> str:
    return f"{value:.3f}" if value is not None else f"needs {MIN_SAMPLES[rank] - samples} more"
