"""How well live replay keeps the distances of messages, beside what this machine does to a thread that only sleeps.

    python tests/replay_on_time.py 20

A quiet machine lets the bare thread sleep to within some 0.1 ms; where it does not, the replay cannot either.
"""

import sys
import tempfile
import time
from pathlib import Path

from edge.operations.live_replay import LiveOptions, fly_live
from edge.recording.reader import open_recording
from edge.recording.spacing import Spacing, SpacingErrors
from edge.recording.synthetic import write_synthetic_flight
from edge.sources.synthetic import SyntheticFlight
from models.bundle import open_bundle, shipped_bundle

PERIOD_S = 0.01


def bare_sleeper(seconds: float) -> Spacing | None:
    """Return how far a thread's wake-ups are from a fixed period."""
    errors, begin_s = SpacingErrors(), time.monotonic()
    for n in range(round(seconds / PERIOD_S)):
        due_s = begin_s + n * PERIOD_S
        time.sleep(max(due_s - time.monotonic(), 0.0))
        errors.note("sleep", round((time.monotonic() - due_s) * 1e9))
    return errors.spacing()


def line(name: str, spacing: Spacing | None) -> str:
    """Return a line of the table."""
    if spacing is None:
        return f"{name}: nothing"
    return f"{name}: p50 {spacing.p50_ms:.2f} ms, p99 {spacing.p99_ms:.2f} ms, max {spacing.max_ms:.2f} ms"


def main() -> None:
    """Measure both, one after the other."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flight.mcap"
        write_synthetic_flight(path, SyntheticFlight(7, 2.0), seconds, lambda _: None)
        print(line("a bare thread, before", bare_sleeper(seconds)))
        flown = fly_live(open_recording(path), open_bundle(shipped_bundle()), LiveOptions())
        played = flown.played
        print(line("live replay at 1 x", played.spacing if played is not None else None))
        print(line("a bare thread, after", bare_sleeper(seconds)))


if __name__ == "__main__":  # the playing process imports this file
    main()
