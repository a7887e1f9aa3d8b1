"""What is to be compared: flights, the two models, and what is let go."""

from dataclasses import dataclass
from pathlib import Path

from edge.backends.select import PrecisionChoice
from edge.regression.flights import Flight
from edge.regression.flying import Task
from edge.regression.saved import Saved, read_saved
from edge.regression.tolerances import Tolerances
from models.bundle import Bundle, open_bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Contest:
    """What is to be compared, and what is to be kept of it."""

    flights: tuple[Flight, ...]
    new: Bundle
    old: Bundle | Saved | None
    """None: there is nothing to compare with, as when answers are saved for later."""
    tolerances: Tolerances
    precision: PrecisionChoice = "auto"
    """Of the graphs that fly, of both models."""
    is_saved: bool = False
    """Whether the new model's answers are wanted for a file."""
    most_detailed: int = 0
    """Flights whose answers are wanted for a page: those that got worse first, then those with the most changes."""

    @property
    def bundles(self) -> tuple[Bundle, ...]:
        """Return the models that are flown."""
        is_flown = isinstance(self.old, Bundle) and self.old.sha256 != self.new.sha256
        return (self.new, self.old) if isinstance(self.old, Bundle) and is_flown else (self.new,)

    @property
    def steps(self) -> int:
        """Return how much there is to do: a flight is hashed, and flown with each model."""
        return len(self.flights) * (1 + len(self.bundles))

    def tasks_of(self, flight: Flight, sha256: str) -> list[Task]:
        """Return what is to be flown of a flight, whose file has this hash."""
        return [
            Task(
                flight=flight.name,
                path=str(flight.path.resolve()),
                flight_sha256=sha256,
                bundle=str(bundle.path.resolve()),
                bundle_sha256=bundle.sha256,
                precision=self.precision,
            )
            for bundle in self.bundles
        ]


def open_old(path: Path) -> Bundle | Saved:
    """Open what is compared with: a file that ends with .json is what was saved, all else a bundle.

    Raises:
        InputError: not what `save` wrote.
        BundleError: no sound bundle.
    """
    return read_saved(path) if path.suffix == ".json" else open_bundle(path)
