"""Hours of virtual flight with faults: `python tests/long_flight.py 10` flies ten, and says what memory and files did.

One replay flies it all: the real scheduler, gates, fusion and judge, with fake branches. Every minute two other faults
befall it. Nothing of it is kept, so that whatever grows has leaked.
"""

import argparse
import gc
import itertools
import json
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from faulty_flights import BEGIN_NS, Sensor, bundle, counted, engines, events, stream_configs
from random_faults import fault_of

from edge.config import PipelineConfig
from edge.faults.injector import NO_FAULTS, inject
from edge.operations.replays import judge_of
from edge.recording.reader import Event
from edge.recording.replay import ExactReplay, Listener

SENSORS = {"radio": Sensor("iq", 50.0), "camera": Sensor("image", 10.0)}
MINUTE_NS = 60_000_000_000
FAULTS_A_MINUTE = 2
MOST_LEAKED_BYTES = 1.0
"""A message; in 10 h that is 2 MiB."""
WARM_SHARE = 0.1
"""Of the flight: until then buffers and allocators settle."""
_PAGE_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the process held at a moment."""

    hours: float
    messages: int
    resident_bytes: int
    traced_bytes: int
    """By Python; 0 where nobody traces."""
    files: int


def sample(hours: float, messages: int) -> Sample:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    traced = tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0
    files = len(list(Path("/proc/self/fd").iterdir()))
    resident = pages * _PAGE_BYTES
    return Sample(hours=hours, messages=messages, resident_bytes=resident, traced_bytes=traced, files=files)


def troubled(flying: Iterator[Event], seed: int) -> Iterator[Event]:
    """Yield events as they come when other faults befall each minute of them."""
    minutes = itertools.groupby(flying, lambda event: (event.log_ns - BEGIN_NS) // MINUTE_NS)
    for minute, within in minutes:
        chance = Random(f"{seed} {minute}")
        faults = [fault_of(chance, list(SENSORS)) for _ in range(FAULTS_A_MINUTE)]
        yield from inject(within, faults, seed, BEGIN_NS + minute * MINUTE_NS)


def fly_long(hours: float, samples: int, seed: int = 0) -> tuple[list[Sample], list[str]]:
    """Return what the process held, `samples` times in equal distances, and what the flight broke."""
    streams, config = stream_configs(SENSORS), PipelineConfig()
    replay = ExactReplay(bundle(), streams, config, BEGIN_NS, engines())
    judge = judge_of(streams, config, NO_FAULTS, BEGIN_NS)
    offered = dict.fromkeys(SENSORS, 0)
    taken: list[Sample] = []
    step_h = hours / samples
    flying = counted(troubled(events(SENSORS, hours * 3600), seed), offered)
    for answer in replay.run(flying, Listener(note_status=judge.note_status)):
        judge.note_answer(answer)
        now_h = (answer.answer_ns - BEGIN_NS) / 3.6e12
        if now_h >= (len(taken) + 1) * step_h - 1e-2 * step_h:
            taken.append(sample(now_h, sum(offered.values())))
    judgement = judge.judgement(replay.status().time_ns)
    broken = [] if judgement.has_held else judgement.lines()
    for name, stream in replay.accounting().items():
        if stream.received != offered[name]:
            broken.append(f"{name}: {offered[name]} sent, {stream.received} received")
    return taken, broken


def leaked_bytes(taken: Sequence[Sample], field: str) -> float:
    """Return what a message left behind, on average, after the first tenth of the flight."""
    first, last = taken[round(WARM_SHARE * len(taken))], taken[-1]
    return (getattr(last, field) - getattr(first, field)) / (last.messages - first.messages)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hours", type=float, nargs="?", default=10.0, help="of virtual flight")
    parser.add_argument("--samples", type=int, default=20, help="how often to look at memory and files")
    args = parser.parse_args(argv)
    started_s = time.monotonic()
    taken, broken = fly_long(args.hours, args.samples)
    for one in taken:
        print(
            f"{one.hours:6.2f} h {one.messages:9d} messages {one.resident_bytes / 2**20:8.2f} MiB {one.files:3d} files"
        )
    leaked = leaked_bytes(taken, "resident_bytes")
    is_flat = leaked <= MOST_LEAKED_BYTES and taken[-1].files <= taken[0].files
    print(*broken, sep="\n", end="\n" if broken else "")
    wall_s = time.monotonic() - started_s
    print(f"{leaked:.3f} bytes a message, {'flat' if is_flat else 'NOT FLAT'}; {wall_s:.0f} s")
    last = {"hours": args.hours, "messages": taken[-1].messages, "files": taken[-1].files, "broken": len(broken)}
    memory = {"mib": round(taken[-1].resident_bytes / 2**20, 2), "bytes_a_message": round(leaked, 4)}
    print(json.dumps({**last, **memory, "is_flat": is_flat, "seconds": round(wall_s, 1)}))
    return int(bool(broken) or not is_flat)


if __name__ == "__main__":
    sys.exit(main())
