"""Random sequences of faults on virtual time: `python tests/random_faults.py 1000` flies as many, in two processes.

A sequence is made of its seed alone. One that breaks a promise is shortened to the faults that it takes, and told with
the command that flies it again.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from random import Random

from faulty_flights import Flight, Sensor, fly

from edge.config import PipelineConfig
from edge.faults.fault import CLOCK_JUMP, LINK_LOSS, STREAM_KINDS, Fault, parse_fault
from edge.faults.injector import FaultPlan

SECONDS = 16.0
LAST_START_S = 11.0
MOST_FAULTS = 6
PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a seed stands for."""

    seed: int
    sensors: dict[str, Sensor]
    config: PipelineConfig
    faults: tuple[Fault, ...]


def sequence_of(seed: int) -> Case:
    """Return a deployment of any kind, and faults that befall it."""
    chance = Random(seed)
    sensors = {"radio": Sensor("iq", chance.choice((50.0, 100.0)), chance.choice((1, 1, 1, 2)))}
    for n in range(chance.choice((1, 1, 2))):
        sensors[f"camera{n}"] = Sensor("image", chance.choice((10.0, 25.0, 30.0)))
    config = PipelineConfig(
        max_age_ms=chance.choice((200.0, 300.0, 1000.0)),
        max_skew_ms=chance.choice((30.0, 50.0)),
        shedding=chance.choice(("auto", "economy", "off")),
    )
    faults = tuple(fault_of(chance, list(sensors)) for _ in range(chance.randint(1, MOST_FAULTS)))
    return Case(seed=seed, sensors=sensors, config=config, faults=faults)


def fault_of(chance: Random, streams: Sequence[str]) -> Fault:
    names = [f"{stream}:{kind}" for stream in streams for kind in STREAM_KINDS]
    name = chance.choice([*names, CLOCK_JUMP, LINK_LOSS])
    start_s, duration_s = chance.uniform(0.0, LAST_START_S), chance.uniform(0.05, 5.0)
    return parse_fault(f"{name}@{start_s:.2f}s+{duration_s:.2f}s")


def flown(sequence: Case) -> Flight:
    plan = FaultPlan(faults=sequence.faults, seed=sequence.seed)
    return fly(plan, sequence.sensors, SECONDS, sequence.config)


def broken(seed: int, faults: Sequence[Fault] | None = None) -> list[str]:
    """Return what a seed's sequence breaks, with its own faults or others."""
    sequence = sequence_of(seed)
    return flown(sequence if faults is None else _with(sequence, faults)).broken()


def shortened(seed: int) -> tuple[Fault, ...]:
    """Return the faults of a sequence without those that it does not take to break something."""
    needed = sequence_of(seed).faults
    for fault in needed:
        fewer = tuple(other for other in needed if other is not fault)
        if broken(seed, fewer):
            needed = fewer
    return needed


def command(seed: int, faults: Sequence[Fault]) -> str:
    return " ".join(["python tests/random_faults.py --seed", str(seed), *(f"--fault {fault}" for fault in faults)])


def _with(sequence: Case, faults: Sequence[Fault]) -> Case:
    return Case(seed=sequence.seed, sensors=sequence.sensors, config=sequence.config, faults=tuple(faults))


def _fly_many(count: int, first: int) -> int:
    """Fly seeds from `first` on; print what breaks, and a summary; return the exit code."""
    started_s = time.monotonic()
    failures = 0
    with ProcessPoolExecutor(PROCESSES) as pool:
        seeds = range(first, first + count)
        for seed, lines in zip(seeds, pool.map(broken, seeds, chunksize=4), strict=True):
            if lines:
                failures += 1
                print(f"seed {seed}: {command(seed, shortened(seed))}", *lines, sep="\n  ", flush=True)
    wall_s = time.monotonic() - started_s
    hours = count * SECONDS / 3600
    print(f"{count} sequences, {hours:.1f} h of virtual flight, {failures} with a broken promise, {wall_s:.0f} s")
    print(json.dumps({"sequences": count, "hours": round(hours, 2), "broken": failures, "seconds": round(wall_s, 1)}))
    return int(failures > 0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1000, help="sequences to fly")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--seed", type=int, help="fly this one alone")
    parser.add_argument("--fault", action="append", type=parse_fault, help="with --seed: these faults, not its own")
    args = parser.parse_args(argv)
    if args.seed is None:
        return _fly_many(args.count, args.first)
    faults = args.fault or sequence_of(args.seed).faults
    print(command(args.seed, faults))
    lines = broken(args.seed, faults)
    print(*(lines or ["nothing is broken"]), sep="\n")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
