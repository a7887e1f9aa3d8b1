"""Flights, the two models, and what is let go: from the question to the verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.backends.select import PrecisionChoice
from edge.regression.carrying import Means, flight_sha256, fly_all
from edge.regression.flights import Flight
from edge.regression.flying import Result, Task
from edge.regression.outcome import Outcome
from edge.regression.saved import Saved, read_saved
from edge.regression.tolerances import Tolerances
from edge.regression.verdict import Verdict, verdict_of_all, verdict_of_flight
from models.bundle import Bundle, open_bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """What is to be compared."""

    flights: tuple[Flight, ...]
    new: Bundle
    old: Bundle | Saved | None
    """None: there is nothing to compare with, as when answers are saved for later."""
    tolerances: Tolerances
    precision: PrecisionChoice = "auto"
    """Of the graphs that fly, of both models."""

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """Return the models that are flown."""
        is_flown = isinstance(self.old, Bundle) and self.old.sha256 != self.new.sha256
        return (self.new, self.old) if isinstance(self.old, Bundle) and is_flown else (self.new,)

    @property
    def task_count(self) -> int:
        """Return how often a flight is flown."""
        return len(self.flights) * len(self.bundles)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contested:
    """What came of it."""

    outcomes: tuple[Outcome, ...]
    """Of the new model, of the flights that could be flown."""
    problems: dict[str, str]
    """Of flights that could not be flown or compared."""
    verdict: Verdict | None
    """None where there was nothing to compare with."""
    flown: int
    """How often a flight was flown just now."""
    kept: int
    """How often that was not needed, as it had been flown before."""

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        verdict = self.verdict.as_json() if self.verdict is not None else {}
        return {**verdict, "problems": self.problems, "flown": self.flown, "kept": self.kept}


def open_old(path: Path) -> Bundle | Saved:
    """Open what is compared with: a file that ends with .json is what was saved, all else a bundle.

    Raises:
        InputError: not what `save` wrote.
        BundleError: no sound bundle.
    """
    return read_saved(path) if path.suffix == ".json" else open_bundle(path)


def fly_contest(contest: Contest, means: Means, watch: Callable[[int], None]) -> Contested:
    """Fly whatever is not finished yet, and compare; arguments and errors as of `fly_all`."""
    problems, tasks = {}, []
    for flight in contest.flights:
        try:
            sha256 = flight_sha256(flight)
        except OSError as error:
            problems[flight.name] = f"{flight.path}: cannot be read ({error.strerror})"
            continue
        tasks += [_task(flight, sha256, bundle, contest.precision) for bundle in contest.bundles]
    flown = fly_all(tasks, means, watch)
    news = {flight.name: _side(flight, contest.new, flown.results, problems) for flight in contest.flights}
    verdict = None
    if contest.old is not None:
        olds = {flight.name: _side(flight, contest.old, flown.results, problems) for flight in contest.flights}
        verdict = _verdict(contest, contest.old, news, olds)
        problems |= {one.flight: one.problem for one in verdict.flights if one.problem}
    problems |= {name: one for name, one in news.items() if isinstance(one, str)}
    outcomes = tuple(one for one in news.values() if isinstance(one, Outcome))
    return Contested(
        outcomes=outcomes,
        problems=problems,
        verdict=verdict,
        flown=sum(result.outcome is not None for result in flown.results.values()) - flown.kept,
        kept=flown.kept,
    )


def _task(flight: Flight, sha256: str, bundle: Bundle, precision: PrecisionChoice) -> Task:
    return Task(
        flight=flight.name,
        path=str(flight.path.resolve()),
        flight_sha256=sha256,
        bundle=str(bundle.path.resolve()),
        bundle_sha256=bundle.sha256,
        precision=precision,
    )


def _side(
    flight: Flight, model: Bundle | Saved, results: dict[tuple[str, str], Result], problems: dict[str, str]
) -> Outcome | str:
    """Return a flight's outcome with a model, or why there is none."""
    if isinstance(model, Saved):
        saved = model.flights.get(flight.name)
        return saved or f"{flight.name}: was not saved of {model.model}: fly it with that model too, or save it anew"
    result = results.get((flight.name, model.sha256))
    if result is None:
        return problems[flight.name]
    return result.outcome or result.problem


def _verdict(
    contest: Contest, old: Bundle | Saved, news: dict[str, Outcome | str], olds: dict[str, Outcome | str]
) -> Verdict:
    flights = [verdict_of_flight(name, olds[name], new, contest.tolerances) for name, new in news.items()]
    title = old.model if isinstance(old, Saved) else old.manifest.title
    idle = sorted(set(old.flights) - set(news)) if isinstance(old, Saved) else []
    notes = [f"saved, but not among these flights: {', '.join(idle)}"] if idle else []
    return verdict_of_all(flights, (title, contest.new.manifest.title), contest.tolerances, notes)
