"""The outlet of one link, and what came out at its other end."""

from typing import Any

import mavlink_samples as samples
import signatures

from edge.mavlink.network.link import Link
from edge.mavlink.outgoing import bearers
from edge.mavlink.outgoing.aggregation import Aggregation
from edge.mavlink.outgoing.budget import Budget
from edge.mavlink.outgoing.outlet import Outlet
from edge.mavlink.trust.security import Security

MS = 1_000_000
S = 1_000 * MS
RADIO = frozenset({"tunnel", "summary"})


class Radio:
    """A link and what came out at its other end, each with its time and bytes."""

    def __init__(self, bytes_s: float | None = 600.0, bearer: frozenset[Any] = RADIO, period_ns: int = S) -> None:
        self.now_ns = 0
        self.sent: list[tuple[int, int, Any]] = []
        self.transport = samples.FakeTransport()
        self.link = Link(self.transport, 1, 191, security=Security(signing=signatures.signing()))
        budget = Budget(bytes_s, 0) if bytes_s is not None else None
        self.outlet = Outlet(self._send, bearer, budget, Aggregation(period_ns))

    def _send(self, message: Any) -> int:
        size = self.link.send(message)
        for one in bearers.opened(message) if message.get_type() == "TUNNEL" else [message]:
            self.sent.append((self.now_ns, size, one))
            size = 0
        return len(self.transport.sent[-1])

    def offer(self, *messages: Any) -> "Radio":
        self.outlet.offer(messages, self.now_ns)
        return self

    def wait(self, seconds: float) -> "Radio":
        end_ns = self.now_ns + round(seconds * S)
        while self.now_ns < end_ns:
            self.now_ns += 20 * MS
            self.outlet.offer((), self.now_ns)
        return self

    def named(self, name: str) -> list[Any]:
        return [message for _, _, message in self.sent if message.get_type() == name]

    def most_in_a_second(self) -> int:
        return max(
            sum(size for at_ns, size, _ in self.sent if begin_ns <= at_ns <= begin_ns + S)
            for begin_ns in {at_ns for at_ns, _, _ in self.sent}
        )
