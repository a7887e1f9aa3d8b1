"""A recorded flight flown again live: through real processes and sockets."""

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.backends.select import PrecisionChoice
from edge.clock import SystemClock
from edge.config import FlightConfig, MavlinkConfig, PipelineConfig
from edge.faults.deployment import check_links
from edge.faults.fault import check_faults
from edge.faults.injector import NO_FAULTS, FaultPlan
from edge.operations.flown import Flown
from edge.operations.keyboard import NO_TERMINAL, Keyboard
from edge.operations.killer import Killer
from edge.operations.observer import Observer
from edge.operations.playback import Playback, Program
from edge.operations.replay_keys import ReplayKeys
from edge.operations.replayed_faults import ReplayedFaults
from edge.operations.replays import judge_of
from edge.operations.supervisor import Supervisor, flight_commands
from edge.recording.laps import lap_ns
from edge.recording.player import POSE
from edge.recording.reader import Recording
from edge.recording.replay import streams_of
from edge.recording.telemetry import check_telemetry
from models.bundle import Bundle
from models.errors import ConfigError, LinkError
from models.schema import dump_yaml

START_TIMEOUT_S = 60.0
"""A PC needs a second, a busy emulated board took 24. A process that dies is noticed at once."""
PLANS_TIMEOUT_S = 150.0
"""For a pipeline that waits for its plans: a little longer than it has patience with the GPU itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveOptions:
    """How to replay through real processes."""

    rate: float = 1.0
    """Speed: 1 is real time, 0 as fast as the sockets take it, without loss; the pipeline uses the newest of each
    stream, and counts the rest as superseded."""
    laps: int | None = 1
    """How often it is flown, as one flight that goes on; None: until somebody stops it."""
    mavlink: tuple[str, ...] = ()
    """Links on which a MAVLink process publishes too; none without any."""
    autopilot: str | None = None
    """Link on which the autopilot of the recorded flight is heard, as then."""
    show: bool = False
    """Draw a live view on the terminal, and obey its keys."""
    precision: PrecisionChoice = "auto"
    """Of the graphs that fly."""
    backend: Literal["auto", "onnxruntime", "tensorrt"] = "auto"
    """Whose engines fly: see `PipelineConfig.backend`."""
    plans: Path | None = None
    """Folder of TensorRT plans; none without."""
    plan: FaultPlan = NO_FAULTS
    """Faults that befall it; with any, it is judged."""
    is_vehicle_safe: bool = False
    """Whether an autopilot that is not armed may hear of them on `mavlink`."""
    plan_options: Path | None = None
    """The YAML that they were built with; the builder's defaults without."""


def fly_live(
    recording: Recording, bundle: Bundle, options: LiveOptions, beside: Callable[[], object] = lambda: None
) -> Flown:
    """Replay through a pipeline process of its own, over sockets.

    Args:
        recording: the flight.
        bundle: the model to fly with.
        options: speed and what else takes part.
        beside: called some 20 times a second while the flight lasts.
    Raises:
        ConfigError: the recording's streams do not fit the model, or a fault does not fit them, the rate, the laps or
            the links.
        LinkError: the pipeline does not come up, or does not listen.
        DeviceError: TensorRT is to fly, and cannot.
        RecordingError: the recording cannot be played to its end.
    """
    _check(recording, options)
    with tempfile.TemporaryDirectory(prefix="uav-edge-") as folder:
        config = _deployment(recording, bundle, options, Path(folder))
        path = Path(folder) / "flight.yaml"
        path.write_bytes(dump_yaml(config))
        told = ReplayedFaults(options.plan, options.rate or 1.0, Path(folder))
        commands = flight_commands(config, path, options=("--quiet",))
        with Observer(config.results, show=options.show) as observer:
            with (
                Playback(_program(recording, config, options), observer.truths.note) as playback,
                Supervisor(told.told(commands, is_vehicle_safe=options.is_vehicle_safe)) as supervisor,
            ):
                _await_status(observer, supervisor, PLANS_TIMEOUT_S if options.plans else START_TIMEOUT_S)
                flight = _Flight(config, options, told, observer, supervisor, playback)
                flight.fly(_length_s(recording, options), beside)
                observer.drain()
                beside()
            observer.drain()
            return dataclasses.replace(observer.flown(recording.path.name), played=playback.played)


@dataclass(slots=True)
class _Flight:
    """What goes on while a recording is played."""

    _config: FlightConfig
    _options: LiveOptions
    _told: ReplayedFaults
    _observer: Observer
    _supervisor: Supervisor
    _playback: Playback
    _killer: Killer | None = None

    def fly(self, length_s: float, beside: Callable[[], object]) -> None:
        """Play to the end, or until a key ends it; `beside` is called some 20 times a second."""
        playback, observer, faults = self._playback, self._observer, self._options.plan.faults
        with Keyboard(None if self._options.show else NO_TERMINAL) as keyboard:
            keys = ReplayKeys(keyboard, playback.ask, is_timed=bool(faults), has_rate=self._options.rate > 0)
            playback.begin()
            while playback.played is None:
                playback.poll()
                if self._killer is None and playback.begin_ns is not None:
                    self._begin(playback.begin_ns)
                self._follow()
                observer.caption = keys.caption(playback.position, length_s)
                observer.poll(50)
                self._supervisor.check()
                if self._killer is not None:
                    self._killer.check()
                keys.look()
                beside()
        observer.end()

    def _begin(self, begin_ns: int) -> None:
        """Let faults that are no message's happen, and the flight be judged, from the moment when it began."""
        config, options = self._config, self._options
        rate = options.rate or 1.0
        self._told.begin(begin_ns)
        self._killer = Killer(options.plan.faults, rate, SystemClock(), self._supervisor.process_ids)
        if options.plan.faults:
            self._observer.judge = judge_of(config.streams, config.pipeline, options.plan, begin_ns, rate)
            self._observer.before_judging = self._follow

    def _follow(self) -> None:
        """Let faults and judging be later where the player has put the flight off; it says so before it sends on."""
        self._playback.poll()
        if self._killer is None:
            return
        for put_off in self._playback.take_put_offs():
            self._killer.put_off(put_off.since_ns, put_off.by_ns)
            if self._observer.judge is not None:
                self._observer.judge.put_off(put_off.since_ns, put_off.by_ns)


def _check(recording: Recording, options: LiveOptions) -> None:
    sensors = [name for name, stream in recording.streams.items() if stream.modality]
    check_faults(options.plan.faults, sensors, is_live=True)
    if options.plan.faults:
        check_links(options.mavlink, is_vehicle_safe=options.is_vehicle_safe)
    if options.plan.faults and not options.rate > 0:
        raise ConfigError("faults have times, and rate 0 has none: fly them at another rate, or --exact")
    if options.autopilot is not None:
        check_telemetry(recording)
        if not options.rate > 0:
            raise ConfigError("a link loses what comes too fast: give a --rate to replay the autopilot on it")
    if options.plan.faults and options.laps != 1:
        raise ConfigError("faults befall one flight, at its own times: fly it once, without --loop")


def _deployment(recording: Recording, bundle: Bundle, options: LiveOptions, folder: Path) -> FlightConfig:
    return FlightConfig(
        bundle=str(bundle.path.resolve()),
        streams=streams_of(recording, bundle.spec, folder),
        results=f"ipc://{folder}/results",
        pose=f"ipc://{folder}/pose",
        plans=_absolute(options.plans),
        plan_options=_absolute(options.plan_options),
        pipeline=PipelineConfig(precision=options.precision, backend=options.backend),
        mavlink=MavlinkConfig(links=options.mavlink) if options.mavlink else None,
    )


def _program(recording: Recording, config: FlightConfig, options: LiveOptions) -> Program:
    endpoints = {name: stream.endpoint for name, stream in config.streams.items()}
    return Program(
        recording=recording,
        endpoints={**endpoints, POSE: config.pose} if config.pose is not None else endpoints,
        rate=options.rate or None,
        laps=options.laps,
        plan=options.plan,
        autopilot=options.autopilot,
    )


def _length_s(recording: Recording, options: LiveOptions) -> float:
    """Return how long it lasts at 1 x; infinite where it has no end."""
    if options.laps is None:
        return math.inf
    return ((options.laps - 1) * lap_ns(recording) + recording.duration_ns) / 1e9


def _absolute(path: Path | None) -> str | None:
    """Return a path as it stands in a deployment that lies elsewhere."""
    return str(path.resolve()) if path is not None else None


def _await_status(observer: Observer, supervisor: Supervisor, patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    while observer.status is None:
        if time.monotonic() > deadline_s:
            raise LinkError(f"the pipeline says nothing after {patience_s:g} s: see its messages above")
        supervisor.check()
        observer.poll(50)
