"""One stream's own thread: takes in what comes, sees to it that it is inferred, and rehearses where told to."""

import logging
import os
import threading
from collections.abc import Callable
from functools import partial

from edge.clock import Clock
from edge.config import StreamConfig
from edge.pipeline.lane import Lane
from edge.pipeline.rehearsal import Rehearsal
from edge.transport.inbox import Inbox, Payload
from edge.transport.sockets import queue_length
from edge.transport.wire import Header, Reason

log = logging.getLogger(__name__)

RECEIVE_TIMEOUT_MS = 100
RECEIVED_AT_ONCE = 64
"""Most messages that are taken in before inference gets its turn, whatever a socket keeps."""
_STAYS_BEHIND = 32
"""Turns for which a receiver that was behind does nothing but receive: else a socket fills while it infers, and what
is kept in there is old."""
_NS_PER_MS = 1_000_000
_REST_TIMEOUT_MS = 20
_REST_NS = 300 * _NS_PER_MS
"""Sources that go on sending are not waited for."""

Received = tuple[Header, Payload] | Reason


def spare_messages(stream: StreamConfig) -> int:
    """Return how many messages may come while a stream's receiver infers: half of what is kept for it.

    And fewer than are taken in at once: who finds as many cannot tell how many more wait, and would infer an old one.
    """
    kept = queue_length(stream.rate_hz)
    return min((min(kept, stream.ring_slots) if stream.ring_slots else kept) // 2, RECEIVED_AT_ONCE - 1)


class Receiver:
    """Receives one stream until told to stop."""

    def __init__(
        self, name: str, stream: StreamConfig, lane: Lane, offer: Callable[[str, Received], None], clock: Clock
    ) -> None:
        """Bring the parts together.

        Args:
            name: of the stream.
            stream: as deployed.
            lane: where the stream's modality is inferred.
            offer: told of each message that comes, or why it is none.
            clock: tells when a rehearsal is due.
        """
        self._name = name
        self._lane = lane
        self._offer = offer
        self._clock = clock
        self._cpu = stream.cpu
        period_ns = round(1e9 / stream.rate_hz)
        self._room = spare_messages(stream)
        self._spare_ns = period_ns if lane.is_shared else self._room * period_ns
        """What inference may take in this thread, at the stream's usual rate. On a shared lane that may be of another
        stream's message, and this one's are not to wait for it in the socket."""
        self._behind = 0
        """Turns until this thread infers again, since more messages were found waiting than there is room for."""
        self._rehearsal = Rehearsal(period_ns) if stream.rehearse else None

    def run(self, inbox: Inbox, stop: threading.Event, practise: Callable[[], None]) -> None:
        """Receive until `stop`, then close the inbox.

        Args:
            inbox: of the stream.
            stop: looked at ten times a second.
            practise: computes an answer from the stream's last message, and forgets it.
        """
        self._pin()
        with inbox:
            while not stop.is_set():
                if not self._receive(inbox, self._wait_ms()):
                    self._rehearse(practise)
                    continue
                if self._rehearsal is not None:
                    self._rehearsal.note_arrival(self._clock.now_ns())
                self._catch_up(inbox)
                self._lane.serve(0 if self._behind else self._spare_ns, partial(self._catch_up, inbox))
            self._take_rest(inbox)

    def _catch_up(self, inbox: Inbox) -> None:
        """Take in what has come meanwhile, and is newer; note whether it was too much."""
        more = 0
        while more < RECEIVED_AT_ONCE and self._receive(inbox, 0):
            more += 1
        self._behind = _STAYS_BEHIND if more > self._room else max(self._behind - 1, 0)

    def _take_rest(self, inbox: Inbox) -> None:
        """Take in what was sent before the stop: else nobody would know what became of it."""
        until_ns = self._clock.now_ns() + _REST_NS
        while self._clock.now_ns() < until_ns and self._receive(inbox, _REST_TIMEOUT_MS):
            continue

    def _receive(self, inbox: Inbox, timeout_ms: int) -> bool:
        """Take one message in; say whether one came."""
        broken = inbox.broken_connections
        received = inbox.receive(timeout_ms)
        if inbox.broken_connections > broken:  # by a message that never came through
            self._offer(self._name, Reason.BROKEN_CONNECTION)
        if received is None:
            return False
        self._offer(self._name, received)
        return True

    def _wait_ms(self) -> int:
        if self._rehearsal is None:
            return RECEIVE_TIMEOUT_MS
        left_ns = self._rehearsal.due_ns() - self._clock.now_ns()
        return min(max(left_ns // _NS_PER_MS, 1), RECEIVE_TIMEOUT_MS)

    def _rehearse(self, practise: Callable[[], None]) -> None:
        """Practise if it is due, or will be within the millisecond that sockets count in."""
        started_ns = self._clock.now_ns()
        if self._rehearsal is None or self._rehearsal.due_ns() - started_ns >= _NS_PER_MS:
            return
        if self._lane.practise(practise):
            self._rehearsal.note_done(started_ns, self._clock.now_ns())

    def _pin(self) -> None:
        """Keep this thread on the processor that the deployment names."""
        if self._cpu is None:
            return
        try:
            os.sched_setaffinity(0, {self._cpu})
        except (OSError, AttributeError) as error:  # not allowed, no such processor; no such call on macOS
            allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "any"
            log.warning(
                "stream %s: cannot stay on CPU %d (%s): flying on whichever is free; may use %s",
                self._name, self._cpu, error, allowed,
            )  # fmt: skip
