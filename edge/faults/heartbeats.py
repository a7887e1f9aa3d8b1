"""The heartbeats of a flight with faults: noted where they leave, and read by who judges. Promise I6."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.judging.verdict import Verdict

log = logging.getLogger(__name__)

LONGEST_PAUSE_NS = 2_500_000_000
MAX_PAUSES = 100
_MAVLINK_2, _HEARTBEAT = 0xFD, b"\0\0\0"


class Heartbeats(msgspec.Struct, kw_only=True):
    """Those that one link has sent."""

    link: str
    count: int = 0
    first_ns: int = 0
    last_ns: int = 0
    pauses_ns: list[tuple[int, int]] = []
    """From when to when there was none for too long; the first MAX_PAUSES."""
    muted_ns: int | None = None
    """Since when the link carries nothing any more, because an autopilot is heard."""

    def note(self, frame: bytes, now_ns: int) -> None:
        """Take a frame that is sent."""
        if len(frame) < 10 or frame[0] != _MAVLINK_2 or frame[7:10] != _HEARTBEAT:
            return
        if self.count and now_ns - self.last_ns > LONGEST_PAUSE_NS and len(self.pauses_ns) < MAX_PAUSES:
            self.pauses_ns.append((self.last_ns, now_ns))
        self.first_ns = self.first_ns if self.count else now_ns
        self.last_ns = now_ns
        self.count += 1

    def write(self, folder: Path) -> None:
        """Leave it for who judges."""
        try:
            (folder / _file(self.link)).write_bytes(msgspec.json.encode(self))
        except OSError as error:
            log.warning("heartbeats of %s will not be judged: %s", self.link, error)


@dataclass(frozen=True, kw_only=True, slots=True)
class Beating:
    """Which links of a flight carry heartbeats, and when."""

    links: tuple[str, ...]
    begin_ns: int
    end_ns: int
    losses_ns: tuple[tuple[int, int | None], ...] = ()
    """From when to when all links are lost on purpose; None: to the end."""


def judge_heartbeats(folder: Path, beating: Beating, verdict: Verdict) -> None:
    """Judge what the links of a flight have left in a folder; one that has left nothing has broken the promise."""
    verdict.not_judged = "" if beating.links else "there is no link"
    for link in beating.links:
        path = folder / _file(link)
        if path.exists():
            found = msgspec.json.decode(path.read_bytes(), type=Heartbeats)
            verdict.judged += max(found.count, 1)
        else:
            found = Heartbeats(link=link)
            verdict.judged += 1
        for begin_ns, end_ns in _pauses(found, beating):
            after_s = (begin_ns + LONGEST_PAUSE_NS - beating.begin_ns) / 1e9
            verdict.violate(after_s, f"{link}: no HEARTBEAT for {(end_ns - begin_ns) / 1e9:.2f} s")


def _pauses(found: Heartbeats, beating: Beating) -> Iterator[tuple[int, int]]:
    """Yield from when to when there was no heartbeat for too long, although there should have been one."""
    end_ns = min(beating.end_ns, found.muted_ns if found.muted_ns is not None else beating.end_ns)
    if found.count:
        silences = [(beating.begin_ns, found.first_ns), *found.pauses_ns, (found.last_ns, end_ns)]
    else:
        silences = [(beating.begin_ns, end_ns)]
    for begin_ns, until_ns in silences:
        for piece in _outside((max(begin_ns, beating.begin_ns), min(until_ns, end_ns)), beating.losses_ns):
            if piece[1] - piece[0] > LONGEST_PAUSE_NS:
                yield piece


def _outside(span: tuple[int, int], losses_ns: Sequence[tuple[int, int | None]]) -> Iterator[tuple[int, int]]:
    """Yield what of a span lies outside of all losses."""
    begin_ns, end_ns = span
    for loss_ns, back_ns in sorted(losses_ns, key=lambda loss: loss[0]):
        if begin_ns < min(loss_ns, end_ns):
            yield begin_ns, min(loss_ns, end_ns)
        begin_ns = max(begin_ns, end_ns if back_ns is None else back_ns)
    if begin_ns < end_ns:
        yield begin_ns, end_ns


def _file(link: str) -> str:
    return f"heartbeats-{hashlib.sha256(link.encode()).hexdigest()}.json"
