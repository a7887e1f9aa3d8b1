"""The heartbeats of a flight with faults: noted where they leave, and read by who judges. Promise I6."""

import logging
from collections.abc import Iterable
from pathlib import Path

import msgspec

from edge.judging.verdict import Verdict

log = logging.getLogger(__name__)

LONGEST_PAUSE_NS = 2_500_000_000
_MAVLINK_2, _HEARTBEAT = 0xFD, b"\0\0\0"


class Heartbeats(msgspec.Struct, kw_only=True):
    """Those that one link has sent."""

    link: str
    count: int = 0
    longest_ns: int = 0
    """Longest pause between two."""
    longest_at_ns: int = 0
    """When it ended."""
    last_ns: int = 0
    """0: none yet, or none that counts."""

    def note(self, frame: bytes, now_ns: int) -> None:
        """Take a frame that is sent."""
        if len(frame) < 10 or frame[0] != _MAVLINK_2 or frame[7:10] != _HEARTBEAT:
            return
        if self.last_ns and now_ns - self.last_ns > self.longest_ns:
            self.longest_ns, self.longest_at_ns = now_ns - self.last_ns, now_ns
        self.last_ns = now_ns
        self.count += 1

    def interrupt(self) -> None:
        """Let the pause that is under way not count."""
        self.last_ns = 0

    def write(self, folder: Path) -> None:
        """Leave it for who judges."""
        try:
            (folder / f"heartbeats-{self.link.encode().hex()}.json").write_bytes(msgspec.json.encode(self))
        except OSError as error:
            log.warning("heartbeats of %s will not be judged: %s", self.link, error)


def judge_heartbeats(folder: Path, begin_ns: int, verdict: Verdict) -> None:
    """Judge what all links have left in a folder."""
    found = list(_read(folder.glob("heartbeats-*.json")))
    if not any(one.count for one in found):
        verdict.not_judged = "no link of the MAVLink process has told of its heartbeats"
        return
    verdict.judged, verdict.not_judged = sum(one.count for one in found), ""
    for one in found:
        if one.longest_ns > LONGEST_PAUSE_NS:
            after_s = (one.longest_at_ns - begin_ns) / 1e9
            verdict.violate(after_s, f"{one.link}: no HEARTBEAT for {one.longest_ns / 1e9:.2f} s")


def _read(paths: Iterable[Path]) -> Iterable[Heartbeats]:
    return [msgspec.json.decode(path.read_bytes(), type=Heartbeats) for path in sorted(paths)]
