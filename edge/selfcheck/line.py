"""A line of the selfcheck: what was expected, what was found, what to do."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed"]
_FOUND = re.compile(r"\Aexpected [^:]*?, found ")
"""How most of our messages begin; the line says what is expected in a column of its own."""
_ORDER: tuple[Status, ...] = ("ok", "warning", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One check."""

    name: str
    status: Status
    expected: str
    found: str
    remedy: str = ""
    """What to do about it; empty where all is well."""

    def __str__(self) -> str:
        if self.status == "ok":
            return f"{self.name}: {self.found}"
        return f"{self.name}: expected {self.expected}, found {self.found}: {self.remedy}"


def judged(name: str, is_met: bool, expected: str, found: str, remedy: str, otherwise: Status = "failed") -> Line:
    """Return a line that is ok where a claim is met, and something else otherwise."""
    status: Status = "ok" if is_met else otherwise
    return Line(name=name, status=status, expected=expected, found=found, remedy="" if is_met else remedy)


def line_of_error(name: str, expected: str, error: Exception, status: Status = "failed") -> Line:
    """Return the line of a check that ended with an error of ours, whose message ends with the remedy."""
    text = "; ".join(str(error).splitlines()) or type(error).__name__
    found, remedy = _split(_FOUND.sub("", text))
    return Line(name=name, status=status, expected=expected, found=found, remedy=remedy)


def worst(lines: Iterable[Line]) -> Status:
    """Return the worst status of all."""
    return max((line.status for line in lines), key=_ORDER.index, default="ok")


def _split(text: str) -> tuple[str, str]:
    """Return what a message says was found, and its remedy: what follows the last colon that stands in no brackets."""
    depth = 0
    for place in range(len(text) - 1, 0, -1):
        depth += (text[place] == ")") - (text[place] == "(")
        if depth == 0 and text.startswith(": ", place):
            return text[:place], text[place + 2 :]
    return text, "report it"
