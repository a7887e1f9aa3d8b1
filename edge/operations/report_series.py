"""The series behind a report's pictures: times, runs of equal answers, means of columns, latencies by stage."""

import collections
import itertools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.transport.messages import Classification
from edge.transport.truths import TruthTimeline

STAGES = ("transport", "queue", "preprocess", "infer", "fuse")
"""Of `Classification.latency_ms`, in the order in which time passes."""
MAX_RUNS = 600
"""More runs than this could not be told apart on a screen: columns of the most frequent key are drawn instead."""
MAX_COLUMNS = 400
_GAP_PERIODS = 4.0
"""An answer stands until the next one, but not longer than so many median periods: what follows is a gap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A stretch of time in which the same was said."""

    start_s: float
    end_s: float
    key: Hashable
    answers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """When answers were captured, from the first one on."""

    starts_s: NDArray[np.float64]
    """(answers,), never going back."""
    ends_s: NDArray[np.float64]
    """(answers,): until when each one stood."""

    @property
    def duration_s(self) -> float:
        """From the first answer to the end of the last; a little above 0 where there is none."""
        return max(float(self.ends_s[-1]), 1e-3) if len(self.ends_s) else 1e-3


def timeline(answers: Sequence[Classification]) -> Timeline:
    """Return when each answer stood, from the first one on."""
    return stood(np.array([answer.capture_ns for answer in answers], np.int64))


def stood(capture_ns: NDArray[np.int64]) -> Timeline:
    """Return when answers stood that were captured at these times, (answers,)."""
    captures = np.maximum.accumulate(capture_ns)
    if not len(captures):
        return Timeline(starts_s=np.zeros(0), ends_s=np.zeros(0))
    starts_s = (captures - captures[0]) / 1e9
    periods = np.diff(starts_s)
    usual_s = float(np.median(periods[periods > 0])) if (periods > 0).any() else 0.0
    ends_s = np.minimum(np.append(starts_s[1:], starts_s[-1] + usual_s), starts_s + _GAP_PERIODS * usual_s)
    return Timeline(starts_s=starts_s, ends_s=ends_s)


def truth_keys(answers: Iterable[Classification], truths: TruthTimeline) -> list[int | None]:
    """Return the true class at each answer's capture; None where it is unknown."""
    found = [truths.at(answer.capture_ns) for answer in answers]
    return [truth.class_id if truth is not None else None for truth in found]


def alone_keys(answers: Iterable[Classification], name: str) -> list[int | None]:
    """Return the class that one modality alone would have answered; -1 while it is absent, None where it is unknown."""
    keys = []
    for answer in answers:
        mine = next((modality for modality in answer.modalities if modality.name == name), None)
        keys.append(mine.class_id if mine is not None else None)
    return keys


def reason_keys(answers: Iterable[Classification], name: str) -> list[str | None]:
    """Return why a modality is absent in each answer; an empty text while it is present, None where it is unknown."""
    keys = []
    for answer in answers:
        mine = next((modality for modality in answer.modalities if modality.name == name), None)
        keys.append((mine.reason or ("" if mine.mask > 0 else "absent")) if mine is not None else None)
    return keys


def errors(
    times: Timeline, keys: Sequence[int | None], truths: Sequence[int | None], limit: int = MAX_RUNS
) -> list[Run]:
    """Return where answers contradict the truth; a run's key is the share of wrong ones among its answers.

    Absent answers and unknown truths do not count. Up to `limit` answers each error is a run, beyond that each column.
    """
    wrong = np.array(
        [
            float(key != truth) if truth is not None and key is not None and key >= 0 else np.nan
            for key, truth in zip(keys, truths, strict=True)
        ]
    )
    if len(wrong) <= limit:
        return _exact_runs(times, [1.0 if value == 1.0 else None for value in wrong.tolist()])
    width_s = times.duration_s / limit
    _, shares = column_means(times, wrong[:, None], limit)
    return [
        Run(start_s=n * width_s, end_s=(n + 1) * width_s, key=share, answers=0)
        for n, share in enumerate(shares[:, 0].tolist())
        if share > 0
    ]


def runs(times: Timeline, keys: Sequence[Hashable | None], limit: int = MAX_RUNS) -> list[Run]:
    """Return the stretches of equal keys, at most about `limit` of them; None keys and gaps belong to no run."""
    found = _exact_runs(times, keys)
    return found if len(found) <= limit else _column_runs(times, keys, limit)


def _exact_runs(times: Timeline, keys: Sequence[Hashable | None]) -> list[Run]:
    said = zip(times.starts_s.tolist(), times.ends_s.tolist(), keys, strict=True)
    return _merged(
        Run(start_s=start_s, end_s=end_s, key=key, answers=1) for start_s, end_s, key in said if key is not None
    )


def _column_runs(times: Timeline, keys: Sequence[Hashable | None], columns: int) -> list[Run]:
    """Return what was said most often in each of `columns` equal pieces of time."""
    width_s = times.duration_s / columns
    places = np.minimum(times.starts_s / width_s, columns - 1).astype(np.int64).tolist()
    found = []
    for place, members in itertools.groupby(zip(places, keys, strict=True), key=lambda pair: pair[0]):
        counts = collections.Counter(key for _, key in members if key is not None)
        if counts:
            key, answers = counts.most_common(1)[0]
            found.append(Run(start_s=place * width_s, end_s=(place + 1) * width_s, key=key, answers=answers))
    return _merged(found)


def _merged(found: Iterable[Run]) -> list[Run]:
    """Join neighbours with equal keys and no gap between them."""
    joined: list[Run] = []
    for run in found:
        last = joined[-1] if joined else None
        if last is not None and last.key == run.key and run.start_s <= last.end_s + 1e-9:
            joined[-1] = Run(start_s=last.start_s, end_s=run.end_s, key=run.key, answers=last.answers + run.answers)
        else:
            joined.append(run)
    return joined


def column_means(
    times: Timeline, values: NDArray[np.float64], columns: int = MAX_COLUMNS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average values over equal pieces of time; with few answers, each is its own piece.

    Args:
        times: of the answers.
        values: (answers, series); NaN does not count.
        columns: number of pieces.
    Returns:
        Times in s (pieces,), and means (pieces, series): NaN where a piece has no value, such as in a gap.
    """
    if len(values) <= columns:
        return _with_gaps(times, values)
    places = np.minimum(times.starts_s / times.duration_s * columns, columns - 1).astype(np.int64)
    valid = np.isfinite(values)
    sums, counts = np.zeros((columns, values.shape[1])), np.zeros((columns, values.shape[1]))
    np.add.at(sums, places, np.where(valid, values, 0.0))
    np.add.at(counts, places, valid)
    with np.errstate(invalid="ignore"):
        means = sums / counts
    return (np.arange(columns) + 0.5) * times.duration_s / columns, means


def _with_gaps(times: Timeline, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each answer at its time, and nothing at the end of those that a gap follows."""
    last = np.flatnonzero(times.ends_s[:-1] < times.starts_s[1:])
    nothing = np.full((len(last), values.shape[1]), np.nan)
    return np.insert(times.starts_s, last + 1, times.ends_s[last]), np.insert(values, last + 1, nothing, axis=0)


def modality_values(answers: Sequence[Classification], names: Sequence[str], field: str) -> NDArray[np.float64]:
    """Return a number of every modality in every answer, (answers, modalities); NaN while it is absent."""
    values = np.full((len(answers), len(names)), np.nan)
    for n, answer in enumerate(answers):
        for modality in answer.modalities:
            if modality.mask > 0:
                values[n, names.index(modality.name)] = getattr(modality, field)
    return values


def latencies(answers: Iterable[Classification]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return latencies in ms by the modalities that went in, then by stage; `total` is a stage too."""
    groups: dict[str, dict[str, list[float]]] = {}
    for answer in answers:
        if "total" not in answer.latency_ms:
            continue
        names = " + ".join(modality.name for modality in answer.modalities if modality.mask > 0)
        group = groups.setdefault(names, {stage: [] for stage in (*STAGES, "total")})
        for stage, values in group.items():
            values.append(answer.latency_ms.get(stage, 0.0))
    return {
        names: {stage: np.array(values) for stage, values in group.items()} for names, group in sorted(groups.items())
    }
