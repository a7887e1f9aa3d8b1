"""One path of a benchmark: real sources, the real pipeline, and its floor, in turns."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.backends.select import PrecisionChoice
from edge.config import FlightConfig, PipelineConfig
from edge.operations.bench_feed import Feed, Feeder, payloads
from edge.operations.bench_floor import Floor
from edge.operations.bench_machine import NoiseMeter
from edge.operations.bench_statistics import MIN_SAMPLES, missing_samples, percentile
from edge.operations.observer import Observer
from edge.operations.supervisor import Supervisor, flight_commands
from edge.transport.messages import Classification, StreamAccounting
from models.bundle import Bundle
from models.errors import LinkError
from models.schema import dump_yaml
from models.spec import ModalitySpec

WARM_UP_ANSWERS = 50
FLOOR_SHARE = 0.45
"""Time for the floor, relative to the time for its path."""
_BLOCK_S = 1.5
_TOP_UP_S = 2.0
_START_TIMEOUT_S = 20.0
_QUIET_MS = 60
_PATIENCE_PERIODS = 1e6
"""The pauses between blocks are our own: no stream is to be called silent for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PathPlan:
    """What to measure: streams that feed the pipeline together, and for how long."""

    name: str
    streams: tuple[tuple[ModalitySpec, float], ...]
    """Modalities with their rates in Hz; the first one causes the answers."""
    seconds: float
    """Of measuring, after the warm-up, without the floor."""
    precision: PrecisionChoice = "auto"
    """Of the graphs, of path and floor alike."""

    @property
    def blocks(self) -> int:
        """Turns that path and floor take."""
        return max(1, round(self.seconds / _BLOCK_S))


class PathRun:
    """Runs a plan once."""

    def __init__(self, bundle: Bundle, plan: PathPlan, folder: Path, noise: NoiseMeter) -> None:
        """Take the model, the plan, a folder for sockets, and a meter that runs while the path is measured."""
        self._bundle = bundle
        self._plan = plan
        self._noise = noise
        self._feeds = [
            Feed(name=modality.name, modality=modality, rate_hz=rate_hz, folder=str(folder))
            for modality, rate_hz in plan.streams
        ]
        self._config = FlightConfig(
            bundle=str(bundle.path.resolve()),
            streams={feed.name: feed.stream for feed in self._feeds},
            results=f"ipc://{folder}/results",
            pipeline=PipelineConfig(silent_after_periods=_PATIENCE_PERIODS, precision=plan.precision),
        )
        self._path = folder / "flight.yaml"
        self._path.write_bytes(dump_yaml(self._config))
        self._answers: list[Classification] = []
        self._floor: Floor | None = None
        self.streams: dict[str, StreamAccounting] = {}
        """The pipeline's last word on every message."""
        self.precisions: dict[str, str] = {}
        """Of the graphs that it flew."""

    def blocks(self) -> Iterator[int]:
        """Measure; yield the number of blocks done after each.

        Raises:
            LinkError: the pipeline or a source does not come up.
        """
        plan = self._plan
        has_floor = len(self._feeds) == 1
        with ExitStack() as stack:
            observer = stack.enter_context(Observer(self._config.results))
            supervisor = stack.enter_context(Supervisor(flight_commands(self._config, self._path)))
            feeders = [stack.enter_context(Feeder(feed)) for feed in self._feeds]
            floor = (
                stack.enter_context(Floor(self._bundle, self._feeds[0], self._plan.precision)) if has_floor else None
            )
            self._await_start(observer, supervisor, feeders)
            self._fly(observer, supervisor, feeders, (WARM_UP_ANSWERS + 10) / self._feeds[0].rate_hz)
            observer.answers.clear()
            for done in range(1, plan.blocks + 1):
                if floor is not None:
                    floor.measure(feeders[0], plan.seconds / plan.blocks * FLOOR_SHARE)
                self._fly(observer, supervisor, feeders, plan.seconds / plan.blocks)
                yield done
            self._top_up(observer, supervisor, feeders)
            supervisor.stop()
            observer.drain()
            self._floor = floor
        self._answers = _timed(observer)
        if observer.status is not None:
            self.streams, self.precisions = observer.status.streams, observer.status.precisions

    def figures(self) -> dict[str, Any]:
        """Return percentiles, floor and ratio as plain data; what too few samples support is null."""
        totals = [answer.latency_ms["total"] for answer in self._answers]
        figures: dict[str, Any] = {f"p{rank}_ms": percentile(totals, rank) for rank in (50, 90, 99)}
        figures |= _floor_figures(figures["p50_ms"], self._floor) if self._floor is not None else {}
        stages = self._answers[0].latency_ms if self._answers else {}
        figures["stages_ms"] = {
            stage: percentile((answer.latency_ms[stage] for answer in self._answers), 50)
            for stage in stages
            if stage != "total"
        }
        figures["samples"] = len(totals)
        figures["too_few_for"] = missing_samples(len(totals))
        figures["streams"] = {
            feed.name: {
                "rate_hz": feed.rate_hz,
                "message_bytes": payloads(feed.modality.recipe, feed.rate_hz)[0].nbytes,
            }
            for feed in self._feeds
        }
        return figures

    def _await_start(self, observer: Observer, supervisor: Supervisor, feeders: list[Feeder]) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while observer.status is None or any(feeder.is_busy for feeder in feeders):
            observer.poll(20)
            supervisor.check()
            if time.monotonic() > deadline_s:
                raise LinkError(f"the pipeline did not come up within {_START_TIMEOUT_S:g} s: see its messages above")

    def _top_up(self, observer: Observer, supervisor: Supervisor, feeders: list[Feeder]) -> None:
        """Fly a little longer where only a few answers lack for a p99: a busy machine supersedes some messages."""
        rate_hz = self._feeds[0].rate_hz
        missing = MIN_SAMPLES[99] - len(_timed(observer))
        if 0 < missing < _TOP_UP_S * rate_hz <= self._plan.seconds * rate_hz / 2:
            self._fly(observer, supervisor, feeders, min(1.5 * missing / rate_hz + 0.1, _TOP_UP_S))

    def _fly(self, observer: Observer, supervisor: Supervisor, feeders: list[Feeder], seconds: float) -> None:
        """Send for a while, and take every answer."""
        ours = [os.getpid(), *supervisor.process_ids().values(), *(feeder.process_id for feeder in feeders)]
        self._noise.start(ours)
        for feeder in feeders:
            feeder.start(seconds)
        while any(feeder.is_busy for feeder in feeders):
            observer.poll(20)
            supervisor.check()
        while observer.poll(_QUIET_MS):
            pass
        self._noise.stop(ours)


def _timed(observer: Observer) -> list[Classification]:
    """Return the answers that a message caused."""
    return [answer for answer in observer.answers if "total" in answer.latency_ms]


def _floor_figures(p50_ms: float | None, floor: Floor) -> dict[str, Any]:
    """Return both floors and the ratios to them; null where there are too few samples."""
    paced, hot = floor.paced_ms(), floor.hot_ms()
    floor_ms = paced.pop("total")
    parts = [paced["transport"], *hot.values()]
    known = [value for value in parts if value is not None]
    hot_floor_ms = round(sum(known), 4) if len(known) == len(parts) else None
    return {
        "floor_ms": floor_ms,
        "ratio": round(p50_ms / floor_ms, 3) if p50_ms and floor_ms else None,
        "floor_parts_ms": paced,
        "hot_floor_ms": hot_floor_ms,
        "hot_ratio": round(p50_ms / hot_floor_ms, 3) if p50_ms and hot_floor_ms else None,
        "hot_parts_ms": hot,
    }
