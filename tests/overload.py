"""A made-up overload in virtual time: the real scheduler, and fake engines that take as long as they are told."""

import dataclasses
import heapq
from collections.abc import Callable

from flights import MS, feature_of, sensor_header

from edge.config import PipelineConfig, StreamConfig
from edge.pipeline.scheduler import Arrival, Pairing, Scheduler
from edge.pipeline.shedding import Shedder
from edge.transport.messages import Load

ORDER = ("image", "iq")
"""Frames give way first."""
SPEC_ORDER = ("iq", "image")
TICK_NS = 20 * MS


@dataclasses.dataclass(frozen=True)
class FakeStream:
    """Sends at a steady rate; its messages arrive some time after capture."""

    modality: str
    rate_hz: float
    cost_ms: float
    """Time of a fake inference that has a processor for itself."""
    delay_ms: float = 0.0
    offset_ms: float = 0.0
    """Of its captures, against the other streams'."""
    dead_from_s: float = 1e9


@dataclasses.dataclass
class Overload:
    """Streams into one engine a modality; the engines share a number of processors in equal parts."""

    streams: dict[str, FakeStream]
    processors: float = 8.0
    sheds: bool = True
    is_economical: bool = True
    heat: Callable[[float], str] = lambda _: ""
    """Time in s -> what slows the board down."""
    config: PipelineConfig = dataclasses.field(default_factory=PipelineConfig)

    def __post_init__(self) -> None:
        configs = {
            name: StreamConfig(modality=stream.modality, endpoint=f"inproc://{name}", rate_hz=stream.rate_hz)
            for name, stream in self.streams.items()
        }
        shedder = Shedder(ORDER, configs, 0, is_economical=self.is_economical) if self.sheds else None
        self.scheduler = Scheduler(SPEC_ORDER, configs, self.config, 0, shedder)
        self.answers: list[tuple[int, Pairing]] = []
        self.loads: list[tuple[int, Load]] = [(0, Load())]
        self.busy_ns = 0.0
        """Time of all processors together that inference took."""
        self.now_ns = 0.0
        self._due: list[tuple[int, int, str, int]] = []
        for n, (name, stream) in enumerate(self.streams.items()):
            heapq.heappush(self._due, (round((stream.offset_ms + stream.delay_ms) * MS), n, name, 0))
        heapq.heappush(self._due, (TICK_NS, -1, "", 0))
        self._running: dict[str, tuple[Arrival, float]] = {}
        """Modality -> what is being inferred, and the work that is left of it."""

    def fly(self, until_s: float) -> "Overload":
        """Live through it until a time."""
        end_ns = until_s * 1e9
        while self.now_ns < end_ns:
            share = min(1.0, self.processors / len(self._running)) if self._running else 1.0
            done_ns = self.now_ns + min((left for _, left in self._running.values()), default=1e18) / share
            at_ns = min(done_ns, self._due[0][0])
            self._work((at_ns - self.now_ns) * share)
            self.now_ns = at_ns
            if at_ns == done_ns:
                self._complete()
            else:
                self._happen()
            self._take()
        return self

    def shed_share(self, stream: str) -> float:
        entry = self.scheduler.accounting(int(self.now_ns))[stream]
        return entry.shed / entry.received

    def _work(self, work_ns: float) -> None:
        self._running = {name: (arrival, left - work_ns) for name, (arrival, left) in self._running.items()}
        self.busy_ns += work_ns * len(self._running)

    def _complete(self) -> None:
        modality = min(self._running, key=lambda name: self._running[name][1])
        arrival, _ = self._running.pop(modality)
        outcome = feature_of(arrival, modality, int(self.now_ns))
        self._note(self.scheduler.complete(arrival.stream, outcome, int(self.now_ns)))

    def _happen(self) -> None:
        due_ns, place, name, n = heapq.heappop(self._due)
        if not name:
            self.scheduler.note_heat(self.heat(due_ns / 1e9))
            self._note(self.scheduler.tick(due_ns))
            if self.scheduler.load != self.loads[-1][1]:
                self.loads.append((due_ns, self.scheduler.load))
            heapq.heappush(self._due, (due_ns + TICK_NS, place, "", 0))
            return
        stream = self.streams[name]
        capture_ns = due_ns - round(stream.delay_ms * MS)
        if capture_ns < stream.dead_from_s * 1e9:
            self.scheduler.receive(name, (sensor_header(n, capture_ns), b""), due_ns)
            following_ms = stream.offset_ms + stream.delay_ms + (n + 1) * 1e3 / stream.rate_hz
            heapq.heappush(self._due, (round(following_ms * MS), place, name, n + 1))

    def _take(self) -> None:
        for modality in SPEC_ORDER:
            arrival = self.scheduler.take(modality, int(self.now_ns)) if modality not in self._running else None
            if arrival is not None:
                self._running[modality] = (arrival, self.streams[arrival.stream].cost_ms * MS)

    def _note(self, pairing: Pairing | None) -> None:
        if pairing is not None:
            self.answers.append((int(self.now_ns), pairing))
