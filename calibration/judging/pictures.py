"""Bars and a curve as SVG text: on the drone there is nothing that draws, and a page must open anywhere."""

import math
from collections.abc import Sequence
from html import escape

_WIDTH = 760
_LABELS = 250
"""Pixels on the left that names take."""
_ROW = 22
_INK, _FAINT, _BAR, _MARK = "#1b1f24", "#9aa4ae", "#4c78a8", "#b3261e"


def bars(
    rows: Sequence[tuple[str, float]],
    unit: str,
    limit: float | None = None,
    marked: Sequence[str] = (),
    digits: int = 1,
) -> str:
    """Return horizontal bars, one per (name, value); `limit` is drawn across, names in `marked` in another colour."""
    values = [value for _, value in rows if math.isfinite(value)] + ([] if limit is None else [limit])
    top = max([*values, 1e-9])
    room = _WIDTH - _LABELS - 90
    parts = []
    for n, (name, value) in enumerate(rows):
        middle = n * _ROW + _ROW / 2
        length = room * min(max(value, 0.0), top) / top if not math.isnan(value) else 0.0
        colour = _MARK if name in marked else _BAR
        parts.append(_text(_LABELS - 8, middle, name, "end"))
        parts.append(
            f'<rect x="{_LABELS}" y="{n * _ROW + 4}" width="{length:.1f}" height="{_ROW - 8}" fill="{colour}"/>'
        )
        parts.append(_text(_LABELS + length + 6, middle, f"{value:.{digits}f} {unit}"))
    height = len(rows) * _ROW
    if limit is not None:
        place = _LABELS + room * limit / top
        parts.append(f'<line x1="{place:.1f}" x2="{place:.1f}" y1="0" y2="{height}" stroke="{_FAINT}"/>')
    return _svg(height + 4, parts)


def curve(points: Sequence[tuple[float, float, str]], x_label: str, y_label: str) -> str:
    """Return points (x, y, name) joined in their order, with the ends of both axes named."""
    finite = [(x, y, name) for x, y, name in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return ""
    left, top, width, height = 70, 16, _WIDTH - 120, 220
    low_x, high_x = _ends([x for x, _, _ in finite])
    low_y, high_y = _ends([y for _, y, _ in finite])
    places = [
        (left + width * (x - low_x) / (high_x - low_x), top + height * (high_y - y) / (high_y - low_y), x, y, name)
        for x, y, name in finite
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, *_ in places)
    parts = [
        f'<polyline points="{left},{top} {left},{top + height} {left + width},{top + height}" fill="none"'
        f' stroke="{_FAINT}"/>',
        f'<polyline points="{line}" fill="none" stroke="{_BAR}" stroke-width="2"/>',
        _text(left - 6, top + 6, f"{high_y:.1f}", "end"),
        _text(left - 6, top + height, f"{low_y:.1f}", "end"),
        _text(left, top + height + 18, f"{low_x:.2f}"),
        _text(left + width, top + height + 18, f"{high_x:.2f}", "end"),
        _text(left + width / 2, top + height + 18, x_label, "middle"),
        _text(left + 8, top + 6, y_label),
    ]
    for place_x, place_y, x, y, name in places:
        title = f"<title>{escape(name)}: {x:.3f}, {y:.1f}</title>"
        parts.append(f'<circle cx="{place_x:.1f}" cy="{place_y:.1f}" r="4" fill="{_BAR}">{title}</circle>')
    return _svg(top + height + 30, parts)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" dominant-baseline="middle" fill="{_INK}"'
    return f'<text {place} font-size="12">{escape(text)}</text>'


def _svg(height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" role="img">{"".join(parts)}</svg>'
