"""What pages of HTML with pictures are made of: the page itself, sections, rows, tables, colours of classes."""

import colorsys
import string
from collections.abc import Hashable, Iterable, Sequence
from html import escape
from pathlib import Path

from edge.operations.report_svg import Ink
from models.errors import RecordingError

_TEMPLATE = Path(__file__).with_name("report_page.html")
_CLASS_COLOURS = ("#7fb2e5", "#f2b263", "#5cc0a0", "#e9a3c0", "#c3cf5a", "#b49be0", "#f0d977", "#8fd3e8")
NOTHING = "#8d949b"
"""Colour of what is no class."""


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write a page: one HTML file without outside references, light or dark as the reader has it.

    Raises:
        RecordingError: the file cannot be written there.
    """
    page = string.Template(_TEMPLATE.read_text(encoding="utf-8"))
    text = page.substitute(title=escape(title), body="\n".join(section for section in sections if section))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordingError(
            f"{path}: the report cannot be written ({error.strerror}): name a file in a folder that exists"
        ) from error


def headline(title: str, about: str, facts: Iterable[tuple[str, str]]) -> str:
    """Return the head of a page; facts are a value and what it is."""
    cards = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in facts)
    return (
        f'<header><h1>{escape(title)}</h1><p class="about">{escape(about)}</p></header><div class="facts">{cards}</div>'
    )


def class_inks(labels: Sequence[str]) -> dict[Hashable, Ink]:
    """Return how each class is painted; -1 is an absent answer."""
    inks: dict[Hashable, Ink] = {-1: Ink(colour=NOTHING, text="no data")}
    for n, label in enumerate(labels):
        if len(labels) <= len(_CLASS_COLOURS):
            colour = _CLASS_COLOURS[n]
        else:
            red, green, blue = colorsys.hls_to_rgb(n * 0.618034 % 1.0, 0.62 + 0.14 * (n % 2), 0.55)
            colour = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
        inks[n] = Ink(colour=colour, text=label)
    return inks


def section(title: str, note: str, body: str) -> str:
    """Return a part of a page; `body` is HTML."""
    return f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{body}</section>'


def row(label: str, drawn: str, kind: str = "") -> str:
    """Return a picture with its label; `label` is HTML."""
    return f'<div class="row {kind}"><div class="what">{label}</div><div>{drawn}</div></div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>" for cells in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def cycle(colours: Sequence[str], n: int) -> str:
    """Return the n-th colour, from the first again after the last."""
    return colours[n % len(colours)]


def share(part: float | None) -> str:
    """Return a share as text; a dash where it is unknown."""
    return f"{part:.1%}" if part is not None else "-"


def number(count: int) -> str:
    """Return a count in groups of three digits."""
    return f"{count:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
