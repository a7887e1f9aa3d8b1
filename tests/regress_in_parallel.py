#!/usr/bin/env python3
"""Measure what a second process is worth to `uav-edge regress`, and count what kills cost.

    python tests/regress_in_parallel.py [--flights 32] [--seconds 8] [--kills 3]

Makes that many short flights, each another one; compares them in one process and in two, in turns, twice; then kills
runs of two processes with SIGKILL at random moments, and starts them again. Ends with one JSON object, and with 1 where
a kill cost more than the flights in progress, or an answer differs.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from regressing import await_that, children, is_running, relabelled_bundle, write_flight

from edge.regression.flying import program_hash
from models.bundle import shipped_bundle

JOBS = 2
ROUNDS = 2


def command(folder: Path, jobs: int, *options: str) -> list[str]:
    models = ["--bundle", str(folder / "demo-2.uavb"), "--against", str(shipped_bundle())]
    flights = str(folder / "*.mcap")
    return [sys.executable, "-m", "edge.cli", "regress", flights, *models, "--jobs", str(jobs), "--json", *options]


def regress(folder: Path, jobs: int, *options: str) -> tuple[float, dict[str, Any]]:
    """Return what it took in seconds, and what was found."""
    started_s = time.monotonic()
    done = subprocess.run(command(folder, jobs, *options), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 4):
        raise SystemExit(done.stderr)
    return time.monotonic() - started_s, json.loads(done.stdout.splitlines()[-1])


def changes(found: dict[str, Any]) -> list[Any]:
    return [(flight["flight"], flight["changes"]) for flight in found["flights"]]


def killed(folder: Path, after_s: float) -> dict[str, int]:
    """Return the counts of a kill between whose two halves nobody edited the program, which would fly all again."""
    while True:
        before = program_hash.__wrapped__()
        with tempfile.TemporaryDirectory(prefix="keep-") as keep:
            counts = kill_and_resume(folder, Path(keep), after_s)
        if program_hash.__wrapped__() == before:
            return counts


def kill_and_resume(folder: Path, keep: Path, after_s: float) -> dict[str, int]:
    """Return how many outcomes a kill found finished, how many in progress, and how many were flown after it."""
    options = ("--keep", str(keep))
    with subprocess.Popen(
        command(folder, JOBS, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        await_that(lambda: any(keep.glob("*.json")) or process.poll() is not None)
        time.sleep(after_s)  # the moment of the kill is what is drawn
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    await_that(lambda: not any(map(is_running, workers)))
    finished, in_progress = len(list(keep.glob("*.json"))), len(list(keep.glob("*.begun")))
    _, found = regress(folder, JOBS, *options)
    return {"finished": finished, "in_progress": in_progress, "flown_again_or_first": found["flown"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flights", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--kills", type=int, default=3)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="regress-") as name:
        folder = Path(name)
        for seed in range(args.flights):
            write_flight(folder / f"{seed:02}.mcap", seed, args.seconds)
        relabelled_bundle(folder, 2, farmland="orchard", orchard="farmland")
        times: dict[int, list[float]] = {1: [], JOBS: []}
        answers = []
        for _ in range(ROUNDS):
            for jobs, taken in times.items():
                seconds, found = regress(folder, jobs)
                taken.append(round(seconds, 2))
                answers.append(changes(found))
        span_s = min(times[JOBS])
        runs = 2 * args.flights
        kills = [killed(folder, random.Random(n).uniform(0.0, 0.7 * span_s)) for n in range(args.kills)]
    repeated = [one["finished"] + one["flown_again_or_first"] - runs for one in kills]
    is_sound = all(one == answers[0] for one in answers) and all(
        lost == 0 and one["in_progress"] <= JOBS for lost, one in zip(repeated, kills, strict=True)
    )
    report = {
        "flights": args.flights,
        "seconds_each": args.seconds,
        "wall_s": times,
        "ratio": round(min(times[1]) / min(times[JOBS]), 2),
        "same_answers": all(one == answers[0] for one in answers),
        "kills": kills,
        "finished_but_flown_again": repeated,
        "sound": is_sound,
    }
    print(json.dumps(report))
    return 0 if is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
