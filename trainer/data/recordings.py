"""Flights of one's own: examples cut from recordings (MCAP) that tell the truth.

An example is what the sensors captured at one moment: for each modality a window, or a frame as BGR uint8, all within
`max_skew_ms` of each other and of one and the same truth. Training takes any such window of a moment, validation the
nearest, as in flight.

Split: by recording, never by moment: neighbours in a flight are all but copies. Which recordings validate is listed, or
follows from a hash of the files' names, so that a further recording moves none of the others. An evaluation needs none
to train with: `validation` may name them all, and a single recording validates.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.recording.feeding import fed_modalities
from edge.recording.injected import injected_into
from edge.recording.reader import Recording, open_recording
from edge.transport.sensors import decode_frame
from edge.transport.wire import Header, Reason, as_array
from models.errors import ConfigError, InputError
from models.spec import ImageRecipe, IqRecipe, ModalitySpec, Recipe
from trainer.data.augmentation import aerial_part, turned_in_time, upright_part
from trainer.data.examples import Example
from trainer.data.flights import Flight, Moment, cut_flight

MAX_FRAME_PX = 1 << 26
LEAST_PART = 0.75
"""Of a frame's height that an augmented one shows."""

log = logging.getLogger(__name__)


class RecordingsData(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="recordings"
):
    """Which recordings, and how they are cut and split."""

    files: tuple[str, ...]
    """Recordings, or patterns such as flights/*.mcap."""
    validation: tuple[str, ...] = ()
    """Those of `files` that validate, named likewise; none named: a share by the hash of their names."""
    held_share: float = 0.25
    """Of the recordings, for validation, where none are named; at least one is on either side of two or more."""
    streams: dict[str, str] = {}
    """Modality that each stream feeds, others are left aside; none named: the only one of its kind, or of its name."""
    classes: tuple[str, ...] = ()
    """Labels in index order, as the truth names them; none named: by the class ids of the truth."""
    max_skew_ms: float = 100.0
    """Between the captures of a moment's window and frame."""
    augmentation: Literal["none", "aerial", "upright"] = "none"
    """Of training: windows turned in time, and parts of frames, mirrored (upright), or turned besides (aerial)."""
    validation_examples: int = 2000
    """At most, spread over the recordings that validate."""
    licence: str = "that of the recordings, not stated"
    """Terms that travel with weights trained on them."""

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("files is empty: expected recordings, or patterns such as flights/*.mcap")
        if not 0 < self.held_share < 1:
            raise ValueError(f"held_share is {self.held_share}: expected above 0 to below 1")
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1:
            raise ValueError(f"classes {', '.join(self.classes)}: expected none, or at least two different ones")
        if not 0 <= self.max_skew_ms <= 60_000:
            raise ValueError(f"max_skew_ms is {self.max_skew_ms}: expected 0 to 60000")
        if not 1 <= self.validation_examples <= 1_000_000:
            raise ValueError(f"validation_examples is {self.validation_examples}: expected 1 to 1000000")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A moment of one of the flights."""

    recording: Recording
    label: int
    moment: Moment


class Recordings:
    """Moments of all recordings, on the side of the split that their recording is on."""

    def __init__(self, config: RecordingsData, modalities: tuple[ModalitySpec, ...]) -> None:
        """Read every recording once.

        Raises:
            RecordingError: a file is missing, or nothing in it is sound.
            InputError: a truth is missing or unknown, or a modality or the validation has no examples.
            ConfigError: streams or modalities do not fit each other.
        """
        self.config = config
        self.licence = config.licence
        self._recipes = {modality.name: modality.recipe for modality in modalities}
        held, trained = _split(config)
        cut = {path: read_flight(path, config, modalities) for path in sorted(held + trained)}
        _check_modalities(cut, self._recipes)
        self.classes = _classes(config, cut)
        self._trained = [self._cuts(cut[path]) for path in trained]
        self.validation = [one for path in held for one in self._cuts(cut[path])]
        """Moments, flight by flight in the order of time."""
        if not self.validation:
            raise InputError(f"{', '.join(map(str, held))}: no examples to validate with: name others in `validation`")

    @cached_property
    def training(self) -> list[list[list[Cut]]]:
        """Per label: the moments of each recording that has any.

        Raises:
            InputError: no recording is left to train with, or a class has no examples in those that are.
        """
        if not self._trained:
            raise InputError(
                f"{', '.join(self.config.files)}: all of it validates: expected at least one recording to train with"
                " and another to validate with, the split is never within a flight"
            )
        drawn = [_of_label(self._trained, label) for label in range(len(self.classes))]
        empty = [name for name, flights in zip(self.classes, drawn, strict=True) if not flights]
        if empty:
            raise InputError(
                f"{len(self._trained)} recordings to train with: no examples of {', '.join(empty)}: add a recording"
                " that has them, or leave them out of `classes`"
            )
        return drawn

    def training_example(self, rng: np.random.Generator, progress: float) -> Example:
        """Draw a class, one of its recordings, and a moment of it; there is no curriculum.

        Raises:
            InputError: as `training`, or what was drawn is no image or not finite.
        """
        flights = self.training[rng.integers(len(self.classes))]
        cuts = flights[rng.integers(len(flights))]
        drawn = example_of(cuts[rng.integers(len(cuts))], self._recipes, rng)
        sensors = {name: self._augmented(one, rng) for name, one in drawn.sensors.items()}
        return Example(label=drawn.label, sensors=sensors, source=drawn.source)

    def validation_examples(self) -> Iterator[Example]:
        """Yield moments of the recordings that training leaves, evenly spread where there are too many."""
        count = min(len(self.validation), self.config.validation_examples)
        yield from (
            example_of(self.validation[n * len(self.validation) // count], self._recipes, None) for n in range(count)
        )

    def _cuts(self, flight: Flight) -> list[Cut]:
        index = {class_id: self.classes.index(label) for class_id, label in flight.labels.items()}
        return [
            Cut(recording=flight.recording, label=index[moment.class_id], moment=moment) for moment in flight.moments
        ]

    def _augmented(self, sensed: NDArray[Any] | None, rng: np.random.Generator) -> NDArray[Any] | None:
        if sensed is None or self.config.augmentation == "none":
            return sensed
        if sensed.ndim == 2:
            return turned_in_time(sensed, rng)
        return (aerial_part if self.config.augmentation == "aerial" else upright_part)(sensed, LEAST_PART, rng)


def example_of(cut: Cut, recipes: Mapping[str, Recipe], rng: np.random.Generator | None) -> Example:
    """Return a moment's example: any of its messages and windows by `rng`, without one the nearest and newest.

    Raises:
        InputError: what is there is no image, not finite, or the file was changed meanwhile.
    """
    sensors, sources = {}, []
    for name, places in cut.moment.places.items():
        event = cut.recording.event(int(places[rng.integers(len(places)) if rng else 0]))
        if event.header is None:
            raise InputError(f"{cut.recording.path}: it was changed while it was in use: start again")
        sources.append(f"{event.stream} {event.header.sequence}")
        where = f"{cut.recording.path}: stream {event.stream}, sequence {event.header.sequence}"
        sensors[name] = _sensed(event.header, event.payload, recipes[name], where, rng)
    return Example(label=cut.label, sensors=sensors, source=f"{cut.recording.path}: {', '.join(sources)}")


def _sensed(
    header: Header, payload: bytes, recipe: Recipe, where: str, rng: np.random.Generator | None
) -> NDArray[Any]:
    """Return the frame of a message, or a window of its samples: any by `rng`, without one the newest."""
    if isinstance(recipe, ImageRecipe):
        frame = decode_frame(header, payload, MAX_FRAME_PX)
        if isinstance(frame, Reason):
            raise InputError(f"{where}: no image can be made of it ({frame}): leave this recording out")
        return frame
    if not isinstance(recipe, IqRecipe):
        raise InputError(f"{where}: cannot become {recipe}: recordings hold I/Q and images")
    samples = as_array(header, payload)
    spare = len(samples) - recipe.window_samples
    first = int(rng.integers(spare + 1)) if rng else spare
    window = samples[first : first + recipe.window_samples]
    if not np.isfinite(window).all():
        raise InputError(f"{where}: NaN or infinity among its samples: leave this recording out")
    return window


def _of_label(flights: Sequence[Sequence[Cut]], label: int) -> list[list[Cut]]:
    """Return a class's moments by recording, without those recordings that have none."""
    chosen = ([cut for cut in cuts if cut.label == label] for cuts in flights)
    return [cuts for cuts in chosen if cuts]


def _split(config: RecordingsData) -> tuple[list[Path], list[Path]]:
    """Return the recordings that validate, and those that train."""
    files = matching_files(config.files)
    if config.validation:
        held = matching_files(config.validation)
        foreign = [str(path) for path in held if path not in files]
        if foreign:
            raise InputError(f"validation names {', '.join(foreign)}: expected recordings that `files` names as well")
    else:
        ranks = {path: _rank(path) for path in files}
        ordered = sorted(files, key=lambda path: (ranks[path], str(path)))
        count = sum(rank < config.held_share for rank in ranks.values())
        held = ordered[: max(1, min(count, len(files) - 1))]
    return held, [path for path in files if path not in held]


def _rank(path: Path) -> float:
    """Return 0 to 1 by the name alone, whatever folder it lies in and whatever lies beside it."""
    return int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:8], "big") / 2**64


def matching_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that patterns name, each once, in order."""
    found: dict[Path, Path] = {}
    for pattern in patterns:
        path = Path(pattern)
        base = Path(path.anchor)
        is_pattern = any(sign in pattern for sign in "*?[") and not path.exists()
        paths = sorted(base.glob(str(path.relative_to(base)))) if is_pattern else [path]
        if not paths:
            raise InputError(f"{pattern}: no file of such a name: expected recordings (MCAP)")
        found.update((one.resolve(), one) for one in paths if one.resolve() not in found)
    return list(found.values())


def read_flight(
    path: Path, config: RecordingsData, modalities: tuple[ModalitySpec, ...], *, needs_truth: bool = True
) -> Flight:
    """Return the moments of one recording, and say what of it is lost or left out; raises as `cut_flight`."""
    recording = open_recording(path)
    if recording.damage.is_damaged:
        log.warning("%s: damaged (%s): the rest is used", path, recording.damage)
    injected = injected_into([recording])
    if injected is not None:
        log.warning("%s: a test, faults were injected into what its sensors sent: %s", path, " ".join(injected.faults))
    flight = cut_flight(
        recording,
        _streams(recording, config, modalities),
        modalities,
        round(config.max_skew_ms * 1_000_000),
        needs_truth=needs_truth,
    )
    left_out = ", ".join(f"{count} {why}" for why, count in sorted(flight.left_out.items())) or "nothing"
    log.log(
        logging.INFO if flight.moments else logging.WARNING,
        "%s: %d moments, left out: %s", path, len(flight.moments), left_out,
    )  # fmt: skip
    return flight


def _streams(recording: Recording, config: RecordingsData, modalities: tuple[ModalitySpec, ...]) -> dict[str, str]:
    """Return the modality that each stream feeds, by the configuration or by the recording's own channels."""
    if not config.streams:
        return fed_modalities(recording, modalities)
    names = [modality.name for modality in modalities]
    unknown = sorted(set(config.streams.values()) - set(names))
    if unknown:
        raise ConfigError(f"streams feed {', '.join(unknown)}: expected modalities of the model, {', '.join(names)}")
    if not set(config.streams) & set(recording.streams):
        raise ConfigError(
            f"{recording.path}: none of the streams {', '.join(config.streams)} in it, found"
            f" {', '.join(recording.streams) or 'none'}: name the recording's own"
        )
    return config.streams


def _check_modalities(flights: dict[Path, Flight], recipes: dict[str, Any]) -> None:
    for name, recipe in recipes.items():
        if not isinstance(recipe, IqRecipe | ImageRecipe):
            raise ConfigError(f"modality {name} with {recipe}: recordings hold I/Q and images")
        if not any(flight.looks[name] for flight in flights.values()):
            why = ", ".join(sorted({one for flight in flights.values() for one in flight.left_out})) or "no such stream"
            raise InputError(
                f"{len(flights)} recordings: nothing in any of them feeds {name} ({why}): name its stream in `streams`,"
                f" or give {name} a recipe that fits"
            )


def _classes(config: RecordingsData, flights: dict[Path, Flight]) -> tuple[str, ...]:
    """Return the labels in index order.

    Raises:
        InputError: a truth is not among the classes that are configured, or class ids and labels contradict each other.
    """
    names: dict[int, str] = {}
    for path, flight in flights.items():
        unknown = sorted(set(flight.labels.values()) - set(config.classes)) if config.classes else []
        if unknown:
            raise InputError(
                f"{path}: the truth names {', '.join(unknown)}: expected one of {', '.join(config.classes)}: add it to"
                " `classes`, or leave the recording out"
            )
        for class_id, label in flight.labels.items():
            if not config.classes and names.setdefault(class_id, label) != label:
                raise InputError(
                    f"{path}: truth {class_id} is {label!r}, in other recordings {names[class_id]!r}: name all labels"
                    " in `classes`"
                )
    if config.classes:
        return config.classes
    if sorted(names) != list(range(len(names))) or len(set(names.values())) != len(names) or len(names) < 2:
        raise InputError(
            f"{len(flights)} recordings: their truths name {names}: expected two or more classes 0, 1, 2, ... of"
            " different labels: name all labels in `classes`"
        )
    return tuple(names[n] for n in range(len(names)))
