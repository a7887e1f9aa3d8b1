"""The sending process of a benchmark: keeps to due times, or waits for answers."""

import ctypes
import threading
import time
from functools import partial
from typing import Any

import numpy as np

from edge.bench.feed import Closed, Feed, Messages, Open, Sent
from edge.sources.stream import Pacer, StreamSender
from edge.transport.messages import Classification, Kind, unpack
from edge.transport.sockets import Publisher, Subscriber, queue_length
from edge.transport.wire import Reason, decode_message
from models.errors import LinkError
from models.spec import IqRecipe

_START_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_MS = 300
_JOIN_MS = 100
_QUIET_MS = 20
_JOINING_TURNS = 30
_PR_SET_TIMERSLACK = 29
_SLACK_NS = 1
"""Linux lets a thread sleep 50 us longer by default, to wake up fewer times: a third of a message's period in overload,
which would be counted as its age."""


def wake_on_time() -> bool:
    """Let this thread wake up when it wants to, as a sensor's interrupt does; say whether the system does so."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(_SLACK_NS), 0, 0, 0) == 0


class Sender:
    """Carries out orders to send."""

    def __init__(self, feeds: tuple[Feed, ...], results: str) -> None:
        streams = {stream.endpoint: stream for feed in feeds for stream in (feed.stream, feed.bare_stream)}
        senders = {
            endpoint: StreamSender(
                endpoint,
                1,
                publisher=partial(Publisher, high_water_mark=queue_length(stream.rate_hz)),  # as a source does
                max_message_bytes=stream.max_message_bytes,
                ring_slots=stream.ring_slots,
            )
            for endpoint, stream in streams.items()
        }
        self._streams = {feed.name: _Stream(feed, senders) for feed in feeds}
        self._results = results

    def send(self, order: Open | Closed) -> Sent:
        """Send, and return how much.

        Raises:
            LinkError: nobody listens.
        """
        is_bare = isinstance(order, Open) and order.is_bare
        for name in order.names:
            self._streams[name].await_listener(is_bare)
        return self._send_open(order) if isinstance(order, Open) else self._send_closed(order)

    def _send_open(self, order: Open) -> Sent:
        pacer, counts = Pacer(threading.Event()), dict.fromkeys(order.names, 0)
        periods_ns = {name: int(1e9 / (order.rate_hz or self._streams[name].feed.rate_hz)) for name in order.names}
        start_ns = pacer.now_ns()
        end_ns = start_ns + int(order.seconds * 1e9)
        due_ns = dict.fromkeys(order.names, start_ns)
        while True:
            name = min(due_ns, key=due_ns.__getitem__)
            now_due_ns = due_ns[name]
            if now_due_ns >= end_ns and all(counts.values()):
                seconds = max((pacer.now_ns() - start_ns) / 1e9, order.seconds)
                return Sent(messages=counts, begun_ns=start_ns, seconds=seconds)
            self._streams[name].capture(order.samples, is_bare=order.is_bare)
            pacer.wait_until(now_due_ns)
            self._streams[name].send(now_due_ns, is_bare=order.is_bare)
            counts[name] += 1
            overdue_ns = pacer.now_ns() - now_due_ns if order.skips else 0
            due_ns[name] = now_due_ns + max(overdue_ns // periods_ns[name], 1) * periods_ns[name]

    def _send_closed(self, order: Closed) -> Sent:
        with Subscriber(self._results) as results:
            turns = self._join(order, results)
            started_ns = time.monotonic_ns()
            end_ns = started_ns + int(order.seconds * 1e9)
            begun = turns
            waiting = unanswered = 0
            while turns - begun < order.most and time.monotonic_ns() < end_ns:
                while waiting < order.outstanding:
                    self._send_turn(order)
                    turns, waiting = turns + 1, waiting + 1
                if _await_answer(results, _ANSWER_TIMEOUT_MS):
                    waiting -= 1
                else:
                    unanswered, waiting = unanswered + waiting, 0
            seconds = (time.monotonic_ns() - started_ns) / 1e9
            while waiting and _await_answer(results, _ANSWER_TIMEOUT_MS):
                waiting -= 1
        return Sent(
            messages=dict.fromkeys(order.names, turns),
            begun_ns=started_ns,
            seconds=seconds,
            unanswered=unanswered + waiting,
        )

    def _send_turn(self, order: Closed) -> None:
        for name in order.names:
            self._streams[name].capture()
        for name in order.names:
            self._streams[name].send(time.monotonic_ns())

    def _join(self, order: Closed, results: Subscriber) -> int:
        """Send single turns until an answer is heard: a subscription takes its time. Return their number."""
        for turn in range(1, _JOINING_TURNS + 1):
            self._send_turn(order)
            if _await_answer(results, _JOIN_MS):
                while _await_answer(results, _QUIET_MS):  # late ones of earlier turns
                    pass
                return turn
        raise LinkError(f"no answer to {_JOINING_TURNS} messages of {', '.join(order.names)}")


class _Stream:
    """One feed's messages on their way."""

    def __init__(self, feed: Feed, senders: dict[str, StreamSender]) -> None:
        self.feed = feed
        self._messages = Messages(feed)
        self._senders = {False: senders[feed.endpoint], True: senders[feed.bare_endpoint]}
        self._sent = 0
        self._next: Any = None

    def await_listener(self, is_bare: bool) -> None:
        sender = self._senders[is_bare]
        if not sender.wait_for_listeners(1, _START_TIMEOUT_S):
            raise LinkError(f"nobody listens at {sender.endpoint}")

    def capture(self, samples: int | None = None, *, is_bare: bool = False) -> None:
        """Make the next message ready: in shared memory where the stream has it, as a camera's driver does."""
        self._next = self._messages.at(self._sent, samples)
        self._sent += 1
        if self.feed.transport == "shm" and not isinstance(self._next, bytes):
            blank = self._senders[is_bare].blank(self._next.shape, self._next.dtype)
            np.copyto(blank, self._next)
            self._next = blank

    def send(self, due_ns: int, *, is_bare: bool = False) -> None:
        """Send the message that was made ready, captured when it was due; of I/Q, its last sample was.

        Whatever rate I/Q is sent at, it claims the rate that the model takes: any other would be refused.
        """
        sender, recipe, message = self._senders[is_bare], self.feed.modality.recipe, self._next
        if isinstance(recipe, IqRecipe):
            lasted_ns = int(len(message) * 1e9 / recipe.sample_rate_hz)
            sender.send_iq(message, due_ns - lasted_ns, recipe.sample_rate_hz)
        elif isinstance(message, bytes):
            sender.send_encoded(message, due_ns)
        else:
            sender.send_frame(message, due_ns)


def _await_answer(results: Subscriber, timeout_ms: int) -> bool:
    """Wait for an answer that a message caused; say whether it came."""
    deadline_s = time.monotonic() + timeout_ms / 1e3
    while (left_s := deadline_s - time.monotonic()) > 0:
        parts = results.receive(max(int(left_s * 1e3), 1))
        message = decode_message(parts) if parts is not None else Reason.PARTS
        if isinstance(message, Reason) or message[0].kind != Kind.CLASSIFICATION:
            continue
        if "total" in unpack(message[1], Classification).latency_ms:
            return True
    return False
