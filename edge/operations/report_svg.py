"""Small pictures in SVG for a page that must open anywhere: strips, areas, curves and bars that stretch with the page.

A picture is drawn in units of 1000 across and stretched by the browser; its text is HTML laid over it, so that letters
keep their size on a phone. Every text is escaped here.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from edge.operations.report_series import Run

WIDTH = 1000
_LETTER_SHARE = 0.0085
"""Of the width of a picture on a desk's screen that one letter takes."""
_MOST_TICKS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Ink:
    """How a key is painted and named."""

    colour: str
    """Any CSS colour."""
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A mark on an axis."""

    place: float
    """0 to 1 along the axis."""
    text: str


def picture(height_px: int, shapes: str, overlay: str = "", label: str = "") -> str:
    """Return a stretching picture; `shapes` use 0 to WIDTH across and 0 to `height_px` down."""
    return (
        f'<div class="plot" style="height:{height_px}px">'
        f'<svg viewBox="0 0 {WIDTH} {height_px}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        f"{shapes}</svg>{overlay}</div>"
    )


def strip(runs: Iterable[Run], span_s: float, inks: Mapping[Hashable, Ink], height_px: int, label: str) -> str:
    """Return a lane of coloured segments over time, named where there is room, each with its times on hovering."""
    segments, names = [], []
    for run in runs:
        ink = inks[run.key]
        left, width = run.start_s / span_s, (run.end_s - run.start_s) / span_s
        title = f"{ink.text}: {run.start_s:.2f} to {run.end_s:.2f} s, {run.answers} answers"
        segments.append(
            f'<rect class="segment" x="{left * WIDTH:.2f}" y="0" width="{max(width * WIDTH, 0.5):.2f}"'
            f' height="{height_px}" fill="{ink.colour}"><title>{escape(title)}</title></rect>'
        )
        if height_px >= 20 and width > _LETTER_SHARE * (len(ink.text) + 1):
            place = f"left:{left:.2%};width:{width:.2%};line-height:{height_px}px"
            names.append(f'<span class="name" style="{place}">{escape(ink.text)}</span>')
    return picture(height_px, "".join(segments), "".join(names), label)


def marks(runs: Iterable[Run], span_s: float, height_px: int, label: str) -> str:
    """Return a lane of marks that hang from its top, as long as the share (0 to 1) that is each run's key."""
    shapes = []
    for run in runs:
        left, width = run.start_s / span_s * WIDTH, (run.end_s - run.start_s) / span_s * WIDTH
        drop = max(float(str(run.key)) * height_px, 0.5)
        size = f'x="{left:.2f}" y="0" width="{max(width, 0.8):.2f}" height="{drop:.2f}"'
        title = f"<title>{escape(label)}: {run.start_s:.2f} to {run.end_s:.2f} s</title>"
        shapes.append(f'<rect class="mark" {size}>{title}</rect>')
    return picture(height_px, "".join(shapes), label=label)


def area(times_s: NDArray[np.float64], shares: NDArray[np.float64], span_s: float, inks: Sequence[Ink]) -> str:
    """Return shares of a whole over time, stacked from below; NaN counts as nothing.

    Args:
        times_s: (times,).
        shares: (times, series), 0 to 1.
        span_s: time at the right edge.
        inks: of each series.
    """
    height_px = 120
    tops = np.cumsum(np.nan_to_num(shares), axis=1)
    floors = np.hstack([np.zeros((len(tops), 1)), tops[:, :-1]])
    across = times_s / span_s * WIDTH
    shapes = []
    for piece in _pieces(np.where(np.isfinite(shares).any(axis=1), 0.0, np.nan)):
        for n, ink in enumerate(inks):
            upper = _points(across[piece], height_px * (1.0 - tops[piece, n]))
            lower = _points(across[piece][::-1], height_px * (1.0 - floors[piece, n][::-1]))
            title = f"<title>{escape(ink.text)}</title>"
            shapes.append(f'<path d="M{upper}L{lower}Z" fill="{ink.colour}">{title}</path>')
    return picture(height_px, "".join(shapes), _heights((0.0, 0.5, 1.0)), "weights over time")


def lines(times_s: NDArray[np.float64], values: NDArray[np.float64], span_s: float, inks: Sequence[Ink]) -> str:
    """Return values of 0 to 1 over time as lines, broken where a value is NaN; arguments as `area`."""
    height_px = 120
    shapes = [_grid(height_px, (0.0, 0.5, 1.0))]
    for n, ink in enumerate(inks):
        for piece in _pieces(values[:, n]):
            down = height_px * (1.0 - values[piece, n])
            shapes.append(_curve(_points(times_s[piece] / span_s * WIDTH, down), ink))
    return picture(height_px, "".join(shapes), _heights((0.0, 0.5, 1.0)), "entropies over time")


def cumulative(groups: Mapping[str, NDArray[np.float64]], inks: Mapping[str, Ink]) -> str:
    """Return the shares of values at or below each time in ms, on a logarithmic axis."""
    height_px = 200
    largest = max(float(values.max()) for values in groups.values())
    smallest = min(float(np.percentile(values, 0.1)) for values in groups.values())
    low, high = _decade_third(max(smallest, 1e-3), math.floor), _decade_third(max(largest, 2e-3), math.ceil)
    shapes, quantiles = [_grid(height_px, (0.0, 0.5, 0.9, 0.99))], np.linspace(0.0, 1.0, 201)
    marks = ticks_logarithmic(low, high)
    shapes += [_rule(mark.place * WIDTH, height_px) for mark in marks]
    for name, values in groups.items():
        limits = np.maximum(np.quantile(values, quantiles), low)
        across = np.log(limits / low) / math.log(high / low) * WIDTH
        shapes.append(_curve(_points(across, height_px * (1.0 - quantiles)), inks[name]))
    overlay = _heights((0.5, 0.9, 0.99))
    return picture(height_px, "".join(shapes), overlay, "distribution of latency") + axis(marks)


def bar(parts: Sequence[tuple[float, Ink]], whole: float, height_px: int = 22) -> str:
    """Return parts of a whole side by side, from the left; a part above 0 is never too thin to be seen."""
    shapes, left = [], 0.0
    for value, ink in parts:
        if value <= 0 or whole <= 0:
            continue
        width = max(value / whole * WIDTH, 4.0)
        title = f"<title>{escape(ink.text)}</title>"
        size = f'x="{left:.2f}" y="0" width="{width:.2f}" height="{height_px}"'
        shapes.append(f'<rect {size} fill="{ink.colour}">{title}</rect>')
        left += width
    return picture(height_px, "".join(shapes), label=", ".join(ink.text for _, ink in parts))


def axis(ticks: Iterable[Tick]) -> str:
    """Return the numbers below a picture; those at its ends stay within it."""
    marks = []
    for tick in ticks:
        shift = "0" if tick.place < 0.02 else "-100%" if tick.place > 0.98 else "-50%"
        style = f"left:{tick.place:.2%};transform:translateX({shift})"
        marks.append(f'<span style="{style}">{escape(tick.text)}</span>')
    return f'<div class="axis">{"".join(marks)}</div>'


def ticks_of_time(span_s: float) -> list[Tick]:
    """Return marks at round times from 0 to `span_s`."""
    steps = [base * 10.0**power for power in range(-3, 1) for base in (1, 2, 5)]
    steps += [15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400]
    step = next((step for step in steps if span_s / step <= _MOST_TICKS), span_s)
    return [
        Tick(place=min(n * step / span_s, 1.0), text=_clock(n * step, step))
        for n in range(int(span_s / step + 1e-9) + 1)
    ]


def ticks_logarithmic(low: float, high: float) -> list[Tick]:
    """Return marks at round values within [low, high] ms, as many as can be told apart."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for bases in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1,)):
        values = [base * 10.0**power for power in range(first, last + 1) for base in bases]
        within = [value for value in values if low * 0.999 <= value <= high * 1.001]
        if len(within) <= _MOST_TICKS:
            break
    return [Tick(place=math.log(value / low) / math.log(high / low), text=f"{value:g} ms") for value in within]


def legend(inks: Iterable[Ink]) -> str:
    """Return colours with their names."""
    chips = (f'<span><i style="background:{ink.colour}"></i>{escape(ink.text)}</span>' for ink in inks)
    return f'<p class="legend">{"".join(chips)}</p>'


def _clock(time_s: float, step_s: float) -> str:
    if step_s >= 60:
        return f"{int(time_s) // 60} min"
    return f"{round(time_s, 3):g} s"


def _decade_third(value: float, towards: Callable[[float], int]) -> float:
    return math.pow(10.0, towards(math.log10(value) * 3) / 3)


def _points(across: NDArray[np.float64], down: NDArray[np.float64]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across.tolist(), down.tolist(), strict=True))


def _pieces(values: NDArray[np.float64]) -> list[slice]:
    """Return where values are finite, as slices."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    edges = np.flatnonzero(known[1:] != known[:-1])
    return [slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _curve(points: str, ink: Ink) -> str:
    return f'<path class="curve" d="M{points}" stroke="{ink.colour}"><title>{escape(ink.text)}</title></path>'


def _grid(height_px: int, levels: Iterable[float]) -> str:
    return "".join(f'<path class="rule" d="M0 {height_px * (1 - level):.1f}H{WIDTH}"/>' for level in levels)


def _rule(across: float, height_px: int) -> str:
    return f'<path class="rule" d="M{across:.1f} 0V{height_px}"/>'


def _heights(levels: Iterable[float]) -> str:
    """Return the numbers of a scale of 0 to 1, at the left edge."""
    return "".join(
        f'<span class="level" style="top:{1 - level:.0%};transform:translateY({-100 * (1 - level):.0f}%)">'
        f"{level:.0%}</span>"
        for level in levels
    )
