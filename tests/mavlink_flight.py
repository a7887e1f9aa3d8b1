"""A publisher without links, on a clock that tests move."""

from typing import Any

import mavlink_samples as samples

from edge.config import MavlinkConfig
from edge.mavlink.outgoing.publisher import Publisher

MS = 1_000_000
S = 1_000 * MS


class Flight:
    """A publisher on a clock that moves in steps of 10 ms, and everything that it sent."""

    def __init__(self, **config: Any) -> None:
        mavlink = MavlinkConfig(links=("udpout:127.0.0.1:14550",), **config)
        self.now_ns = 0
        self.publisher = Publisher(mavlink, {"radio": "iq", "camera": "image"}, max_age_ms=300.0, now_ns=0)
        self.sent: list[tuple[int, Any]] = []

    def wait(self, seconds: float) -> "Flight":
        end_ns = self.now_ns + round(seconds * S)
        while self.now_ns < end_ns:
            self.now_ns += 10 * MS
            self.sent += [(self.now_ns, message) for message in self.publisher.tick(self.now_ns)]
        return self

    def hear(self, answer: Any, is_replay: bool = False) -> "Flight":
        self.publisher.on_classification(answer, self.now_ns, is_replay)
        return self

    def hear_steadily(self, seconds: float, rate_hz: float = 10, **changes: Any) -> "Flight":
        for number in range(round(seconds * rate_hz)):
            self.hear(samples.answer(sequence=number, **changes)).wait(1 / rate_hz)
        return self

    def messages(self, name: str) -> list[Any]:
        return [message for _, message in self.sent if message.get_type() == name]

    def texts(self) -> list[tuple[int, str]]:
        return [(message.severity, message.text) for message in self.messages("STATUSTEXT")]

    def times_s(self, name: str) -> list[float]:
        return [now_ns / S for now_ns, message in self.sent if message.get_type() == name]
