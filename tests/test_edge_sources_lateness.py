"""Samples of a flowgraph that come late: what has waited here is thrown away, and no time is told anew for it."""

import threading
from collections import deque
from typing import Any

import gnuradio_messages as sink
import pytest
from gnuradio_messages import message
from playing import Received, kept_sender

from edge.clock import VirtualClock
from edge.config import GnuRadioSource
from edge.sources.device_time import MAX_DRIFT
from edge.sources.gnuradio import GnuRadioStream, SampleAccounting, listen
from edge.sources.lateness import BEHIND_NS, HELD_NS, SLOW_NS, Lateness
from edge.sources.stream import Pacer
from edge.transport.wire import as_array

RATE_HZ = 1_000_000
SAMPLES = 200
"""Of a message."""
BLOCKS_HZ = 100.0
BLOCK_NS = 10_000_000
MS = 1_000_000
START_NS = 5_000_000_000
KEPT = 1000
"""Messages that either socket keeps, 200 ms of samples: fewer than may wait by their bytes."""


class Flowgraph:
    """A sink and the socket that listens to it, each with a queue: they keep the oldest messages, and drop the newest.

    Times are seconds since the start, pauses (from, for so long). Time passes while the listener waits or is held up.
    """

    def __init__(self, clock: VirtualClock, *, rate_hz: float = RATE_HZ, kept: int = KEPT, **pauses: Any) -> None:
        self._clock = clock
        self._rate_hz = rate_hz
        self._kept = kept
        self._of_listener: list[tuple[float, float]] = list(pauses.get("of_listener", ()))
        self._of_flowgraph: tuple[float, float] = pauses.get("of_flowgraph", (0.0, 0.0))
        self._tags: list[tuple[str, bytes]] = pauses.get("tags", [("rx_time", sink.time(0.25))])
        self._sent = 0
        self._heard: deque[list[bytes]] = deque()
        self._behind: deque[list[bytes]] = deque()
        """In the sink, until the listener's socket is empty."""

    def receive(self, timeout_ms: int) -> list[memoryview] | None:
        if self._of_listener and self._clock.now_ns() >= START_NS + self._of_listener[0][0] * 1e9:
            self._clock.advance_to(self._clock.now_ns() + round(self._of_listener.pop(0)[1] * 1e9))
        self._send()
        if not self._heard and timeout_ms:
            due_ns = self._clock.now_ns() + MS if self._behind else self._due_ns()
            self._clock.advance_to(min(due_ns, self._clock.now_ns() + timeout_ms * MS))
            self._heard, self._behind = self._behind, deque()
            self._send()
        return [memoryview(part) for part in self._heard.popleft()] if self._heard else None

    def _send(self) -> None:
        while self._due_ns() <= self._clock.now_ns():
            queue = self._behind if self._behind or len(self._heard) >= self._kept else self._heard
            if len(queue) < self._kept:
                tags = [] if self._sent else [(0, key, value) for key, value in self._tags]
                queue.append(message(self._sent * SAMPLES, SAMPLES, *tags))
            self._sent += 1

    def _due_ns(self) -> int:
        """Return when the next message is sent: once its last sample is there, and the flowgraph runs."""
        due_s = (self._sent + 1) * SAMPLES / self._rate_hz
        begin_s, length_s = self._of_flowgraph
        return START_NS + round(max(due_s, begin_s + length_s if due_s >= begin_s else 0) * 1e9)


def flown(seconds: float, *, config: dict[str, Any] | None = None, **options: Any) -> tuple[SampleAccounting, Received]:
    """Listen to a flowgraph for a while."""
    clock = VirtualClock(START_NS)
    sender, sent = kept_sender(clock)
    settings: dict[str, Any] = {"stream": "r", "endpoint": "ipc:///run/r", "sample_rate_hz": RATE_HZ}
    stream = GnuRadioStream(GnuRadioSource(**settings | (config or {})), BLOCKS_HZ, sender)
    listen(stream, Flowgraph(clock, **options), Pacer(threading.Event(), limit_s=seconds, clock=clock))
    assert stream.counts.balanced
    return stream.counts, sent


def errors_ns(sent: Received) -> list[int]:
    """Return by how much each block's time differs from when its first sample was captured."""
    first = [int(as_array(header, payload)[0, 0]) for header, payload in sent]
    captured = [header.capture_ns - START_NS for header, _ in sent]
    return [told - round(n / RATE_HZ * 1e9) for told, n in zip(captured, first, strict=True)]


def ages_ns(sent: Received) -> list[int]:
    """Return how old each block's first sample is by its time when it leaves."""
    return [header.send_ns - header.capture_ns for header, _ in sent]


@pytest.mark.parametrize(
    ("held_up", "queues"),
    [([(1.0, 0.5)], 1), ([(1.0, 2.0)], 2), ([(1.0, 2.0), (1.0, 2.0)], 2), ([(1.0, 2.0), (3.1, 2.0)], 4)],
)
def test_old_samples_that_full_sockets_kept_are_thrown_away_and_move_no_clock(
    held_up: list[tuple[float, float]], queues: int
) -> None:
    counts, sent = flown(6.0, of_listener=held_up)
    assert counts.clock_steps == 0
    assert counts.stale >= queues * KEPT * SAMPLES
    assert counts.lost > 0
    assert max(map(abs, errors_ns(sent))) <= 2 * MAX_DRIFT * 6_000 * MS
    begun_before = len(held_up)
    assert sorted(ages_ns(sent))[-1 - begun_before] <= HELD_NS + 2 * BLOCK_NS


@pytest.mark.parametrize("pauses", [{"of_flowgraph": (1.0, 2.0)}, {"of_listener": [(1.0, 2.0)]}])
@pytest.mark.parametrize(("kind", "is_thrown_away"), [("push", False), ("pub", True)])
def test_a_hold_up_of_seconds_on_either_side_moves_no_clock(
    pauses: dict[str, Any], kind: str, is_thrown_away: bool
) -> None:
    counts, sent = flown(4.0, config={"sink": kind}, kept=1_000_000, **pauses)
    assert (counts.clock_steps, counts.stale > 0, counts.lost) == (0, is_thrown_away, 0)
    assert max(map(abs, errors_ns(sent))) <= 2 * MAX_DRIFT * 4_000 * MS


def test_a_flowgraph_slower_than_its_rate_gets_new_times_once_it_has_been_behind_for_long() -> None:
    counts, sent = flown(8.0, rate_hz=RATE_HZ / 2)
    assert (counts.clock_steps, counts.stale, counts.lost) == (2, 0, 0)
    assert BEHIND_NS < max(ages_ns(sent)) <= BEHIND_NS + SLOW_NS // 2 + 3 * BLOCK_NS


def test_a_slow_flowgraph_goes_on_soon_after_its_listener_was_held_up() -> None:
    counts, _ = flown(8.0, rate_hz=RATE_HZ / 2, of_listener=[(1.5, 0.5), (5.0, 0.3)], kept=1_000_000)
    assert 0 < counts.stale <= (0.5 + 0.3 + 2 * HELD_NS * 1e-9) * RATE_HZ / 2
    assert (counts.clock_steps, counts.lost) == (2, 0)


@pytest.mark.parametrize("ratio", [20.0, 1.0, 0.05])
def test_what_may_wait_follows_the_rate_that_the_radio_says(ratio: float) -> None:
    tags = [("rx_time", sink.time(0.25)), ("rx_rate", sink.double(RATE_HZ))]
    config = {"sample_rate_hz": ratio * RATE_HZ}
    short, sent = flown(2.0, config=config, tags=tags, of_listener=[(1.0, 0.2)], kept=1_000_000)
    assert (short.stale, short.lost, short.clock_steps) == (0, 0, 0)
    long, sent = flown(2.0, config=config, tags=tags, of_listener=[(1.0, 0.9)], kept=1_000_000)
    assert long.stale >= 0.9 * RATE_HZ - SAMPLES
    assert (long.lost, long.clock_steps) == (0, 0)
    assert max(map(abs, errors_ns(sent))) <= 2 * MAX_DRIFT * 2_000 * MS


@pytest.mark.parametrize(
    ("late_ns", "waited_ns", "is_stale"),
    [
        (HELD_NS + 1, HELD_NS + 1, True),
        (HELD_NS, HELD_NS + 1, False),
        (HELD_NS + 1, HELD_NS, False),
    ],
)
def test_only_what_is_late_and_may_have_waited_as_long_is_stale(late_ns: int, waited_ns: int, is_stale: bool) -> None:
    for allowed_ns in (0, HELD_NS):
        lateness = Lateness(allowed_ns)
        lateness.judge(late_ns, START_NS - waited_ns, START_NS)
        assert lateness.is_stale == is_stale


def test_where_nothing_is_ever_too_late_nothing_is_stale_and_a_slow_flowgraph_is_still_found() -> None:
    lateness = Lateness(None)
    lateness.judge(10 * BEHIND_NS, 0, START_NS)
    assert (lateness.is_stale, lateness.is_slow) == (False, False)
    lateness.judge(10 * BEHIND_NS, 0, START_NS + SLOW_NS)
    assert (lateness.is_stale, lateness.is_slow) == (False, True)


def test_a_flowgraph_that_was_in_time_in_between_is_not_slow() -> None:
    lateness = Lateness(HELD_NS)
    for at_ms, late_ns in ((0, BEHIND_NS + 1), (600, BEHIND_NS), (1200, BEHIND_NS + 1), (2100, BEHIND_NS + 1)):
        now_ns = START_NS + at_ms * MS
        lateness.judge(late_ns, now_ns, now_ns)
        assert not lateness.is_slow
