"""A live flight that faults befall: tells the processes when it has begun, kills, and judges what was recorded."""

import logging
from pathlib import Path

import msgspec

from edge.clock import SystemClock
from edge.config import FlightConfig
from edge.faults.fault import LINK_LOSS
from edge.faults.heartbeats import Beating, judge_heartbeats
from edge.faults.injector import FaultPlan
from edge.faults.orders import write_orders
from edge.judging.recorded import judge_flight
from edge.judging.verdict import Judgement
from edge.operations.footprint import Footprint
from edge.operations.killer import Killer
from edge.operations.observer import Observer
from edge.operations.replayed_faults import with_orders
from edge.operations.replays import judge_of
from edge.operations.supervisor import PIPELINE, RECORDER, Supervisor
from edge.recording.reader import Recording, open_recording
from edge.transport.messages import Injected
from models.errors import LinkError, RecordingError

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000
START_TIMEOUT_S = 180
"""A pipeline that waits for its plans may need as long."""


class FaultyRun:
    """The faults of one flight. They begin to count when the pipeline is heard for the first time."""

    def __init__(
        self,
        config: FlightConfig,
        plan: FaultPlan,
        folder: Path,
        first: Path | None,
        *,
        is_vehicle_safe: bool = False,
    ) -> None:
        """Write the orders.

        Args:
            config: the deployment.
            plan: faults that can befall it, see `check_deployment`.
            folder: for the orders, of this flight alone.
            first: file of the recording, where there is one.
            is_vehicle_safe: whether an autopilot that is not armed may hear of the faults.
        """
        self._config = config
        self._plan = plan
        self._first = first
        self._is_vehicle_safe = is_vehicle_safe
        self._clock = SystemClock()
        self._path = folder / "faults.json"
        self._injected = Injected(faults=tuple(str(fault) for fault in plan.faults), seed=plan.seed)
        self._killer: Killer | None = None
        self._footprint: Footprint | None = None
        self._started_ns, self._begin_ns = self._clock.now_ns(), 0
        write_orders(self._path, self._injected)

    def told(self, commands: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return the commands of a flight's processes, with what those must know that faults befall."""
        told = with_orders(commands, self._path, is_vehicle_safe=self._is_vehicle_safe)
        if RECORDER in told and self._first is not None:
            told[RECORDER] += ["--out", str(self._first)]
        return told

    def check(self, observer: Observer, supervisor: Supervisor) -> float | None:
        """Begin once the pipeline is heard, and kill what is to be killed; call some 20 times a second.

        Returns:
            when the flight began, in seconds of the monotonic clock; None: not yet.
        Raises:
            LinkError: the pipeline says nothing for START_TIMEOUT_S.
        """
        if self._killer is None and observer.status is not None:
            self._begin(observer, supervisor)
        if self._killer is not None and self._footprint is not None:
            self._killer.check()
            self._footprint.look(supervisor.process_ids().get(PIPELINE), self._clock.now_ns())
        elif self._clock.now_ns() > self._started_ns + START_TIMEOUT_S * NS_PER_S:
            raise LinkError(f"the pipeline says nothing after {START_TIMEOUT_S} s: see its messages above")
        return self._begin_ns / NS_PER_S if self._begin_ns else None

    def judgement(self, observer: Observer) -> Judgement | None:
        """Return what is found of what was heard and of the recording, the worse of both; None: it never began."""
        judgement = observer.judgement()
        if judgement is None or self._footprint is None:
            return None
        recorded = self._recorded()
        judgement = judgement.worse(recorded) if recorded is not None else judgement
        self._footprint.judge(judgement.verdicts["I5"])
        if self._config.mavlink is not None:
            judge_heartbeats(self._path.parent, self._beating(observer.end_ns), judgement.verdicts["I6"])
        return judgement

    def _beating(self, end_ns: int) -> Beating:
        """Return which links must have carried heartbeats, and when."""
        links = self._config.mavlink.link_configs if self._config.mavlink is not None else ()
        losses = [fault.window_ns(self._begin_ns) for fault in self._plan.faults if fault.name == LINK_LOSS]
        return Beating(
            links=tuple(one.link for one in links), begin_ns=self._begin_ns, end_ns=end_ns, losses_ns=tuple(losses)
        )

    def _recorded(self) -> Judgement | None:
        """Return what is found of the recording; None where there is none that can be judged."""
        parts = self._parts()
        try:
            return judge_flight(parts) if parts else None
        except RecordingError as error:
            log.warning("the recording cannot be judged, only what was heard: %s", error)
            return None

    def _parts(self) -> list[Recording]:
        """Return the parts of the recording that can be read."""
        found = []
        for path in self._first.parent.glob(f"{self._first.stem}*.mcap") if self._first is not None else ():
            try:
                found.append(open_recording(path))
            except RecordingError as error:
                log.warning("not judged: %s", error)
        return found

    def _begin(self, observer: Observer, supervisor: Supervisor) -> None:
        self._begin_ns = begin_ns = self._clock.now_ns()
        write_orders(self._path, msgspec.structs.replace(self._injected, begin_ns=begin_ns))
        self._footprint = Footprint(self._plan.faults, begin_ns)
        self._killer = Killer(self._plan.faults, 1.0, self._clock, supervisor.process_ids)
        observer.judge = judge_of(self._config.streams, self._config.pipeline, self._plan, begin_ns, 1.0)
        if observer.status is not None:
            observer.judge.note_status(observer.status)
        log.warning("the flight has begun; faults will befall it: %s", ", ".join(self._injected.faults))
