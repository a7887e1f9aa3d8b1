"""The page that tells how a run went: its decisions, losses and accuracies, drawn from the log. One file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from models.page import Page
from trainer.config import TrainConfig
from trainer.evaluation.result import Evaluation
from trainer.training.diary import LOG, read_log
from trainer.training.pictures import draw_decisions, draw_progress

REPORT = "report.html"


def write_report(config: TrainConfig, evaluation: Evaluation) -> Path:
    """Draw a finished run's log, and return the page's path."""
    lines = read_log(config.folder / LOG)
    decisions = decisions_of(lines)
    page = Page(config.description)
    metrics = evaluation.metrics()
    page.text(f"On {int(metrics.pop('examples'))} validation examples, after the last epoch:")
    page.table((), [(name.replace("_", " "), f"{100 * value:.2f} %") for name, value in metrics.items()])
    if config.early_stop is not None:
        page.text("Early stop was on: figures from the examples that chose the weights are optimistic.")
    if decisions:
        page.heading("Who trained when, and why")
        page.picture(draw_decisions(lines, decisions))
        _decisions_table(page, decisions)
    page.heading("Losses and accuracies in training")
    page.picture(draw_progress(lines))
    page.heading("Configuration")
    page.preformatted(msgspec.json.format(msgspec.json.encode(config)).decode())
    path = config.folder / REPORT
    page.write(path)
    return path


def decisions_of(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the selections of a log, each from the epoch that began with it."""
    latest = [(line["epoch"], line["method"].get("decision")) for line in lines]
    return [decision for epoch, decision in latest if decision is not None and decision["epoch"] == epoch]


def _decisions_table(page: Page, decisions: Sequence[dict[str, Any]]) -> None:
    names = list(decisions[0]["consistency"])
    quantities = (("cosine", "consistency"), ("accuracy", "accuracy"), ("norm ratio", "gradient_ratio"))
    head = ["epoch", "batches", *(f"{label} {name}" for label, _ in quantities for name in names), "trains", "why"]
    rows = []
    for one in decisions:
        values = [
            f"{one[key][name]:.2f} ({one['average_' + key][name]:.2f})" for _, key in quantities for name in names
        ]
        rows.append([str(one["epoch"]), str(one["steps"]), *values, one["chosen"], one["why"]])
    page.text("As measured, in brackets the moving average that the selector sees.")
    page.table(head, rows)
