"""Puts sources on one clock: each from the flight's beginning on, or where its UTC says that it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge.recording.composition import POSE, RADIO, START_NS, Part
from edge.recording.imports.source import NS_PER_S, Place, Source
from edge.recording.imports.utc import utc_text
from models.errors import ConfigError

MAX_FLIGHT_S = 3e8
"""Some 10 years: times fit the recording's 64 bits, whatever clock the parts are on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What the user says about times, by the sources' names."""

    offsets_ns: Mapping[str, int] = field(default_factory=dict)
    """Since the flight's beginning; by UTC: how much later than the source says."""
    anchors_ns: Mapping[str, int] = field(default_factory=dict)
    """UTC of its first moment."""
    by_utc: bool = False
    corrects_drift: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Arranged:
    """Sources in a flight."""

    places: dict[str, Place]
    parts: list[Part]
    utc_offset_ns: int | None
    """UTC minus the flight's clock, None where no source tells."""
    utc_of: str
    """The source whose UTC it is; empty where none tells."""


def arrange(sources: Sequence[Source], wishes: Wishes) -> Arranged:
    """Return the parts of a flight; logs are cut to the time of the others.

    Raises:
        ConfigError: a source has no UTC where it needs one, they lie years apart, or no clock is known to correct.
        RecordingError: a log has nothing in the time of the others.
    """
    if wishes.corrects_drift and all(source.clock is None for source in sources):
        raise ConfigError("--correct-drift: no source carries both its own time and UTC: leave it out")
    utc_ns = {source.name: wishes.anchors_ns.get(source.name, source.utc_ns) for source in sources}
    begins_ns, origin_ns = _by_utc(sources, utc_ns, wishes) if wishes.by_utc else (_in_turn(sources, wishes), None)
    stretches = {source.name: _stretch(source, wishes) for source in sources}
    placed = {name: Place(begin_ns=begins_ns[name], stretch=stretches[name]) for name in begins_ns}
    sensors = [source for source in sources if source.kind != POSE]
    until_ns = max((placed[source.name].at(source.span_ns) for source in sensors), default=None)
    parts: list[Part] = []
    for source in sources:
        place = placed[source.name]
        if source.kind == POSE:
            place = placed[source.name] = Place(
                begin_ns=place.begin_ns, stretch=place.stretch, since_ns=START_NS, until_ns=until_ns
            )
        parts += source.parts(place)
    if origin_ns is not None:
        return Arranged(places=placed, parts=parts, utc_offset_ns=origin_ns - START_NS, utc_of="every source")
    told = sorted((source.kind != POSE, n) for n, source in enumerate(sources) if utc_ns[source.name] is not None)
    if not told:
        return Arranged(places=placed, parts=parts, utc_offset_ns=None, utc_of="")
    name = sources[told[0][1]].name
    offset_ns = (utc_ns[name] or 0) - begins_ns[name]
    return Arranged(places=placed, parts=parts, utc_offset_ns=offset_ns, utc_of=name)


def _stretch(source: Source, wishes: Wishes) -> float:
    """Return what a source's time is stretched by; a drift that is not certain is left alone."""
    if not wishes.corrects_drift or source.clock is None or not source.clock.is_certain:
        return 1.0
    return 1.0 - source.clock.ppm * 1e-6


def _in_turn(sources: Sequence[Source], wishes: Wishes) -> dict[str, int]:
    """Return when each begins: with the flight, radio after the radio before it, or as wished."""
    begins_ns: dict[str, int] = {}
    radio_ns = START_NS
    for source in sources:
        begin_ns = radio_ns if source.kind == RADIO else START_NS
        if source.name in wishes.offsets_ns:
            begin_ns = START_NS + wishes.offsets_ns[source.name]
        if begin_ns < 0:
            raise ConfigError(
                f"--offset {source.name}={wishes.offsets_ns[source.name] / NS_PER_S:g}: expected from -1 s on"
            )
        begins_ns[source.name] = begin_ns
        if source.kind == RADIO:
            radio_ns = Place(begin_ns=begin_ns, stretch=_stretch(source, wishes)).at(source.span_ns)
    return begins_ns


def _by_utc(sources: Sequence[Source], utc_ns: Mapping[str, int | None], wishes: Wishes) -> tuple[dict[str, int], int]:
    """Return when each begins by its UTC, and the UTC of the flight's beginning, which is that of the first sensor."""
    known: dict[str, int] = {}
    for source in sources:
        time_ns = utc_ns[source.name]
        if time_ns is None:
            raise ConfigError(
                f"{source.name} does not tell its UTC: name it by --anchor {source.name}=2026-01-31T14:25:30.250Z"
            )
        known[source.name] = time_ns + wishes.offsets_ns.get(source.name, 0)
    sensors = [known[source.name] for source in sources if source.kind != POSE] or list(known.values())
    origin_ns = min(sensors)
    if max(known.values()) - min(known.values()) > MAX_FLIGHT_S * NS_PER_S:
        first, last = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
        raise ConfigError(
            f"{first} begins {utc_text(known[first])}, {last} {utc_text(known[last])}:"
            " years apart: correct one by --anchor"
        )
    return {name: START_NS + time_ns - origin_ns for name, time_ns in known.items()}, origin_ns
