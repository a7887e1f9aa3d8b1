"""What stands for the pipeline where links are tried for minutes."""

import threading
import time

import mavlink_samples as samples

from edge.clock import SystemClock
from edge.transport.sockets import BlockingPublisher

CLASS_LASTS = 500
"""Answers, before the class changes."""


class Pipeline(threading.Thread):
    """Answers so often, also after it was held up, until told to end."""

    def __init__(self, results: BlockingPublisher, rate_hz: float) -> None:
        super().__init__()
        self.sent = 0
        self.stop = threading.Event()
        self._results = results
        self._rate_hz = rate_hz

    def run(self) -> None:
        clock, began_s = SystemClock(), time.monotonic()
        while not self.stop.wait(1 / self._rate_hz):
            while self.sent < (time.monotonic() - began_s) * self._rate_hz:
                now_ns = clock.now_ns()
                seen = (samples.modality("iq", capture_ns=now_ns), samples.modality("image", capture_ns=now_ns))
                class_id = self.sent // CLASS_LASTS % 3
                answer = samples.answer(sequence=self.sent, capture_ns=now_ns, modalities=seen, class_id=class_id)
                self._results.send(samples.on_wire(answer))
                self.sent += 1
