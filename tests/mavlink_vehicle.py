"""A vehicle that publishes and serves over fake links, and what a ground station sends it."""

from typing import Any

import mavlink_samples as samples
import signatures
from pymavlink.dialects.v20 import common

from edge.clock import VirtualClock
from edge.config import MavlinkConfig
from edge.mavlink.control.services import Services, deployed
from edge.mavlink.deployment import LinkConfig
from edge.mavlink.network.link import Link
from edge.mavlink.outgoing.outlets import Outlets
from edge.mavlink.outgoing.publisher import Publisher
from edge.mavlink.process import step
from edge.mavlink.trust.security import Security
from edge.mavlink.wire.frames import FrameCounts, FrameParser

S = 1_000_000_000
OURS = (1, 191)
GROUND = (255, 190)
AUTOPILOT = (1, 1)
ACCEPTED, NOT_NOW, DENIED, UNSUPPORTED, FAILED, IN_PROGRESS = range(6)
"""MAV_RESULT."""


def long(number: int, *params: float, target: tuple[int, int] = OURS, confirmation: int = 0) -> Any:
    """Return COMMAND_LONG."""
    return common.MAVLink_command_long_message(*target, number, confirmation, *[*params, *[0.0] * 7][:7])


def integer(number: int, first: float) -> Any:
    """Return COMMAND_INT."""
    return common.MAVLink_command_int_message(*OURS, 0, number, 0, 0, first, 0, 0, 0, 0, 0, 0)


def put(name: str, value: float, kind: int = common.MAV_PARAM_TYPE_REAL32, target: tuple[int, int] = OURS) -> Any:
    """Return PARAM_SET."""
    return common.MAVLink_param_set_message(*target, name.encode(), value, kind)


class Vehicle:
    """A publisher with its services on fake links, on a clock that moves in steps of 10 ms."""

    def __init__(
        self,
        *,
        links: int = 1,
        link: str = "udpout:h:{}",
        link_configs: tuple[LinkConfig, ...] = (),
        security: Security | None = None,
        max_age_ms: float = 300.0,
        **config: Any,
    ) -> None:
        names = tuple(link.format(n + 1) for n in range(links))
        self.config = MavlinkConfig(links=link_configs or names, **config)
        self.clock = VirtualClock(S)
        self.publisher = Publisher(self.config, {"radio": "iq", "camera": "image"}, max_age_ms, self.now_ns)
        self.ports = [samples.FakeTransport() for _ in range(links)]
        self.links = [Link(port, *OURS, self.clock, security) for port in self.ports]
        outlets = Outlets(self.config, self.links, 0, self.now_ns)
        self.services = Services(self.config, deployed(self.config, max_age_ms), self.publisher, outlets, self.now_ns)
        self._parsers = [FrameParser(FrameCounts()) for _ in range(links)]
        self.sent: list[list[Any]] = [[] for _ in range(links)]
        """What went out on each link, as its other end decodes it."""
        self.frames: list[bytes] = []
        """Of all links, as they went out the last time that something arrived or time passed."""

    @property
    def now_ns(self) -> int:
        return self.clock.now_ns()

    def hear(self, *messages: Any, sender: tuple[int, int] = GROUND, link: int = 0) -> "Vehicle":
        """Let messages arrive."""
        return self.hear_frames(*(signatures.plain(message, sender) for message in messages), link=link)

    def hear_frames(self, *frames: bytes, link: int = 0) -> "Vehicle":
        """Let frames arrive."""
        self.ports[link].incoming += [("peer", frame) for frame in frames]
        return self.wait(0.01)

    def wait(self, seconds: float) -> "Vehicle":
        """Let time pass."""
        for _ in range(max(round(seconds * 100), 1)):
            self.clock.advance_to(self.now_ns + S // 100)
            step(self.publisher, self.services, self.links, None, self.now_ns)
        self.frames = [frame for port in self.ports for frame in port.sent]
        for port, parser, sent in zip(self.ports, self._parsers, self.sent, strict=True):
            sent += parser.feed(b"".join(port.sent))
            port.sent.clear()
        return self

    def answer(self, **changes: Any) -> "Vehicle":
        """Let the pipeline answer."""
        self.publisher.on_classification(samples.answer(**changes), self.now_ns)
        return self

    def status(self) -> "Vehicle":
        """Let the pipeline tell how it is."""
        self.publisher.on_status(samples.status(), self.now_ns)
        return self

    def take(self, name: str, link: int = 0) -> list[Any]:
        """Return the messages that were sent since the last call of this."""
        found = [message for message in self.sent[link] if message.get_type() == name]
        self.sent[link] = [message for message in self.sent[link] if message.get_type() != name]
        return found

    def acks(self, link: int = 0) -> list[tuple[int, int]]:
        """Return command and result of each acknowledgement."""
        return [(ack.command, ack.result) for ack in self.take("COMMAND_ACK", link)]

    def ask(self, *params: Any, **options: Any) -> int:
        """Send a command; return its result."""
        acks = self.hear(long(*params, **options)).acks()
        assert len(acks) == 1
        return acks[0][1]

    def values(self, link: int = 0) -> dict[str, float]:
        """Return the parameters that were told."""
        return {message.param_id: message.param_value for message in self.take("PARAM_VALUE", link)}

    def read(self, name: str = "", index: int = -1, target: tuple[int, int] = OURS) -> dict[str, float]:
        """Ask for a parameter."""
        return self.hear(common.MAVLink_param_request_read_message(*target, name.encode(), index)).values()

    def answers(self, seconds: int, rate_hz: int = 20, link: int = 0) -> int:
        """Let the pipeline answer; return how many answers went out."""
        self.take("FUSION_CLASSIFICATION", link)
        for number in range(seconds * rate_hz):
            self.answer(sequence=number).wait(1 / rate_hz)
        return len(self.take("FUSION_CLASSIFICATION", link))

    def interval_of(self, number: int) -> int:
        """Ask for the interval of a message."""
        assert self.ask(common.MAV_CMD_REQUEST_MESSAGE, 244, number) == ACCEPTED
        return int(self.take("MESSAGE_INTERVAL")[0].interval_us)
