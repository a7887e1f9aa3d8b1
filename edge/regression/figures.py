"""The figures of a flight, of before and of now, and which of them are worse than they may be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge.regression.comparison import Comparison
from edge.regression.outcome import FUSED, Answer, Outcome
from edge.regression.sketch import Sketch
from edge.regression.tolerances import Tolerances
from edge.transport.messages import StreamAccounting

_ROUNDING = 1e-9
"""Differences of shares are not exact."""

Verdict = Literal["ok", "worse", "ignored", "not judged"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number, then and now."""

    name: str
    old: float
    new: float
    worse_by: float
    """In the unit of its tolerance; below 0 where it is better."""
    tolerance: float | None
    """None: not judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A figure, judged."""

    figure: Figure
    verdict: Verdict
    reason: str = ""
    """Why it is ignored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A flight, flown both times, and what there is to say of it without its answers, which hundreds cannot keep."""

    old: Outcome
    """Without its answers, as is `new`."""
    new: Outcome
    comparison: Comparison
    sketch: Sketch
    said: tuple[Sequence[Answer], Sequence[Answer]] | None
    """The answers of then and now; None where nobody will look at them any more."""


def judge(figures: Iterator[Figure], tolerances: Tolerances) -> tuple[Finding, ...]:
    """Return every figure with what is to be said of it."""
    return tuple(_judged(figure, tolerances) for figure in figures)


def _judged(figure: Figure, tolerances: Tolerances) -> Finding:
    for ignored in tolerances.ignore:
        if ignored.field == figure.name:
            return Finding(figure=figure, verdict="ignored", reason=ignored.reason)
    if figure.tolerance is None:
        return Finding(figure=figure, verdict="not judged")
    is_worse = figure.worse_by > figure.tolerance + _ROUNDING
    return Finding(figure=figure, verdict="worse" if is_worse else "ok")


def flight_figures(pair: Pair, tolerances: Tolerances) -> Iterator[Figure]:
    """Yield what is judged of one flight; what only one of the models knows is left out."""
    yield from _accuracies([pair], tolerances.accuracy_drop)
    yield from _changes([pair], tolerances.changed_share, tolerances)
    shift = pair.comparison.largest_shift
    yield _figure("confidence_change", 0.0, shift, shift, tolerances.confidence_change)
    for names, old in pair.old.latency_ms.items():
        if names in pair.new.latency_ms:
            before, now = old["p99"], pair.new.latency_ms[names]["p99"]
            yield _figure(f"latency_p99_ms.{names}", before, now, _growth(before, now), tolerances.latency_growth)
    yield from _health([pair], tolerances)
    for name, before_count in pair.old.broken.items():
        if name in pair.new.broken:
            now_count = pair.new.broken[name]
            yield _figure(f"promises.{name}", before_count, now_count, now_count - before_count, 0.0)
    yield _wall([pair], None)


def sum_figures(pairs: Sequence[Pair], tolerances: Tolerances) -> Iterator[Figure]:
    """Yield what is judged over all flights together."""
    yield from _accuracies(pairs, tolerances.accuracy_drop_in_sum)
    yield from _changes(pairs, tolerances.changed_share_in_sum, tolerances)
    yield from _health(pairs, tolerances)
    yield _wall(pairs, tolerances.wall_growth)


def _accuracies(pairs: Sequence[Pair], tolerance: float) -> Iterator[Figure]:
    """Yield shares of right answers, over the flights that both were scored on."""
    names = dict.fromkeys(name for pair in pairs for name in (FUSED, *sorted(pair.old.scored)))
    for name in names:
        both = [pair for pair in pairs if pair.old.scored.get(name) and pair.new.scored.get(name)]
        if both:
            old, new = _accuracy([pair.old for pair in both], name), _accuracy([pair.new for pair in both], name)
            yield _figure(f"accuracy.{name}" if name else "accuracy", old, new, old - new, tolerance)


def _accuracy(outcomes: Sequence[Outcome], name: str) -> float:
    return sum(one.right[name] for one in outcomes) / sum(one.scored[name] for one in outcomes)


def _changes(pairs: Sequence[Pair], changed: float, tolerances: Tolerances) -> Iterator[Figure]:
    found = [pair.comparison for pair in pairs]
    share = _share(sum(len(one.changes) for one in found), sum(one.paired for one in found))
    yield _figure("changed_share", 0.0, share, share, changed)
    share = _share(sum(one.gone for one in found), sum(one.old_count for one in found))
    yield _figure("missing_share", 0.0, share, share, tolerances.missing_share)
    share = _share(sum(one.came for one in found), sum(one.new_count for one in found))
    yield _figure("new_share", 0.0, share, share, tolerances.new_share)


def _health(pairs: Sequence[Pair], tolerances: Tolerances) -> Iterator[Figure]:
    olds, news = [pair.old for pair in pairs], [pair.new for pair in pairs]
    counts = [pair.comparison for pair in pairs]
    old_counts, new_counts = [one.old_count for one in counts], [one.new_count for one in counts]
    old = _share(sum(one.old_no_data for one in counts), sum(old_counts))
    new = _share(sum(one.new_no_data for one in counts), sum(new_counts))
    yield _figure("no_data_share", old, new, new - old, tolerances.no_data_growth)
    for name in _common([one.masked for one in olds], [one.masked for one in news]):
        old, new = _masked_share(olds, old_counts, name), _masked_share(news, new_counts, name)
        yield _figure(f"masked_share.{name}", old, new, new - old, tolerances.masked_growth)
    for name in _common([one.streams for one in olds], [one.streams for one in news]):
        before, now = _ledgers(olds, name), _ledgers(news, name)
        old, new = _unused_share(before), _unused_share(now)
        yield _figure(f"unused_share.{name}", old, new, new - old, tolerances.unused_growth)
        lost = sum(not one.balanced for one in now)
        yield _figure(f"unaccounted.{name}", sum(not one.balanced for one in before), lost, lost, 0.0)


def _masked_share(outcomes: Sequence[Outcome], counts: Sequence[int], name: str) -> float:
    """Return the share of so many answers that a modality took no part in."""
    there = [(one, count) for one, count in zip(outcomes, counts, strict=True) if name in one.masked]
    return _share(sum(sum(one.masked[name].values()) for one, _ in there), sum(count for _, count in there))


def _unused_share(ledgers: Sequence[StreamAccounting]) -> float:
    unused = sum(one.superseded + one.dropped_late + one.shed + sum(one.rejected.values()) for one in ledgers)
    return _share(unused, sum(one.received for one in ledgers))


def _ledgers(outcomes: Sequence[Outcome], name: str) -> list[StreamAccounting]:
    return [one.streams[name] for one in outcomes if name in one.streams]


def _common(old: Sequence[Mapping[str, object]], new: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the names that occur on both sides."""
    now = {name for one in new for name in one}
    return [name for name in dict.fromkeys(name for one in old for name in one) if name in now]


def _wall(pairs: Sequence[Pair], tolerance: float | None) -> Figure:
    """Return the time that the replays took; not judged where one side was not timed, as what was saved is not."""
    old, new = sum(pair.old.wall_s for pair in pairs), sum(pair.new.wall_s for pair in pairs)
    return _figure("wall_s", old, new, _growth(old, new), tolerance if old else None)


def _figure(name: str, old: float, new: float, worse_by: float, tolerance: float | None) -> Figure:
    return Figure(name=name, old=old, new=new, worse_by=worse_by, tolerance=tolerance)


def _growth(old: float, new: float) -> float:
    """Return by how much of itself a number grew; what is below 0 grows towards it and beyond."""
    return (new - old) / abs(old) if old else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
