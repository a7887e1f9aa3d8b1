"""One modality's way to inference: a thread at a time, whichever is there first."""

import queue
import threading
from collections.abc import Callable

from edge.clock import Clock
from edge.pipeline.scheduler import Arrival

LONGEST_WAIT_S = 0.1
"""For a turn: a receiver looks ten times a second whether it is to stop, however long an engine hangs."""


class Lane:
    """Takes a modality's waiting messages through inference.

    A hand-over to another thread costs a wake-up, a tenth of a millisecond and more on a small board. So a receiver
    infers what it has received itself, as long as what comes meanwhile has room in its socket. Where inference takes
    longer the lane's own thread does it, and the receiver goes on receiving: what piles up in a socket is old when its
    turn comes. A receiver that has time again takes over from the lane's thread, which under load would find something
    waiting for ever.
    """

    def __init__(
        self, take: Callable[[], Arrival | None], infer: Callable[[Arrival], None], clock: Clock, streams: int
    ) -> None:
        """Bring the parts together.

        Args:
            take: hands out the next message, None where nothing waits.
            infer: takes it through to the answer.
            clock: measures how long that takes.
            streams: how many feed this lane.
        """
        self._take = take
        self._infer = infer
        self._clock = clock
        self.is_shared = streams > 1
        self._turn = threading.Lock()
        self._is_wanted = False
        """Whether a receiver waits for its turn, and will see to what waits for inference."""
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._took_ns = 0
        """Time of the last inference."""

    def serve(self, spare_ns: int, catch_up: Callable[[], None] = lambda: None) -> None:
        """See to it that what waits is inferred: by this thread if it has `spare_ns`, or else by the lane's own.

        Args:
            spare_ns: what inference may take in this thread.
            catch_up: takes in what came while this thread waited for its turn.
        """
        if self._took_ns < spare_ns and self._infer_here(spare_ns, catch_up):
            return
        if self._wake.empty():  # else the lane's thread has yet to look, and will see this message
            self._wake.put(True)

    def _infer_here(self, spare_ns: int, catch_up: Callable[[], None]) -> bool:
        """Infer a message in this thread if it gets its turn; say whether nothing is left to the lane's own."""
        has_turn = self._turn.acquire(blocking=False)
        has_waited = not has_turn and self._wait_for_turn(spare_ns)
        if not has_turn and not has_waited:
            return False
        try:
            if has_waited:
                catch_up()
            self._infer_next()
        finally:
            self._turn.release()
        return not self.is_shared  # else another stream's message may have come in meanwhile

    def _wait_for_turn(self, spare_ns: int) -> bool:
        """Take the turn from the lane's thread when it is done with its message; say whether that was soon enough."""
        if self.is_shared:  # another receiver may have it, and be wanted itself
            return False
        self._is_wanted = True
        has_turn = self._turn.acquire(timeout=min(spare_ns / 1e9, LONGEST_WAIT_S))
        self._is_wanted = False
        return has_turn

    def practise(self, work: Callable[[], None]) -> bool:
        """Do other work with the modality's engine, unless it is busy; say whether it was done."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            work()
        finally:
            self._turn.release()
        return True

    def work(self) -> None:
        """Infer what receivers leave to this thread, until `stop`; what waits then is inferred first."""
        goes_on = True
        while goes_on:
            goes_on = self._wake.get()
            if goes_on and self._is_wanted:  # by who then infers, or wakes this thread again
                continue
            with self._turn:
                while self._infer_next() and not (goes_on and self._is_wanted):
                    pass

    def stop(self) -> None:
        """End `work`."""
        self._wake.put(False)

    def _infer_next(self) -> bool:
        """Infer one message; say whether there was one."""
        arrival = self._take()
        if arrival is None:
            return False
        started_ns = self._clock.now_ns()
        self._infer(arrival)
        self._took_ns = self._clock.now_ns() - started_ns
        return True
