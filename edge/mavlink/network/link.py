"""One MAVLink 2 connection: who we are, our sequence numbers, and what arrives from the others."""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any

from edge.clock import Clock, SystemClock
from edge.mavlink.network.link_state import LOST_NS, LinkState, State
from edge.mavlink.network.peers import News, Peers
from edge.mavlink.pace import NS_PER_S
from edge.mavlink.ports.serial_port import SerialPort
from edge.mavlink.ports.tcp import TcpClient, TcpServer
from edge.mavlink.ports.tlog_file import TlogFile
from edge.mavlink.ports.transport import FileAddress, SerialAddress, Transport, parse_link
from edge.mavlink.ports.udp import UdpClient, UdpServer
from edge.mavlink.trust.security import Security, Verdict
from edge.mavlink.trust.signing import Refusal
from edge.mavlink.wire.encoding import Encoder
from edge.mavlink.wire.frames import FrameCounts, FrameParser

log = logging.getLogger(__name__)

MAX_PARSERS = 32
"""More peers than any transport keeps: beyond, the unfinished frame that was begun first is forgotten."""
NOISE_BYTES = 64
"""More are skipped at a wrong baud rate; a port that is opened or plugged in brings a few."""
WELCOME = (None, Refusal.REPLAYED, Refusal.TOO_OLD, Refusal.NOT_SAVED)
"""Whose frames count, or who has the key and must hear us so that its clock follows: one that was started again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """One message of a peer."""

    system_id: int
    component_id: int
    sequence: int
    """Of the frame, counting all messages of that component up to 255, then from 0."""
    name: str
    message: Any
    """As pymavlink decodes it."""
    is_inside: bool = False
    """Whether it came inside a TUNNEL, whose numbers it has."""
    is_proven: bool = True
    """Whether it shows who sent it, see `Verdict`; what does not may be forged."""


class Link:
    """Sends and receives messages over a transport. For one thread.

    Args:
        transport: an open one.
        system_id: ours.
        component_id: ours.
        clock: the system's by default.
        security: what is demanded of others; by default nothing.
    """

    def __init__(
        self,
        transport: Transport,
        system_id: int,
        component_id: int,
        clock: Clock | None = None,
        security: Security | None = None,
    ) -> None:
        self.transport = transport
        self.counts = FrameCounts()
        self.refused: Counter[str] = Counter()
        """Messages that do not count, by reason."""
        self.received_ns = 0
        """When what `receive` returned last was read from the port."""
        self.peers = Peers(system_id, component_id)
        self._clock = clock or SystemClock()
        self._security = security or Security()
        self._ours = (system_id, component_id)
        self._encoder = Encoder(system_id, component_id)
        self._parsers: dict[str, FrameParser] = {}
        self._state = LinkState()
        self._told_state = State.CLOSED
        self._told_ns = self._clock.now_ns()
        """Since when it is in that state."""
        self._is_trouble_told = False
        self._is_silence_told = False
        self._explained: set[str] = set()
        """What of the bytes that are no messages people know."""
        self._news: list[News] = []

    @property
    def state(self) -> State:
        """Whether somebody is there."""
        return self._state.at(self._clock.now_ns())

    def send(self, message: Any) -> int:
        """Send one message of pymavlink to all peers. Never waits, never raises on what the port does.

        Returns:
            The bytes of its frame.
        """
        frame = self._encoder.frame(message, is_signed=self._security.signing is not None)
        frame += self._security.signature(frame)
        self.transport.send(frame)
        return len(frame)

    def receive(self) -> list[Received]:
        """Return the messages that arrived since the last call and count; what is none is counted."""
        pieces, now_ns = self.transport.receive(), self._clock.now_ns()
        self.received_ns = now_ns
        arrived = [(peer, message) for peer, data in pieces for message in self._cut(peer, data, now_ns)]
        for peer, parser in self._parsers.items():
            arrived += [(peer, message) for message in parser.give_up(now_ns)]
        self._state.note_port(is_open=self.transport.is_open)
        received: list[Received] = []
        welcome: dict[str, bool] = {}
        for peer, message in arrived:
            verdict = self._judge(message, now_ns)
            if verdict.refusal is None:
                received.append(_received(message, is_proven=verdict.is_proven))
            if verdict.refusal in WELCOME and _sender(message) != self._ours:
                welcome[peer] = self._goes_first(verdict) or welcome.get(peer, False)
        for peer, is_proven in welcome.items():
            self.transport.welcome(peer, is_proven=is_proven)
        self._tell(self.peers.on_time(now_ns))
        self._explain()
        self._follow_state(now_ns)
        return received

    def take_news(self) -> list[News]:
        """Return what people must hear since the last call; the log has it already."""
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Give the port back."""
        self.transport.close()

    def _cut(self, peer: str, data: bytes, now_ns: int) -> list[Any]:
        """Return the messages that are whole with these bytes; of a peer without a begun frame nothing is kept."""
        parser = self._parsers.pop(peer, None) or FrameParser(self.counts)
        messages = parser.feed(data, now_ns)
        if parser.is_holding:
            if len(self._parsers) >= MAX_PARSERS:
                del self._parsers[next(iter(self._parsers))]
            self._parsers[peer] = parser
        return messages

    def _goes_first(self, verdict: Verdict) -> bool:
        """Say whether its sender hears us before others: who has the key, where there is one."""
        return verdict.refusal is None and (verdict.is_proven or self._security.signing is None)

    def _judge(self, message: Any, now_ns: int) -> Verdict:
        """Return what becomes of a message, and take notice of its sender."""
        ours, sender = self._ours, _sender(message)
        is_heartbeat = message.get_type() == "HEARTBEAT"
        if is_heartbeat and sender == ours:
            self._tell(self.peers.on_double(now_ns))
        verdict = self._security.judge(message, ours)
        if verdict.refusal is not None:
            self.refused[verdict.refusal.value] += 1
            self._tell(self.peers.on_refusal(verdict.refusal, sender, message.get_type()))
            return verdict
        if sender != ours:
            self._state.note_frame()
            if is_heartbeat:
                self._state.note_heartbeat(now_ns)
                self._tell(self.peers.on_heartbeat(message, now_ns))
        return verdict

    def _tell(self, news: list[News]) -> None:
        for item in news:
            log.log(item.level, "link %s: %s", self.transport.name, item.text)
            if item.status_text or item.is_arrival:
                self._news.append(item)

    def _explain(self) -> None:
        """Say once of each kind what arrives that is no message."""
        bad = "a damaged frame (checksum, length or flags): noise, or somebody forges; the rest is counted"
        unknown = "a message that is neither of common.xml nor of ours: left alone; the rest is counted"
        kinds = ((self.counts.bad, logging.WARNING, bad), (self.counts.unknown, logging.INFO, unknown))
        for count, level, text in kinds:
            if count and text not in self._explained:
                self._explained.add(text)
                self._tell([News(level=level, text=text)])

    def _follow_state(self, now_ns: int) -> None:
        before, self._told_state = self._told_state, self._state.at(now_ns)
        if before == self._told_state:
            self._look_for_silence(now_ns)
            return
        self._told_ns = now_ns
        if self._told_state == State.LOST:
            self._tell_of_link(logging.WARNING, f"nobody's heartbeat for {LOST_NS // NS_PER_S} s", "lost")
            self.transport.reopen()
            self._parsers.clear()
        elif self._told_state == State.CLOSED and before in (State.UP, State.LATE):
            self._tell_of_link(logging.DEBUG, "the port is gone", "lost")
        elif self._told_state == State.UP and before != State.LATE:
            self._is_silence_told = True  # who was heard is not at another rate
            self._tell_of_link(logging.INFO, "up", "back" if self._is_trouble_told else "")

    def _look_for_silence(self, now_ns: int) -> None:
        """Say once why a serial port may be silent from the start: mostly it is a wrong rate or a wrong cable."""
        is_silent = self._told_state in (State.OPEN, State.HEARD) and now_ns - self._told_ns > LOST_NS
        if self._is_silence_told or not is_silent or not self.transport.name.startswith("serial:"):
            return
        self._is_silence_told = True
        noise = self.counts.skipped_bytes
        if self.counts.messages:
            why = "frames, but no heartbeat that counts: a radio, and nobody at its other end? or see what is refused"
        elif noise > NOISE_BYTES:
            why = f"no heartbeat, but {noise} bytes that are no frames: try another baud rate"
        else:
            why = "no heartbeat, next to nothing: are TX and RX crossed, and does the other end's port speak MAVLink?"
        self._tell_of_link(logging.WARNING, why, "no heartbeat")

    def _tell_of_link(self, level: int, text: str, status: str) -> None:
        """Tell the log, and the ground on the other links: what becomes of this one, nothing where that is empty."""
        name = self.transport.name
        status_text = f"FUSION: {status}: {name}" if status else ""
        self._is_trouble_told = status not in ("", "back")
        self._tell([News(level=level, text=text, subject=f"link {name}", status_text=status_text)])


def open_link(link: str, system_id: int, component_id: int, clock: Clock, security: Security | None = None) -> Link:
    """Open the link that a string names.

    Raises:
        ConfigError: as `parse_link`.
        LinkError: the port cannot be opened.
    """
    return Link(open_transport(link, clock), system_id, component_id, clock, security)


def open_transport(link: str, clock: Clock) -> Transport:
    """Open the port that a string names. Raises as `open_link`."""
    address = parse_link(link)
    if isinstance(address, SerialAddress):
        return SerialPort(link, address, clock)
    if isinstance(address, FileAddress):
        return TlogFile(link, address)
    if address.kind == "tcpin":
        return TcpServer(link, address)
    if address.kind == "tcpout":
        return TcpClient(link, address, clock)
    return UdpServer(link, address, clock) if address.kind == "udpin" else UdpClient(link, address, clock)


def _sender(message: Any) -> tuple[int, int]:
    return message.get_srcSystem(), message.get_srcComponent()


def _received(message: Any, *, is_proven: bool) -> Received:
    return Received(
        system_id=message.get_srcSystem(),
        component_id=message.get_srcComponent(),
        sequence=message.get_seq(),
        name=message.get_type(),
        message=message,
        is_proven=is_proven,
    )
