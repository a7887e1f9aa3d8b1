"""Outcomes in a file, which stand for the old model where nobody has its bundle any more."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edge.regression.outcome import Answer, Outcome
from models.disk import write_whole
from models.errors import InputError

_DIGITS = 4
"""Of a saved confidence: processors round the rest otherwise."""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in the file."""

    schema: Literal["uav-edge-regress-1"] = "uav-edge-regress-1"
    model: str
    bundle_sha256: str
    flights: dict[str, msgspec.Raw]
    """By name; left as they are, as the answers to hundreds of flights take gigabytes otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What a model answered to some flights."""

    model: str
    """Its title."""
    flights: Mapping[str, msgspec.Raw]
    """Outcomes as JSON, by name."""
    names: Mapping[str, str]
    """Of flights, by the SHA-256 of their files."""

    def name_of(self, flight: str, sha256: str) -> str | None:
        """Return what a flight is called here: as whatever its file was saved, or else by its own name."""
        name = self.names.get(sha256, flight)
        return name if name in self.flights else None

    def outcome(self, name: str) -> Outcome:
        """Return what was answered to a flight that is there."""
        return msgspec.json.decode(self.flights[name], type=Outcome)


def save(path: Path, model: str, bundle_sha256: str, flights: Mapping[str, msgspec.Raw]) -> None:
    """Write outcomes of one model; the same outcomes make the same file.

    Args:
        path: of the file.
        model: its title.
        bundle_sha256: of its bundle.
        flights: outcomes as `packed` gives them, by name.
    Raises:
        RecordingError: it cannot be written.
    """
    file = _File(model=model, bundle_sha256=bundle_sha256, flights=dict(flights))
    write_whole(path, msgspec.json.encode(file) + b"\n")


def packed(outcome: Outcome) -> msgspec.Raw:
    """Return what is saved of an outcome, as JSON."""
    answers = tuple(
        Answer(one.after_us, one.label, round(one.confidence, _DIGITS), one.truth) for one in outcome.answers
    )
    return msgspec.Raw(msgspec.json.encode(msgspec.structs.replace(outcome, answers=answers, wall_s=0.0)))


def renamed(flight: msgspec.Raw, name: str) -> msgspec.Raw:
    """Return what is saved of a flight, of a copy of it."""
    outcome = msgspec.json.decode(flight, type=Outcome)
    return msgspec.Raw(msgspec.json.encode(msgspec.structs.replace(outcome, flight=name)))


def read_saved(path: Path) -> Saved:
    """Read what `save` wrote, and look at all of it.

    Raises:
        InputError: it cannot be read, or is something else.
    """
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
        hashes = {name: _flight_sha256(flight) for name, flight in file.flights.items()}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): name what --save wrote") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not what --save of this release writes ({error}): save it anew") from error
    return Saved(model=file.model, flights=file.flights, names={sha256: name for name, sha256 in hashes.items()})


def _flight_sha256(flight: msgspec.Raw) -> str:
    return msgspec.json.decode(flight, type=Outcome).flight_sha256
