"""A verdict as one HTML page that opens offline."""

import math
from pathlib import Path

from calibration.judging.gates import Figures
from calibration.judging.ladder import Rung, TargetResult, Verification
from calibration.judging.pictures import bars
from models.page import Page

_HEADS = ("", "agreement", "accuracy", "lost", "worst class", "SQNR", "weight drift", "order flips", "why")


def write_page(path: Path, found: Verification) -> None:
    """Write the page; RecordingError where the disk is full."""
    page = Page(f"{found.bundle}: what may fly in which precision")
    page.text(
        f"{found.examples} examples ({found.note}), each rung compared with FP32, all sensors there and each gone."
    )
    page.table(("target", "flies", "why"), [(one.target, one.chosen, one.why) for one in found.targets])
    for one in found.targets:
        _target(page, one, found)
    page.heading("Gates")
    page.table(
        (), [(name.replace("_", " "), f"{getattr(found.gates, name):g}") for name in found.gates.__struct_fields__]
    )
    page.write(path)


def _target(page: Page, one: TargetResult, found: Verification) -> None:
    page.heading(one.target)
    if one.timings:
        page.text("Milliseconds of one example on this machine, one thread:")
        rows = []
        for role, timing in one.timings.items():
            rows += [(f"{role} fp32", timing.fp32_ms), (f"{role} {timing.precision}", timing.ms)]
        page.svg(bars(rows, "ms", digits=3))
    lines = []
    for rung in one.rungs:
        lines += [_line(rung, case, figures) for case, figures in rung.figures.items()]
    page.table(_HEADS, lines, highlighted=None)
    page.text("SQNR of the fused logits against FP32; the line is the gate:")
    sqnr = [
        (f"{rung.precision}, {case}", figures.sqnr_db) for rung in one.rungs for case, figures in rung.figures.items()
    ]
    low = [name for name, value in sqnr if value < found.gates.least_sqnr_db]
    page.svg(bars(sqnr, "dB", found.gates.least_sqnr_db, low))
    _classes(page, one.rungs)


def _classes(page: Page, rungs: tuple[Rung, ...]) -> None:
    """Add what each class loses in each case, where labels are known."""
    cases = [(rung, case) for rung in rungs for case, figures in rung.figures.items() if figures.recall_lost]
    if not cases:
        return
    labels = list(dict.fromkeys(label for rung, case in cases for label in rung.figures[case].recall_lost))
    page.text("Recall lost by class, points:")
    lines = [
        (label, *(_points(rung.figures[case].recall_lost.get(label, math.nan)) for rung, case in cases))
        for label in labels
    ]
    page.table(("", *(f"{rung.precision}, {case}" for rung, case in cases)), lines)


def _line(rung: Rung, case: str, figures: Figures) -> tuple[str, ...]:
    broken = [text.removeprefix(f"{case}: ") for text in rung.broken if text.startswith(f"{case}: ")]
    return (
        f"{rung.precision}, {case}",
        f"{figures.agreement:.1%}",
        _percent(figures.accuracy),
        _points(figures.accuracy_lost),
        _points(max(figures.recall_lost.values(), default=math.nan)),
        f"{figures.sqnr_db:.1f} dB" if math.isfinite(figures.sqnr_db) else "exact",
        f"{figures.weight_drift:.4f}",
        f"{figures.order_flips:.1%}",
        "; ".join(broken),
    )


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.1%}"


def _points(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.2f}"
