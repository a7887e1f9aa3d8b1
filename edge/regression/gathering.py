"""From the question to the verdict: a flight is compared as soon as both outcomes are there, and little of it is kept.

The answers to hundreds of flights take gigabytes; what is said of them takes hardly anything.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import msgspec

from edge.regression.carrying import Means, fly_all
from edge.regression.contest import Contest
from edge.regression.flying import Result
from edge.regression.outcome import Outcome
from edge.regression.saved import Saved, packed, renamed
from edge.regression.verdict import FlightVerdict, Verdict, verdict_of_all, verdict_of_flight
from models.bundle import Bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Contested:
    """What came of it."""

    outcomes: Mapping[str, msgspec.Raw]
    """Of the new model, by flight, as they are saved; empty where nobody wants that."""
    unflown: Mapping[str, str]
    """Why flights could not be flown with the new model."""
    problems: Mapping[str, str]
    """Why flights could not be flown, or not be compared."""
    verdict: Verdict | None
    """None where there was nothing to compare with."""
    flown: int
    """How often a flight was flown just now."""
    kept: int
    """How often that was not needed, as it had been flown before."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        verdict = self.verdict.as_json() if self.verdict is not None else {}
        return {**verdict, "problems": dict(self.problems), "flown": self.flown, "kept": self.kept}


def fly_contest(contest: Contest, means: Means, watch: Callable[[int], None]) -> Contested:
    """Fly whatever is not finished yet, and compare; errors as of `fly_all`.

    Args:
        contest: what is asked.
        means: what it is done with.
        watch: told how many of the contest's steps are done.
    """
    gathering, steps = Gathering(contest), _Steps(watch)
    with closing(fly_all(contest.flights, contest.tasks_of, means, steps.add)) as results:
        for result in results:
            gathering.add(result)
            steps.add(len(contest.bundles) if result.copy_of else 1)
    return gathering.contested()


class _Steps:
    def __init__(self, watch: Callable[[int], None]) -> None:
        self._watch = watch
        self._done = 0

    def add(self, count: int = 1) -> None:
        self._done += count
        self._watch(self._done)


class Gathering:
    """What is known so far."""

    def __init__(self, contest: Contest) -> None:
        self._contest = contest
        self._sides: dict[str, dict[str, Result]] = {}
        self._copies: dict[str, str] = {}
        self._verdicts: dict[str, FlightVerdict] = {}
        self._detailed: set[str] = set()
        self._outcomes: dict[str, msgspec.Raw] = {}
        self._unflown: dict[str, str] = {}
        self._recognised: set[str] = set()
        self._flown = 0
        self._kept = 0

    def add(self, result: Result) -> None:
        """Take a result, and compare where it is the last one of its flight."""
        name = result.task.flight
        if result.copy_of:
            self._copies[name] = result.copy_of
            return
        self._kept += result.is_kept
        self._flown += result.outcome is not None and not result.is_kept
        sides = self._sides.setdefault(name, {})
        sides[result.task.bundle_sha256] = result
        if len(sides) == len(self._contest.bundles):
            self._finish(name, self._sides.pop(name))

    def contested(self) -> Contested:
        """Return what came of all, once every flight has all its results."""
        for name, first in self._copies.items():
            self._copy(name, first)
        names = [flight.name for flight in self._contest.flights]
        verdict = self._verdict(self._contest.old, names) if self._contest.old is not None else None
        flights = verdict.flights if verdict is not None else ()
        return Contested(
            outcomes={name: self._outcomes[name] for name in names if name in self._outcomes},
            unflown=self._unflown,
            problems={one.flight: one.problem for one in flights if one.problem} | self._unflown,
            verdict=verdict,
            flown=self._flown,
            kept=self._kept,
        )

    def _finish(self, name: str, sides: Mapping[str, Result]) -> None:
        result = sides[self._contest.new.sha256]
        new = _side(result)
        if isinstance(new, str):
            self._unflown[name] = new
        elif self._contest.is_saved:
            self._outcomes[name] = packed(new)
        old = self._contest.old
        if old is None:
            return
        before = self._saved(old, result) if isinstance(old, Saved) else _side(sides[old.sha256])
        self._verdicts[name] = verdict_of_flight(name, before, new, self._contest.tolerances)
        self._detailed.add(name)
        self._thin_out()

    def _saved(self, old: Saved, result: Result) -> Outcome | str:
        flight = result.task.flight
        name = old.name_of(flight, result.task.flight_sha256)
        if name is None:
            return f"{flight}: was not saved of {old.model}: fly it with that model too, or save it anew"
        self._recognised.add(name)
        return old.outcome(name)

    def _thin_out(self) -> None:
        """Let go of answers that no page will show."""
        ranked = sorted((self._verdicts[name] for name in self._detailed), key=lambda verdict: verdict.rank)
        for verdict in ranked[self._contest.most_detailed :]:
            self._verdicts[verdict.flight] = verdict.without_answers()
            self._detailed.remove(verdict.flight)

    def _copy(self, name: str, first: str) -> None:
        if first in self._verdicts:
            self._verdicts[name] = self._verdicts[first].renamed(name)
        if first in self._outcomes:
            self._outcomes[name] = renamed(self._outcomes[first], name)
        if first in self._unflown:
            self._unflown[name] = self._unflown[first]

    def _verdict(self, old: Bundle | Saved, names: list[str]) -> Verdict:
        flights = [self._verdicts[name] for name in names]
        title = old.model if isinstance(old, Saved) else old.manifest.title
        idle = sorted(set(old.flights) - self._recognised) if isinstance(old, Saved) else []
        notes = [f"saved, but not among these flights: {', '.join(idle)}"] if idle else []
        return verdict_of_all(flights, (title, self._contest.new.manifest.title), self._contest.tolerances, notes)


def _side(result: Result) -> Outcome | str:
    return result.outcome or result.problem
