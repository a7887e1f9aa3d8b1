"""Every way to share memory, with and without CUDA graphs: the same answers, and how long they take.

The host's time is from writing the inputs to having read the outputs, by its clock; the GPU's is between two marks in
the stream (CUDA events), with the copies. All of it belongs to the thread that calls it.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.backends.cuda import MEMORY_MODES, MemoryMode
from edge.backends.session import Engines, Plans
from edge.backends.trt import Lane, TrtDevice
from edge.selfcheck.gpu import Gpu
from edge.selfcheck.line import Line, judged, line_of_error
from edge.selfcheck.parity import Answers, Examples, Parity, ask, compare, difference
from models.bundle import FUSION, Precision
from models.errors import DeviceError

RUNS = 200
"""Timed, of each graph in each way."""
SAME_ANSWERS = 1e-4
"""Largest difference of a logit between two ways: the kernels are the same, and so should their sums be."""
WAYS: tuple[tuple[MemoryMode, bool], ...] = tuple(itertools.product(MEMORY_MODES, (False, True)))
"""Memory, and whether CUDA graphs are used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Medians and 90th percentiles of one graph, or of all in a row, in ms."""

    host_p50_ms: float
    host_p90_ms: float
    gpu_p50_ms: float | None
    """None for all in a row, which run in several streams."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WayResult:
    """What came of one way."""

    memory: MemoryMode
    cuda_graphs: bool
    """Whether they were asked for."""
    captured: tuple[str, ...] = ()
    """Roles that were launched as one."""
    timings: dict[str, Timing] = field(default_factory=dict)
    """By role, and `all`: the branches side by side, then the fusion head."""
    difference: float | None = None
    """Largest difference of a logit from the first way that worked."""
    failure: str = ""
    """Why it could not be had; empty where it could."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What came of the plans of one precision."""

    precisions: Mapping[str, Precision]
    """Of each role."""
    gpu_free_mib: int
    """With the plans loaded."""
    parities: list[Parity]
    ways: list[WayResult]

    @property
    def fastest(self) -> WayResult | None:
        """Return the way with the shortest time of all graphs."""
        working = [way for way in self.ways if "all" in way.timings]
        return min(working, key=lambda way: way.timings["all"].host_p50_ms, default=None)


class LaneSession:
    """A graph on the GPU for who owns the thread: write `inputs`, `run`, read `outputs`."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.inputs: dict[str, NDArray[Any]] = {name: one.array for name, one in lane.inputs.items()}
        self.outputs: dict[str, NDArray[Any]] = {name: one.array for name, one in lane.outputs.items()}

    def run(self) -> bool:
        """Infer, wait for it, and say whether the answers are finite."""
        self._lane.enqueue()
        self._lane.drain()
        return all(bool(np.isfinite(array).all()) for array in self.outputs.values())


def engines_on(device: TrtDevice, precisions: Mapping[str, Precision]) -> Engines:
    """Return the graphs of a device that has its memory."""
    sessions = {role: LaneSession(lane) for role, lane in device.lanes.items()}
    branches = {role: session for role, session in sessions.items() if role != FUSION}
    return Engines(branches=branches, fusion=sessions[FUSION], precisions=precisions)


class Measuring:
    """Plans of one precision, tried in every way; what is there by now is told at any time, as a GPU may hang."""

    def __init__(self, gpu: Gpu, plans: Plans, examples: Examples, expected: Answers) -> None:
        """Nothing is loaded yet.

        Args:
            gpu: to run on.
            plans: of one precision.
            examples: to ask.
            expected: what FP32 answers on ONNX Runtime.
        """
        self._gpu, self._plans, self._examples, self._expected = gpu, plans, examples, expected
        self._free_bytes = 0
        self._first: Answers = {}
        self._ways: list[WayResult] = []

    def run(self, step: Callable[[], None]) -> None:
        """Load the plans, and try every way; `step` is called after each.

        Raises:
            DeviceError: the plans cannot be loaded.
        """
        cuda = self._gpu.cuda()
        device = TrtDevice(self._gpu.trt, cuda)
        try:
            device.load(self._plans)
            self._free_bytes, _ = cuda.memory_bytes()
            for memory, cuda_graphs in WAYS:
                way = _try_way(device, self._plans, self._examples, (memory, cuda_graphs), self._first)
                self._ways.append(way)
                step()
        finally:
            device.close()

    def result(self) -> Measured:
        """Return what was found so far."""
        first = dict(self._first)
        return Measured(
            precisions=dict(self._plans.precisions),
            gpu_free_mib=self._free_bytes >> 20,
            parities=compare(first, self._expected, self._plans.precisions) if first else [],
            ways=list(self._ways),
        )

    def next_way(self) -> str:
        """Return which way is being tried, in words; the release, where all were."""
        return _title(*WAYS[len(self._ways)]) if len(self._ways) < len(WAYS) else "the release"


def measure(gpu: Gpu, plans: Plans, examples: Examples, expected: Answers) -> Measured:
    """Return what comes of plans: see `Measuring`."""
    measuring = Measuring(gpu, plans, examples, expected)
    measuring.run(lambda: None)
    return measuring.result()


def lines_of(name: str, measured: Measured) -> Iterator[Line]:
    """Yield what is to be said of the ways that were tried."""
    for way in measured.ways:
        title = f"{name}, {_title(way.memory, way.cuda_graphs)}"
        expected = "the answers of the other ways"
        if way.failure:
            yield line_of_error(title, expected, DeviceError(way.failure), "warning" if measured.parities else "failed")
            continue
        is_whole = not way.cuda_graphs or len(way.captured) == len(measured.precisions)
        found = f"they differ by {way.difference:.2g}, all graphs in {way.timings['all'].host_p50_ms:.3f} ms"
        yield judged(
            title,
            way.difference is not None and way.difference <= SAME_ANSWERS,
            f"{expected}, within {SAME_ANSWERS:g}",
            found if is_whole else f"{found}, of the graphs only {', '.join(way.captured) or 'none'} captured",
            "send us the report",
        )


def _title(memory: MemoryMode, cuda_graphs: bool) -> str:
    return f"{memory} memory {'with' if cuda_graphs else 'without'} CUDA graphs"


def _try_way(
    device: TrtDevice, plans: Plans, examples: Examples, way: tuple[MemoryMode, bool], first: Answers
) -> WayResult:
    """Return what comes of a way; `first` is filled with the answers of the first one that works."""
    memory, cuda_graphs = way
    try:
        device.place(memory, cuda_graphs)
        answers = ask(engines_on(device, plans.precisions), examples)
        if not first:
            first.update(answers)
        return WayResult(
            memory=memory,
            cuda_graphs=cuda_graphs,
            captured=tuple(role for role, lane in device.lanes.items() if lane.is_captured),
            timings=_timings(device, plans.precisions),
            difference=max(difference(logits, first[role]) for role, logits in answers.items()),
        )
    except DeviceError as error:
        return WayResult(memory=memory, cuda_graphs=cuda_graphs, failure=str(error))
    finally:
        device.displace()


def _timings(device: TrtDevice, precisions: Mapping[str, Precision]) -> dict[str, Timing]:
    """Return the times of each graph, and of all in a row."""
    engines = engines_on(device, precisions)
    sessions = {**engines.branches, FUSION: engines.fusion}
    found = {}
    for role, session in sessions.items():
        lane = device.lanes[role]
        inputs = [(array, np.zeros_like(array)) for array in session.inputs.values()]
        outputs = [(np.zeros_like(array), array) for array in session.outputs.values()]
        found[role] = _timed(session.run, inputs, outputs, lane.gpu_ms)
    inputs = [(array, np.zeros_like(array)) for one in engines.branches.values() for array in one.inputs.values()]
    outputs = [(np.zeros_like(array), array) for array in engines.fusion.outputs.values()]
    found["all"] = _timed(device.run_all, inputs, outputs, None)
    return found


_Copies = list[tuple[NDArray[Any], NDArray[Any]]]


def _timed(run: Callable[[], object], inputs: _Copies, outputs: _Copies, gpu_ms: Callable[[], float] | None) -> Timing:
    host_ms, on_gpu_ms = [], []
    for _ in range(RUNS):
        before_ns = time.perf_counter_ns()
        for target, source in inputs:
            np.copyto(target, source, casting="no")
        run()
        for target, source in outputs:
            np.copyto(target, source, casting="no")
        host_ms.append((time.perf_counter_ns() - before_ns) / 1e6)
        if gpu_ms is not None:
            on_gpu_ms.append(gpu_ms())
    return Timing(
        host_p50_ms=float(np.percentile(host_ms, 50)),
        host_p90_ms=float(np.percentile(host_ms, 90)),
        gpu_p50_ms=float(np.percentile(on_gpu_ms, 50)) if on_gpu_ms else None,
    )
