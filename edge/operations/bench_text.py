"""A benchmark's figures for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

from edge.backends.select import precisions_text
from edge.operations.bench_statistics import MIN_SAMPLES

_NOISY_PERCENT = 5.0


def print_bench(figures: dict[str, Any], console: Console | None = None) -> None:
    """Print the figures of `run_bench`: latency against its floor, stage by stage, and how noisy the machine was.

    The floor is a bare program at the same pace, the hot floor adds up the same work back to back.
    """
    console = console or Console()
    machine = figures["machine"]
    console.print(f"[bold]{figures['model']}[/bold] on {machine['cpu']}, {machine['cores']} cores, {machine['arch']}")
    console.print(f"graphs: {precisions_text(figures['precisions'])}", highlight=False)
    for name, path in figures["paths"].items():
        streams = (
            f"{stream['message_bytes']:,} bytes at {stream['rate_hz']:g} Hz" for stream in path["streams"].values()
        )
        console.print(f"{name}: messages of {' and '.join(streams)}")
    console.print(_latency_table(figures["paths"]))
    for name, path in figures["paths"].items():
        for rank, least in path["too_few_for"].items():
            console.print(f"{name}: {path['samples']} answers are too few for a {rank}, which needs {least}")
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
    for column in ("path", "answers", "p50", "p90", "p99", "floor", "ratio", "hot floor", "its ratio"):
        table.add_column(column, justify="left" if column == "path" else "right")
    for name, path in paths.items():
        percentiles = (_text(path[f"p{rank}_ms"], "ms") for rank in MIN_SAMPLES)
        keys = ("floor_ms", "ratio", "hot_floor_ms", "hot_ratio")
        floors = (_text(path[key], key) if key in path else "" for key in keys)
        table.add_row(name, str(path["samples"]), *percentiles, *floors)
    return table


def _stage_table(paths: dict[str, Any]) -> Table:
    table = Table(title="medians by stage, ms: the path, and its floor", title_justify="left")
    stages = list(dict.fromkeys(stage for path in paths.values() for stage in path["stages_ms"]))
    for column in ("path", "", *stages):
        table.add_column(column, justify="right" if column in stages else "left")
    for name, path in paths.items():
        for label, key in (("path", "stages_ms"), ("floor", "floor_parts_ms"), ("hot floor", "hot_parts_ms")):
            if key in path:
                cells = (_text(path[key][stage], "ms") if stage in path[key] else "" for stage in stages)
                table.add_row(name if label == "path" else "", label, *cells)
    return table


def _text(value: float | None, key: str) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if key.endswith("ms") else f"{value:.2f}"
