"""Who infers a modality's messages: the receiver itself, or the lane's own thread."""

import threading
from collections import deque

import pytest

from edge.clock import VirtualClock
from edge.pipeline.lane import Lane
from edge.pipeline.scheduler import Arrival

COST_NS = 5_000_000
HOUR_NS = 3_600_000_000_000
PATIENCE_S = 30.0


class Bench:
    """A lane, what waits for it, and who inferred what."""

    def __init__(self, streams: int = 1) -> None:
        self.clock = VirtualClock(0)
        self.waiting: deque[str] = deque()
        self.inferred: list[tuple[str, str]] = []
        self.lane = Lane(self.take, self.infer, self.clock, streams)
        self.worker = threading.Thread(target=self.lane.work, name="lane")

    def take(self) -> Arrival | None:
        name = self.waiting.popleft() if self.waiting else None
        return Arrival(stream=name, header=None, payload=b"", arrived_ns=0) if name else None

    def infer(self, arrival: Arrival) -> None:
        self.inferred.append((arrival.stream, threading.current_thread().name))
        self.clock.advance_to(self.clock.now_ns() + COST_NS)

    def finish(self) -> list[tuple[str, str]]:
        """Let the lane's thread do what is left for it."""
        self.worker.start()
        self.lane.stop()
        self.worker.join()
        return self.inferred


@pytest.fixture
def here() -> str:
    return threading.current_thread().name


def test_a_receiver_with_time_infers_itself(here):
    bench = Bench()
    for name in ("first", "second"):
        bench.waiting.append(name)
        bench.lane.serve(COST_NS + 1)
    assert bench.inferred == [("first", here), ("second", here)]


def test_a_receiver_without_time_leaves_it_to_the_lane(here):
    bench = Bench()
    for name in ("first", "second"):
        bench.waiting.append(name)
        bench.lane.serve(COST_NS)
    assert bench.finish() == [("first", here), ("second", "lane")]


def test_what_comes_in_on_another_stream_meanwhile_is_left_to_the_lane(here):
    bench = Bench(streams=2)
    bench.waiting.extend(["own", "of the other"])
    bench.lane.serve(COST_NS)
    assert bench.inferred == [("own", here)]
    assert bench.finish() == [("own", here), ("of the other", "lane")]


def test_nobody_infers_while_another_does():
    bench = Bench(streams=2)
    begun, go_on = threading.Event(), threading.Event()

    def infer(arrival: Arrival) -> None:
        begun.set()
        assert go_on.wait(10)
        bench.inferred.append((arrival.stream, threading.current_thread().name))

    bench.lane._infer = infer
    bench.waiting.append("slow")
    receiver = threading.Thread(target=bench.lane.serve, args=(COST_NS,), name="receiver")
    receiver.start()
    assert begun.wait(10)
    bench.waiting.append("next")
    bench.lane.serve(COST_NS)
    assert bench.inferred == []
    go_on.set()
    receiver.join()
    assert bench.finish() == [("slow", "receiver"), ("next", "lane")]


def test_an_engine_that_hangs_keeps_a_receiver_with_time_for_a_moment_only(here):
    bench = Bench()
    begun, go_on = threading.Event(), threading.Event()

    def hang(arrival: Arrival) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        bench.inferred.append((arrival.stream, threading.current_thread().name))

    bench.lane._infer = hang
    bench.waiting.extend(["hangs", "waits"])
    bench.worker.start()
    bench.lane.serve(0)
    assert begun.wait(PATIENCE_S)
    caught_up: list[bool] = []
    receiver = threading.Thread(target=bench.lane.serve, args=(HOUR_NS, lambda: caught_up.append(True)))
    receiver.start()
    receiver.join(PATIENCE_S)
    assert not receiver.is_alive()
    assert caught_up == []
    go_on.set()
    bench.lane.stop()
    bench.worker.join()
    assert bench.inferred == [("hangs", "lane"), ("waits", "lane")]


def test_what_waits_at_the_end_is_inferred_before_the_lane_stops():
    bench = Bench()
    bench.waiting.append("last")
    assert bench.finish() == [("last", "lane")]
