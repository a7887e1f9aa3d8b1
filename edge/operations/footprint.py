"""What the pipeline's process holds, before the faults of a flight and after them: promise I5."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.faults.fault import Fault
from edge.judging.trouble import NOMINAL_WITHIN_NS
from edge.judging.verdict import Verdict

MOST_MORE_BYTES = 16 << 20
SETTLED_NS = 5_000_000_000
"""A pipeline takes memory until it has seen every kind of message."""
PERIOD_NS = 500_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """What a process held at a moment."""

    at_ns: int
    process_id: int
    resident_bytes: int
    files: int


def held_by(process_id: int, at_ns: int) -> Held | None:
    """Return what a process holds; None where it is gone."""
    try:
        pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
        files = sum(1 for _ in Path(f"/proc/{process_id}/fd").iterdir())
    except (OSError, IndexError):
        return None
    return Held(at_ns=at_ns, process_id=process_id, resident_bytes=pages * os.sysconf("SC_PAGE_SIZE"), files=files)


class Footprint:
    """Looks at a process during a flight, and judges at its end."""

    def __init__(self, faults: Sequence[Fault], begin_ns: int) -> None:
        """Take the faults, and when the flight began."""
        spans = [fault.window_ns(begin_ns) for fault in faults]
        self._begin_ns = begin_ns
        self._calm_ns = begin_ns + SETTLED_NS, min((start for start, _ in spans), default=begin_ns)
        self._over_ns = (
            max((math.inf if end is None else end for _, end in spans), default=begin_ns) + NOMINAL_WITHIN_NS
        )
        self._before: Held | None = None
        self._after: Held | None = None
        self._due_ns = begin_ns

    def look(self, process_id: int | None, now_ns: int) -> None:
        """Look at the pipeline, if it runs and it is time."""
        if process_id is None or now_ns < self._due_ns:
            return
        self._due_ns = now_ns + PERIOD_NS
        if self._calm_ns[0] <= now_ns < self._calm_ns[1]:
            self._before = held_by(process_id, now_ns)
        elif now_ns >= self._over_ns:
            self._after = held_by(process_id, now_ns) or self._after

    def judge(self, verdict: Verdict) -> None:
        """Say what was found."""
        before, after = self._before, self._after
        if before is None or after is None:
            verdict.not_judged = "expected 5 s before the first fault, and 2 s after the last one's end"
            return
        if before.process_id != after.process_id:
            verdict.not_judged = "it was another process before the faults than after them"
            return
        verdict.judged, verdict.not_judged = 1, ""
        after_s = (after.at_ns - self._begin_ns) / 1e9
        more_bytes, more_files = after.resident_bytes - before.resident_bytes, after.files - before.files
        if more_bytes > MOST_MORE_BYTES:
            verdict.violate(after_s, f"the pipeline holds {more_bytes / 2**20:.1f} MiB more than before the faults")
        if more_files > 0:
            verdict.violate(after_s, f"the pipeline holds {more_files} descriptors more than before the faults")
