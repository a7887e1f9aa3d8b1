"""A verdict for people, on a terminal."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from edge.regression.comparison import Change, Comparison
from edge.regression.figures import Finding
from edge.regression.verdict import FlightVerdict, Verdict

MOST_CHANGES = 10
"""Of a flight, that are listed; the JSON has all."""
FEW = 5
"""Of more flights only those that got worse have their changes listed."""


def print_verdict(verdict: Verdict, console: Console | None = None) -> None:
    """Print a line a flight, what is worse, and what changed."""
    console = console or Console()
    console.print(_table(verdict))
    for flight in verdict.flights:
        for line in _lines(flight, is_listed=flight.state == "regression" or len(verdict.flights) <= FEW):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    for finding in verdict.worse_in_sum:
        console.print(f"in sum: {finding_text(finding)}", style="red", soft_wrap=True, highlight=False, markup=False)
    for line in [*ignored_lines(verdict), *verdict.notes]:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(conclusion(verdict), style="bold", soft_wrap=True, highlight=False, markup=False)


def conclusion(verdict: Verdict) -> str:
    """Return the verdict in a sentence."""
    worse = sum(flight.state == "regression" for flight in verdict.flights)
    count = len(verdict.flights)
    parts = [f"{count} flight{'s' if count > 1 else ''}: {verdict.new_model} against {verdict.old_model}"]
    parts += [f"{worse} got worse"] if worse else []
    parts += ["worse in sum"] if verdict.worse_in_sum else []
    parts += [f"{verdict.errors} could not be compared"] if verdict.errors else []
    return ", ".join(parts if len(parts) > 1 else [*parts, "nothing is worse than it may be"])


def finding_text(finding: Finding) -> str:
    """Return a figure in a sentence."""
    figure = finding.figure
    limit = f", let go up to {figure.tolerance:g}" if figure.tolerance is not None else ""
    return f"{figure.name} {figure.old:.6g} -> {figure.new:.6g} (worse by {figure.worse_by:.4g}{limit})"


def changes_text(comparison: Comparison) -> list[str]:
    """Return the first changes in a line each, and how many more there are."""
    lines = [change_text(change) for change in comparison.changes[:MOST_CHANGES]]
    more = len(comparison.changes) - len(lines)
    return [*lines, f"and {more} more"] if more else lines


def change_text(change: Change) -> str:
    """Return a change in a line."""
    truth = f", truth {change.truth}" if change.truth else ""
    return (
        f"after {change.after_s:.3f} s: {change.old} ({change.old_confidence:.3f}) -> {change.new}"
        f" ({change.new_confidence:.3f}){truth}{f': {change.effect}' if change.effect else ''}"
    )


def ignored_lines(verdict: Verdict) -> list[str]:
    """Return what is not judged, with the reasons."""
    found = [*verdict.in_sum, *(finding for flight in verdict.flights for finding in flight.findings)]
    reasons = {finding.figure.name: finding.reason for finding in found if finding.verdict == "ignored"}
    return [f"ignored: {name}: {reason}" for name, reason in sorted(reasons.items())]


def cells(flight: FlightVerdict) -> Sequence[str]:
    """Return a flight's row: state, answers, changed, fixed, broken, accuracy then and now."""
    if flight.pair is None:
        return (flight.state, "", "", "", "", "", "")
    found, old, new = flight.pair.comparison, flight.pair.old, flight.pair.new
    return (
        flight.state,
        str(found.new_count),
        str(len(found.changes)),
        str(found.effects("fixed")),
        str(found.effects("broken")),
        _share(old.accuracy("")),
        _share(new.accuracy("")),
    )


HEADS = ("flight", "state", "answers", "changed", "fixed", "broken", "right, old", "new")


def _table(verdict: Verdict) -> Table:
    table = Table(title=f"{verdict.new_model} against {verdict.old_model}", title_justify="left", title_style="bold")
    for n, head in enumerate(HEADS):
        table.add_column(head, justify="left" if n < 2 else "right", overflow="fold", no_wrap=n > 0)
    for flight in verdict.flights:
        style = {"error": "yellow", "regression": "red"}.get(flight.state)
        table.add_row(_plain(flight.flight), *cells(flight), style=style)
    return table


def _lines(flight: FlightVerdict, *, is_listed: bool) -> Iterator[str]:
    """Yield what is worse, and the first changes where they are to be listed."""
    if flight.pair is None:
        yield f"{flight.flight}: {flight.problem}"
        return
    for finding in flight.worse:
        yield f"{flight.flight}: {finding_text(finding)}"
    for line in changes_text(flight.pair.comparison) if is_listed else ():
        yield f"{flight.flight}: {line}"


def _plain(text: str) -> str:
    """Return text that rich takes for nothing else."""
    return text.replace("[", "\\[")


def _share(share: float | None) -> str:
    return f"{share:.1%}" if share is not None else "-"
