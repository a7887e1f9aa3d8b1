"""TensorRT: engines of a bundle's plans on the GPU, each with its own execution context, stream and memory.

Only names that TensorRT 10.3, 10.16 and 11.4 all have are used (tests/test_edge_backends_api.py). Everything here
belongs to the thread that calls `open`; `edge/backends/worker.py` is that thread.

One buffer for each input and output is enough: the pipeline's own slot takes the newest message, and an engine thread
waits for its inference. So addresses are set once, and a CUDA graph of a branch stays good.
"""

import ctypes
import functools
import itertools
import logging
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.backends.cuda import GIVING_UP, MEMORY_MODES, Buffer, Cuda, MemoryMode, device_error
from edge.backends.host_part import HostPart
from edge.backends.plan_key import check_supported
from edge.backends.session import Plans
from edge.backends.trt_log import logger_of
from models.bundle import FUSION
from models.errors import DeviceError

log = logging.getLogger(__name__)

WARM_UP_RUNS = 2
"""Before a CUDA graph is captured: the first run sets up what must not be captured (github.com/NVIDIA/TensorRT issues
2603 and 3011)."""
TIMED_RUNS = 200
"""Of all graphs, to choose how memory is shared."""
CANCELLED = "the flight ended while its plans were being loaded"


def load_tensorrt() -> Any:
    """Return TensorRT's module.

    Raises:
        DeviceError: it cannot be imported, or is a version that this project does not know.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"expected TensorRT, found none ({error}): it comes with JetPack (apt install python3-libnvinfer), and is"
            " seen in a virtual environment made with --system-site-packages"
        ) from error
    check_supported("tensorrt", str(tensorrt.__version__))
    return tensorrt


def load_tensorrt_rtx() -> Any:
    """Return the module of TensorRT for RTX, which a PC has from PyPI: to check kernels with, never to fly with.

    Raises:
        DeviceError: as `load_tensorrt`.
    """
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"expected TensorRT for RTX, found none ({error}): pip install 'uav-fusion-edge[trt-check]'"
        ) from error
    check_supported("tensorrt_rtx", str(tensorrt_rtx.__version__))
    return tensorrt_rtx


@dataclass(frozen=True, kw_only=True, slots=True)
class _Port:
    """An input or output of an engine."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    dtype: type[np.generic]


class Lane:
    """The way of one graph over the GPU: engine, execution context, stream, marks in it, memory, and CUDA graph."""

    def __init__(self, trt: Any, cuda: Cuda, role: str, engine: Any) -> None:
        self.role = role
        self.buffers: dict[str, Buffer] = {}
        self.is_captured = False
        """Whether it is launched as a CUDA graph."""
        self._cuda = cuda
        self._executable: ctypes.c_void_p | None = None
        self.engine: Any = engine
        self.context: Any = cuda.call(engine.create_execution_context)
        if self.context is None:
            raise _refusal(trt, "create_execution_context", role)
        self._ports = list(_read_ports(trt, cuda, engine, self.context))
        self.stream: Any = cuda.make_stream()
        self._start: Any = cuda.make_event()
        self.event: Any = cuda.make_event()
        self._refuse: Callable[[str], DeviceError] = functools.partial(_refusal, trt, role=role)

    @property
    def inputs(self) -> dict[str, Buffer]:
        """Buffers of the inputs."""
        return {port.name: self.buffers[port.name] for port in self._ports if port.is_input}

    @property
    def outputs(self) -> dict[str, Buffer]:
        """Buffers of the outputs."""
        return {port.name: self.buffers[port.name] for port in self._ports if not port.is_input}

    def place(self, mode: MemoryMode, as_graph: bool = True) -> None:
        """Make the buffers, tell the engine where they are, and run it until it is warm; then try to capture it.

        Args:
            mode: how host and GPU share the buffers.
            as_graph: whether to capture a CUDA graph; without, every call is made anew for each inference.
        """
        context = self.context
        for port in self._ports:
            buffer = self._cuda.allocate(port.shape, port.dtype, mode, self.stream)
            self.buffers[port.name] = buffer
            if not self._cuda.call(context.set_tensor_address, port.name, buffer.address):
                raise self._refuse("set_tensor_address")
        for _ in range(WARM_UP_RUNS):
            self.enqueue()
            self._cuda.synchronize(self.stream)
        if as_graph:
            self._capture()

    def _capture(self) -> None:
        failures = []
        try:
            self._executable = self._cuda.capture(self.stream, self._launch)
        except DeviceError as error:
            failures.append(str(error))  # the text alone: see `Cuda.call`
            log.warning("%s is launched without a CUDA graph: %s", self.role, failures[0])
        self.is_captured = self._executable is not None
        try:
            self.enqueue()  # a capture that failed must not have spoiled the stream
            self._cuda.synchronize(self.stream)
            return
        except DeviceError as error:
            failures.append(str(error))
        raise DeviceError("; then ".join(failures))

    def enqueue(self) -> None:
        """Put one inference into the stream, between two marks."""
        self._cuda.record(self._start, self.stream)
        if self._executable is not None:
            self._cuda.launch(self._executable, self.stream)
        else:
            self._launch()
        self._cuda.record(self.event, self.stream)

    def wait_for(self, other: "Lane") -> None:
        """Let the stream go on when another one's last inference is done."""
        self._cuda.wait_for(self.stream, other.event)

    def is_over(self) -> bool:
        """Say whether the last inference is done."""
        return self._cuda.is_over(self.event)

    def gpu_ms(self) -> float:
        """Return how long the last inference took on the GPU, with its copies; it is over."""
        return self._cuda.elapsed_ms(self._start, self.event)

    def drain(self) -> None:
        """Wait until nothing is under way."""
        self._cuda.synchronize(self.stream)

    def drop_graph(self) -> None:
        """Let go of the CUDA graph."""
        executable, self._executable, self.is_captured = self._executable, None, False
        if executable is not None:
            self._cuda.destroy(executable)

    def drop_stream(self) -> None:
        """Let go of the stream and its marks."""
        self.stream = self._start = self.event = None

    def _launch(self) -> None:
        context, stream = self.context, self.stream
        for buffer in self.inputs.values():
            self._cuda.upload(buffer, stream)
        if not self._cuda.call(context.execute_async_v3, stream.handle):
            raise self._refuse("execute_async_v3")
        for buffer in self.outputs.values():
            self._cuda.download(buffer, stream)


class TrtDevice:
    """All of a bundle's graphs on the GPU."""

    def __init__(self, trt: Any, cuda: Cuda, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._trt = trt
        self._cuda = cuda
        self._clock_ns = clock_ns
        self._runtime: Any = None
        self._cancel = threading.Event()
        self._failures: list[str] = []
        self.lanes: dict[str, Lane] = {}
        self.mode: MemoryMode = "pinned"
        """How memory is shared, as the measurement chose."""
        self.times_ms: dict[MemoryMode, float] = {}
        """Median of all graphs, the fusion head after the branches, from writing inputs to having read outputs."""

    def open(self, plans: Plans, cancel: threading.Event | None = None) -> None:
        """Load the plans, choose how memory is shared, and be ready to run.

        Args:
            plans: of all graphs.
            cancel: where it is set nobody wants the plans any more; looked at between plans and between timed runs.
        Raises:
            DeviceError: a call failed, or it was cancelled; `close` is to be called all the same.
        """
        self._cancel = cancel or self._cancel
        self.load(plans)
        self.mode = self._fastest_mode()
        failure = ""
        try:
            self.place(self.mode)
            self.run_all()
        except DeviceError as error:
            failure = str(error)
        if failure:  # what failed first is the reason: after most errors every later call fails, too
            raise DeviceError("; ".join([*self._failures, failure]))

    def load(self, plans: Plans) -> None:
        """Load the plans; to run they need memory: see `place`.

        Raises:
            DeviceError: as `open`.
        """
        self._go_on()
        self._cuda.open()
        trt = self._trt
        runtime = self._runtime = self._make_runtime()
        for role, plan in plans.by_role.items():
            self._go_on()
            logger_of(trt).lines.clear()
            engine = self._cuda.call(runtime.deserialize_cuda_engine, plan)
            if engine is None:
                raise _refusal(trt, "deserialize_cuda_engine", role)
            self.lanes[role] = Lane(trt, self._cuda, role, engine)

    def run_all(self) -> None:
        """Run the branches side by side, and the fusion head when they are done; the host waits at the end alone."""
        fusion = self.lanes[FUSION]
        branches = [lane for lane in self.lanes.values() if lane is not fusion]
        for lane in branches:
            lane.enqueue()
        for lane in branches:
            fusion.wait_for(lane)
        fusion.enqueue()
        self._cuda.synchronize(fusion.stream)

    def place(self, mode: MemoryMode, as_graphs: bool = True) -> None:
        """Give every graph its memory, and make it ready to run: see `Lane.place`."""
        for lane in self.lanes.values():
            lane.place(mode, as_graphs)

    def displace(self) -> None:
        """Take the memory away again, whatever fails on the way."""
        for lane in self.lanes.values():
            self._failures += filter(None, (_attempt(lane.drain), _attempt(lane.drop_graph)))
            lane.buffers.clear()

    def describe(self) -> str:
        """Return what runs and how fast, in a line."""
        modes = ", ".join(f"{mode} {time_ms:.3f} ms" for mode, time_ms in self.times_ms.items())
        lanes = [
            f"{role} {lane.gpu_ms():.3f} ms{' as a CUDA graph' if lane.is_captured else ''}"
            for role, lane in self.lanes.items()
        ]
        return (
            f"TensorRT {self._trt.__version__} on {self._cuda.name}: {', '.join(lanes)}; {self.mode} memory ({modes})"
        )

    def close(self) -> None:
        """Release everything in order, whatever fails on the way."""
        lanes = list(self.lanes.values())
        for lane in lanes:
            _attempt(lane.drain)  # what is still under way uses what is released next
        for lane in lanes:
            _attempt(lane.drop_graph)
        for lane in lanes:
            lane.context = None
        for lane in lanes:
            lane.engine = None
        self._runtime = None
        for lane in lanes:
            lane.buffers.clear()
        for lane in lanes:
            lane.drop_stream()
        self.lanes.clear()
        _attempt(self._cuda.close)

    def _make_runtime(self) -> Any:
        """Return what loads plans; where TensorRT's own CUDA does not work, only its log says why."""
        failure, logger = "", logger_of(self._trt)
        logger.lines.clear()
        try:
            return self._cuda.call(self._trt.Runtime, logger)
        except DeviceError:
            failure = "; ".join(logger.lines[-3:])
            if not failure:
                raise
        raise device_error("Runtime", failure)

    def _fastest_mode(self) -> MemoryMode:
        """Measure each way to share memory that this GPU knows, and return the fastest."""
        for mode in MEMORY_MODES:
            try:
                self.place(mode)
                self.times_ms[mode] = self._time_all(mode)
            except DeviceError as error:
                self._go_on()
                self._failures.append(f"{mode} memory: {error}")
                log.warning("%s memory is not used: %s", mode, str(error))
            self.displace()
        if not self.times_ms:
            raise DeviceError("; ".join(self._failures))
        return min(self.times_ms, key=lambda mode: self.times_ms[mode])

    def _time_all(self, mode: MemoryMode) -> float:
        """Return the median time of a frame through all graphs, in ms."""
        inputs = [buffer.array for lane in self.lanes.values() for buffer in lane.inputs.values()]
        outputs = [buffer.array for lane in self.lanes.values() for buffer in lane.outputs.values()]
        host = HostPart(inputs, outputs, mode == "managed")
        marks_ns = [self._clock_ns()]
        for _ in range(TIMED_RUNS):
            self._go_on()
            host.write()
            self.run_all()
            host.read()
            marks_ns.append(self._clock_ns())
        return statistics.median(after - before for before, after in itertools.pairwise(marks_ns)) / 1e6

    def _go_on(self) -> None:
        """Raise DeviceError where nobody wants the plans any more."""
        if self._cancel.is_set():
            raise DeviceError(CANCELLED)


def _read_ports(trt: Any, cuda: Cuda, engine: Any, context: Any) -> Iterator[_Port]:
    """Yield an engine's inputs and outputs, sizes that it leaves open being 1."""
    dtypes: dict[Any, type[np.generic]] = {trt.DataType.FLOAT: np.float32, trt.DataType.UINT8: np.uint8}
    names = [str(cuda.call(engine.get_tensor_name, index)) for index in range(engine.num_io_tensors)]
    inputs = {name for name in names if cuda.call(engine.get_tensor_mode, name) == trt.TensorIOMode.INPUT}
    for name in sorted(inputs):
        shape = _sizes(cuda.call(engine.get_tensor_shape, name))
        if -1 in shape and not cuda.call(context.set_input_shape, name, tuple(abs(size) for size in shape)):
            raise _refusal(trt, "set_input_shape", name)
    for name in names:
        dtype = cuda.call(engine.get_tensor_dtype, name)
        if dtype not in dtypes:
            raise DeviceError(
                f"plan with {name} of {dtype}: expected float32 or uint8: build it of a graph that"
                " uav-calibrate check accepts"
            )
        shape = _sizes(cuda.call(context.get_tensor_shape, name))
        yield _Port(name=name, is_input=name in inputs, shape=shape, dtype=dtypes[dtype])


def _sizes(dims: Any) -> tuple[int, ...]:
    return tuple(int(dims[index]) for index in range(len(dims)))


def _attempt(step: Callable[[], None]) -> str:
    """Take a step of the release, and return why it failed; after an error none may succeed, and the rest is tried."""
    try:
        step()
    except GIVING_UP as error:
        log.warning("while the GPU was released: %s", str(error))
        return str(error)
    return ""


def _refusal(trt: Any, call: str, role: str) -> DeviceError:
    """Return the error of a call that answered no, with what TensorRT logged."""
    return device_error(call, f"{role}: {'; '.join(logger_of(trt).lines[-3:]) or 'TensorRT did not say why'}")
