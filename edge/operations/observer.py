"""Listens to a flight's results: counts, scores, and shows them live."""

import collections
import time
from types import TracebackType

from edge.operations.flown import Flown, sum_ledgers
from edge.operations.live_view import LiveView
from edge.operations.score import TruthTimeline
from edge.transport.messages import Classification, Kind, PipelineStatus, unpack
from edge.transport.sockets import Subscriber
from edge.transport.wire import Reason, decode_message

QUIET_MS = 100
"""Shorter than the time after which a pipeline without input says NO_DATA."""
KEPT_ANSWERS = 1_000_000
"""Hours at any rate; bounds the memory of a flight that is never stopped."""


class Observer:
    """A subscriber of the results; use as a context, and poll it from one thread."""

    def __init__(self, results: str, *, show: bool = False) -> None:
        self.answers: collections.deque[Classification] = collections.deque(maxlen=KEPT_ANSWERS)
        self.status: PipelineStatus | None = None
        """The last one that came."""
        self._last_words: dict[int, PipelineStatus] = {}
        """Of each pipeline process, by the epoch in its headers: a restarted one counts from zero."""
        self.truths = TruthTimeline()
        """Tell it the truth where there is one: it scores at the end, so order does not matter."""
        self._subscriber = Subscriber(results, high_water_mark=10_000)
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

    def poll(self, timeout_ms: int) -> bool:
        """Wait for the next message and take everything that is there; say whether there was any."""
        parts = self._subscriber.receive(timeout_ms)
        has_any = parts is not None
        while parts is not None:
            self._note(parts)
            parts = self._subscriber.receive(0)
        if self._view is not None:
            self._view.show(self.status)
        return has_any

    def drain(self) -> None:
        """Take what is still under way, until nothing has come for a moment."""
        while self.poll(QUIET_MS):
            pass

    def wait_for_status(self, timeout_s: float) -> bool:
        """Wait until the pipeline says that it is up; say whether it did in time."""
        deadline_s = time.monotonic() + timeout_s
        while self.status is None and time.monotonic() < deadline_s:
            self.poll(50)
        return self.status is not None

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
            restarts=max(len(ledgers) - 1, 0),
            lost_in_restarts=sum(stream.in_flight for ledger in ledgers[:-1] for stream in ledger.values()),
        )

    def _note(self, parts: list[memoryview]) -> None:
        message = decode_message(parts)
        if isinstance(message, Reason):
            return
        header, payload = message
        if header.kind == Kind.CLASSIFICATION:
            answer = unpack(payload, Classification)
            self.answers.append(answer)
            if self._view is not None:
                self._view.note(answer)
        elif header.kind == Kind.STATUS:
            self.status = self._last_words[header.epoch] = unpack(payload, PipelineStatus)
