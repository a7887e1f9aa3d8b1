"""A comparison as a page to look at: the same tables, and pictures of what they say."""

import math
from pathlib import Path

from models.page import Page, new_figure
from trainer.compare.tables import Summary
from trainer.compare.text import about, tables

_OURS, _OTHER, _FAINT = "#2e7d32", "#5b7083", "#c9d1d9"


def write_report(path: Path, summary: Summary) -> None:
    """Write the HTML report; it needs nothing but the file itself."""
    page = Page(summary.config.description)
    page.text(about(summary))
    page.heading("At a glance")
    _accuracy_picture(page, summary)
    _missing_picture(page, summary)
    _rate_picture(page, summary)
    _cost_picture(page, summary)
    for caption, heads, lines in tables(summary):
        page.heading(caption)
        page.table(heads, lines, highlighted=summary.config.ours)
    page.write(path)


def _color(summary: Summary, row: str) -> str:
    return _OURS if row == summary.config.ours else _FAINT if row.endswith(" alone") else _OTHER


def _accuracy_picture(page: Page, summary: Summary) -> None:
    """One panel per data set: mean and every seed of each row."""
    shown = [data for data in summary.config.data if any(where == data for where, _ in summary.cells)]
    if not shown:
        return
    columns = min(3, len(shown))
    lines = math.ceil(len(shown) / columns)
    figure = new_figure(4.2 * columns, (0.24 * len(summary.rows) + 0.9) * lines)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis, data in zip(axes.flat, shown, strict=False):
        for place, row in enumerate(summary.rows):
            cell = summary.cells.get((data, row))
            if cell is None or not len(cell.measures["accuracy"]):
                continue
            color = _color(summary, row)
            axis.plot(100 * cell.measures["accuracy"], [place] * len(cell.seeds), "o", ms=3, color=color, alpha=0.5)
            axis.plot(100 * cell.mean(), place, "|", ms=13, mew=2.5, color=color)
        axis.set_title(data, loc="left", fontsize=10)
        axis.set_yticks(range(len(summary.rows)), summary.rows, fontsize=8)
        axis.set_xlabel("right answers, %", fontsize=8)
        axis.grid(axis="x", color="#e3e6ea")
    axes.flat[0].invert_yaxis()
    page.text("Right answers: every seed a dot, their mean a bar.")
    page.picture(figure)


def _missing_picture(page: Page, summary: Summary) -> None:
    """Accuracy with everything there and with each modality missing, per entry, mean over data sets."""
    entries = [entry for entry in summary.config.entries if any(row == entry for _, row in summary.cells)]
    if not (entries and summary.modalities):
        return
    figure = new_figure(7.5, 0.34 * len(entries) + 1)
    axis = figure.subplots()
    marks = [("accuracy", "all there", "o")]
    marks += [(f"accuracy_without_{m}", f"{m} missing", s) for m, s in zip(summary.modalities, "<>^vsD", strict=False)]
    for measure, label, mark in marks:
        values = []
        for entry in entries:
            told = [cell.mean(measure) for (_, row), cell in summary.cells.items() if row == entry]
            known = [value for value in told if not math.isnan(value)]
            values.append(100 * sum(known) / len(known) if known else math.nan)
        axis.plot(values, range(len(entries)), mark, label=label, ms=7)
    axis.set_yticks(range(len(entries)), entries, fontsize=9)
    axis.invert_yaxis()
    axis.grid(color="#e3e6ea")
    axis.set_xlabel("right answers, %, mean over data sets")
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    page.text("What is left when a sensor is gone.")
    page.picture(figure)


def _rate_picture(page: Page, summary: Summary) -> None:
    """Accuracy in tuning against the learning rate."""
    if not summary.tuned:
        return
    figure = new_figure(7.5, 3.6)
    axis = figure.subplots()
    for entry in summary.config.entries:
        points = [(rate, 100 * value) for (name, rate), value in sorted(summary.tuned.items()) if name == entry]
        is_ours = entry == summary.config.ours
        axis.plot(*zip(*points, strict=True), "o-", ms=4, lw=2.5 if is_ours else 1, label=entry) if points else None
    axis.set_xscale("log", base=2)
    axis.set_xticks(summary.config.learning_rates, [f"{rate:g}" for rate in summary.config.learning_rates])
    axis.set_xlabel("learning rate")
    axis.set_ylabel("right answers, %")
    axis.grid(color="#e3e6ea")
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    page.text("Tuning: how much the learning rate matters to each.")
    page.picture(figure)


def _cost_picture(page: Page, summary: Summary) -> None:
    """Accuracy, mean over data sets, against the cost of a run."""
    points = []
    for entry, seconds in summary.cpu_seconds.items():
        told = [cell.mean() for (_, row), cell in summary.cells.items() if row == entry]
        known = [value for value in told if not math.isnan(value)]
        if known:
            points.append((entry, seconds, 100 * sum(known) / len(known)))
    if not points:
        return
    figure = new_figure(7.5, 3.4)
    axis = figure.subplots()
    for entry, seconds, share in points:
        axis.plot(seconds, share, "o", color=_color(summary, entry))
        axis.annotate(entry, (seconds, share), xytext=(5, 3), textcoords="offset points", fontsize=8)
    axis.set_xlabel("CPU seconds of a run, median")
    axis.set_ylabel("right answers, %, mean")
    axis.margins(x=0.2)
    axis.grid(color="#e3e6ea")
    page.text("What it costs.")
    page.picture(figure)
