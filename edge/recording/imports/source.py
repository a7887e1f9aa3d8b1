"""Something to import: it knows how long it is and what time it began, but not yet where in the flight it goes."""

from collections.abc import Callable
from dataclasses import dataclass

from edge.recording.composition import Part
from edge.recording.imports.clock_fit import ClockFit

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where in the flight a source goes."""

    begin_ns: int
    """The flight's time of its first moment."""
    stretch: float = 1.0
    """Nanoseconds of the flight per nanosecond of the source's clock."""
    since_ns: int = 0
    until_ns: int | None = None
    """What lies outside is left out; a log is longer than what it is imported for."""

    def at(self, elapsed_ns: int) -> int:
        """Return the flight's time, that long after the source's first moment."""
        moved_ns = elapsed_ns if self.stretch == 1.0 else round(elapsed_ns * self.stretch)
        return self.begin_ns + moved_ns

    def holds(self, time_ns: int) -> bool:
        """Say whether a time of the flight is wanted."""
        return time_ns >= self.since_ns and (self.until_ns is None or time_ns <= self.until_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A file or folder to import."""

    name: str
    """Of the file or folder without ending, as --offset and --anchor say it."""
    kind: str
    """RADIO, CAMERA or POSE."""
    span_ns: int
    """From its first moment to its end, by its own clock, as far as known beforehand."""
    utc_ns: int | None
    """UTC of its first moment, None where it does not tell."""
    clock: ClockFit | None
    """Its clock against UTC, None where it carries but one of them."""
    parts: Callable[[Place], list[Part]]
    """What it brings; raises RecordingError where that is nothing."""
