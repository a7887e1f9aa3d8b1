"""A verdict as one HTML page: figures at a glance, a line a flight with its changes over time, then the details."""

from collections.abc import Hashable, Iterable, Sequence
from html import escape
from pathlib import Path

from edge.operations import report_parts as page
from edge.operations import report_svg as svg
from edge.operations.report_series import MAX_RUNS, runs
from edge.operations.report_svg import Ink
from edge.regression.figures import Finding, Pair
from edge.regression.outcome import Answer
from edge.regression.sketch import answer_times, change_runs
from edge.regression.text import HEADS, cells, change_text, conclusion, finding_text, ignored_lines
from edge.regression.verdict import FlightVerdict, Verdict
from edge.transport.messages import NO_DATA

_SPARK_PX, _STRIP_PX, _CHANGES_PX = 16, 22, 9
MOST_DETAILED = 20
"""Flights shown in detail: those that got worse first, then those with the most changes."""
_LISTED_CHANGES = 40
Inks = dict[Hashable, Ink]
"""By label."""
_NO_TRUTH = ("-", "answers right: no flight with a known truth")
_COLOURS = {"ok": "good", "regression": "bad", "error": "bad"}


def write_verdict_page(path: Path, verdict: Verdict) -> None:
    """Write the page; RecordingError where it cannot be written."""
    shown = [flight for flight in verdict.flights if flight.worse or (flight.pair and flight.pair.comparison.changes)]
    detailed = sorted(shown, key=lambda flight: flight.rank)[:MOST_DETAILED]
    sections = [
        page.headline("Regression", f"{conclusion(verdict)}.", _facts(verdict)),
        _overview(verdict),
        _in_sum(verdict),
        *(_detail(flight) for flight in detailed),
        _notes(verdict),
    ]
    page.write_page(path, f"{verdict.new_model} against {verdict.old_model} - regression", sections)


def _facts(verdict: Verdict) -> list[tuple[str, str]]:
    pairs = [flight.pair for flight in verdict.flights if flight.pair is not None]
    figures = {finding.figure.name: finding.figure for finding in verdict.in_sum}
    right = figures.get("accuracy")
    changed = sum(len(pair.comparison.changes) for pair in pairs)
    fixed, broken = (sum(pair.comparison.effects(effect) for pair in pairs) for effect in ("fixed", "broken"))
    return [
        (page.share(right.new), f"answers right, {page.share(right.old)} before") if right is not None else _NO_TRUTH,
        (page.number(changed), f"answers changed, {fixed} fixed, {broken} broken"),
        (page.number(len(verdict.flights)), "flights"),
        (page.number(verdict.errors), "could not be compared"),
    ]


def _overview(verdict: Verdict) -> str:
    """Return a row a flight; the last column shows when its answers changed."""
    head = "".join(f"<th>{escape(name)}</th>" for name in (*HEADS, "changes over time"))
    lines = []
    for flight in verdict.flights:
        state, *rest = cells(flight)
        shown = f'<td class="{_COLOURS[state]}">{escape(state)}</td>' + "".join(f"<td>{one}</td>" for one in rest)
        spark = _spark(flight.pair) if flight.pair is not None else escape(flight.problem)
        width = ' style="min-width:14rem;text-align:left;white-space:normal"'
        lines.append(f"<tr><td>{escape(flight.flight)}</td>{shown}<td{width}>{spark}</td></tr>")
    note = "Fixed: wrong before, right now. Broken: the other way round. Both where the truth is known."
    return page.section("Flights", note, f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>')


def _in_sum(verdict: Verdict) -> str:
    if not verdict.in_sum:
        return ""
    return page.section("All flights in sum", "", _findings(verdict.in_sum))


def _findings(findings: Iterable[Finding]) -> str:
    """Return a table of figures; those that got worse stand out."""
    lines = []
    for one in findings:
        figure = one.figure
        limit = f"{figure.tolerance:g}" if figure.tolerance is not None else "-"
        numbers = (f"{figure.old:.6g}", f"{figure.new:.6g}", f"{figure.worse_by:.4g}", limit)
        colour = ' class="bad"' if one.verdict == "worse" else ""
        told = f"<td>{escape(figure.name)}</td><td{colour}>{escape(one.verdict)}</td>"
        lines.append(f"<tr>{told}{''.join(f'<td>{escape(number)}</td>' for number in numbers)}</tr>")
    heads = ("figure", "verdict", "old", "new", "worse by", "let go up to")
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _detail(flight: FlightVerdict) -> str:
    """Return a flight's opinions over time, its figures and its changes; nothing where its answers are gone."""
    pair = flight.pair
    if pair is None or pair.said is None:
        return ""
    listed = [change_text(change) for change in pair.comparison.changes[:_LISTED_CHANGES]]
    more = len(pair.comparison.changes) - len(listed)
    listed += [f"and {more} more: --json has all"] if more else []
    changes = "".join(f'<p class="about">{escape(line)}</p>' for line in listed)
    note = "; ".join(finding_text(one) for one in flight.worse) or "Nothing is worse than it may be."
    body = f"{_lanes(pair, *pair.said)}{_findings(flight.findings)}<h3>Changed answers</h3>{changes}"
    return page.section(flight.flight, note, body)


def _lanes(pair: Pair, old: Sequence[Answer], new: Sequence[Answer]) -> str:
    """Return what was there, what was said then and now, and where that differs."""
    span_s = pair.sketch.span_s
    labels = list(dict.fromkeys((*pair.old.classes, *pair.new.classes)))
    inks: Inks = {label: page.class_inks(labels)[n] for n, label in enumerate(labels)}
    inks[NO_DATA] = page.class_inks(labels)[-1]
    said = dict.fromkeys(label for one in (*old, *new) for label in (one.label, one.truth) if label)
    inks |= {label: Ink(colour=page.NOTHING, text=label) for label in said if label not in inks}
    look = (inks, span_s)
    rows = [_lane("truth", new, [one.truth or None for one in new], look)] if any(one.truth for one in new) else []
    rows.append(_lane(f"old: {pair.old.model}", old, [one.label for one in old], look))
    rows.append(_lane(f"new: {pair.new.model}", new, [one.label for one in new], look))
    changed = change_runs(new, pair.comparison.changes, MAX_RUNS)
    rows.append(page.row("changed", svg.marks(changed, span_s, _CHANGES_PX, "changed")))
    rows.append(page.row("", svg.axis(svg.ticks_of_time(span_s))))
    rows.append(svg.legend(ink for label, ink in inks.items() if label in said))
    return "".join(rows)


def _notes(verdict: Verdict) -> str:
    lines = [*ignored_lines(verdict), *verdict.notes]
    body = "".join(f'<p class="about">{escape(line)}</p>' for line in lines)
    return page.section("What to know", "", body) if lines else ""


def _spark(pair: Pair) -> str:
    return svg.marks(pair.sketch.changed, pair.sketch.span_s, _SPARK_PX, f"{len(pair.comparison.changes)} changed")


def _lane(name: str, answers: Sequence[Answer], keys: Sequence[Hashable | None], look: tuple[Inks, float]) -> str:
    inks, span_s = look
    drawn = svg.strip(runs(answer_times(answers), keys), span_s, inks, _STRIP_PX, name)
    return page.row(f"<b>{escape(name)}</b>", drawn)
