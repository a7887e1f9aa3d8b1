"""The scenarios that measure time: one message after the other, all sensors at once, and each at its own rate."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from edge.bench.feed import Closed, Messages, Open
from edge.bench.floor import SHARE, FloorMeter
from edge.bench.percentiles import MIN_SAMPLES, ratio_of, spread
from edge.bench.result import Latency, Scenario, Spread, Stream
from edge.bench.rig import Rig, Turn
from edge.transport.messages import Classification

WARM_UP_ANSWERS = 50
_BLOCK_S = 1.5
_TOP_UP_S = 2.0
_WARM_UP_S = 0.3
_MOST_WARM_UP_S = 1.0

Tick = Callable[[], None]
"""Called after each block, for a progress bar."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """A measured path with its answers."""

    result: Latency
    answers: Sequence[Classification]


def block_count(seconds: float) -> int:
    """Return how many turns path and floor take in a time."""
    return max(1, round(seconds / _BLOCK_S))


def measure_paced(rig: Rig, path: str, names: tuple[str, ...], seconds: float, tick: Tick) -> Timed:
    """Send at each stream's own rate, whether or not it is answered; the floor takes turns with a single stream.

    Args:
        rig: the pipeline.
        path: what to call it.
        names: of the feeds; the first one causes the answers.
        seconds: of measuring, without warm-up and floor.
        tick: called after each block.
    Raises:
        LinkError: a process has ended on its own.
    """
    blocks = block_count(seconds)
    rate_hz = rig.feeds[names[0]].rate_hz
    pairs: list[tuple[list[float], list[float]]] = []
    turns: list[Turn] = []
    with ExitStack() as stack:
        meter = stack.enter_context(FloorMeter(rig.aircraft, rig.feeds[names[0]])) if len(names) == 1 else None
        rig.turn(Open(names=names, seconds=min((WARM_UP_ANSWERS + 10) / rate_hz, _MOST_WARM_UP_S)))
        for _ in range(blocks):
            floor_ms = meter.measure(rig.feeder, seconds / blocks * SHARE) if meter is not None else []
            turns.append(rig.turn(Open(names=names, seconds=seconds / blocks)))
            pairs.append((totals_ms(turns[-1].answers), floor_ms))
            tick()
        missing = MIN_SAMPLES[99] - sum(len(turn.answers) for turn in turns)
        if 0 < missing < _TOP_UP_S * rate_hz <= seconds * rate_hz / 2:  # a busy machine supersedes some messages
            turns.append(rig.turn(Open(names=names, seconds=min(1.5 * missing / rate_hz + 0.1, _TOP_UP_S))))
    answers = [answer for turn in turns for answer in turn.answers]
    floor = meter.result() if meter is not None else None
    sent = spread(totals_ms(answers))
    return Timed(
        answers=answers,
        result=Latency(
            path=path,
            scenario="paced",
            streams=_streams(rig, names),
            from_send=sent,
            from_schedule=spread([value for turn in turns for value in _from_schedule_ms(rig, names[0], turn)]),
            unanswered=sum(turn.sent.messages[names[0]] - len(_answered(rig, names[0], turn)) for turn in turns),
            stages=stage_spreads(answers),
            floor=floor,
            ratio=ratio_of(pairs) if meter is not None else None,
            hot_ratio=round(sent.p50 / floor.hot_ms, 3) if sent.p50 and floor is not None else None,
            fused_share=fused_share(answers),
            cpu_ms_per_result=per_result(sum(turn.cpu_s for turn in turns) * 1e3, len(answers)),
            joules_per_result=_joules_per_result(turns),
        ),
    )


def measure_closed(
    rig: Rig, scenario: Scenario, path: str, names: tuple[str, ...], seconds: float, tick: Tick
) -> Timed:
    """Send a message of every named feed, wait for the answer, send the next; arguments as `measure_paced`."""
    blocks = block_count(seconds)
    rig.turn(Closed(names=names, seconds=_WARM_UP_S))
    turns = []
    for _ in range(blocks):
        turns.append(rig.turn(Closed(names=names, seconds=seconds / blocks)))
        tick()
    answers = [answer for turn in turns for answer in turn.answers]
    return Timed(
        answers=answers,
        result=Latency(
            path=path,
            scenario=scenario,
            streams=_streams(rig, names),
            from_send=spread(totals_ms(answers)),
            from_schedule=None,
            stages=stage_spreads(answers),
            floor=None,
            ratio=None,
            hot_ratio=None,
            fused_share=fused_share(answers),
            cpu_ms_per_result=per_result(sum(turn.cpu_s for turn in turns) * 1e3, len(answers)),
            joules_per_result=_joules_per_result(turns),
        ),
    )


def totals_ms(answers: Sequence[Classification]) -> list[float]:
    """Return the time from send to answer of each."""
    return [answer.latency_ms["total"] for answer in answers]


def per_result(amount: float, results: int) -> float | None:
    """Return a share of an amount; None without results."""
    return round(amount / results, 4) if results else None


def fused_share(answers: Sequence[Classification]) -> float | None:
    """Return the share of answers that more than one modality took part in; None without answers."""
    fused = sum(sum(one.mask > 0 for one in answer.modalities) > 1 for answer in answers)
    return per_result(fused, len(answers))


def stage_spreads(answers: Sequence[Classification]) -> dict[str, Spread]:
    """Return where the time of answers went, by stage."""
    names = [name for name in answers[0].latency_ms if name != "total"] if answers else []
    return {name: spread([answer.latency_ms[name] for answer in answers]) for name in names}


def waits_ms(
    begun_ns: int, period_ns: int, messages: int, answered: Iterable[tuple[int, int]], ended_ns: int
) -> list[float]:
    """Return for each message that was due how long it took until something was known that is as new.

    A message without an answer of its own counts as well, else just those that came at a bad moment would be left out;
    where nothing newer was answered, it took at least until nobody listened any more.

    Args:
        begun_ns: when the first message was due.
        period_ns: from one to the next.
        messages: how many were due.
        answered: when a message was due, and when its answer was made.
        ended_ns: until when answers were listened for.
    Returns:
        in order, one for each message.
    """
    answer_ns: dict[int, int] = {}
    for due_ns, made_ns in answered:
        number = round((due_ns - begun_ns) / period_ns)
        answer_ns[number] = min(made_ns, answer_ns.get(number, made_ns))
    first_ns, waits = ended_ns, []
    for number in reversed(range(messages)):
        first_ns = min(answer_ns.get(number, first_ns), first_ns)
        waits.append((first_ns - begun_ns - number * period_ns) / 1e6)
    return waits[::-1]


def _from_schedule_ms(rig: Rig, name: str, turn: Turn) -> list[float]:
    period_ns = int(1e9 / rig.feeds[name].rate_hz)
    return waits_ms(turn.sent.begun_ns, period_ns, turn.sent.messages[name], _answered(rig, name, turn), turn.ended_ns)


def _answered(rig: Rig, name: str, turn: Turn) -> list[tuple[int, int]]:
    """Return when each message of a stream that was answered was due, and when that was."""
    return [(due_ns, answer.answer_ns) for answer in turn.answers if (due_ns := rig.due_ns(answer, name))]


def _joules_per_result(turns: Sequence[Turn]) -> float | None:
    joules = [turn.joules for turn in turns]
    known = [value for value in joules if value is not None]
    return per_result(sum(known), sum(len(turn.answers) for turn in turns)) if len(known) == len(joules) else None


def _streams(rig: Rig, names: Sequence[str]) -> dict[str, Stream]:
    texts = {"raw": "raw BGR, 1280 x 720", "jpeg": "JPEG, 1280 x 720", "iq": "int16 I/Q"}
    return {
        name: Stream(
            rate_hz=rig.feeds[name].rate_hz,
            message_bytes=Messages(rig.feeds[name]).size_bytes,
            payload=texts[rig.feeds[name].payload],
        )
        for name in names
    }
