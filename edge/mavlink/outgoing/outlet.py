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

from edge.mavlink.deployment import Bearer
from edge.mavlink.outgoing import bearers, lite
from edge.mavlink.outgoing.aggregation import Aggregation, Told
from edge.mavlink.outgoing.budget import Budget, Priority
from edge.mavlink.pace import NS_PER_S
from edge.mavlink.wire.frames import CRC_BYTES, HEADER_V2_BYTES, SIGNATURE_BYTES

MAX_RESULTS = 64
MAX_OTHERS = 64
MAX_WAIT_NS = 2 * NS_PER_S
"""An answer that waited for longer is history: the spool has it."""
BACKFILL_SHARE = 0.2
BACKFILL_BYTES_S = 20_000.0
"""On a link without a budget."""
TIME_SHARE = 0.1
"""Of a budget: who asks us for the time again and again gets no more."""
ACK_SHARE = 0.3
"""Of a budget: who commands again and again leaves room to changes; what is beyond waits."""
TALK_SHARE = 0.2
"""Of a budget, before answers that say the same as ever: else nobody could set a parameter on a link that they fill."""
FRAME_BYTES = HEADER_V2_BYTES + CRC_BYTES + SIGNATURE_BYTES
TUNNEL_HEAD_BYTES = 5
LARGEST_BYTES = FRAME_BYTES + TUNNEL_HEAD_BYTES + bearers.BODY_BYTES
RESULT = "FUSION_CLASSIFICATION"
STATUS = "FUSION_STATUS"
TIME = "TIMESYNC"
TEXT = "STATUSTEXT"
_URGENT = {"HEARTBEAT": Priority.HEARTBEAT, "COMMAND_ACK": Priority.URGENT}
_KEPT = ("HEARTBEAT", STATUS)
"""Never dropped for others: the newest waits."""
_TALK = frozenset({
    "AUTOPILOT_VERSION", "COMMAND_LONG", "MESSAGE_INTERVAL", "PARAM_VALUE", "PROTOCOL_VERSION", "REQUEST_DATA_STREAM",
})  # fmt: skip
"""What others have asked us for, and what we ask of the autopilot."""
_SUMMARY = frozenset({"NAMED_VALUE_FLOAT", "STATUSTEXT"})
_FIELD_THAT_NAMES = {
    "NAMED_VALUE_FLOAT": "name", "FUSION_CLASS_INFO": "class_id", "PARAM_VALUE": "param_id", "STATUSTEXT": "subject",
}  # fmt: skip


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


class _Lane:
    """What waits with one priority."""

    def __init__(self, priority: Priority) -> None:
        self.priority = priority
        self.others: dict[object, Any] = {}
        self.results: deque[_Waiting] = deque()


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
        self.others_dropped = 0
        """Messages that this link never carried, besides answers."""
        self.budget = budget
        """None: no limit."""
        self.aggregation = aggregation or Aggregation(0)
        self._send = send
        self._has_summary = "summary" in bearer
        self._is_native, self._is_tunnel = "native" in bearer, "tunnel" in bearer
        self._batch = bearers.BATCH if self._is_tunnel else 1
        self._lanes = [_Lane(priority) for priority in Priority if priority != Priority.BACKFILL]
        self._changes, self._periodic = (self._lanes[n].results for n in (Priority.CHANGE, Priority.PERIODIC))
        self._results_dropped = 0
        self._count = 0
        self._past: Past | None = None
        self._past_records: list[Any] = []
        self._past_budget = Budget(BACKFILL_BYTES_S, now_ns, least_saved_bytes=LARGEST_BYTES)
        self._talk: dict[object, Any] = {}
        self._talk_budget = Budget(BACKFILL_BYTES_S, now_ns, least_saved_bytes=LARGEST_BYTES)
        self._time_budget = Budget(BACKFILL_BYTES_S, now_ns, least_saved_bytes=LARGEST_BYTES)
        self._ack_budget = Budget(BACKFILL_BYTES_S, now_ns, least_saved_bytes=LARGEST_BYTES)
        self.share_with_past(BACKFILL_SHARE, now_ns)

    @property
    def queued(self) -> int:
        """Answers that wait."""
        return len(self._changes) + len(self._periodic)

    @property
    def results_dropped(self) -> int:
        """Answers that this link never carried, nor summed up into one that it did."""
        return self._results_dropped + self.aggregation.left_out

    @property
    def carries_past(self) -> bool:
        """Whether answers of the past can travel here at all."""
        return self._is_native or self._is_tunnel

    def offer(self, messages: Iterable[Any], now_ns: int, *, is_open: bool = True) -> None:
        """Take messages that are to be sent, and send what may go now; call often, with none too.

        Args:
            messages: FUSION_CLASSIFICATION and others, shared with other links: they stay as they are.
            now_ns: the time.
            is_open: whether the port is there; else all is dropped: when it is back only what is new counts.
        """
        for message in messages:
            name = message.get_type()
            if name == RESULT:
                if is_open and self.queued >= MAX_RESULTS:
                    self._pump(now_ns)
                self._keep_result(self.aggregation.take(message, now_ns), now_ns)
            elif name == TIME:
                if is_open:
                    self._tell_time(message, now_ns)
            elif self._has_summary or name not in _SUMMARY:
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
        self._results_dropped += rest.answers if rest is not None else 0
        self._drop(self._changes)
        self._drop(self._periodic)

    def forget(self, is_unwanted: Callable[[Any], bool]) -> None:
        """Drop what waits besides answers and is not wanted any more."""
        for lane in self._lanes:
            for key in [key for key, message in lane.others.items() if is_unwanted(message)]:
                del lane.others[key]

    def recall(self, past: Past | None) -> None:
        """Send answers of the past, with what the present leaves; those that were being sent are given up."""
        self._past, self._past_records = past, []

    def share_with_past(self, share: float, now_ns: int) -> None:
        """Set how much of the budget answers of the past may take; call when the budget has changed, too."""
        if self.budget is not None:
            whole_bytes_s = self.budget.whole_bytes_s  # a radio is choked for a while, and these are set for longer
            self._past_budget.change(share * whole_bytes_s, now_ns)
            self._time_budget.change(TIME_SHARE * whole_bytes_s, now_ns)
            self._ack_budget.change(ACK_SHARE * whole_bytes_s, now_ns)
            self._talk_budget.change(TALK_SHARE * whole_bytes_s, now_ns)

    def _keep_result(self, told: Told | None, now_ns: int) -> None:
        """Let an answer wait; before a change the same as ever is history."""
        if told is None:
            return
        if told.is_change:
            self._drop(self._periodic)
        (self._changes if told.is_change else self._periodic).append(_Waiting(told, now_ns))
        if self.queued > MAX_RESULTS:
            self._results_dropped += (self._periodic or self._changes).popleft().told.answers

    def _keep_other(self, message: Any) -> None:
        name = message.get_type()
        self._count += 1
        key: object = name if name in _KEPT else self._count
        if (named := getattr(message, _FIELD_THAT_NAMES.get(name, ""), None)) is not None:
            key = (name, named)
        others = self._talk if name in _TALK else self._lanes[_priority(message)].others
        for lane in self._lanes if name == TEXT else ():
            if lane.others is not others:
                lane.others.pop(key, None)  # of another severity, and older
        others[key] = message
        if len(others) > MAX_OTHERS:
            del others[next(key for key in others if key not in _KEPT)]
            self.others_dropped += 1

    def _drop(self, queue: deque[_Waiting]) -> None:
        if queue:
            self._results_dropped += sum(waiting.told.answers for waiting in queue)
            queue.clear()

    def _clear(self) -> None:
        for lane in self._lanes:
            self._drop(lane.results)
            lane.others.clear()
        self._talk.clear()

    def _tell_time(self, message: Any, now_ns: int) -> None:
        """Send it now or never: later it would tell of another time."""
        size = self._bytes_of(message)
        is_answer = message.tc1 != 0
        if is_answer and self.budget is not None and not self._time_budget.has_room(size, Priority.HEARTBEAT, now_ns):
            return
        if self._has_room(size, Priority.URGENT, now_ns):
            self._send_all([message], now_ns)
            if is_answer:
                self._time_budget.spend(size, now_ns)

    def _pump(self, now_ns: int) -> None:
        """Send by priority until the budget is spent; what must not go holds back all that comes after it."""
        self._forget_stale(now_ns)
        for lane in self._lanes:
            if self._talk and lane.priority >= Priority.PERIODIC and not self._pump_talk(lane.priority, now_ns):
                return
            if lane.results and not self._pump_results(lane, now_ns):
                return
            if lane.others and not self._pump_others(lane, now_ns):
                return
        if self._past is not None:
            self._pump_past(self._past, now_ns)

    def _pump_talk(self, priority: Priority, now_ns: int) -> bool:
        """Send what others wait for: a share of it before answers, the rest behind; say whether more may go."""
        is_early = priority == Priority.PERIODIC and self.budget is not None
        while self._talk:
            key, message = next(iter(self._talk.items()))
            size = self._bytes_of(message)
            if is_early and not self._talk_budget.has_room(size, Priority.HEARTBEAT, now_ns):
                return True
            if not self._has_room(size, priority, now_ns):
                return False
            del self._talk[key]
            self._send_all([message], now_ns)
            if is_early:
                self._talk_budget.spend(size, now_ns)
        return True

    def _pump_others(self, lane: _Lane, now_ns: int) -> bool:
        """Send what waits besides answers; say whether more may go."""
        is_ack = lane.priority == Priority.URGENT and self.budget is not None
        while lane.others:
            key, message = next(iter(lane.others.items()))
            size = self._bytes_of(message)
            if is_ack and not self._ack_budget.has_room(size, Priority.HEARTBEAT, now_ns):
                return True
            if not self._has_room(size, lane.priority, now_ns):
                return False
            del lane.others[key]
            if is_ack:
                self._ack_budget.spend(size, now_ns)
            self._send_all(self._carried(self._completed(message) if key == STATUS else message), now_ns)
        return True

    def _pump_results(self, lane: _Lane, now_ns: int) -> bool:
        """Send answers, one as it is and several in short; say whether all of them went.

        A change for which there is no room goes in short, too: it must go at once.
        """
        queue = lane.results
        while queue:
            is_whole = self.budget is None or len(queue) == 1
            if is_whole and self._has_room(self._bytes_of(queue[0].told.message), lane.priority, now_ns):
                self._send_all(self._carried(queue.popleft().told.message), now_ns)
                continue
            count = min(len(queue), self._batch)
            is_short = not is_whole or lane.priority == Priority.CHANGE
            if not is_short or not self._has_room(self._lite_bytes(count), lane.priority, now_ns):
                return False
            together = [queue.popleft().told for _ in range(count)]
            self._send_all(self._carried_lite([lite.lite_of(one.message, one.answers) for one in together]), now_ns)
        return True

    def _pump_past(self, past: Past, now_ns: int) -> None:
        while True:
            self._past_records = self._past_records or past.batch(self._batch)
            if not self._past_records:
                self._past = None if past.is_done else past
                return
            size = self._lite_bytes(len(self._past_records))
            if not self._past_budget.has_room(size, Priority.HEARTBEAT, now_ns):
                return
            if not self._has_room(size, Priority.BACKFILL, now_ns):
                return
            self._past_budget.spend(size, now_ns)
            self._send_all(self._carried_lite(self._past_records), now_ns)
            self._past_records = []

    def _forget_stale(self, now_ns: int) -> None:
        for queue in (self._changes, self._periodic):
            while queue and now_ns - queue[0].since_ns > MAX_WAIT_NS:
                self._results_dropped += queue.popleft().told.answers

    def _has_room(self, size: int, priority: Priority, now_ns: int) -> bool:
        return self.budget is None or self.budget.has_room(size, priority, now_ns)

    def _send_all(self, messages: Iterable[Any], now_ns: int) -> None:
        for message in messages:
            size = self._send(message)
            if self.budget is not None:
                self.budget.spend(size, now_ns)

    def _carried(self, message: Any) -> list[Any]:
        """Return how a message travels here."""
        if message.get_msgId() not in bearers.OURS:
            return [message]
        ways = [message] if self._is_native else []
        return [*ways, bearers.tunnelled(message)] if self._is_tunnel else ways

    def _carried_lite(self, records: list[Any]) -> list[Any]:
        if self._is_tunnel:
            return [bearers.batched(records)]
        return records if self._is_native else []

    def _bytes_of(self, message: Any) -> int:
        """Return the most bytes that a message takes here, signed."""
        size = FRAME_BYTES + int(message.unpacker.size)
        if message.get_msgId() not in bearers.OURS:
            return size
        return self._is_native * size + self._is_tunnel * (size + TUNNEL_HEAD_BYTES)

    def _lite_bytes(self, count: int) -> int:
        """Return the most bytes that so many LITE records take here."""
        if self._is_tunnel:
            return FRAME_BYTES + TUNNEL_HEAD_BYTES + count * bearers.LITE_BYTES
        return count * (FRAME_BYTES + bearers.LITE_BYTES) if self._is_native else 0

    def _completed(self, status: Any) -> Any:
        """Return FUSION_STATUS with what waits and was dropped on this link."""
        completed = copy.copy(status)
        completed.results_queued = self.queued
        completed.results_dropped = min(status.results_dropped + self.results_dropped, 2**32 - 1)
        return completed


def _priority(message: Any) -> Priority:
    name = message.get_type()
    if name in _URGENT:
        return _URGENT[name]
    is_warning = name == "STATUSTEXT" and message.severity <= common.MAV_SEVERITY_WARNING
    return Priority.CHANGE if is_warning else Priority.STATUS
