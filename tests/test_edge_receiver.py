"""One stream's receiving thread, with made-up inboxes."""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable

import msgspec
import pytest

from edge.clock import VirtualClock
from edge.config import StreamConfig
from edge.pipeline.receiver import RECEIVED_AT_ONCE, Receiver, spare_messages
from edge.transport.sockets import queue_length
from edge.transport.wire import Reason

MS = 1_000_000
PERIOD_NS = 10 * MS
ROOM = 12
"""Messages at 100 a second that may come while the receiver infers."""


class FakeInbox:
    """Hands out a script: what to return, or how long to let the caller wait; then stops the receiver."""

    def __init__(self, script: Iterable[Reason | None], stop: threading.Event, clock: VirtualClock) -> None:
        self.script = list(script)
        self.rest = 0
        """Messages that are still there after the stop, 10 ms apart."""
        self.stop = stop
        self.clock = clock
        self.waits_ms: list[int] = []
        self.broken_connections = 0
        self.is_closed = False

    def receive(self, timeout_ms: int) -> Reason | None:
        self.waits_ms.append(timeout_ms)
        if self.stop.is_set() and self.rest:
            self.rest -= 1
            self.clock.advance_to(self.clock.now_ns() + 10 * MS)
            return Reason.CRC
        if not self.script:
            self.stop.set()
            return None
        item = self.script[0] if timeout_ms or self.script[0] is not None else None
        if timeout_ms or item is not None:
            self.script.pop(0)
        if item is None:
            self.clock.advance_to(self.clock.now_ns() + timeout_ms * MS)
        return item

    def __enter__(self) -> "FakeInbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closed = True


class FakeLane:
    """Notes what was served after how many messages, and lets everybody practise."""

    def __init__(self, offered: list[Reason], *, is_shared: bool = False) -> None:
        self.offered = offered
        self.is_shared = is_shared
        self.served: list[int] = []
        self.spare_ns: list[int] = []

    def serve(self, spare_ns: int, catch_up: Callable[[], None]) -> None:
        self.served.append(len(self.offered))
        self.spare_ns.append(spare_ns)

    def practise(self, work) -> bool:
        work()
        return True


class SteadyInbox:
    """Of a source that sends a thousand messages a second, each its own number; keeps as many as a socket does."""

    PERIOD_NS = 1 * MS
    KEPT = queue_length(1_000.0)
    COST_NS = 20_000

    def __init__(self, stop: threading.Event, clock: VirtualClock, until_ns: int) -> None:
        self.stop = stop
        self.clock = clock
        self.until_ns = until_ns
        self.waiting: deque[int] = deque()
        self.sent = 0
        self.broken_connections = 0

    def receive(self, timeout_ms: int) -> int | None:
        self.clock.advance_to(self.clock.now_ns() + self.COST_NS)
        if self.clock.now_ns() > self.until_ns:
            self.stop.set()
        self.fill()
        if not self.waiting and timeout_ms:
            self.clock.advance_to((self.sent + 1) * self.PERIOD_NS)
            self.fill()
        return self.waiting.popleft() if self.waiting else None

    def fill(self) -> None:
        while (self.sent + 1) * self.PERIOD_NS <= self.clock.now_ns():
            self.sent += 1
            if len(self.waiting) < self.KEPT:
                self.waiting.append(self.sent)

    def __enter__(self) -> "SteadyInbox":
        return self

    def __exit__(self, *_: object) -> None: ...


class CostlyLane(FakeLane):
    """Infers in the receiver's thread where that has the time; what is left to the other thread costs it none."""

    def __init__(self, offered: list, clock: VirtualClock, cost_ns: int) -> None:
        super().__init__(offered)
        self.clock = clock
        self.cost_ns = cost_ns
        self.ages_ns: list[int] = []
        self.by_receiver = 0

    def serve(self, spare_ns: int, catch_up: Callable[[], None]) -> None:
        self.ages_ns.append(self.clock.now_ns() - self.offered[-1] * SteadyInbox.PERIOD_NS)
        if self.cost_ns < spare_ns:
            self.by_receiver += 1
            self.clock.advance_to(self.clock.now_ns() + self.cost_ns)


class Stand:
    def __init__(self, script: Iterable[Reason | None], *, rest: int = 0, is_shared: bool = False, **fields) -> None:
        self.clock, self.stop = VirtualClock(0), threading.Event()
        self.offered: list[Reason] = []
        self.practised_ns: list[int] = []
        self.lane = FakeLane(self.offered, is_shared=is_shared)
        self.inbox = FakeInbox(script, self.stop, self.clock)
        self.inbox.rest = rest
        stream = StreamConfig(modality="iq", endpoint="ipc:///unused", rate_hz=100.0, **fields)
        offer = lambda name, received: self.offered.append(received)  # noqa: E731
        Receiver("radio", stream, self.lane, offer, self.clock).run(self.inbox, self.stop, self.practise)

    def practise(self) -> None:
        self.practised_ns.append(self.clock.now_ns())


def test_all_that_waits_is_taken_in_before_inference_gets_its_turn():
    stand = Stand([Reason.CRC, Reason.CRC, Reason.CRC])
    assert stand.lane.served == [3]
    assert stand.inbox.is_closed


def test_what_was_sent_before_the_stop_is_taken_in_after_it():
    stand = Stand([Reason.CRC], rest=7)
    assert (len(stand.offered), stand.inbox.rest) == (8, 0)


def test_sources_that_go_on_after_the_stop_are_not_waited_for():
    stand = Stand([Reason.CRC], rest=1000)
    assert len(stand.offered) == 1 + 30


def test_a_flood_does_not_keep_inference_from_its_turn():
    stand = Stand([Reason.CRC] * 200)
    assert stand.lane.served == [RECEIVED_AT_ONCE + 1, 2 * RECEIVED_AT_ONCE + 2, 3 * RECEIVED_AT_ONCE + 3, 200]


def test_what_came_during_an_inference_is_skipped_by_the_receiver_itself():
    stand = Stand([*[Reason.CRC] * (1 + ROOM), None, Reason.CRC])
    assert stand.lane.served == [1 + ROOM, 2 + ROOM]
    assert stand.lane.spare_ns == [ROOM * PERIOD_NS] * 2


def test_what_comes_while_a_receiver_waits_for_its_turn_is_taken_in_before_it_infers():
    clock, stop = VirtualClock(0), threading.Event()
    offered: list[Reason] = []
    inbox = FakeInbox([Reason.CRC], stop, clock)

    class BusyLane(FakeLane):
        def serve(self, spare_ns: int, catch_up: Callable[[], None]) -> None:
            inbox.script.extend([Reason.CRC] * 2)
            catch_up()
            super().serve(spare_ns, catch_up)
            stop.set()

    lane = BusyLane(offered)
    stream = StreamConfig(modality="iq", endpoint="ipc:///unused", rate_hz=100.0)
    receiver = Receiver("radio", stream, lane, lambda name, received: offered.append(received), clock)
    receiver.run(inbox, stop, lambda: None)
    assert lane.served == [3]


def test_a_receiver_whose_queue_was_filling_up_leaves_inference_to_others_for_a_while():
    stand = Stand([Reason.CRC, None, *[Reason.CRC] * (2 + ROOM), None, *([Reason.CRC, None] * 40)])
    behind = stand.lane.spare_ns.index(0)
    assert stand.lane.spare_ns[:behind] == [ROOM * PERIOD_NS]
    assert stand.lane.spare_ns[behind : behind + 32] == [0] * 32
    assert stand.lane.spare_ns[behind + 32 :] == [ROOM * PERIOD_NS] * 9


@pytest.mark.parametrize(("cost_ms", "infers"), [(50, True), (62, True), (80, False), (120, False)])
def test_a_thousand_messages_a_second_are_never_inferred_from_a_socket_that_is_still_full(cost_ms, infers):
    clock, stop = VirtualClock(0), threading.Event()
    offered: list[int] = []
    lane = CostlyLane(offered, clock, cost_ms * MS)
    stream = StreamConfig(modality="iq", endpoint="ipc:///unused", rate_hz=1_000.0)
    receiver = Receiver("radio", stream, lane, lambda name, received: offered.append(received), clock)
    receiver.run(SteadyInbox(stop, clock, 5_000 * MS), stop, lambda: None)
    assert max(lane.ages_ns) <= 2 * SteadyInbox.PERIOD_NS
    assert (lane.by_receiver > 10) == infers


def test_more_than_is_taken_in_at_once_is_always_too_much_for_a_receiver_that_infers():
    fast = StreamConfig(modality="iq", endpoint="ipc:///unused", rate_hz=3_750.0)
    assert queue_length(fast.rate_hz) // 2 > RECEIVED_AT_ONCE
    assert spare_messages(fast) == RECEIVED_AT_ONCE - 1


def test_a_receiver_infers_for_no_longer_than_half_of_what_is_kept_for_it_lasts():
    stream = StreamConfig(modality="iq", endpoint="ipc:///unused", rate_hz=100.0)
    assert spare_messages(stream) == ROOM == queue_length(100.0) // 2
    assert spare_messages(msgspec.structs.replace(stream, transport="shm", shm_slots=8)) == 4
    assert spare_messages(msgspec.structs.replace(stream, transport="shm", shm_slots=62)) == ROOM


def test_on_a_shared_lane_a_receiver_infers_for_no_longer_than_until_its_next_message():
    stand = Stand([Reason.CRC, None, Reason.CRC], is_shared=True)
    assert stand.lane.spare_ns == [PERIOD_NS] * 2


def test_without_rehearsal_it_sleeps_until_a_message_comes():
    stand = Stand([None, None])
    assert stand.practised_ns == []
    assert stand.inbox.waits_ms[:-1] == [100] * 3


def test_a_rehearsal_comes_shortly_before_the_next_message_is_due_and_once():
    stand = Stand([Reason.CRC, None, None, None], rehearse=True)
    assert len(stand.practised_ns) == 1
    assert 7 * MS <= stand.practised_ns[0] < 10 * MS


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="processors are assigned on Linux alone")
def test_a_receiver_stays_on_the_processor_that_it_is_given():
    cpu, seen = min(os.sched_getaffinity(0)), []
    thread = threading.Thread(target=lambda: (Stand([], cpu=cpu), seen.append(os.sched_getaffinity(0))))
    thread.start()
    thread.join()
    assert seen == [{cpu}]


def test_a_processor_that_is_not_there_is_told_and_the_stream_flies(caplog):
    with caplog.at_level(logging.WARNING):
        stand = Stand([Reason.CRC], cpu=4095)
    assert "cannot stay on CPU 4095" in caplog.text
    assert stand.offered == [Reason.CRC]
