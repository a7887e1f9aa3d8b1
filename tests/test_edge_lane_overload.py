"""A receiver and its lane under more than can be inferred: who of the two threads does it, after a hold-up as well."""

import threading

from edge.clock import SystemClock
from edge.config import StreamConfig
from edge.pipeline.lane import Lane
from edge.pipeline.receiver import Receiver, spare_messages
from edge.pipeline.scheduler import Arrival

STREAM = StreamConfig(modality="iq", endpoint="ipc:///unused", rate_hz=100.0)
PATIENCE_S = 30.0
ENOUGH = 5
NEWER_S = 0.02
"""For a newer message to come while the lane's thread infers: none does where the receiver waits for its turn."""


class Flood:
    """An inbox that always has one message more, once the first ones, too many for who infers, are being inferred."""

    def __init__(self, begun: threading.Event) -> None:
        self.begun = begun
        self.broken_connections = 0
        self.at_once = spare_messages(STREAM) + 2
        self.sent = 0

    def receive(self, timeout_ms: int) -> int | None:
        if self.at_once == 0:
            if timeout_ms == 0:
                return None
            self.begun.wait(PATIENCE_S)
        self.at_once = max(self.at_once - 1, 0)
        self.sent += 1
        return self.sent

    def __enter__(self) -> "Flood":
        return self

    def __exit__(self, *_: object) -> None: ...


class Flight:
    """A real receiver on a real lane; of what waits the newest is inferred."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.newest = self.taken = 0
        self.inferred: list[tuple[int, str]] = []
        """Numbers of messages, and the threads that inferred them."""
        self.stop, self.begun = threading.Event(), threading.Event()
        self.lane = Lane(self.take, self.infer, SystemClock(), 1)
        receiver = Receiver("radio", STREAM, self.lane, self.offer, SystemClock())
        self.threads = (
            threading.Thread(target=receiver.run, args=(Flood(self.begun), self.stop, lambda: None), name="receiver"),
            threading.Thread(target=self.lane.work, name="lane"),
        )

    def offer(self, name: str, received: int) -> None:
        with self.changed:
            self.newest = received
            self.changed.notify_all()

    def take(self) -> Arrival | None:
        with self.changed:
            if self.taken == self.newest:
                return None
            self.taken = self.newest
            return Arrival(stream="radio", header=self.taken, payload=b"", arrived_ns=0)

    def infer(self, arrival: Arrival) -> None:
        who = threading.current_thread().name
        with self.changed:
            self.begun.set()
            if who == "lane":  # takes so long that something waits again: that is overload
                self.changed.wait_for(lambda: self.newest > arrival.header, NEWER_S)
            self.inferred.append((arrival.header, who))
            self.changed.notify_all()

    def is_taken_over(self) -> bool:
        """Say whether the receiver infers again, after the lane's thread did."""
        names = [name for _, name in self.inferred]
        return "lane" in names and names[names.index("lane") :].count("receiver") >= ENOUGH

    def fly(self) -> bool:
        """Fly until the receiver infers again, or for as long as one can wait; say whether it does."""
        for thread in self.threads:
            thread.start()
        with self.changed:
            is_taken_over = self.changed.wait_for(self.is_taken_over, PATIENCE_S)
        receiver, worker = self.threads
        self.stop.set()
        receiver.join()
        self.lane.stop()
        worker.join()
        return is_taken_over


def test_a_receiver_that_was_held_up_once_infers_again_though_something_always_waits():
    flight = Flight()
    assert flight.fly()
    assert flight.inferred[0][1] == "lane"


def test_what_changes_hands_is_inferred_once_in_order_and_to_the_last():
    flight = Flight()
    flight.fly()
    numbers = [number for number, _ in flight.inferred]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == flight.newest
