"""A pipeline in a process of its own, as a deployment starts it, with made-up sensors that send what they are told."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from edge.backends.select import PrecisionChoice
from edge.bench.feed import Closed, Feed, Open, Sent
from edge.bench.feeder import Feeder
from edge.bench.machine import NoiseMeter, cpu_seconds, rss_mib
from edge.config import FlightConfig, PipelineConfig
from edge.operations.board_power import PowerMeter
from edge.operations.observer import Observer
from edge.operations.supervisor import PIPELINE, Supervisor, flight_commands
from edge.transport.messages import Classification, PipelineStatus, StreamAccounting
from models.bundle import Bundle
from models.errors import LinkError
from models.schema import dump_yaml
from models.spec import IqRecipe

_START_TIMEOUT_S = 20.0
_QUIET_MS = 60
_LOOK_S = 0.02
_POWER_PERIOD_S = 0.1
_PATIENCE_PERIODS = 1e6
"""The pauses between blocks are our own: no stream is to be called silent for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Aircraft:
    """What flies: a model and who computes it."""

    bundle: Bundle
    precision: PrecisionChoice = "auto"
    plans: Path | None = None
    """Folder of TensorRT plans, which then fly; ONNX Runtime without."""
    plan_options: Path | None = None
    """The YAML that they were built with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What one order to the sensors led to."""

    order: Open | Closed
    sent: Sent
    answers: Sequence[Classification]
    """Those that a message caused since measuring began."""
    ended_ns: int
    """Until when answers were listened for."""
    cpu_s: float
    """Of the pipeline's process."""
    joules: float | None
    """Of the whole board; None where it has no power sensor."""


def flight_config(aircraft: Aircraft, feeds: Sequence[Feed], folder: Path) -> FlightConfig:
    """Return the deployment of a benchmark, with its sockets in a folder; of feeds to one stream the first counts."""
    plans, options = aircraft.plans, aircraft.plan_options
    return FlightConfig(
        bundle=str(aircraft.bundle.path.resolve()),
        plans=str(plans.resolve()) if plans is not None else None,
        plan_options=str(options.resolve()) if options is not None else None,
        streams={feed.modality.name: feed.stream for feed in reversed(feeds)},
        results=f"ipc://{folder}/results",
        pipeline=PipelineConfig(
            silent_after_periods=_PATIENCE_PERIODS,
            precision=aircraft.precision,
            backend="onnxruntime" if plans is None else "tensorrt",
        ),
    )


class Rig:
    """Pipeline, sensors and a listener; use as a context. `stop` it for the last word on every message."""

    def __init__(self, aircraft: Aircraft, feeds: Sequence[Feed], folder: Path, noise: NoiseMeter) -> None:
        """Take what flies, its streams, a folder for sockets, and a meter that runs while something is measured."""
        self.aircraft = aircraft
        self.feeds = {feed.name: feed for feed in feeds}
        self._noise = noise
        self._config = flight_config(aircraft, feeds, folder)
        self._path = folder / "flight.yaml"
        self._path.write_bytes(dump_yaml(self._config))
        self._stack = ExitStack()
        self._observer = Observer(self._config.results)
        self._supervisor = Supervisor(flight_commands(self._config, self._path, options=("--quiet",)))
        self.feeder = Feeder(tuple(feeds), self._config.results)
        self.sent = dict.fromkeys((feed.modality.name for feed in feeds), 0)
        """Messages to the pipeline so far, by stream."""

    def __enter__(self) -> "Rig":
        with self._stack:
            self._stack.enter_context(self._observer)
            self._stack.enter_context(self._supervisor)
            self._stack.enter_context(self.feeder)
            self._await_start()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def process_id(self) -> int:
        """Of the pipeline."""
        return self._supervisor.process_ids()[PIPELINE]

    @property
    def rss_mib(self) -> float:
        """Memory that the pipeline's process has in use."""
        return rss_mib(self.process_id)

    def turn(self, order: Open | Closed) -> Turn:
        """Let the sensors send, and take every answer.

        Raises:
            LinkError: a process has ended on its own.
        """
        ours = [os.getpid(), *self._supervisor.process_ids().values(), self.feeder.process_id]
        self._observer.answers.clear()
        power = PowerMeter()
        has_power = power.sample() is not None
        self._noise.start(ours)
        before_s = cpu_seconds(self.process_id)
        self.feeder.start(order)
        sampled_s = time.monotonic()
        while self.feeder.is_busy:
            self.feeder.wait(_LOOK_S)  # and not for each answer: that would take processor time from who is measured
            self._observer.poll(0)
            self._supervisor.check()
            if has_power and time.monotonic() > sampled_s + _POWER_PERIOD_S:
                sampled_s = time.monotonic()
                power.sample()
        while self._observer.poll(_QUIET_MS):
            pass
        ended_ns = time.monotonic_ns()
        cpu_s = cpu_seconds(self.process_id) - before_s
        self._noise.stop(ours)
        power.sample()
        energy = power.energy()
        if not (isinstance(order, Open) and order.is_bare):
            for name, count in self.feeder.last.messages.items():
                self.sent[self.feeds[name].modality.name] += count
        begun_ns = self.feeder.last.begun_ns
        caused = (answer for answer in self._observer.answers if "total" in answer.latency_ms)
        answers = [answer for answer in caused if answer.answer_ns >= begun_ns]
        joules = energy.total_j if energy is not None else None
        return Turn(order=order, sent=self.feeder.last, answers=answers, ended_ns=ended_ns, cpu_s=cpu_s, joules=joules)

    def idle(self, seconds: float) -> tuple[float, float | None]:
        """Leave the pipeline alone for a while.

        Returns:
            share of one core that it used; power of the whole board in W, None where it has no sensor.
        """
        power = PowerMeter()
        started_s, before_s = time.monotonic(), cpu_seconds(self.process_id)
        while time.monotonic() < started_s + seconds:
            power.sample()
            self._observer.poll(100)
        share = (cpu_seconds(self.process_id) - before_s) / (time.monotonic() - started_s)
        energy = power.energy()
        return share, energy.mean_mw / 1e3 if energy is not None else None

    def status(self) -> PipelineStatus:
        """Return what the pipeline says of itself, not before now.

        Raises:
            LinkError: it says nothing.
        """
        return self._await_status(time.monotonic_ns())

    def stop(self) -> PipelineStatus:
        """End the pipeline, and return its last word on every message.

        Raises:
            LinkError: it ended without one.
        """
        asked_ns = time.monotonic_ns()
        self._supervisor.stop()
        self._observer.drain()
        status = self._observer.status
        if status is None or status.time_ns < asked_ns:
            raise LinkError("the pipeline ended without a word: see its messages above")
        return status

    def due_ns(self, answer: Classification, name: str) -> int:
        """Return when the message of a stream that went into an answer should have been sent; 0 where none did."""
        modality = self.feeds[name].modality
        used = next((one for one in answer.modalities if one.name == modality.name and one.mask > 0), None)
        if used is None:
            return 0
        recipe = modality.recipe
        lasted_ns = int(recipe.window_samples * 1e9 / recipe.sample_rate_hz) if isinstance(recipe, IqRecipe) else 0
        return used.capture_ns + lasted_ns

    def _await_start(self) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while self._observer.status is None or self.feeder.is_busy:
            self._observer.poll(20)
            self._supervisor.check()
            if time.monotonic() > deadline_s:
                raise LinkError(f"the pipeline did not come up within {_START_TIMEOUT_S:g} s: see its messages above")

    def _await_status(self, since_ns: int) -> PipelineStatus:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while (status := self._observer.status) is None or status.time_ns < since_ns:
            self._observer.poll(20)
            self._supervisor.check()
            if time.monotonic() > deadline_s:
                raise LinkError(f"the pipeline has said nothing for {_START_TIMEOUT_S:g} s: see its messages above")
        return status


def unaccounted(sent: dict[str, int], streams: dict[str, StreamAccounting]) -> Iterator[tuple[str, int]]:
    """Yield streams of which not every message sent is received or counted as lost, with the difference."""
    for name, count in sent.items():
        missing = count - streams[name].received - streams[name].lost_transport
        if missing:
            yield name, missing
