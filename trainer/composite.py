"""A flight over the sites of UAVPair-7: real radio, real scenes and a real track that were never recorded together.

Five times a second the vehicle is over the next pair of the file: the pair's radio window, its scene 10 ms later, and
the truth. The same files give the same bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.recording.composition import CAMERA, RADIO, START_NS, Moment, Part, Window, compose
from edge.recording.imports.flight_log import stretched_pose_part
from edge.transport.messages import Truth
from models.errors import ConfigError, RecordingError
from models.preprocess import opencv
from trainer.data.uavpair7 import CLASSES, PAIR_SEED, SAMPLE_RATE_HZ, WINDOW_SAMPLES, Pair, PairedExample, UavPair7

RATE_HZ = 5.0
MIN_DEFAULT_S = 60.0
CENTRE_HZ = 433.92e6
FRAME_DELAY_NS = 10_000_000
"""Between the beginning of a window and the exposure of its scene."""
TRANSPORT_NS = 33_000_000
"""From exposure to arrival: a window takes as long to fill, so both of a pair arrive together, radio first."""
_PERIOD_NS = round(1e9 / RATE_HZ)
_WINDOW_NS = round(1e9 * WINDOW_SAMPLES / SAMPLE_RATE_HZ)


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """One pair at one moment of the flight."""

    row: int
    """Of the pairs file, from 0."""
    round: int
    """How often the row was visited before: each time brings other noise."""


def plan_visits(labels: Sequence[int], seconds: float | None) -> tuple[Visit, ...]:
    """Return which row is visited when, in the order of the file, round after round.

    Args:
        labels: of every row.
        seconds: length of the flight; a share of the rows is spread evenly over the classes. None: every row, at least
            a minute.
    Raises:
        ConfigError: too short for every class to appear.
    """
    classes = len(set(labels))
    count = max(len(labels), round(MIN_DEFAULT_S * RATE_HZ)) if seconds is None else round(seconds * RATE_HZ)
    if count < classes:
        raise ConfigError(f"{seconds} s: expected at least {classes / RATE_HZ:g} s, so that each class appears once")
    visits: list[Visit] = []
    while len(visits) < count:
        rows = _even_share(labels, min(count - len(visits), len(labels)))
        visits += [Visit(row=row, round=len(visits) // len(labels)) for row in rows]
    return tuple(visits)


class PairExamples:
    """The examples of a pairs file, each made once: radio and camera ask for the same one shortly after each other."""

    def __init__(self, data: UavPair7, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self._data = data
        self._latest: tuple[Visit, PairedExample] | None = None

    def at(self, visit: Visit) -> PairedExample:
        """Return what both sensors deliver on a visit."""
        if self._latest is None or self._latest[0] != visit:
            seed = [PAIR_SEED, visit.row, visit.round] if visit.round else [PAIR_SEED, visit.row]
            self._latest = visit, self._data.example(self.pairs[visit.row], np.random.default_rng(seed))
        return self._latest[1]


def write_composite_flight(
    path: Path,
    examples: PairExamples,
    visits: Sequence[Visit],
    *,
    log: Path | None,
    watch: Callable[[int], None] = lambda _: None,
) -> dict[str, int]:
    """Write the recording; return how many messages of which part.

    Args:
        path: file to write, or to replace.
        examples: what is met with.
        visits: of the flight, from `plan_visits`.
        log: ArduPilot log whose track is stretched over the flight; None: no poses.
        watch: told the number of messages written.
    Raises:
        RecordingError: the file cannot be written, or the log not be read.
    """
    end_ns = START_NS + len(visits) * _PERIOD_NS
    origin = f"{len(visits)} of {len(examples.pairs)} pairs, {RATE_HZ:g} a second"
    parts = [
        _part("truth", "classes of the pairs", _truths(examples.pairs, visits), len(visits)),
        _part(RADIO, f"radio windows of UAVPair-7, {origin}", _windows(examples, visits), len(visits)),
        _part(CAMERA, f"scenes of UAVPair-7, {origin}", _frames(examples, visits), len(visits)),
    ]
    if log is not None:
        parts.append(stretched_pose_part(log, START_NS, end_ns, _PERIOD_NS))
    return compose(path, parts, metadata={"data set": "UAVPair-7"}, utc_offset_ns=0, watch=watch)


def _part(name: str, origin: str, moments: Iterator[Moment], count: int) -> Part:
    return Part(name=name, origin=origin, moments=moments, count=count, end_ns=START_NS + count * _PERIOD_NS)


def _times(visits: Sequence[Visit]) -> Iterator[tuple[int, Visit]]:
    for n, visit in enumerate(visits):
        yield START_NS + n * _PERIOD_NS, visit


def _truths(pairs: Sequence[Pair], visits: Sequence[Visit]) -> Iterator[Moment]:
    for at_ns, visit in _times(visits):
        label = pairs[visit.row].label
        truth = Truth(capture_ns=at_ns, class_id=label, label=CLASSES[label])
        yield Moment(capture_ns=at_ns, arrival_ns=at_ns, content=truth)


def _windows(examples: PairExamples, visits: Sequence[Visit]) -> Iterator[Moment]:
    for at_ns, visit in _times(visits):
        samples = np.ascontiguousarray(examples.at(visit).iq, np.float32)
        window = Window(samples=samples, sample_rate_hz=SAMPLE_RATE_HZ, centre_hz=CENTRE_HZ)
        yield Moment(capture_ns=at_ns, arrival_ns=at_ns + _WINDOW_NS, content=window)


def _frames(examples: PairExamples, visits: Sequence[Visit]) -> Iterator[Moment]:
    cv2 = opencv()
    for at_ns, visit in _times(visits):
        is_encoded, png = cv2.imencode(".png", examples.at(visit).image)
        if not is_encoded:
            raise RecordingError("OpenCV cannot write PNG: install one with PNG support")
        capture_ns = at_ns + FRAME_DELAY_NS
        yield Moment(capture_ns=capture_ns, arrival_ns=capture_ns + TRANSPORT_NS, content=png.tobytes())


def _even_share(labels: Sequence[int], count: int) -> list[int]:
    """Return `count` rows in order, as equal a number of each class as there is, spread over the class's rows."""
    rows_of: dict[int, list[int]] = {}
    for row, label in enumerate(labels):
        rows_of.setdefault(label, []).append(row)
    chosen: list[int] = []
    left = count
    ascending = sorted(rows_of.values(), key=len)
    for position, rows in enumerate(ascending):
        share = min(len(rows), left // (len(ascending) - position))
        left -= share
        chosen += [rows[n * len(rows) // share] for n in range(share)]
    return sorted(chosen)
