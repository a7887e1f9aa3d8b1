"""Moments of a recorded flight: which windows and frames belong together, and what was really there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.recording.reader import Recording
from edge.transport.messages import Truth
from edge.transport.sensors import fit_header
from edge.transport.truths import TruthTimeline
from edge.transport.wire import Header, Reason, check_payload
from models.errors import InputError
from models.spec import ModalitySpec, Recipe

UNTOLD = -1
"""Class id of a moment that nobody told the truth of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One look of every sensor at the same thing."""

    class_id: int
    """By the flight's truth."""
    places: Mapping[str, NDArray[np.int64]]
    """By modality: places in the recording of the messages within the skew, the nearest in time first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flight:
    """What a recording gives to learn from."""

    recording: Recording
    labels: Mapping[int, str]
    """Of the truth, by class id."""
    moments: tuple[Moment, ...]
    left_out: Mapping[str, int]
    """Messages that are in no moment, by why."""
    looks: Mapping[str, int]
    """Usable messages by modality."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Looks:
    """The usable messages of one modality, ordered by capture time."""

    places: NDArray[np.int64]
    capture_ns: NDArray[np.int64]
    class_ids: NDArray[np.int64]


def cut_flight(
    recording: Recording,
    streams: Mapping[str, str],
    modalities: Sequence[ModalitySpec],
    max_skew_ns: int,
    *,
    needs_truth: bool = True,
) -> Flight:
    """Cut a recording into moments, one for each message of the modality that has the fewest.

    As in flight, messages are paired with the nearest in capture time, and a window counts as captured when its newest
    part was. All of a moment's messages lie within one and the same truth.

    Args:
        recording: the flight.
        streams: modality that each stream feeds.
        modalities: of the model; every moment has them all.
        max_skew_ns: between the pacing message and any other.
        needs_truth: whether a moment that nobody told the truth of is left out, or gets the class id UNTOLD.
    Raises:
        InputError: the recording tells no truth though it needs to, or gives one class two names.
        RecordingError: a message is not what its channel says.
    """
    recipes = {modality.name: modality.recipe for modality in modalities}
    truths = TruthTimeline()
    labels: dict[int, str] = {}
    left_out: Counter[str] = Counter()
    found: dict[str, list[tuple[int, int, int]]] = {name: [] for name in recipes}
    for place, event in enumerate(recording.events()):
        if isinstance(event.message, Truth):
            truths.note(event.message)
            _learn_label(labels, event.message, recording)
        elif event.header is not None and event.stream in streams:
            name = streams[event.stream]
            fitting = _fitting(event.header, event.payload, recipes[name])
            if isinstance(fitting, Reason):
                left_out[f"{event.stream}: {fitting}"] += 1
            else:
                found[name].append((fitting.capture_ns, event.header.capture_ns, place))
    if needs_truth and not labels:
        raise InputError(f"{recording.path}: no truth in it: record the topic `truth`, or leave the file out")
    looks = {name: _looks(rows, truths) for name, rows in found.items()}
    return Flight(
        recording=recording,
        labels=labels,
        moments=tuple(_moments(looks, max_skew_ns, left_out, needs_truth=needs_truth)),
        left_out=left_out,
        looks={name: len(one.places) for name, one in looks.items()},
    )


def _fitting(header: Header, payload: bytes, recipe: Recipe) -> Header | Reason:
    return check_payload(header, payload) or fit_header(header, recipe)


def _learn_label(labels: dict[int, str], truth: Truth, recording: Recording) -> None:
    """Note the name of a class; a negative class id says that nothing known is there."""
    if truth.class_id >= 0 and labels.setdefault(truth.class_id, truth.label) != truth.label:
        raise InputError(
            f"{recording.path}: truth {truth.class_id} is {labels[truth.class_id]!r} and {truth.label!r}:"
            " expected one name for a class, record again or leave the file out"
        )


def _looks(rows: list[tuple[int, int, int]], truths: TruthTimeline) -> _Looks:
    """Return messages with their truth; untold where it changes while a message is being captured."""
    rows.sort()
    class_ids = []
    for newest_ns, first_ns, _ in rows:
        newest, first = truths.at(newest_ns), truths.at(first_ns)
        is_told = newest is not None and first is not None and newest.class_id == first.class_id >= 0
        class_ids.append(newest.class_id if newest is not None and is_told else UNTOLD)
    table: NDArray[Any] = np.array(rows, np.int64).reshape(-1, 3)
    return _Looks(places=table[:, 2], capture_ns=table[:, 0], class_ids=np.array(class_ids, np.int64))


def _moments(
    looks: Mapping[str, _Looks], max_skew_ns: int, left_out: Counter[str], *, needs_truth: bool
) -> list[Moment]:
    pacing = min(looks, key=lambda name: len(looks[name].places))
    paced = looks[pacing]
    moments = []
    for n in range(len(paced.places)):
        class_id, capture_ns = int(paced.class_ids[n]), int(paced.capture_ns[n])
        if needs_truth and class_id == UNTOLD:
            left_out[f"{pacing}: no truth"] += 1
            continue
        others = {name: _near(one, capture_ns, class_id, max_skew_ns) for name, one in looks.items() if name != pacing}
        alone = [name for name, places in others.items() if not len(places)]
        if alone:
            left_out[f"{pacing}: without {', '.join(alone)}"] += 1
            continue
        moments.append(Moment(class_id=class_id, places={pacing: paced.places[n : n + 1], **others}))
    return moments


def _near(looks: _Looks, capture_ns: int, class_id: int, max_skew_ns: int) -> NDArray[np.int64]:
    """Return the places of messages of a class within the skew of a time, the nearest first."""
    low = np.searchsorted(looks.capture_ns, capture_ns - max_skew_ns, "left")
    high = np.searchsorted(looks.capture_ns, capture_ns + max_skew_ns, "right")
    chosen = np.arange(low, high)[looks.class_ids[low:high] == class_id]
    near: NDArray[np.int64] = chosen[np.argsort(np.abs(looks.capture_ns[chosen] - capture_ns), kind="stable")]
    places: NDArray[np.int64] = looks.places[near]
    return places
