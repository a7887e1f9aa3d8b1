"""A small ground station: receives, decodes, and counts what is missing."""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from edge.clock import Clock, SystemClock
from edge.mavlink.network.link import Received, open_link
from edge.mavlink.network.link_state import State
from edge.mavlink.outgoing import bearers, lite
from edge.mavlink.outgoing.lite import LiteReport
from edge.mavlink.pace import NS_PER_S, Period
from edge.mavlink.ports.tcp import TcpServer
from edge.mavlink.ports.udp import UdpServer
from edge.mavlink.trust.keys import KeyRing
from edge.mavlink.trust.security import Security
from edge.mavlink.wire import codec, standard
from edge.mavlink.wire.codec import ClassificationReport, Flag
from edge.mavlink.wire.frames import FrameCounts
from models.errors import OnboardError

HALF_TURN = 128
"""A frame sequence that jumps by more is an old frame or a new sender, not a gap."""


@dataclass(kw_only=True, slots=True)
class GroundCounts:
    """What arrived, and what is known to be missing."""

    frames: FrameCounts
    """By message name, those inside TUNNEL too, and what was not decodable."""
    tunnels_bad: int = 0
    """TUNNEL that claim to be of ours and are not."""
    frames_lost: int = 0
    """Gaps in the frame sequence of each sender: lost on the way."""
    refused: Counter[str] = field(default_factory=Counter)
    """Messages that were not signed as they must be, by reason."""
    results: int = 0
    """FUSION_CLASSIFICATION received, as they are or in TUNNEL."""
    short: int = 0
    """FUSION_CLASSIFICATION_LITE, those of the past included."""
    past: int = 0
    """Of these, what was sent late."""
    results_missing: int = 0
    """Gaps in the pipeline's own numbering: lost on the way, or left out to keep to the link's rate."""
    senders: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Messages by system and component."""


class GroundStation:
    """Listens on a link and says who it is once a second. Works only inside `poll`: no thread, no surprise.

    Args:
        link: such as udpin:127.0.0.1:14550; port 0 takes a free one, see `port`.
        clock: the system's by default.
        key: file of a key: what is sent is signed with it, and only what is signed with it counts.

    Raises:
        ConfigError: the link is nonsense, or the key cannot be used.
        LinkError: it cannot be opened.
    """

    def __init__(self, link: str, clock: Clock | None = None, key: Path | None = None) -> None:
        self._clock = clock or SystemClock()
        self._keys = KeyRing([str(key) if key is not None else None])
        signing = self._keys.signing(str(key) if key is not None else None)
        security = Security(require_signed="none" if signing is None else "all", signing=signing)
        try:
            self._link = open_link(link, standard.GROUND_SYSTEM, standard.GROUND_COMPONENT, self._clock, security)
        except OnboardError:
            self._keys.close()
            raise
        self._heartbeat = Period(NS_PER_S)
        self._frames: dict[tuple[int, int], int] = {}
        self._results: dict[tuple[int, int], int] = {}
        self.counts = GroundCounts(frames=self._link.counts, refused=self._link.refused)
        self.labels: dict[int, str] = {}
        """Class names of the model in use, as far as they were received."""

    def __enter__(self) -> "GroundStation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """Port that it listens on; 0 on other links."""
        transport = self._link.transport
        return transport.port if isinstance(transport, UdpServer | TcpServer) else 0

    @property
    def state(self) -> State:
        """Whether somebody is there."""
        return self._link.state

    def close(self) -> None:
        """Give the port back."""
        self._link.close()
        self._keys.close()

    def poll(self, timeout_ms: int) -> list[Received]:
        """Return what arrived, waiting for it at most `timeout_ms`; after a TUNNEL of ours, the messages in it.

        Reports are decoded by `report_in` and `short_report_in`.
        """
        if self._heartbeat.is_due(self._clock.now_ns()):
            self._link.send(standard.ground_heartbeat())
        self._link.transport.wait(timeout_ms / 1000)
        received = self._link.receive()
        self._keys.poll(self._clock.now_ns())
        whole = []
        for item in received:
            self._count_frame(item)
            whole += [item, *self._opened(item)]
        for item in whole:
            self._count(item)
        return whole

    def _opened(self, item: Received) -> list[Received]:
        """Return the messages of ours in a TUNNEL, none in anything else."""
        if item.name != "TUNNEL" or not bearers.is_ours(item.message):
            return []
        messages = bearers.opened(item.message)
        self.counts.tunnels_bad += not messages
        self.counts.frames.messages.update(message.get_type() for message in messages)
        return [
            dataclasses.replace(item, name=message.get_type(), message=message, is_inside=True) for message in messages
        ]

    def _count_frame(self, item: Received) -> None:
        sender = (item.system_id, item.component_id)
        self.counts.senders[sender] += 1
        gap = (item.sequence - self._frames.get(sender, item.sequence - 1) - 1) % 256
        self.counts.frames_lost += gap if gap < HALF_TURN else 0
        self._frames[sender] = item.sequence

    def _count(self, item: Received) -> None:
        sender = (item.system_id, item.component_id)
        if item.name == "FUSION_CLASSIFICATION" and item.message.sequence != self._results.get(sender):
            sequence = item.message.sequence
            self.counts.results += 1
            self.counts.results_missing += max(sequence - self._results.get(sender, sequence - 1) - 1, 0)
            self._results[sender] = sequence
        elif item.name == "FUSION_CLASSIFICATION_LITE":
            self.counts.short += 1
            self.counts.past += bool(item.message.flags & Flag.BACKFILL)
        elif item.name == "FUSION_CLASS_INFO":
            self.labels[item.message.class_id] = codec.class_label(item.message)


def report_in(item: Received) -> ClassificationReport | None:
    """Return the classification that a message holds, None where it is another message."""
    return codec.classification_report(item.message) if item.name == "FUSION_CLASSIFICATION" else None


def short_report_in(item: Received) -> LiteReport | None:
    """Return the short classification that a message holds, None where it is another message."""
    return lite.lite_report(item.message) if item.name == "FUSION_CLASSIFICATION_LITE" else None
