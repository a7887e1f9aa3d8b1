"""What one link carries, in which order, and what it leaves out. Pure: messages and times in, messages out.

A link without a budget carries everything at once. On one with a budget each byte is counted: heartbeats and answers to
commands go first, then changes, then the rest; of what must wait, the newest is kept. Two answers or more that wait
travel as LITE records, six in one TUNNEL.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from pymavlink.dialects.v20 import common

from edge.mavlink import bearers, lite
from edge.mavlink.aggregation import Aggregation, Told
from edge.mavlink.budget import Budget, Priority
from edge.mavlink.deployment import Bearer
from edge.mavlink.frames import CRC_BYTES, HEADER_V2_BYTES, SIGNATURE_BYTES
from edge.mavlink.pace import NS_PER_S

MAX_RESULTS = 64
MAX_OTHERS = 64
MAX_WAIT_NS = 2 * NS_PER_S
"""An answer that waited for longer is history: the spool has it."""
BACKFILL_SHARE = 0.2
BACKFILL_BYTES_S = 20_000.0
"""On a link without a budget."""
FRAME_BYTES = HEADER_V2_BYTES + CRC_BYTES + SIGNATURE_BYTES
TUNNEL_HEAD_BYTES = 5
LARGEST_BYTES = FRAME_BYTES + TUNNEL_HEAD_BYTES + bearers.BODY_BYTES
RESULT = "FUSION_CLASSIFICATION"
STATUS = "FUSION_STATUS"
_URGENT = frozenset({"HEARTBEAT", "COMMAND_ACK", "TIMESYNC"})
_KEPT = ("HEARTBEAT", STATUS)
"""Never dropped for others: the newest waits."""
_SUMMARY = frozenset({"NAMED_VALUE_FLOAT", "STATUSTEXT"})
_FIELD_THAT_NAMES = {"NAMED_VALUE_FLOAT": "name", "FUSION_CLASS_INFO": "class_id", "PARAM_VALUE": "param_id"}


class Past(Protocol):
    """Answers of the past, in LITE records."""

    def batch(self, most: int) -> list[Any]:
        """Return the next few; none where none are ready."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether none will follow."""
        ...


class _Waiting(NamedTuple):
    told: Told
    since_ns: int


class Outlet:
    """The queues of one link.

    Args:
        send: sends one message and returns the bytes of its frame.
        bearer: how messages of ours travel.
        budget: of bytes; None: as much as there is.
        aggregation: of answers; None: each is sent.
    """

    def __init__(
        self,
        send: Callable[[Any], int],
        bearer: frozenset[Bearer],
        budget: Budget | None = None,
        aggregation: Aggregation | None = None,
        now_ns: int = 0,
    ) -> None:
        self.results_dropped = 0
        """Answers that this link never carried."""
        self.others_dropped = 0
        """Other messages."""
        self.budget = budget
        """None: no limit."""
        self._send = send
        self._bearer = bearer
        self.aggregation = aggregation or Aggregation(0)
        self._results: dict[Priority, deque[_Waiting]] = {Priority.CHANGE: deque(), Priority.PERIODIC: deque()}
        self._others: dict[Priority, dict[object, Any]] = {
            priority: {} for priority in (Priority.URGENT, Priority.CHANGE, Priority.STATUS)
        }
        self._count = 0
        self._past: Past | None = None
        self._past_records: list[Any] = []
        self._past_budget = Budget(BACKFILL_BYTES_S, now_ns, least_saved_bytes=LARGEST_BYTES)
        self.share_with_past(BACKFILL_SHARE, now_ns)

    @property
    def queued(self) -> int:
        """Answers that wait."""
        return sum(map(len, self._results.values()))

    def offer(self, messages: Iterable[Any], now_ns: int, *, is_open: bool = True) -> None:
        """Take messages that are to be sent, and send what may go now; call often, with none too.

        Args:
            messages: FUSION_CLASSIFICATION and others, shared with other links: they stay as they are.
            now_ns: the time.
            is_open: whether the port is there; else all is dropped: when it is back only what is new counts.
        """
        for message in messages:
            if is_open and self.queued >= MAX_RESULTS:
                self._pump(now_ns)
            if message.get_type() == RESULT:
                self._keep_result(self.aggregation.take(message, now_ns), now_ns)
            elif message.get_type() not in _SUMMARY or "summary" in self._bearer:
                self._keep_other(message)
        self._keep_result(self.aggregation.due(now_ns), now_ns)
        if is_open:
            self._pump(now_ns)
        else:
            self._clear()

    def repeat(self, answer: Any, now_ns: int) -> None:
        """Send an answer that was asked for as it is, as soon as there is room: it is not summed up once more."""
        self._keep_result(Told(answer, 1, True), now_ns)

    def forget_answers(self) -> None:
        """Drop what waits of the answers: nobody wants them any more."""
        rest = self.aggregation.rest()
        self.results_dropped += rest.answers if rest is not None else 0
        self._forget_waiting()

    def _forget_waiting(self) -> None:
        self.results_dropped += sum(waiting.told.answers for queue in self._results.values() for waiting in queue)
        for queue in self._results.values():
            queue.clear()

    def recall(self, past: Past) -> None:
        """Send answers of the past, with what the present leaves; those that were being sent are given up."""
        self._past, self._past_records = past, []

    def share_with_past(self, share: float, now_ns: int) -> None:
        """Set how much of the budget answers of the past may take."""
        if self.budget is not None:
            self._past_budget.change(share * self.budget.bytes_s, now_ns)

    def _keep_result(self, told: Told | None, now_ns: int) -> None:
        if told is None:
            return
        self._results[Priority.CHANGE if told.is_change else Priority.PERIODIC].append(_Waiting(told, now_ns))
        if self.queued > MAX_RESULTS:
            full = self._results[Priority.PERIODIC] or self._results[Priority.CHANGE]
            self.results_dropped += full.popleft().told.answers

    def _keep_other(self, message: Any) -> None:
        name = message.get_type()
        self._count += 1
        key: object = name if name in _KEPT else self._count
        if name in _FIELD_THAT_NAMES:
            key = (name, getattr(message, _FIELD_THAT_NAMES[name]))
        others = self._others[_priority(message)]
        others[key] = message
        if len(others) > MAX_OTHERS:
            del others[next(key for key in others if key not in _KEPT)]
            self.others_dropped += 1

    def _clear(self) -> None:
        self._forget_waiting()
        for others in self._others.values():
            others.clear()

    def _pump(self, now_ns: int) -> None:
        """Send by priority until the budget is spent; what must not go holds back all that comes after it."""
        self._forget_stale(now_ns)
        for priority in Priority:
            if self._others.get(priority) and not self._pump_others(priority, now_ns):
                return
            if self._results.get(priority) and not self._pump_results(priority, now_ns):
                return
        if self._past is not None:
            self._pump_past(now_ns)

    def _pump_others(self, priority: Priority, now_ns: int) -> bool:
        """Send what waits besides answers; say whether all of it went."""
        others = self._others[priority]
        while others:
            key = next(iter(others))
            message = others[key]
            if message.get_type() == STATUS:
                message = self._completed(message)
            if not self._is_sent(self._carried(message), priority, now_ns):
                if message.get_type() == "TIMESYNC":  # it would tell of another time
                    del others[key]
                return False
            del others[key]
        return True

    def _pump_results(self, priority: Priority, now_ns: int) -> bool:
        queue = self._results[priority]
        while queue:
            together = 1 if self.budget is None else min(len(queue), bearers.BATCH)
            told = [queue[n].told for n in range(together)]
            if together == 1:
                carried = self._carried(told[0].message)
            elif self.budget is not None and not self.budget.has_room(self._lite_bytes(together), priority, now_ns):
                return False
            else:
                carried = self._carried_lite([lite.lite_of(one.message, one.answers) for one in told])
            if not self._is_sent(carried, priority, now_ns):
                return False
            for _ in told:
                queue.popleft()
        return True

    def _pump_past(self, now_ns: int) -> None:
        while self._past is not None:
            if not self._past_records:
                self._past_records = self._past.batch(bearers.BATCH)
            if not self._past_records:
                self._past = None if self._past.is_done else self._past
                return
            carried = self._carried_lite(self._past_records)
            size = sum(map(_most_bytes, carried))
            if not self._past_budget.has_room(size, Priority.URGENT, now_ns):
                return
            if not self._is_sent(carried, Priority.BACKFILL, now_ns):
                return
            self._past_budget.spend(size, now_ns)
            self._past_records = []

    def _forget_stale(self, now_ns: int) -> None:
        for queue in self._results.values():
            while queue and now_ns - queue[0].since_ns > MAX_WAIT_NS:
                self.results_dropped += queue.popleft().told.answers

    def _is_sent(self, messages: list[Any], priority: Priority, now_ns: int) -> bool:
        """Send messages that belong together, if there is room for all."""
        if self.budget is not None and not self.budget.has_room(sum(map(_most_bytes, messages)), priority, now_ns):
            return False
        for message in messages:
            size = self._send(message)
            if self.budget is not None:
                self.budget.spend(size, now_ns)
        return True

    def _carried(self, message: Any) -> list[Any]:
        """Return how a message travels here."""
        if message.get_msgId() not in bearers.OURS:
            return [message]
        ways = [message] if "native" in self._bearer else []
        return [*ways, bearers.tunnelled(message)] if "tunnel" in self._bearer else ways

    def _carried_lite(self, records: list[Any]) -> list[Any]:
        if "tunnel" in self._bearer:
            return [bearers.batched(records)]
        return records if "native" in self._bearer else []

    def _lite_bytes(self, count: int) -> int:
        """Return the most bytes that so many LITE records take here."""
        if "tunnel" in self._bearer:
            return FRAME_BYTES + TUNNEL_HEAD_BYTES + count * bearers.LITE_BYTES
        return count * (FRAME_BYTES + bearers.LITE_BYTES) if "native" in self._bearer else 0

    def _completed(self, status: Any) -> Any:
        """Return FUSION_STATUS with what waits and was dropped on this link."""
        completed = copy.copy(status)
        completed.results_queued = self.queued
        completed.results_dropped = min(status.results_dropped + self.results_dropped, 2**32 - 1)
        return completed


def _priority(message: Any) -> Priority:
    name = message.get_type()
    if name in _URGENT:
        return Priority.URGENT
    is_warning = name == "STATUSTEXT" and message.severity <= common.MAV_SEVERITY_WARNING
    return Priority.CHANGE if is_warning else Priority.STATUS


def _most_bytes(message: Any) -> int:
    """Return the most bytes that a message's frame can have, signed."""
    if message.get_type() == "TUNNEL":
        return FRAME_BYTES + TUNNEL_HEAD_BYTES + int(message.payload_length)
    return FRAME_BYTES + int(message.unpacker.size)
