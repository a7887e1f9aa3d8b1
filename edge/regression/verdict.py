"""What is to be said of all flights together: which got worse, which could not be flown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec

from edge.backends.select import precisions_text
from edge.regression.comparison import compare
from edge.regression.figures import Finding, Pair, flight_figures, judge, sum_figures
from edge.regression.outcome import Outcome
from edge.regression.sketch import sketch_of
from edge.regression.tolerances import Tolerances


@dataclass(frozen=True, kw_only=True, slots=True)
class FlightVerdict:
    """What is to be said of one flight."""

    flight: str
    problem: str = ""
    """Why there is nothing to compare."""
    pair: Pair | None = None
    """None where there is a problem."""
    findings: tuple[Finding, ...] = ()

    @property
    def state(self) -> str:
        """Return error, regression or ok."""
        return "error" if self.pair is None else "regression" if self.worse else "ok"

    @property
    def worse(self) -> list[Finding]:
        """Return the figures that are worse than they may be."""
        return [finding for finding in self.findings if finding.verdict == "worse"]

    @property
    def rank(self) -> tuple[bool, int, str]:
        """Return what flights are sorted by that are to be looked at: worse ones, then those with the most changes."""
        changes = len(self.pair.comparison.changes) if self.pair is not None else 0
        return self.state != "regression", -changes, self.flight

    def without_answers(self) -> "FlightVerdict":
        """Return what hundreds of flights can keep."""
        return replace(self, pair=replace(self.pair, said=None) if self.pair is not None else None)

    def renamed(self, flight: str) -> "FlightVerdict":
        """Return what is to be said of a copy."""
        if self.pair is None:
            return replace(self, flight=flight)
        old, new = (msgspec.structs.replace(one, flight=flight) for one in (self.pair.old, self.pair.new))
        return replace(self, flight=flight, pair=replace(self.pair, old=old, new=new))


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What is to be said of all."""

    old_model: str
    new_model: str
    flights: tuple[FlightVerdict, ...]
    in_sum: tuple[Finding, ...]
    notes: tuple[str, ...]
    """What a reader should know: other classes, a flight that is not the one of then, an entry that ignores nothing."""

    @property
    def worse_in_sum(self) -> list[Finding]:
        """Return the figures over all flights that are worse than they may be."""
        return [finding for finding in self.in_sum if finding.verdict == "worse"]

    @property
    def is_regression(self) -> bool:
        """Whether anything is worse than it may be."""
        return bool(self.worse_in_sum) or any(flight.state == "regression" for flight in self.flights)

    @property
    def errors(self) -> int:
        """Return how many flights could not be compared."""
        return sum(flight.state == "error" for flight in self.flights)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data; accuracies of flights without truth are absent."""
        return {
            "old": self.old_model,
            "new": self.new_model,
            "regression": self.is_regression,
            "errors": self.errors,
            "in_sum": [_plain(finding) for finding in self.in_sum],
            "flights": [_flight(flight) for flight in self.flights],
            "notes": list(self.notes),
        }


def verdict_of_flight(flight: str, old: Outcome | str, new: Outcome | str, tolerances: Tolerances) -> FlightVerdict:
    """Compare a flight's two outcomes; a text in place of one says why there is none."""
    problems = dict.fromkeys(one for one in (new, old) if isinstance(one, str))
    if isinstance(old, str) or isinstance(new, str):
        return FlightVerdict(flight=flight, problem="; ".join(problems))
    comparison = compare(old.answers, new.answers)
    pair = Pair(
        old=old.without_answers(),
        new=new.without_answers(),
        comparison=comparison,
        sketch=sketch_of(old.answers, new.answers, comparison.changes),
        said=(old.answers, new.answers),
    )
    return FlightVerdict(flight=flight, pair=pair, findings=judge(flight_figures(pair, tolerances), tolerances))


def verdict_of_all(
    flights: Sequence[FlightVerdict], models: tuple[str, str], tolerances: Tolerances, notes: Sequence[str] = ()
) -> Verdict:
    """Sum up.

    Args:
        flights: each one.
        models: old and new, by title.
        tolerances: for the sums.
        notes: what else is to be said.
    """
    pairs = [flight.pair for flight in flights if flight.pair is not None]
    in_sum = judge(sum_figures(pairs, tolerances), tolerances) if pairs else ()
    every = {finding.figure.name for flight in flights for finding in flight.findings}
    every |= {finding.figure.name for finding in in_sum}
    idle = [one.field for one in tolerances.ignore if every and one.field not in every]
    return Verdict(
        old_model=models[0],
        new_model=models[1],
        flights=tuple(flights),
        in_sum=in_sum,
        notes=(
            *notes,
            *_notes_on(pairs),
            *(f"ignore: {field} is no figure of these flights: take it out" for field in idle),
        ),
    )


def _notes_on(pairs: Sequence[Pair]) -> list[str]:
    notes = []
    classes = dict.fromkeys((pair.old.classes, pair.new.classes) for pair in pairs)
    for old, new in classes:
        if old != new:
            notes.append(_class_note(old, new))
    precisions = dict.fromkeys((_precisions(pair.old), _precisions(pair.new)) for pair in pairs)
    for before, now in precisions:
        if before and now and before != now:
            notes.append(f"flown in another precision: the old model in {before}, the new one in {now}")
    for pair in pairs:
        if pair.old.flight_sha256 != pair.new.flight_sha256:
            notes.append(f"{pair.new.flight}: not the very file that was saved: what differs may be the flight's doing")
        if pair.new.damage:
            notes.append(f"{pair.new.flight}: damaged, compared as far as it can be read: {pair.new.damage}")
    return notes


def _precisions(outcome: Outcome) -> str:
    return precisions_text(outcome.precisions)


def _class_note(old: Sequence[str], new: Sequence[str]) -> str:
    parts = [f"only the {which} one has {', '.join(only)}" for which, only in _only(old, new) if only]
    parts = parts or ["the same ones in another order"]
    return f"the models' class lists differ, answers are compared by label: {'; '.join(parts)}"


def _only(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, list[str]]]:
    return [
        ("old", [label for label in old if label not in new]),
        ("new", [label for label in new if label not in old]),
    ]


def _flight(flight: FlightVerdict) -> dict[str, Any]:
    plain: dict[str, Any] = {"flight": flight.flight, "state": flight.state}
    if flight.pair is None:
        return {**plain, "problem": flight.problem}
    found = flight.pair.comparison
    return {
        **plain,
        "answers": {"old": found.old_count, "new": found.new_count, "compared": found.paired},
        "fixed": found.effects("fixed"),
        "broken": found.effects("broken"),
        "changes": [asdict(change) for change in found.changes],
        "confidence_change_after_s": found.shift_after_s,
        "figures": [_plain(finding) for finding in flight.findings],
        "old": _side(flight.pair.old),
        "new": _side(flight.pair.new),
    }


def _side(outcome: Outcome) -> dict[str, Any]:
    """Return what else is known of an outcome."""
    return {
        "scored": outcome.scored.get("", 0),
        "latency_ms": outcome.latency_ms,
        "masked": outcome.masked,
        "streams": msgspec.to_builtins(outcome.streams),
        "broken_promises": outcome.broken,
    }


def _plain(finding: Finding) -> dict[str, Any]:
    figure = finding.figure
    return {
        "name": figure.name,
        "old": round(figure.old, 6),
        "new": round(figure.new, 6),
        "worse_by": round(figure.worse_by, 6),
        "tolerance": figure.tolerance,
        "verdict": finding.verdict,
        **({"reason": finding.reason} if finding.reason else {}),
    }
