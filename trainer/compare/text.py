"""The tables of a comparison as Markdown: what the command prints and what a results page holds."""

import math
from collections.abc import Iterable, Sequence

from trainer.compare.tables import Cell, Summary

Table = tuple[str, list[str], list[list[str]]]
"""Caption, heads, lines."""


def markdown(summary: Summary, command: str) -> str:
    """Return all tables as Markdown."""
    parts = [f"# {summary.config.description}\n", f"    {command}\n", f"{about(summary)}\n"]
    for name, problem in summary.problems.items():
        parts.append(f"- `{name}` failed: {problem}. To run it again, remove {summary.config.folder / name}.\n")
    for caption, heads, lines in tables(summary):
        parts.append(f"## {caption}\n")
        parts.append("\n".join(_line(one) for one in (heads, ["---"] + ["---:"] * (len(heads) - 1), *lines)) + "\n")
    return "\n".join(parts)


def about(summary: Summary) -> str:
    """Return how the figures came about, in a few sentences."""
    config = summary.config
    unfinished = f" {summary.planned - summary.done} runs are missing." if summary.done < summary.planned else ""
    rates = ", ".join(f"{rate:g}" for rate in config.learning_rates)
    tuning = f"{', '.join(config.tuning.data)} with seeds {', '.join(map(str, config.tuning.seeds))}"
    picked = f"Learning rate of every entry picked from {rates} on {tuning}."
    if len(config.learning_rates) == 1:
        picked = f"One learning rate for all, {rates}: nothing was tuned."
    mixed = f" Runs of {summary.programs} versions of this program are mixed: run all of them again."
    seeds = ", ".join(map(str, config.seeds))
    partly = " planned (how many are there: last line of the first table)" if unfinished else ""
    return (
        f"{summary.done} of {summary.planned} runs.{unfinished} Seeds {seeds}{partly}; mean and"
        f" standard deviation over seeds, percent, last epoch, no choice among epochs. {picked}"
        " Same encoders, data and batch size for all, and as many updates of the branches, on average over them;"
        f" methods that train one branch at a time see more examples for that.{mixed if summary.programs > 1 else ''}"
    )


def tables(summary: Summary) -> list[Table]:
    """Return every table that there is something to say in."""
    found = [_accuracy(summary), *_modality_tables(summary), _against_ours(summary), _calibration(summary)]
    found += [_tuning(summary), _sensitivity(summary), _cost(summary)]
    return [table for table in found if table[2]]


def _accuracy(summary: Summary) -> Table:
    lines = []
    for row in summary.rows:
        rank = f"{summary.ranks[row]:.1f}" if row in summary.ranks else ""
        lines.append([row, *(_mean(summary.cells.get((data, row))) for data in summary.config.data), rank])
    if summary.done < summary.planned:
        lines.append(["seeds", *(_seeds(summary, data) for data in summary.config.data), ""])
    return "Right answers", ["", *summary.config.data, "mean rank"], lines


def _modality_tables(summary: Summary) -> Iterable[Table]:
    wanted = (("accuracy_{}", "Branches by themselves: {}"), ("accuracy_without_{}", "Missing: {}"))
    for key, caption in wanted:
        for name in summary.modalities:
            lines = [
                [row, *(_mean(summary.cells.get((data, row)), key.format(name)) for data in summary.config.data)]
                for row in summary.rows
                if any(key.format(name) in cell.measures for (_, one), cell in summary.cells.items() if one == row)
            ]
            yield caption.format(name), ["", *summary.config.data], lines


def _against_ours(summary: Summary) -> Table:
    lines = []
    for row in summary.rows:
        line = [row]
        for data in summary.config.data:
            one = summary.pairings.get((data, row))
            if one is None:
                line.append("")
                continue
            p = "" if math.isnan(one.p_value) else f", p {one.p_value:.2g}"
            line.append(f"{100 * one.difference:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]{p}")
        if any(line[1:]):
            lines.append(line)
    caption = f"{summary.config.ours} less the others: difference, 95 % interval over examples, p over seeds"
    return caption, ["", *summary.config.data], lines


def _calibration(summary: Summary) -> Table:
    lines = []
    for row in summary.rows:
        cells = [summary.cells.get((data, row)) for data in summary.config.data]
        if any(cell and "ece_after" in cell.measures for cell in cells):
            lines.append([row, *("" if cell is None else f"{cell.mean('ece_after'):.3f}" for cell in cells)])
    return "Calibration error after a temperature, cross-fitted", ["", *summary.config.data], lines


def _tuning(summary: Summary) -> Table:
    rates = summary.config.learning_rates
    lines = [
        [entry, *(_share(summary.tuned.get((entry, rate))) for rate in rates), f"{summary.rates[entry]:g}"]
        for entry in summary.config.entries
        if any((entry, rate) in summary.tuned for rate in rates)
    ]
    return "Tuning: accuracy by learning rate", ["", *(f"{rate:g}" for rate in rates), "picked"], lines


def _sensitivity(summary: Summary) -> Table:
    if summary.config.sensitivity is None:
        return "", [], []
    keys = [(data, one) for data in summary.config.sensitivity.data for one in summary.config.sensitivity.fractions]
    lines = []
    for entry in summary.config.entries:
        found = [summary.untuned.get((data, entry, fraction)) for data, fraction in keys]
        if any(found):
            lines.append([entry, *("" if one is None else f"{100 * one[0]:.1f} (n {one[1]})" for one in found)])
    return (
        "With a learning rate that nobody tuned, times the picked one",
        ["", *(f"{data}, {fraction:g} x" for data, fraction in keys)],
        lines,
    )


def _cost(summary: Summary) -> Table:
    seconds = summary.cpu_seconds
    least = max(min(seconds.values(), default=1.0), 0.01)  # of tiny networks even that rounds to 0
    lines = [[entry, f"{value:.0f}", f"{value / least:.2f}"] for entry, value in seconds.items()]
    return "Cost of a run", ["", "CPU seconds, median", "times the cheapest"], lines


def _mean(cell: Cell | None, measure: str = "accuracy") -> str:
    if cell is None or not len(cell.measures.get(measure, ())):
        return "failed" if cell is not None and cell.failed else ""
    deviation = cell.deviation(measure)
    spread = "" if math.isnan(deviation) else f" ± {100 * deviation:.1f}"
    lost = f" ({cell.failed} failed)" if cell.failed else ""
    return f"{100 * cell.mean(measure):.1f}{spread}{lost}"


def _seeds(summary: Summary, data: str) -> str:
    """Return how many seeds stand behind a data set's figures: not the same everywhere while runs are missing."""
    counts = sorted({len(cell.seeds) for (where, _), cell in summary.cells.items() if where == data})
    return "" if not counts else " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
