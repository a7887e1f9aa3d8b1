"""How many I/Q samples a second the pipeline takes in without losing one: int16, a hundred messages a second."""

from collections.abc import Callable

from edge.bench.feed import Open
from edge.bench.result import Ingest, IngestPoint
from edge.bench.rig import Rig, Turn
from edge.transport.messages import StreamAccounting

INGEST = "ingest"
MESSAGE_RATE_HZ = 100.0
RATES_MS_PER_S = (2.4, 20.0, 30.72, 61.44, 122.88, 245.76)
"""The rates of common receivers, then doubled until something is lost."""
_KEPT_RATE = 0.98
"""Share of the wanted messages that a sender must manage for its rate to count."""
_LAST_WORD_S = 0.01
_SAMPLE_BYTES = 4


def samples_at(rate_ms_per_s: float) -> int:
    """Return the samples of a message at a rate in million samples a second."""
    return round(rate_ms_per_s * 1e6 / MESSAGE_RATE_HZ)


def measure_ingest(rig: Rig, seconds: float, tick: Callable[[], None]) -> Ingest:
    """Raise the rate until samples are lost.

    Args:
        rig: the pipeline, with a feed called `ingest`.
        seconds: for each rate.
        tick: called after each.
    Raises:
        LinkError: a process has ended on its own.
    """
    points: list[IngestPoint] = []
    stream = rig.feeds[INGEST].modality.name
    before = rig.status().streams[stream]
    for rate in RATES_MS_PER_S:
        sent_before, samples = rig.sent[stream], samples_at(rate)
        turn = rig.turn(Open(names=(INGEST,), seconds=seconds, rate_hz=MESSAGE_RATE_HZ, samples=samples, skips=True))
        rig.turn(Open(names=(INGEST,), seconds=_LAST_WORD_S, samples=samples))  # shows what was lost at the end
        after = rig.status().streams[stream]
        points.append(_point(rate, turn, rig.sent[stream] - sent_before, (before, after)))
        before = after
        tick()
        if not points[-1].is_lossless:
            break
    lossless = [point.wanted_ms_per_s for point in points if point.is_lossless]
    return Ingest(points=tuple(points), peak_ms_per_s=max(lossless, default=None))


def _point(rate: float, turn: Turn, sent: int, counts: tuple[StreamAccounting, StreamAccounting]) -> IngestPoint:
    before, after = counts
    samples, messages = samples_at(rate), turn.sent.messages[INGEST]
    lost = sent - (after.received - before.received)
    rejected = sum(after.rejected.values()) - sum(before.rejected.values())
    wanted = turn.order.seconds * MESSAGE_RATE_HZ
    return IngestPoint(
        wanted_ms_per_s=rate,
        sent_ms_per_s=round(messages * samples / turn.sent.seconds / 1e6, 3),
        message_bytes=samples * _SAMPLE_BYTES,
        messages=sent,
        lost=lost,
        rejected=rejected,
        inferred=after.processed - before.processed,
        cpu_percent=round(turn.cpu_s / turn.sent.seconds * 100, 1),
        is_lossless=lost == 0 and rejected == 0 and messages >= _KEPT_RATE * wanted,
    )
