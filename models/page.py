"""A report as one HTML file: headings, text, tables and pictures, nothing loaded from elsewhere."""

import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from models.disk import write_whole

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_WORDS = ' class="words"'
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1f24; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92em }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e3e6ea; white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { border-bottom: 2px solid #9aa4ae; font-weight: 600 }
tr.ours td { background: #eef6ee; font-weight: 600 } svg { max-width: 100%; height: auto }
.wide { overflow-x: auto } pre { font-size: 12px; background: #f6f6f6; padding: 1rem; overflow-x: auto }
td.words { text-align: left; white-space: normal }
"""


class Page:
    """Collects parts, then writes them."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def preformatted(self, text: str) -> None:
        """Add text whose lines stay as they are."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, heads: Sequence[str], lines: Iterable[Sequence[str]], highlighted: str | None = None) -> None:
        """Add a table; the line whose first cell is `highlighted` stands out, columns headed `why` hold sentences."""
        rows = [f"<tr>{''.join(f'<th>{html.escape(head)}</th>' for head in heads)}</tr>"] if heads else []
        for line in lines:
            mark = ' class="ours"' if line[0] == highlighted else ""
            cells = "".join(
                f"<td{_WORDS if place < len(heads) and heads[place] == 'why' else ''}>{html.escape(cell)}</td>"
                for place, cell in enumerate(line)
            )
            rows.append(f"<tr{mark}>{cells}</tr>")
        self._parts.append(f'<div class="wide"><table>{"".join(rows)}</table></div>')

    def svg(self, drawing: str) -> None:
        """Add a picture that is SVG text already."""
        self._parts.append(drawing)

    def picture(self, figure: Any) -> None:
        """Add a matplotlib figure, drawn as SVG with its text as text; the figure need not be used after."""
        import matplotlib as mpl

        buffer = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": self.title}):
            figure.savefig(buffer, format="svg", bbox_inches="tight", metadata=_NO_METADATA)
        svg = buffer.getvalue()
        self._parts.append(svg[svg.index("<svg") :])

    def write(self, path: Path) -> None:
        """Write the file; it appears whole or not at all."""
        body = "\n".join(self._parts)
        head = f'<meta charset="utf-8"><title>{html.escape(self.title)}</title><style>{_STYLE}</style>'
        write_whole(path, f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n')


def new_figure(width_in: float, height_in: float) -> Any:
    """Return an empty matplotlib figure that belongs to no window, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")
