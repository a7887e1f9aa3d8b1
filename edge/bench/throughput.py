"""The most that can be answered, and what happens beyond: fresh answers, steady memory, exact accounts."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec.structs import asdict, replace

from edge.bench.feed import Closed, Open
from edge.bench.latency import per_result, stage_spreads
from edge.bench.percentiles import percentile, spread
from edge.bench.result import Offline, Overload
from edge.bench.rig import Rig
from edge.transport.messages import Classification, StreamAccounting

_OUTSTANDING = 2
"""One in inference, one waiting. Where that takes less time than to hear of an answer and to send the next message, the
pipeline waits for the sender in between, and the most is found only by sending without waiting."""
_TRIES = 3
_STEP = 1.3
_GAIN = 1.02
"""Less than this is no gain."""
_MOST_STEPS = 8
_COMPUTING = ("preprocess", "infer", "fuse")
_LAST_WORD_S = 0.01
"""For a message that shows by its number what was lost at the end."""


def measure_offline(rig: Rig, path: str, seconds: float) -> Offline:
    """Keep a message waiting at all times, then send faster and faster until no more is answered.

    The best counts, as others' work only takes away.

    Args:
        rig: the pipeline.
        path: the feed, which the result is called after.
        seconds: of measuring.
    Raises:
        LinkError: a process has ended on its own.
    """
    order = Closed(names=(path,), seconds=seconds / _TRIES, outstanding=_OUTSTANDING)
    turns = [rig.turn(order) for _ in range(_TRIES)]
    most_per_s = max(_rate_per_s(turn.answers) for turn in turns)
    for _ in range(_MOST_STEPS if most_per_s else 0):
        turns.append(rig.turn(Open(names=(path,), seconds=order.seconds, rate_hz=_STEP * most_per_s, skips=True)))
        before_per_s, most_per_s = most_per_s, max(_rate_per_s(turns[-1].answers), most_per_s)
        if most_per_s < _GAIN * before_per_s:
            break
    rig.turn(Open(names=(path,), seconds=_LAST_WORD_S))
    return Offline(
        path=path,
        results_per_s=round(most_per_s, 2),
        cpu_ms_per_result=per_result(sum(turn.cpu_s for turn in turns) * 1e3, sum(len(turn.answers) for turn in turns)),
    )


def measure_overload(rig: Rig, path: str, factor: float, maximum_per_s: float, seconds: float) -> Overload:
    """Send more than can be answered.

    Args:
        rig: the pipeline.
        path: the feed, which the result is called after.
        factor: of the maximum.
        maximum_per_s: results a second that were possible just before.
        seconds: of measuring.
    Raises:
        LinkError: a process has ended on its own.
    """
    stream = rig.feeds[path].modality.name
    before, sent_before = rig.status().streams[stream], rig.sent[stream]
    rss_start = rig.rss_mib
    turn = rig.turn(Open(names=(path,), seconds=seconds, rate_hz=factor * maximum_per_s, skips=True))
    rss_end = rig.rss_mib
    rig.turn(Open(names=(path,), seconds=_LAST_WORD_S))
    counts = _since(before, rig.status().streams[stream])
    sent = rig.sent[stream] - sent_before
    dues = [(answer, due) for answer in turn.answers if (due := rig.due_ns(answer, path))]
    age = spread([(answer.answer_ns - due) / 1e6 for answer, due in dues])
    offered_per_s = turn.sent.messages[path] / turn.sent.seconds
    period_ms = 1e3 / offered_per_s
    computing_ms = [sum(answer.latency_ms[one] for one in _COMPUTING) for answer in turn.answers]
    inference_ms = percentile(computing_ms, 99)
    results_per_s = len(turn.answers) / turn.sent.seconds  # the time without answers counts, too
    limit_ms = period_ms + inference_ms if inference_ms is not None else None
    return Overload(
        path=path,
        factor=factor,
        maximum_per_s=round(maximum_per_s, 2),
        offered_per_s=round(offered_per_s, 2),
        results_per_s=round(results_per_s, 2),
        throughput_share=round(results_per_s / maximum_per_s, 3),
        age=age,
        stages=stage_spreads(turn.answers),
        sender_late=spread([(answer.answer_ns - due) / 1e6 - answer.latency_ms["total"] for answer, due in dues]),
        from_send=spread([answer.latency_ms["total"] for answer, _ in dues]),
        busy_share=round(sum(computing_ms) / 1e3 / turn.sent.seconds, 3),
        period_ms=round(period_ms, 4),
        inference_ms=inference_ms,
        age_share=round(age.p99 / limit_ms, 3) if age.p99 is not None and limit_ms else None,
        rss_start_mib=rss_start,
        rss_end_mib=rss_end,
        sent=sent,
        counts=counts,
        is_exact=counts.balanced and sent == counts.received + counts.lost_transport,
    )


def _rate_per_s(answers: Sequence[Classification]) -> float:
    """Return answers a second, from the first to the last."""
    if len(answers) < 2:
        return 0.0
    return (len(answers) - 1) / ((answers[-1].answer_ns - answers[0].answer_ns) / 1e9)


def _since(before: StreamAccounting, now: StreamAccounting) -> StreamAccounting:
    """Return what was counted between two moments at which nothing was in flight; the state is the later one."""
    changes: dict[str, Any] = {"rejected": dict(Counter(now.rejected) - Counter(before.rejected))}
    for name, value in asdict(now).items():
        if isinstance(value, int):
            changes[name] = value - getattr(before, name)
    return replace(now, **changes)
