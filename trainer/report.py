"""The page that tells how a run went: its decisions, losses and accuracies, drawn from the log. One file."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from trainer.config import TrainConfig
from trainer.diary import LOG, read_log
from trainer.evaluation import Evaluation
from trainer.pictures import draw_decisions, draw_progress

REPORT = "report.html"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child, td.words { text-align: left }
svg { max-width: 100%; height: auto }
pre { font-size: 12px; background: #f6f6f6; padding: 1rem; overflow-x: auto }
"""


def write_report(config: TrainConfig, evaluation: Evaluation) -> Path:
    """Draw a finished run's log, and return the page's path."""
    lines = read_log(config.folder / LOG)
    decisions = decisions_of(lines)
    parts = [f"<h1>{html.escape(config.description)}</h1>", _metrics_table(evaluation)]
    if config.early_stop is not None:
        parts.append("<p>Early stop was on: figures from the examples that chose the weights are optimistic.</p>")
    if decisions:
        parts += ["<h2>Who trained when, and why</h2>", draw_decisions(lines, decisions), _decisions_table(decisions)]
    parts += ["<h2>Losses and accuracies in training</h2>", draw_progress(lines)]
    settings = msgspec.json.format(msgspec.json.encode(config)).decode()
    parts += ["<h2>Configuration</h2>", f"<pre>{html.escape(settings)}</pre>"]
    path = config.folder / REPORT
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(config.description)}</title>'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )
    partial.replace(path)
    return path


def decisions_of(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the selections of a log, each from the epoch that began with it."""
    latest = [(line["epoch"], line["method"].get("decision")) for line in lines]
    return [decision for epoch, decision in latest if decision is not None and decision["epoch"] == epoch]


def _metrics_table(evaluation: Evaluation) -> str:
    metrics = evaluation.metrics()
    examples = int(metrics.pop("examples"))
    rows = [(name.replace("_", " "), f"{100 * value:.2f} %") for name, value in metrics.items()]
    return f"<p>On {examples} validation examples, after the last epoch:</p>" + _table((), rows)


def _decisions_table(decisions: Sequence[dict[str, Any]]) -> str:
    names = list(decisions[0]["consistency"])
    quantities = (("cosine", "consistency"), ("accuracy", "accuracy"), ("norm ratio", "gradient_ratio"))
    head = ["epoch", "batches", *(f"{label} {name}" for label, _ in quantities for name in names), "trains", "why"]
    rows = []
    for one in decisions:
        values = [
            f"{one[key][name]:.2f} ({one['average_' + key][name]:.2f})" for _, key in quantities for name in names
        ]
        rows.append([str(one["epoch"]), str(one["steps"]), *values, one["chosen"], one["why"]])
    return "<p>As measured, in brackets the moving average that the selector sees.</p>" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table>{f'<tr>{top}</tr>' if head else ''}\n{body}</table>"
