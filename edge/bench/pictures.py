"""Pictures of a benchmark as SVG text: on the drone there is nothing that draws, and a page must open anywhere."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH = 900
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 12, 36
INK, FAINT = "#1b1f24", "#d5dae0"
COLOURS = ("#4c78a8", "#e07b39", "#3f9a6b", "#9467bd", "#b3261e", "#8c6d31", "#17a2b8", "#7f7f7f", "#d4a017", "#e377c2")
_ROW = 24
_LABELS = 260
"""Pixels on the left that names take."""
_MOST_POINTS = 600


def cumulative(groups: Mapping[str, Sequence[float]]) -> str:
    """Return the share of values at or below each time in ms, on a logarithmic axis; empty without values."""
    known = {name: np.sort(np.asarray(values, np.float64)) for name, values in groups.items() if len(values)}
    if not known:
        return ""
    low = max(min(float(values[0]) for values in known.values()), 1e-3)
    high = max(max(float(values[-1]) for values in known.values()), 2 * low)
    height, span = 260, math.log(high / low)
    room_x, room_y = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM
    parts = list(_levels(room_y))
    for tick in _decades(low, high):
        parts.append(_vertical(LEFT + room_x * math.log(tick / low) / span, height, f"{tick:g} ms"))
    shares = np.linspace(0.0, 1.0, 201)
    for n, (name, values) in enumerate(known.items()):
        x = LEFT + room_x * np.log(np.maximum(np.quantile(values, shares), low) / low) / span
        points = " ".join(f"{one:.1f},{TOP + room_y * (1 - share):.1f}" for one, share in zip(x, shares, strict=True))
        parts.append(_line(points, n, name))
    return _svg(height, parts) + _legend(known)


def series(times_s: Sequence[float], values: Sequence[float], name: str) -> str:
    """Return values in ms over time in s as dots; where there are too many, the largest of each moment."""
    if not len(times_s):
        return ""
    times, heights = _thin(np.asarray(times_s, np.float64), np.asarray(values, np.float64))
    height = 150
    room_x, room_y = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM
    span, top = max(float(times[-1]), 1e-9), max(float(heights.max()), 1e-9)
    parts = [
        _rule(TOP + room_y),
        _text(LEFT - 6, TOP + 4, f"{top:.2f}", "end"),
        _text(LEFT - 6, TOP + room_y, "0", "end"),
    ]
    parts += [_text(LEFT, height - 12, "0 s"), _text(WIDTH - RIGHT, height - 12, f"{span:.1f} s", "end")]
    for time_s, value in zip(times, heights, strict=True):
        x, y = LEFT + room_x * time_s / span, TOP + room_y * (1 - value / top)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" fill="{COLOURS[0]}"/>')
    parts.append(_text(WIDTH / 2, height - 12, f"{name}: ms over time", "middle"))
    return _svg(height, parts)


def waterfall(rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Return stages one after the other, from the left, a row for each (name, ms by stage)."""
    whole = max((sum(stages.values()) for _, stages in rows), default=0.0)
    if whole <= 0:
        return ""
    names = list(dict.fromkeys(stage for _, stages in rows for stage in stages))
    room, parts = WIDTH - _LABELS - 90, []
    for n, (name, stages) in enumerate(rows):
        x: float = _LABELS
        parts.append(_text(_LABELS - 8, n * _ROW + _ROW / 2, name, "end"))
        for stage, value in stages.items():
            width = room * max(value, 0.0) / whole
            title = f"<title>{escape(stage)}: {value:.3f} ms</title>"
            size = f'x="{x:.1f}" y="{n * _ROW + 4}" width="{width:.1f}" height="{_ROW - 8}"'
            parts.append(f'<rect {size} fill="{_colour(names.index(stage))}">{title}</rect>')
            x += width
        parts.append(_text(x + 6, n * _ROW + _ROW / 2, f"{sum(stages.values()):.3f} ms"))
    return _svg(len(rows) * _ROW + 4, parts) + _legend(names)


def bars(rows: Sequence[tuple[str, float]], unit: str) -> str:
    """Return horizontal bars, one per (name, value)."""
    top = max((value for _, value in rows), default=0.0)
    if top <= 0:
        return ""
    room, parts = WIDTH - _LABELS - 120, []
    for n, (name, value) in enumerate(rows):
        middle, length = n * _ROW + _ROW / 2, room * max(value, 0.0) / top
        parts.append(_text(_LABELS - 8, middle, name, "end"))
        size = f'x="{_LABELS}" y="{n * _ROW + 4}" width="{length:.1f}" height="{_ROW - 8}"'
        parts.append(f'<rect {size} fill="{_colour(n)}"/>')
        parts.append(_text(_LABELS + length + 6, middle, f"{value:.3f} {unit}"))
    return _svg(len(rows) * _ROW + 4, parts)


def _thin(times: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(times) <= _MOST_POINTS:
        return times, values
    groups = np.array_split(np.arange(len(times)), _MOST_POINTS)
    kept = np.array([group[np.argmax(values[group])] for group in groups])
    return times[kept], values[kept]


def _decades(low: float, high: float) -> Iterator[float]:
    """Yield round values within [low, high]."""
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for base in (1, 2, 5):
            if low <= base * 10.0**power <= high:
                yield base * 10.0**power


def _levels(room_y: float) -> Iterator[str]:
    for share in (0.0, 0.5, 0.9, 0.99, 1.0):
        y = TOP + room_y * (1 - share)
        yield _rule(y)
        if share < 0.99:
            yield _text(LEFT - 6, y, f"{share:.0%}", "end")


def _rule(y: float) -> str:
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>'


def _vertical(x: float, height: int, text: str) -> str:
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}" stroke="{FAINT}"/>'
    return line + _text(x, height - BOTTOM + 14, text, "middle")


def _line(points: str, n: int, name: str) -> str:
    title = f"<title>{escape(name)}</title>"
    return f'<polyline points="{points}" fill="none" stroke="{_colour(n)}" stroke-width="2">{title}</polyline>'


def _colour(n: int) -> str:
    return COLOURS[n % len(COLOURS)]


def _legend(names: Sequence[str] | Mapping[str, object]) -> str:
    chips = (f'<span style="color:{_colour(n)}">■</span> {escape(name)}' for n, name in enumerate(names))
    return f"<p>{' &nbsp; '.join(chips)}</p>"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="middle" fill="{INK}"'
    return f'<text {place} font-size="12">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">{"".join(parts)}</svg>'
