"""Outcomes made up for tests of regression, models that answer otherwise, short flights, and processes to kill."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.cli import main
from edge.recording.synthetic import write_synthetic_flight
from edge.regression.flying import Result, Task, fly_and_keep
from edge.regression.keeping import Keep
from edge.regression.outcome import Answer, Outcome
from edge.sources.synthetic import SyntheticFlight
from edge.transport.messages import StreamAccounting
from models.bundle import open_bundle, shipped_bundle, write_bundle

PATIENCE_S = 120.0
CLASSES = ("forest", "lake", "harbour")


def answers(labels: str, truth: str = "", confidence: float = 0.9) -> tuple[Answer, ...]:
    """Answers 100 ms apart; a letter is the first of a class, `-` is no answer at that time."""
    names = {name[0]: name for name in CLASSES} | {"N": "NO_DATA", "?": ""}
    truths = truth or "?" * len(labels)
    return tuple(
        Answer(n * 100_000, names[label], confidence, names[true])
        for n, (label, true) in enumerate(zip(labels, truths, strict=True))
        if label != "-"
    )


def ledger(**changes: Any) -> StreamAccounting:
    counts: dict[str, Any] = {"received": 100, "processed": 100, "superseded": 0, "dropped_late": 0, "in_flight": 0}
    counts |= {"lost_transport": 0, "rejected": {}, "state": "live"}
    return StreamAccounting(**(counts | changes))


def outcome(labels: str, truth: str = "", **changes: Any) -> Outcome:
    """An outcome of these answers, of a flight on which nothing went wrong."""
    said = answers(labels, truth)
    scored = [answer for answer in said if answer.truth]
    fields: dict[str, Any] = {
        "flight": "a.mcap",
        "flight_sha256": "f" * 64,
        "model": "demo-1",
        "bundle_sha256": "b" * 64,
        "classes": CLASSES,
        "answers": said,
        "right": {"": sum(one.label == one.truth for one in scored)} if scored else {},
        "scored": {"": len(scored)} if scored else {},
        "latency_ms": {"iq+image": {"p50": 3.0, "p99": 4.0}},
        "masked": {"iq": {}, "image": {}},
        "streams": {"radio": ledger()},
        "broken": {"I1": 0, "I2": 0},
    }
    return Outcome(**(fields | changes))


def write_flight(path: Path, seed: int, seconds: float = 0.5) -> Path:
    write_synthetic_flight(path, SyntheticFlight(seed, 0.25), seconds, lambda done: None)
    return path


def relabelled_bundle(folder: Path, version: int, **names: str) -> Path:
    """Return the shipped model with classes called otherwise: it answers otherwise, and passes its self-test."""
    bundle = open_bundle(shipped_bundle())
    spec = msgspec.structs.replace(bundle.spec, classes=tuple(names.get(one, one) for one in bundle.spec.classes))
    manifest = msgspec.structs.replace(bundle.manifest, version=version, spec=spec)
    return write_bundle(folder, manifest, bundle.contents)


def regress(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON of `uav-edge regress`, in one process at a time."""
    code = main(["regress", *map(str, arguments), "--jobs", "1", "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def fly_or_die(keep: str, task: Task) -> Result:
    """Fly as `fly_and_keep`, and die as for want of memory of a flight that is called deadly."""
    if task.flight == "deadly.mcap":
        Keep(Path(keep)).begin(task.key, task.flight)
        os.kill(os.getpid(), signal.SIGKILL)
    return fly_and_keep(keep, task)


def await_that(claim: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not claim():
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.01)  # between two looks


def children(pid: int) -> list[int]:
    """Return the direct children of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


def is_running(pid: int) -> bool:
    """Return whether a process is there and not merely waiting for someone to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
