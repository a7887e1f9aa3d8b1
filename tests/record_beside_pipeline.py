"""Measures what a recorder costs the pipeline beside it: python tests/record_beside_pipeline.py 6

33 MB/s (100 windows of 256 KiB and 30 JPEG of about 200 kB a second) go to a pipeline all the time, and in every second
of so many turns of 5 s to a recorder, too. Told is the median time from a message to its answer, with and without.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import record_at_load

from edge.transport.messages import Classification, Kind, unpack
from edge.transport.sockets import Subscriber
from edge.transport.wire import decode_header
from models.bundle import open_bundle, shipped_bundle
from models.preprocess import opencv
from models.spec import IqRecipe

TURN_S = 5.0
YAML = record_at_load.YAML.replace("absent.uavb", str(shipped_bundle()))


def _jpeg(seed: int) -> bytes:
    """Return a noisy image of about 200 kB."""
    frame = np.random.default_rng(seed).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    return bytes(opencv().imencode(".jpg", frame, [1, 75])[1])


def _latencies_ms(subscriber: Subscriber, until_s: float) -> list[float]:
    found = []
    while time.monotonic() < until_s:
        parts = subscriber.receive(50)
        header = decode_header(parts[0]) if parts is not None else None
        if parts is not None and getattr(header, "kind", None) == Kind.CLASSIFICATION:
            found.append(unpack(parts[1], Classification).latency_ms.get("total", 0.0))
    return found


def measure(folder: Path, turns: int) -> dict:
    """Return medians in ms, and what the recorders lost."""
    (folder / "flight.yaml").write_text(YAML.format(folder=folder, transport="socket"))
    config = ["--config", str(folder / "flight.yaml")]
    run = [sys.executable, "-m", "edge.cli", "--quiet"]
    feed = [sys.executable, __file__, "--send", str(folder), str((turns + 2) * TURN_S + 20)]
    medians: dict[bool, list[float]] = {False: [], True: []}
    lost = 0
    with (
        Subscriber(f"ipc://{folder}/results", high_water_mark=1000) as results,
        subprocess.Popen([*run, "pipeline", *config]) as pipeline,
        subprocess.Popen(feed) as feeder,
    ):
        try:
            assert _latencies_ms(results, time.monotonic() + 2 * TURN_S), "no answers"
            for turn in range(turns):
                is_recorded = turn % 2 == 1
                command = [*run, "record", *config, "--json"]
                recorder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True) if is_recorded else None
                _latencies_ms(results, time.monotonic() + 1.5)
                medians[is_recorded].append(statistics.median(_latencies_ms(results, time.monotonic() + TURN_S)))
                if recorder is not None:
                    recorder.terminate()
                    streams = json.loads(recorder.communicate()[0].splitlines()[-1])["streams"]
                    lost += sum(stream["lost"] + sum(stream["refused"].values()) for stream in streams.values())
                    for path in folder.glob("*.mcap"):
                        path.unlink()
        finally:
            feeder.terminate()
            pipeline.terminate()
    without, with_it = (statistics.median(medians[key]) for key in (False, True))
    return {"p50_ms": round(without, 3), "p50_beside_recorder_ms": round(with_it, 3), "lost": lost, "turns": medians}


def send(folder: Path, seconds: float) -> None:
    """Send what the pipeline accepts: the model's sample rate, and no two frames that are equal in a row."""
    modalities = open_bundle(shipped_bundle()).spec.modalities
    recipe = next(modality.recipe for modality in modalities if isinstance(modality.recipe, IqRecipe))
    jpegs = [_jpeg(seed) for seed in range(7)]
    record_at_load.send(folder, seconds, 0, jpegs=jpegs, sample_rate_hz=recipe.sample_rate_hz)


if __name__ == "__main__":
    if sys.argv[1] == "--send":
        send(Path(sys.argv[2]), float(sys.argv[3]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps(measure(Path(scratch), int(sys.argv[1]))))
