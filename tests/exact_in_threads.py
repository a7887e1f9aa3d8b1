"""Replay a flight exactly, again and again in one thread and in two, and compare the bytes: `--help`.

python tests/exact_in_threads.py flight.mcap runs/bundles/uavpair7-1.uavb --seconds 60
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge.operations.flown import Flown
from edge.operations.replays import ExactOptions, fly_exact
from edge.recording.reader import open_recording
from models.bundle import open_bundle


def digest(flown: Flown) -> str:
    """Return a hash of every answer, and of what became of every message."""
    return hashlib.sha256(msgspec.json.encode((list(flown.answers), flown.streams))).hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each run, and fail where two differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flight", type=Path, help="the recording")
    parser.add_argument("bundle", type=Path, help="the model")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the flight, from its start")
    parser.add_argument("--runs", type=int, default=3, help="in one thread, and in two")
    args = parser.parse_args(argv)
    bundle, whole = open_bundle(args.bundle), open_recording(args.flight)
    recording = whole.part(None, whole.start_ns + round(args.seconds * 1e9))
    digests = set()
    for threads in (1, 2):
        for _ in range(args.runs):
            begin_s, began_s = time.monotonic(), time.process_time()
            flown = fly_exact(recording, bundle, ExactOptions(precision="fp32", threads=threads))
            factor = recording.duration_ns / 1e9 / (time.monotonic() - begin_s)
            busy_s = time.process_time() - began_s
            digests.add(digest(flown))
            print(
                f"{threads} thread(s): {factor:6.1f} times real time, {busy_s:5.2f} s of processor time,"
                f" {len(flown.answers)} answers, {digest(flown)[:16]}"
            )
    is_same = len(digests) == 1
    print(f"{2 * args.runs} runs: {'the same bytes' if is_same else 'DIFFERENT BYTES'}")
    return int(not is_same)


if __name__ == "__main__":
    sys.exit(main())
