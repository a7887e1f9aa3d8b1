"""Listens to a flight's results: counts, scores, and shows them live."""

import collections
import logging
import time
from collections.abc import Callable
from types import TracebackType

from edge.clock import SystemClock
from edge.judging.judge import Judge
from edge.judging.verdict import Judgement
from edge.operations.flown import Flown, LoadChange, sum_ledgers
from edge.operations.live_view import LiveView
from edge.transport.messages import Classification, Kind, Load, PipelineStatus, unpack
from edge.transport.sockets import Subscriber
from edge.transport.truths import TruthTimeline
from edge.transport.wire import Reason, decode_message
from models.errors import InputError

log = logging.getLogger(__name__)

QUIET_MS = 100
"""Shorter than the time after which a pipeline without input says NO_DATA."""
DRAIN_S = 2.0
"""Something else may publish at the endpoint, and go on for ever."""
TAKEN_AT_ONCE = 1_000
KEPT_LOADS = 1_000
KEPT_ANSWERS = 1_000_000
"""Hours at any rate; bounds the memory of a flight that is never stopped."""


class Observer:
    """A subscriber of the results; use as a context, and poll it from one thread."""

    def __init__(self, results: str, *, show: bool = False) -> None:
        self.answers: collections.deque[Classification] = collections.deque(maxlen=KEPT_ANSWERS)
        self.status: PipelineStatus | None = None
        """The last one that came."""
        self._first_status_ns = 0
        self._load = Load()
        self._loads: collections.deque[LoadChange] = collections.deque(maxlen=KEPT_LOADS)
        self._last_words: dict[int, PipelineStatus] = {}
        """Of each pipeline process, by the epoch in its headers: a restarted one counts from zero."""
        self.truths = TruthTimeline()
        """Tell it the truth where there is one: it scores at the end, so order does not matter."""
        self.judge: Judge | None = None
        """Told every answer and status from now on, where there is one."""
        self.before_judging: Callable[[], object] = lambda: None
        """Called before the judge is told anything: what it must know first is told there."""
        self.caption = ""
        """Shown below the live view."""
        self._subscriber = Subscriber(results, high_water_mark=10_000)
        self._clock = SystemClock()
        self._end_ns: int | None = None
        self._view = LiveView() if show else None

    def __enter__(self) -> "Observer":
        if self._view is not None:
            self._view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._view is not None:
            self._view.stop()
        self._subscriber.close()

    def end(self) -> None:
        """Take note that the flight is over: from now on nobody need say anything, as the processes are stopped."""
        self._end_ns = self._clock.now_ns()

    @property
    def end_ns(self) -> int:
        """When the flight ended; now, while it has not."""
        return self._end_ns if self._end_ns is not None else self._clock.now_ns()

    def judgement(self) -> Judgement | None:
        """Return what is found of what came so far; None where nobody judges."""
        return self.judge.judgement(self.end_ns) if self.judge is not None else None

    def poll(self, timeout_ms: int) -> bool:
        """Wait for the next message and take what is there, but for at most TAKEN_AT_ONCE; say whether it was any."""
        parts = self._subscriber.receive(timeout_ms)
        has_any = parts is not None
        taken = 0
        while parts is not None:
            self._note(parts)
            taken += 1
            parts = self._subscriber.receive(0) if taken < TAKEN_AT_ONCE else None
        if self._view is not None:
            self._view.show(self.status, self.caption)
        return has_any

    def drain(self) -> None:
        """Take what is still under way, until nothing has come for a moment, but for at most DRAIN_S."""
        deadline_s = time.monotonic() + DRAIN_S
        while self.poll(QUIET_MS) and time.monotonic() < deadline_s:
            pass

    def flown(self, title: str) -> Flown:
        """Return what has come so far: answers, truth, and the accounting, summed over restarts of the pipeline.

        What a pipeline received after its last status, which it publishes once a second, died with it uncounted.
        """
        status = self.status
        ledgers = [words.streams for words in self._last_words.values()]
        return Flown(
            title=title,
            model=status.model if status is not None else "",
            labels=status.labels if status is not None else (),
            answers=self.answers,
            truths=self.truths,
            streams=sum_ledgers(ledgers),
            precisions=status.precisions if status is not None else {},
            backend=status.backend if status is not None else "",
            backend_reason=status.backend_reason if status is not None else "",
            loads=tuple(self._loads),
            judgement=self.judgement(),
            restarts=max(len(ledgers) - 1, 0),
            lost_in_restarts=sum(stream.in_flight for ledger in ledgers[:-1] for stream in ledger.values()),
        )

    def _note(self, parts: list[memoryview]) -> None:
        message = decode_message(parts)
        if isinstance(message, Reason):
            return
        header, payload = message
        try:
            if header.kind == Kind.CLASSIFICATION:
                self._note_answer(unpack(payload, Classification))
            elif header.kind == Kind.STATUS:
                self.status = self._last_words[header.epoch] = unpack(payload, PipelineStatus)
                self._note_load(self.status)
                if self.judge is not None:
                    self.before_judging()
                    self.judge.note_status(self.status)
        except InputError as error:
            log.debug("results: %s", error)

    def _note_load(self, status: PipelineStatus) -> None:
        self._first_status_ns = self._first_status_ns or status.time_ns
        if status.load == self._load:
            return
        load = self._load = status.load
        after_s = round((status.time_ns - self._first_status_ns) / 1e9, 3)
        self._loads.append(LoadChange(after_s=after_s, level=load.level, name=load.name, why=load.why))

    def _note_answer(self, answer: Classification) -> None:
        self.answers.append(answer)
        if self.judge is not None:
            self.before_judging()
            self.judge.note_answer(answer)
        if self._view is not None:
            self._view.note(answer)
