"""When a flight's answers changed, in so few numbers that those of hundreds of flights can be kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.operations.report_series import Run, Timeline, errors, stood
from edge.regression.comparison import Change
from edge.regression.outcome import Answer

_RUNS = 120
"""Changes that a line of a table can tell apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketch:
    """When answers changed."""

    span_s: float
    """From the beginning of the flight to the end of the last answer."""
    changed: tuple[Run, ...]
    """Each one's key is the share of answers that changed."""


def sketch_of(old: Sequence[Answer], new: Sequence[Answer], changes: Sequence[Change]) -> Sketch:
    """Return when the answers to a flight changed."""
    span_s = max(answer_times(old).duration_s, answer_times(new).duration_s)
    return Sketch(span_s=span_s, changed=tuple(change_runs(new, changes, _RUNS)))


def change_runs(answers: Sequence[Answer], changes: Sequence[Change], limit: int) -> list[Run]:
    """Return when answers changed, in at most `limit` runs; a run's key is the share of those that did."""
    changed = {round(change.after_s * 1e6) for change in changes}
    return errors(answer_times(answers), [int(one.after_us in changed) for one in answers], [0] * len(answers), limit)


def answer_times(answers: Sequence[Answer]) -> Timeline:
    """Return when answers stood since the beginning of the flight."""
    times = stood(np.array([answer.after_us * 1000 for answer in answers], np.int64))
    if not answers:
        return times
    first_s = answers[0].after_us / 1e6
    return Timeline(starts_s=times.starts_s + first_s, ends_s=times.ends_s + first_s)
