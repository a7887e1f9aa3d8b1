"""Measures what a recorder costs the pipeline beside it: python tests/record_beside_pipeline.py 20 [socket or shm]

33 MB/s (100 windows of 256 KiB and 30 JPEG of about 200 kB a second) go to a pipeline all the time, and in every second
of so many pairs of turns to a recorder, too. Each turn with one is compared with the turns without one right before and
after it, which cancels what drifts. Told are the median of these differences with the interval that holds it in 95 of
100 cases, and the same of turns without a recorder against their neighbours without one: the noise of the machine.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import record_at_load

from edge.transport.messages import Classification, Kind, unpack
from edge.transport.sockets import Subscriber
from edge.transport.wire import decode_header
from models.bundle import open_bundle, shipped_bundle
from models.preprocess import opencv
from models.spec import IqRecipe

TURN_S = 4.0
SETTLE_S = 1.5
"""After a recorder has begun, and after it has ended."""
WARM_S = 8.0
YAML = record_at_load.YAML.replace("absent.uavb", str(shipped_bundle()))
MOST_CHANGE = 0.05
MOST_CORE_SHARE = 0.15
RUN = [sys.executable, "-m", "edge.cli", "--quiet"]


@dataclass
class Turns:
    """What was measured, in the order of time: off, on, off, on, ..., off."""

    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    core_shares: list[float] = field(default_factory=list)
    lost: int = 0
    """Messages that recorders never received, or refused."""


@dataclass(frozen=True)
class Median:
    """A median with an interval that holds the true one in at least 95 of 100 cases."""

    median: float
    low: float
    high: float


def median_of(values: Sequence[float]) -> Median:
    """Return a median and its interval by ranks, which assumes nothing of how the values are distributed."""
    ordered, count = sorted(values), len(values)
    below, rank = 0.0, 0
    while rank < count // 2 and (below := below + math.comb(count, rank) / 2**count) <= 0.025:
        rank += 1
    cut = max(rank - 1, 0)
    return Median(*(round(value, 4) for value in (statistics.median(ordered), ordered[cut], ordered[count - 1 - cut])))


def against_neighbours(values: Sequence[float]) -> list[float]:
    """Return how much every second value differs from the mean of those before and after it, as a share of that."""
    triples = zip(values[0::2], values[1::2], values[2::2], strict=False)
    return [middle / ((before + after) / 2) - 1 for before, middle, after in triples]


def _jpeg(seed: int) -> bytes:
    """Return a noisy image of about 200 kB."""
    frame = np.random.default_rng(seed).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    return bytes(opencv().imencode(".jpg", frame, [1, 75])[1])


def _latencies_ms(subscriber: Subscriber, seconds: float) -> list[float]:
    found, until_s = [], time.monotonic() + seconds
    while time.monotonic() < until_s:
        parts = subscriber.receive(50)
        header = decode_header(parts[0]) if parts is not None else None
        if parts is not None and getattr(header, "kind", None) == Kind.CLASSIFICATION:
            found.append(unpack(parts[1], Classification).latency_ms.get("total", 0.0))
    return found


def _take_turn(results: Subscriber, turns: Turns) -> None:
    found = _latencies_ms(results, TURN_S)
    turns.p50_ms.append(round(statistics.median(found), 4))
    turns.p99_ms.append(round(float(np.percentile(found, 99)), 3))


def _take_turn_recorded(results: Subscriber, turns: Turns, folder: Path, config: list[str]) -> None:
    """Take a turn with a recorder; its start and its end are not part of it."""
    command = [*RUN, "record", *config, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as recorder:
        assert recorder.stderr is not None
        assert recorder.stderr.readline().startswith("recording to")
        _latencies_ms(results, SETTLE_S)
        began_s, used_s = time.monotonic(), record_at_load.cpu_s(recorder.pid)
        _take_turn(results, turns)
        used_s = record_at_load.cpu_s(recorder.pid) - used_s
        turns.core_shares.append(round(used_s / (time.monotonic() - began_s), 3))
        recorder.terminate()
        streams = json.loads(recorder.communicate()[0].splitlines()[-1])["streams"]
    turns.lost += sum(stream["lost"] + sum(stream["refused"].values()) for stream in streams.values())
    for path in folder.glob("*.mcap"):
        path.unlink()
    _latencies_ms(results, SETTLE_S)


def measure(folder: Path, pairs: int, transport: str) -> Turns:
    """Return what was measured in so many pairs of turns, and a last one without a recorder."""
    (folder / "flight.yaml").write_text(YAML.format(folder=folder, transport=transport))
    config = ["--config", str(folder / "flight.yaml")]
    seconds = (pairs + 1) * 2 * (TURN_S + SETTLE_S + 3) + 60
    slots = "8" if transport == "shm" else "0"
    turns = Turns()
    with (
        Subscriber(f"ipc://{folder}/results", high_water_mark=1000) as results,
        subprocess.Popen([*RUN, "pipeline", *config]) as pipeline,
        subprocess.Popen([sys.executable, __file__, "--send", str(folder), str(seconds), slots]) as feeder,
    ):
        try:
            assert _latencies_ms(results, WARM_S), "no answers"
            for _ in range(pairs):
                _take_turn(results, turns)
                _take_turn_recorded(results, turns, folder, config)
            _take_turn(results, turns)
        finally:
            feeder.terminate()
            pipeline.terminate()
    return turns


def found(turns: Turns) -> dict:
    """Return what to tell, with whether each promise was kept."""
    change = median_of(against_neighbours(turns.p50_ms))
    noise = median_of(against_neighbours(turns.p50_ms[0::2]))
    without, beside = turns.p50_ms[0::2], turns.p50_ms[1::2]
    core_share = statistics.median(turns.core_shares)
    kept = {"p50": change.high <= MOST_CHANGE, "core": core_share <= MOST_CORE_SHARE, "lost": not turns.lost}
    return {
        "p50_ms": round(statistics.median(without), 3),
        "p50_beside_recorder_ms": round(statistics.median(beside), 3),
        "p50_change": asdict(change),
        "p99_change": asdict(median_of(against_neighbours(turns.p99_ms))),
        "noise": asdict(noise),
        "core_share": core_share,
        "lost": turns.lost,
        "kept": kept,
        "turns": asdict(turns),
    }


def send(folder: Path, seconds: float, slots: int) -> None:
    """Send what the pipeline accepts: the model's sample rate, and no two frames that are equal in a row."""
    modalities = open_bundle(shipped_bundle()).spec.modalities
    recipe = next(modality.recipe for modality in modalities if isinstance(modality.recipe, IqRecipe))
    jpegs = [_jpeg(seed) for seed in range(7)]
    record_at_load.send(folder, seconds, slots, jpegs=jpegs, sample_rate_hz=recipe.sample_rate_hz)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=int, nargs="?", default=20, help="of turns of 4 s, with and without a recorder")
    parser.add_argument("transport", nargs="?", default="socket", choices=("socket", "shm"), help="of the windows")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        told = found(measure(Path(scratch), args.pairs, args.transport))
    print(json.dumps(told))
    return int(not all(told["kept"].values()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--send"]:
        send(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    else:
        sys.exit(main())
