"""Pictures of a run, what a log says, over epochs."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.page import new_figure
from trainer.training.board import active_branches

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # told apart by the colour-blind too
_FUSED = "#333333"
_QUANTITIES = (
    ("consistency", "cosine C"),
    ("accuracy", "accuracy A"),
    ("gradient_ratio", "norm ratio N"),
)


def draw_decisions(lines: Sequence[dict[str, Any]], decisions: Sequence[dict[str, Any]]) -> Figure:
    """Return what each probe measured (dots) and the selector saw (lines), over the timeline of who trained."""
    colours = _colours_of(lines)
    figure: Figure = new_figure(9, 7.5)
    axes = figure.subplots(4, 1, sharex=True, height_ratios=(3, 3, 3, 1))
    for one, (key, label) in zip(axes, _QUANTITIES, strict=False):
        for name in decisions[0][key]:
            epochs = [decision["epoch"] for decision in decisions]
            measured = [decision[key][name] for decision in decisions]
            seen = [decision[f"average_{key}"][name] for decision in decisions]
            one.plot(epochs, seen, color=colours[name], label=name)
            one.plot(epochs, measured, "o", color=colours[name], markersize=4)
        one.set_ylabel(label)
        _shade(one, lines, colours)
    for name, colour in colours.items():
        there = [(line["epoch"], line["cosines"][name]) for line in lines if name in line["cosines"]]
        if there:
            label = f"{name}, mean over batches"
            axes[0].plot(*zip(*there, strict=True), "+", color=colour, markersize=6, label=label)
    axes[0].axhline(0, color="#999999", linewidth=0.6)
    axes[0].legend(loc="lower left", fontsize=8, ncols=2)
    _draw_timeline(axes[-1], lines, colours)
    return figure


def draw_progress(lines: Sequence[dict[str, Any]]) -> Figure:
    """Return losses and accuracies over epochs, and who trained."""
    colours = _colours_of(lines)
    figure: Figure = new_figure(9, 6.5)
    axes = figure.subplots(3, 1, sharex=True, height_ratios=(4, 4, 1))
    epochs = [line["epoch"] for line in lines]
    for one, part in zip(axes, ("losses", "accuracies"), strict=False):
        for name in lines[0][part] if lines else ():
            values = [line[part].get(name, float("nan")) for line in lines]
            one.plot(epochs, values, color=colours.get(name, _FUSED), label=name, linewidth=1.5)
        _shade(one, lines, colours)
        one.set_ylabel({"losses": "loss", "accuracies": "accuracy"}[part])
    judged = [(line["epoch"], line["validation_loss"]) for line in lines if "validation_loss" in line]
    if judged:
        axes[0].plot(*zip(*judged, strict=True), "--", color=_FUSED, label="fused, validation")
    if lines:
        axes[0].legend(loc="upper right", fontsize=8)
    _draw_timeline(axes[-1], lines, colours)
    return figure


def _colours_of(lines: Sequence[dict[str, Any]]) -> dict[str, str]:
    names = [name for name in (lines[0]["losses"] if lines else ()) if name != "fused"]
    return {name: _COLOURS[n % len(_COLOURS)] for n, name in enumerate(names)}


def _shade(axes: Axes, lines: Sequence[dict[str, Any]], colours: dict[str, str]) -> None:
    """Lay the colour of a branch that trains alone behind its epochs."""
    for line in lines:
        active = active_branches(line)
        if len(active) == 1:
            axes.axvspan(line["epoch"] - 0.5, line["epoch"] + 0.5, color=colours[active[0]], alpha=0.12, linewidth=0)


def _draw_timeline(axes: Axes, lines: Sequence[dict[str, Any]], colours: dict[str, str]) -> None:
    """Draw a bar per branch where it trains, with the name of each stage where it begins."""
    for row, (name, colour) in enumerate(colours.items()):
        spans = [(line["epoch"] - 0.5, 1) for line in lines if name in active_branches(line)]
        axes.broken_barh(spans, (row - 0.35, 0.7), color=colour)
    before = None
    for line in lines:
        stage = line["stage"].partition(":")[0]
        if stage != before:
            axes.text(line["epoch"] - 0.4, len(colours) - 0.45, stage, fontsize=8, va="bottom")
        before = stage
    axes.set_yticks(range(len(colours)), list(colours))
    axes.set_ylim(-0.6, len(colours) + 0.3)
    axes.set_xlabel("epoch; bars: which branches train")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
