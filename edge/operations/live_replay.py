"""A recorded flight flown again live: through real processes and sockets."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.backends.select import PrecisionChoice
from edge.clock import SystemClock
from edge.config import FlightConfig, MavlinkConfig, PipelineConfig
from edge.faults.fault import check_faults
from edge.faults.injector import NO_FAULTS, FaultPlan
from edge.operations.flown import Flown
from edge.operations.killer import Killer
from edge.operations.observer import Observer
from edge.operations.replays import judge_of
from edge.operations.supervisor import Supervisor, flight_commands
from edge.recording.player import Played, Player
from edge.recording.reader import Recording
from edge.recording.replay import streams_of
from edge.transport.messages import Pose, Truth
from edge.transport.truths import TruthTimeline
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
    """Speed: 1 is real time, 0 as fast as the sockets take it; the pipeline uses the newest of each stream, and counts
    the rest as superseded."""
    mavlink: str | None = None
    """Link on which a MAVLink process publishes too."""
    show: bool = False
    """Draw a live view on the terminal."""
    precision: PrecisionChoice = "auto"
    """Of the graphs that fly."""
    backend: Literal["auto", "onnxruntime", "tensorrt"] = "auto"
    """Whose engines fly: see `PipelineConfig.backend`."""
    plans: Path | None = None
    """Folder of TensorRT plans; none without."""
    plan: FaultPlan = NO_FAULTS
    """Faults that befall it; with any, it is judged."""
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
        ConfigError: the recording's streams do not fit the model, or a fault does not fit them or the rate.
        LinkError: the pipeline does not come up, or does not listen.
        DeviceError: TensorRT is to fly, and cannot.
        RecordingError: the recording cannot be played to its end.
    """
    sensors = [name for name, stream in recording.streams.items() if stream.modality]
    check_faults(options.plan.faults, sensors, is_live=True)
    if options.plan.faults and not options.rate > 0:
        raise ConfigError("faults have times, and rate 0 has none: fly them at another rate, or --exact")
    with tempfile.TemporaryDirectory(prefix="uav-edge-") as folder:
        runtime, clock = Path(folder), SystemClock()
        config = FlightConfig(
            bundle=str(bundle.path.resolve()),
            streams=streams_of(recording, bundle.spec, runtime),
            results=f"ipc://{runtime}/results",
            pose=f"ipc://{runtime}/pose",
            plans=_absolute(options.plans),
            plan_options=_absolute(options.plan_options),
            pipeline=PipelineConfig(precision=options.precision, backend=options.backend),
            mavlink=MavlinkConfig(links=(options.mavlink,)) if options.mavlink is not None else None,
        )
        path = runtime / "flight.yaml"
        path.write_bytes(dump_yaml(config))
        with Observer(config.results, show=options.show) as observer:
            with Supervisor(flight_commands(config, path, options=("--quiet",))) as supervisor:
                _await_status(observer, supervisor, PLANS_TIMEOUT_S if options.plans else START_TIMEOUT_S)
                if options.plan.faults:
                    begin_ns = clock.now_ns()
                    observer.judge = judge_of(config.streams, config.pipeline, options.plan, begin_ns, options.rate)
                with _playing(recording, config, options, observer.truths) as played:
                    killer = Killer(options.plan.faults, options.rate or 1.0, clock, supervisor.process_ids)
                    while not played.done():
                        observer.poll(50)
                        supervisor.check()
                        killer.check()
                        beside()
                observer.drain()
                beside()
            observer.drain()
            return observer.flown(recording.path.name)


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


@contextmanager
def _playing(
    recording: Recording, config: FlightConfig, options: LiveOptions, truths: TruthTimeline
) -> Iterator["Future[Played]"]:
    """Play in a thread of its own; leaving early stops it, and what it raised is raised at the end."""
    endpoints = {name: stream.endpoint for name, stream in config.streams.items()}
    stop = threading.Event()
    events = options.plan.befall(recording.events(), recording.start_ns)

    def note(message: Truth | Pose) -> None:
        if isinstance(message, Truth):
            truths.note(message)

    with (
        Player(recording, endpoints, rate=options.rate or None, pose=config.pose, note=note) as player,
        ThreadPoolExecutor(1, "player") as threads,
    ):
        player.wait_for_listeners(START_TIMEOUT_S)
        played = threads.submit(player.play, stop, events)
        try:
            yield played
        finally:
            stop.set()
        played.result()
