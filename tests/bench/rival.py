"""Our pipeline and the naive one in turns, in one run, on the same messages: how long, and how old under overload."""

import dataclasses
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.bench.feed import Feed, Open
from edge.bench.latency import totals_ms
from edge.bench.machine import NoiseMeter
from edge.bench.percentiles import percentile, ratio_of
from edge.bench.plan import CAMERA_RATE_HZ, QUICK, make_plan
from edge.bench.result import Ratio
from edge.bench.rig import Aircraft, Rig, Turn
from edge.bench.throughput import measure_offline
from edge.operations.supervisor import PIPELINE
from models.bundle import Bundle
from models.errors import LinkError

ROOT = Path(__file__).resolve().parent.parent.parent
OVERLOAD = 3.0
"""Times the most that the naive one can do; the same messages go to ours."""
_MAXIMUM_S = 0.9
LENGTHS = dataclasses.replace(QUICK, camera_rate_hz=CAMERA_RATE_HZ)
"""At the pace of a camera: twice as many frames are more than the naive one can do on a small board."""


class NaiveProcess:
    """Takes the place of the supervisor of our pipeline."""

    def __init__(self, bundle: Bundle, folder: str, feed: Feed, resize: str) -> None:
        streams = [f"{feed.modality.name}={feed.endpoint}"]
        self._command = [
            sys.executable,
            "-m",
            "tests.bench.naive",
            str(bundle.path),
            f"ipc://{folder}/results",
            resize,
            *streams,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "NaiveProcess":
        self._process = subprocess.Popen(self._command, cwd=ROOT)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self) -> None:
        """Raise where it has died."""
        if self._process is not None and self._process.poll() is not None:
            raise LinkError("the naive pipeline died: see its messages above")

    def process_ids(self) -> dict[str, int]:
        """Return its process under the name of ours."""
        return {PIPELINE: self._process.pid} if self._process is not None else {}

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Duel:
    """Both on one path; ratios say how many times as long the naive one takes."""

    path: str
    resize: str
    """How the naive one shrinks frames."""
    ours_p50_ms: float | None
    naive_p50_ms: float | None
    ratio: Ratio | None
    offered_per_s: float
    overload_s: float
    """For which so many were offered: answers that came later are left out, as a queue drains into them. What only
    queues is the older the longer that lasts, so ages of different lengths are never compared."""
    ours_age_ms: dict[str, float | None]
    naive_age_ms: dict[str, float | None]
    age_ratio: float | None
    """Of the p50 of ages."""


def duel(bundle: Bundle, path: str, seconds: float, resize: str = "area") -> Duel:
    """Measure both in turns of a second, then overload one after the other for half as long."""
    rigs = make_plan(bundle, frozenset({"single"}), LENGTHS).rigs
    plan = next(rig for rig in rigs if path in {feed.name for feed in rig.feeds})
    noise, taken = NoiseMeter(), []
    with ExitStack() as stack:
        both = {}
        for who in ("naive", "ours"):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="uav-edge-rival-"))
            feed = next(one for one in plan.feeds_in(folder) if one.name == path)
            rig = Rig(Aircraft(bundle=bundle, precision="fp32"), (feed,), Path(folder), noise)
            if who == "naive":
                rig._supervisor = NaiveProcess(bundle, folder, feed, resize)
            both[who] = stack.enter_context(rig)
            rig.turn(Open(names=(path,), seconds=0.5))
        for _ in range(max(1, round(seconds))):
            turns = {who: rig.turn(Open(names=(path,), seconds=1.0)) for who, rig in both.items()}
            taken.append((totals_ms(turns["naive"].answers), totals_ms(turns["ours"].answers)))
        rate_hz = OVERLOAD * measure_offline(both["naive"], path, _MAXIMUM_S).results_per_s
        order = Open(names=(path,), seconds=seconds / 2, rate_hz=rate_hz, skips=True)
        ages = {who: ages_ms(rig, rig.turn(order), path) for who, rig in both.items()}
    old, fresh = ages["naive"]["p50"], ages["ours"]["p50"]
    return Duel(
        path=path,
        resize=resize,
        ours_p50_ms=percentile((value for _, ours in taken for value in ours), 50),
        naive_p50_ms=percentile((value for naive, _ in taken for value in naive), 50),
        ratio=ratio_of(taken),
        offered_per_s=round(rate_hz, 1),
        overload_s=order.seconds,
        ours_age_ms=ages["ours"],
        naive_age_ms=ages["naive"],
        age_ratio=round(old / fresh, 2) if old and fresh else None,
    )


def ages_ms(rig: Any, turn: Turn, path: str) -> dict[str, float | None]:
    """Return how old answers were when they were made, of messages and answers that were made while the load lasted."""
    begun_ns = turn.sent.begun_ns
    end_ns = begun_ns + int(turn.order.seconds * 1e9)
    due = [(answer.answer_ns, rig.due_ns(answer, path)) for answer in turn.answers if answer.answer_ns <= end_ns]
    taken_ms = [(answer_ns - due_ns) / 1e6 for answer_ns, due_ns in due if due_ns >= begun_ns]
    return {f"p{rank}": percentile(taken_ms, rank) for rank in (50, 99)} | {"answers": len(taken_ms)}
