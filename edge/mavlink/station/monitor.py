"""Who is on a link, how much each of them sends, and what the last answer was. Pure: messages and times come in."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from pymavlink.dialects.v20 import common

from edge.mavlink.network.link import Received
from edge.mavlink.network.link_state import LinkState
from edge.mavlink.outgoing import lite
from edge.mavlink.pace import NS_PER_S
from edge.mavlink.wire import codec
from edge.mavlink.wire.codec import Flag

SPAN_NS = 5 * NS_PER_S
"""Over which rates are taken."""
MAX_SIZES = 20_000
"""Frames of one peer within the span; of a flood the newest."""
MAX_PEERS = 64
MAX_LABELS = 1000
"""Of one peer: whoever sends names of classes without end does not fill the memory."""
HALF_TURN = 128
TEXTS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """An answer that a peer sent."""

    label: str
    confidence: float | None
    flags: Flag
    latency_ms: float | None
    """From capture to sending; None of a short record."""
    at_ns: int
    """When it came."""


@dataclass(kw_only=True, slots=True)
class Peer:
    """One system and component."""

    kind: str = ""
    """What its heartbeat says it is."""
    status: str = ""
    """The state that its heartbeat tells."""
    messages: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    """Gaps in its frame sequence."""
    seen: Seen | None = None
    """The last answer that was not of the past."""
    results: int = 0
    health: Any | None = None
    """The last FUSION_STATUS."""
    link: LinkState = field(default_factory=LinkState)
    labels: dict[int, str] = field(default_factory=dict)
    heard_ns: int = 0
    sequence: int | None = None
    sizes: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=MAX_SIZES))
    """(time, bytes) of the frames within the span."""


class Monitor:
    """Keeps the peers of one link."""

    def __init__(self) -> None:
        self.peers: dict[tuple[int, int], Peer] = {}
        self.texts: deque[tuple[int, tuple[int, int], str]] = deque(maxlen=TEXTS)
        """(time, sender, text) of the last STATUSTEXT."""
        self._began_ns: int | None = None

    def take(self, item: Received, now_ns: int) -> None:
        """Take a message, in the order of arrival."""
        self._began_ns = now_ns if self._began_ns is None else self._began_ns
        sender = (item.system_id, item.component_id)
        peer = self._peer(sender)
        peer.heard_ns = now_ns
        peer.messages[item.name] += 1
        if not item.is_inside:
            _count_frame(peer, item, now_ns)
        message = item.message
        if item.name == "HEARTBEAT":
            peer.link.note_heartbeat(now_ns)
            peer.kind = _named("MAV_TYPE", message.type)
            peer.status = _named("MAV_STATE", message.system_status)
        elif item.name == "STATUSTEXT":
            self.texts.append((now_ns, sender, message.text))
        elif item.name == "FUSION_STATUS":
            peer.health = message
        elif item.name == "FUSION_CLASS_INFO":
            if message.class_id in peer.labels or len(peer.labels) < MAX_LABELS:
                peer.labels[message.class_id] = codec.class_label(message)
        else:
            _note_result(peer, item, now_ns)

    def rates(self, peer: Peer, now_ns: int) -> tuple[float, float]:
        """Return the frames and the bytes a second that a peer sent lately."""
        while peer.sizes and now_ns - peer.sizes[0][0] > SPAN_NS:
            peer.sizes.popleft()
        began_ns = self._began_ns if self._began_ns is not None else now_ns
        span_s = max(min(SPAN_NS, now_ns - began_ns), NS_PER_S) / NS_PER_S
        return len(peer.sizes) / span_s, sum(size for _, size in peer.sizes) / span_s

    def summary(self, now_ns: int) -> dict[str, Any]:
        """Return what is known of each peer, for programs."""
        return {
            f"{system}/{component}": self._summary(peer, now_ns)
            for (system, component), peer in sorted(self.peers.items())
        }

    def _summary(self, peer: Peer, now_ns: int) -> dict[str, Any]:
        frames_s, bytes_s = self.rates(peer, now_ns)
        seen, health = peer.seen, peer.health
        return {
            "kind": peer.kind,
            "status": peer.status,
            "link": peer.link.at(now_ns).value,
            "frames_s": round(frames_s, 1),
            "bytes_s": round(bytes_s),
            "lost": peer.lost,
            "messages": dict(peer.messages),
            "silent_s": round((now_ns - peer.heard_ns) / NS_PER_S, 1),
            "results": peer.results,
            "last": None
            if seen is None
            else {
                "label": seen.label,
                "confidence": seen.confidence,
                "flags": names_of(seen.flags),
                "latency_ms": seen.latency_ms,
                "age_s": round((now_ns - seen.at_ns) / NS_PER_S, 1),
            },
            "queued": health.results_queued if health is not None else None,
            "dropped": health.results_dropped if health is not None else None,
        }

    def _peer(self, sender: tuple[int, int]) -> Peer:
        if sender not in self.peers:
            if len(self.peers) >= MAX_PEERS:
                del self.peers[min(self.peers, key=lambda other: self.peers[other].heard_ns)]
            self.peers[sender] = Peer()
            self.peers[sender].link.note_port(is_open=True)
        return self.peers[sender]


def names_of(flags: Flag) -> list[str]:
    """Return the names of the flags that are set."""
    return [str(flag.name) for flag in Flag if flag & flags]


def _count_frame(peer: Peer, item: Received, now_ns: int) -> None:
    peer.link.note_frame()
    peer.sizes.append((now_ns, len(item.message.get_msgbuf())))
    if peer.sequence is not None:
        gap = (item.sequence - peer.sequence - 1) % 256
        peer.lost += gap if gap < HALF_TURN else 0
    peer.sequence = item.sequence


def _note_result(peer: Peer, item: Received, now_ns: int) -> None:
    if item.name == "FUSION_CLASSIFICATION":
        report = codec.classification_report(item.message)
        confidence = report.classes[0].confidence if report.classes else None
        latency_ms = report.latency_us / 1000
        seen = Seen(label=report.label, confidence=confidence, flags=report.flags, latency_ms=latency_ms, at_ns=now_ns)
    elif item.name == "FUSION_CLASSIFICATION_LITE":
        short = lite.lite_report(item.message)
        label = peer.labels.get(short.class_id, f"class {short.class_id}") if short.class_id >= 0 else "no data"
        seen = Seen(label=label, confidence=short.confidence, flags=short.flags, latency_ms=None, at_ns=now_ns)
    else:
        return
    peer.results += 1
    if Flag.BACKFILL not in seen.flags:
        peer.seen = seen


def _named(enum: str, value: int) -> str:
    """Return a value of one of MAVLink's enums in words, its number where it is none."""
    entry = common.enums[enum].get(value)
    return str(value) if entry is None else entry.name.removeprefix(f"{enum}_").lower().replace("_", " ")
