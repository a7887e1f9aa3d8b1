"""An evaluation as one HTML page that opens offline."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.page import Page, new_figure
from trainer.evaluation import confidence
from trainer.evaluation.controls import Controls
from trainer.evaluation.result import Evaluation

_FUSED, _ONE, _GONE, _DEAD = "#2f8f5b", "#3f7cc4", "#e0a03c", "#b4525f"
_SWAPPED, _OTHERS, _NEITHER = "#a869b8", "#4ba67c", "#c9ced4"
_GRID = "#e3e6ea"
_QUALITIES = {"iq": "SNR, dB", "image": "less severity"}
_WRITTEN_CLASSES = 20
_LEAST_IN_CELL = 3
_DARK_SHARE = 93


def write_page(path: Path, title: str, evaluation: Evaluation, controls: Controls) -> None:
    """Write the page.

    Raises:
        OSError: the file cannot be written there.
    """
    page = Page(title)
    _headline(page, evaluation, controls)
    page.heading("What happens to the answer when something happens to a sensor")
    page.text(
        "Right answers, whole and with one sensor alone, masked out, or dead while the mask calls it alive. `frozen` is"
        " the mean over inputs that stand still: a single frame cannot tell that it does, the gate in flight can."
    )
    page.picture(_bars(evaluation))
    if evaluation.swapped:
        page.text("Whom the fused answer follows when one sensor shows a place of another class.")
        page.picture(_swapped(evaluation))
    page.heading("Which classes are taken for which")
    page.picture(_confusion(evaluation))
    page.heading("Whether confidence comes true")
    fit = evaluation.calibration
    page.text(
        f"Expected calibration error over {fit.bins} bins of equal width: {fit.ece_before:.3f} as trained,"
        f" {fit.ece_after:.3f} after a temperature, each half by the other's; {fit.ece_stored:.3f} by the model's own"
        f" temperature {fit.stored_temperature:.2f}. All rows together ask for {fit.temperature:.2f}."
        f" Bins of fewer than {_LEAST_IN_CELL} answers have no point."
    )
    page.picture(_reliability(evaluation))
    _quality(page, evaluation)
    page.heading("How much it doubts")
    page.text(
        "Entropy of the fused answer over its greatest value: known examples, unknown senders, dead sensors."
        " Heights from 4 % up are on a logarithmic scale."
    )
    page.picture(_entropies(controls))
    page.write(path)


def _headline(page: Page, evaluation: Evaluation, controls: Controls) -> None:
    lines = [
        ["right answers (OA)", f"{evaluation.accuracy:.1%}"],
        ["mean over classes (AA)", f"{evaluation.average_accuracy:.1%}"],
        ["Cohen's kappa", f"{evaluation.kappa:.3f}"],
        ["macro F1", f"{evaluation.macro_f1:.3f}"],
    ]
    for name, rho in evaluation.weight_spearman.items():
        if np.isfinite(rho):
            lines.append([f"rank correlation of the weight of {name} with its quality", f"{rho:.2f}"])
    told = controls.as_json()
    if "unknown" in told:
        lines.append(["unknown senders told by entropy (AUROC)", f"{told['unknown']['auroc']['fused']:.2f}"])
    for snr, share in controls.quiet_accuracy.items():
        chance = 1 / len(evaluation.classes)
        lines.append([f"radio without a burst, {snr.replace('_db', ' dB')} (AA; chance {chance:.1%})", f"{share:.1%}"])
    page.text(f"{evaluation.examples} examples of {len(evaluation.classes)} classes.")
    page.table(["", "fused"], lines)


def _bars(evaluation: Evaluation) -> Any:
    bars = [("fused", evaluation.accuracy, _FUSED)]
    bars += [(f"{name} alone", share, _ONE) for name, share in evaluation.alone.items()]
    bars += [(f"{name} masked out", share, _GONE) for name, share in evaluation.without.items()]
    for name, shares in evaluation.corrupted.items():
        bars += [(f"{name} {kind}, no mask", share, _DEAD) for kind, share in shares.items() if kind != "masked"]
    figure = new_figure(8.0, 0.3 * len(bars) + 0.7)
    axis = figure.subplots()
    lengths = [100 * share for _, share, _ in bars]
    drawn = axis.barh([name for name, _, _ in bars], lengths, color=[colour for _, _, colour in bars], height=0.72)
    axis.bar_label(drawn, fmt="%.1f", padding=3)
    axis.invert_yaxis()
    axis.set(xlim=(0, 108), xlabel="right answers, %")
    axis.axvline(100 / len(evaluation.classes), color="#555", lw=1, ls=":")
    return _plain(figure, axis)


def _swapped(evaluation: Evaluation) -> Any:
    figure = new_figure(8.0, 0.42 * len(evaluation.swapped) + 0.9)
    axis = figure.subplots()
    left = np.zeros(len(evaluation.swapped))
    names = [f"{name} swapped" for name in evaluation.swapped]
    labels = {"swapped": "the swapped sensor", "others": "the rest", "neither": "neither"}
    for (key, label), colour in zip(labels.items(), (_SWAPPED, _OTHERS, _NEITHER), strict=True):
        shares = np.array([100 * follows[key] for follows in evaluation.swapped.values()])
        drawn = axis.barh(names, shares, left=left, color=colour, label=label, height=0.62)
        axis.bar_label(drawn, fmt="%.0f", label_type="center", color="white" if key != "neither" else "#333")
        left += shares
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="answers, %")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return _plain(figure, axis)


def _confusion(evaluation: Evaluation) -> Any:
    counts, classes = evaluation.confusion, evaluation.classes
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 0.5 * len(classes) + 2.2
    figure = new_figure(size + 1.0, size)
    axis = figure.subplots()
    drawn = axis.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlabel="answer", ylabel="truth")
    if len(classes) <= _WRITTEN_CLASSES:
        _write_cells(axis, counts, shares > 0.5)
    figure.colorbar(drawn, ax=axis, shrink=0.8, label="of the class, %").outline.set_visible(False)
    axis.spines[:].set_visible(False)
    return figure


def _write_cells(axis: Any, texts: NDArray[Any], is_dark: NDArray[np.bool_]) -> None:
    for (row, column), text in np.ndenumerate(texts):
        if text:
            axis.text(column, row, text, ha="center", va="center", color="white" if is_dark[row, column] else "#222")


def _reliability(evaluation: Evaluation) -> Any:
    rows, stored = evaluation.rows, evaluation.calibration.stored_temperature
    shown = {
        "as trained": rows.logits,
        "after a temperature (cross-fitted)": confidence.cross_fitted(rows.logits, rows.labels),
        f"by the model's own, {stored:.2f}": rows.logits / stored,
    }
    figure = new_figure(9.6, 3.4)
    for axis, (title, logits) in zip(figure.subplots(1, 3, sharey=True), shown.items(), strict=True):
        bins = confidence.reliability(logits, rows.labels)
        share = bins.examples / bins.examples.sum()
        edges = np.arange(confidence.BINS) / confidence.BINS
        axis.bar(edges, share, 1 / confidence.BINS, align="edge", color=_GRID, label="share of answers")
        axis.plot([0, 1], [0, 1], ":", color="#555", lw=1)
        drawn = bins.examples >= _LEAST_IN_CELL
        axis.plot(bins.confidence[drawn], bins.accuracy[drawn], "o-", color=_ONE, ms=4, label="right answers")
        axis.set(title=title, xlabel="confidence", xlim=(0, 1), ylim=(0, 1.02))
        axis.title.set_fontsize(10)
        _plain(figure, axis, "both")
    figure.axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def _quality(page: Page, evaluation: Evaluation) -> None:
    rows = evaluation.rows
    known = [name for name, values in rows.quality.items() if np.isfinite(values).all() and np.ptp(values) > 0]
    if len(known) >= 2:
        page.heading("Right answers by the quality of two inputs")
        page.text(
            "Share of right fused answers in %, below it the number of examples; cells of fewer than three empty."
        )
        page.picture(_grid(evaluation, known[0], known[1]))
    names = list(rows.quality)
    varying = [name for name in known if np.ptp(rows.weights[:, names.index(name)]) > 0]
    if varying:
        page.heading("What the fusion head trusts, by the quality of the input")
        page.text("Weight of a sensor in the fused answer, from its worst quarter of inputs to its best.")
        page.picture(_weights(evaluation, varying))


def _grid(evaluation: Evaluation, first: str, second: str) -> Any:
    rows, cells = evaluation.rows, 5
    edges = {name: np.linspace(*_range(rows.quality[name]), cells + 1) for name in (first, second)}
    x, y = (np.clip(np.digitize(rows.quality[name], edges[name]) - 1, 0, cells - 1) for name in (first, second))
    is_right = rows.answers["fused"] == rows.labels
    counts = np.zeros((cells, cells), np.int64)
    right = np.zeros((cells, cells))
    np.add.at(counts, (y, x), 1)
    np.add.at(right, (y, x), is_right)
    shares = np.where(counts >= _LEAST_IN_CELL, 100 * right / np.maximum(counts, 1), np.nan)
    figure = new_figure(6.2, 4.4)
    axis = figure.subplots()
    drawn = axis.imshow(shares, cmap="RdYlGn", vmin=50, vmax=100, origin="lower", aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if np.isfinite(share):
            colour = "white" if share >= _DARK_SHARE else "#222"
            text = f"{share:.0f}\n({counts[row, column]})"
            axis.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axis.set_xticks(np.arange(cells + 1) - 0.5, [f"{edge:.2g}" for edge in edges[first]])
    axis.set_yticks(np.arange(cells + 1) - 0.5, [f"{edge:.2g}" for edge in edges[second]])
    axis.set(xlabel=_quality_name(first), ylabel=_quality_name(second))
    figure.colorbar(drawn, ax=axis, label="right answers, %").outline.set_visible(False)
    axis.spines[:].set_visible(False)
    return figure


def _weights(evaluation: Evaluation, names: list[str]) -> Any:
    rows = evaluation.rows
    figure = new_figure(9.6, 2.7 * len(names))
    for line, name in zip(figure.subplots(len(names), 4, squeeze=False, sharex=True, sharey="row"), names, strict=True):
        quality, weights = rows.quality[name], rows.weights[:, list(rows.quality).index(name)]
        edges = np.quantile(quality, np.linspace(0, 1, 5))
        for axis, low, high in zip(line, edges[:-1], edges[1:], strict=True):
            chosen = weights[(quality >= low) & (quality <= high)]
            axis.hist(chosen, np.linspace(0, 1, 21), weights=np.full(len(chosen), 100 / len(chosen)), color=_ONE)
            axis.axvline(chosen.mean(), color=_DEAD, lw=1.5)
            axis.set(title=f"{low:.2g} to {high:.2g}", xlabel=f"weight of {name}", xlim=(0, 1))
            axis.title.set_fontsize(9)
            _plain(figure, axis, "y")
        line[0].set_ylabel(f"{_quality_name(name)}\nanswers, %")
    return figure


def _entropies(controls: Controls) -> Any:
    shown = {"known": (controls.known["fused"], _FUSED)}
    if controls.kinds:
        shown["unknown senders"] = (controls.unknown["fused"], _SWAPPED)
    shown |= {name: (values, _DEAD) for name, values in controls.dead.items()}
    figure = new_figure(8.0, 0.85 * len(shown) + 0.6)
    for axis, (name, (values, colour)) in zip(
        figure.subplots(len(shown), 1, squeeze=False, sharex=True)[:, 0], shown.items(), strict=True
    ):
        axis.hist(values, np.linspace(0, 1, 41), weights=np.full(len(values), 100 / len(values)), color=colour)
        axis.axvline(np.mean(values), color="#222", lw=1)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.set_yscale("symlog", linthresh=4)
        axis.set_yticks([])
        axis.minorticks_off()
        _plain(figure, axis)
    axis.set(xlim=(0, 1), xlabel="entropy (0 certain, 1 no idea), black: mean")
    return figure


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _quality_name(name: str) -> str:
    return f"{name}: {_QUALITIES.get(name, 'quality')}"


def _plain(figure: Any, axis: Any, grid: str = "x") -> Any:
    """Take the frame off an axis and lay a light grid under it; return the figure."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis=grid, color=_GRID)
    axis.set_axisbelow(True)
    return figure
