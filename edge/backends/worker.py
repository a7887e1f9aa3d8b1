"""The one thread that owns the GPU: it takes inferences from the engine threads, and tells each when its own is done.

Branches do not wait for each other: while one is on the GPU another is put into its own stream. The thread looks at the
marks behind them rather than sleep at one of them, and sleeps where there is none.
"""

import logging
import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.backends.cuda import GIVING_UP, Cuda, MemoryMode, load_libcuda, load_pycuda
from edge.backends.session import Engines, Plans, are_finite
from edge.backends.trt import Lane, TrtDevice, load_tensorrt
from models.bundle import FUSION, Precision
from models.errors import DeviceError

log = logging.getLogger(__name__)

THREAD = "tensorrt"
RUN_TIMEOUT_S = 0.5
"""Longer than any inference; what takes longer never comes back."""
OPEN_TIMEOUT_S = 120.0
"""For loading the plans and measuring: a GPU that hangs must not keep a start waiting for ever."""
_LOOK_S = 100e-6
"""Between two looks at the marks, while something is on the GPU."""


@dataclass(slots=True)
class _Job:
    role: str
    error: str = ""
    is_over: threading.Event = field(default_factory=threading.Event)

    def finish(self, error: str = "") -> None:
        """Let go of who waits for it."""
        self.error = error
        self.is_over.set()


class TrtSession:
    """One graph on the GPU. Its arrays are memory that the GPU reads and writes: see `TrtWorker.close`.

    Managed memory makes an exception: on a Jetson the CPU must not touch it while the GPU is at work, not even to save
    the inputs of an inference that hangs. There the inputs are the host's own, and copied when the GPU is idle.
    """

    def __init__(self, worker: "TrtWorker", lane: Lane, mode: MemoryMode) -> None:
        self._worker = worker
        self._role = lane.role
        self.inputs: dict[str, NDArray[Any]] = {name: buffer.array for name, buffer in lane.inputs.items()}
        self.outputs: dict[str, NDArray[Any]] = {name: buffer.array for name, buffer in lane.outputs.items()}
        self._managed: dict[str, NDArray[Any]] = {}
        if mode == "managed":
            self._managed = self.inputs
            self.inputs = {name: np.zeros_like(array) for name, array in self._managed.items()}

    def run(self) -> bool:
        """Infer from `inputs` into `outputs`, and say whether these are finite.

        Raises:
            DeviceError: a call failed, or no answer came in time; it will not get better.
        """
        for name, array in self._managed.items():
            np.copyto(array, self.inputs[name], casting="no")
        self._worker.infer(self._role)
        return are_finite(self.outputs.values())

    def clear(self) -> None:
        """Let go of the arrays."""
        for arrays in (self.inputs, self.outputs, self._managed):
            arrays.clear()


class TrtWorker:
    """A bundle's plans, loaded and running in a thread of their own."""

    def __init__(
        self,
        device: TrtDevice,
        plans: Plans,
        run_timeout_s: float = RUN_TIMEOUT_S,
        cancel: threading.Event | None = None,
    ) -> None:
        """Load the plans, and wait until they run; their bytes are not kept.

        Raises:
            DeviceError: they do not, or `cancel` was set meanwhile; everything is released again.
        """
        self._device = device
        self._cancel = cancel
        self._plans: Plans | None = plans  # not an argument of the thread, which would keep it to its end
        self._run_timeout_s = run_timeout_s
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_closing = threading.Event()
        self._is_open = threading.Event()
        self._failure = "the thread that owns the GPU has ended: see the log"
        self._sessions: dict[str, TrtSession] = {}
        self.description = ""
        """What runs and how fast, in a line."""
        self._thread = threading.Thread(target=self._live, name=THREAD, daemon=True)
        self._thread.start()
        if not self._is_open.wait(OPEN_TIMEOUT_S):
            self.close()
            raise DeviceError(f"the GPU was not ready within {OPEN_TIMEOUT_S:g} s: look at dmesg, and start again")
        if self._failure:
            raise DeviceError(self._failure)
        self._precisions = plans.precisions

    def engines(self) -> Engines:
        """Return the graphs as the pipeline wants them."""
        precisions: Mapping[str, Precision] = self._precisions
        branches = {role: session for role, session in self._sessions.items() if role != FUSION}
        return Engines(branches=branches, fusion=self._sessions[FUSION], precisions=precisions)

    def infer(self, role: str) -> None:
        """Run one graph, and wait until it is done.

        Raises:
            DeviceError: as `TrtSession.run`.
        """
        job = _Job(role)
        if self._is_closing.is_set():
            raise DeviceError(f"{role}: the GPU was given back: start again")
        self._jobs.put(job)
        if not job.is_over.wait(self._run_timeout_s):
            raise DeviceError(
                f"{role}: no answer from the GPU within {self._run_timeout_s:g} s: look at dmesg and the GPU's"
                " temperature, and start again"
            )
        if job.error:
            raise DeviceError(job.error)

    def close(self, wait_s: float = 0.0) -> None:
        """Have everything released; from now on nobody may touch the sessions' arrays.

        Args:
            wait_s: how long to wait for it; a GPU that hangs never ends.
        """
        self._is_closing.set()
        self._jobs.put(None)
        self._thread.join(wait_s)

    def _live(self) -> None:
        """Be the thread."""
        try:
            if self._open():
                self._serve()
            for session in self._sessions.values():  # the memory goes with its last array, which must be in here
                session.clear()
            self._device.close()
        finally:
            self._is_open.set()

    def _open(self) -> bool:
        """Load the plans; say whether they run."""
        plans, self._plans = self._plans, None
        try:
            if plans is not None:
                self._device.open(plans, self._cancel)
            self._sessions = {
                role: TrtSession(self, lane, self._device.mode) for role, lane in self._device.lanes.items()
            }
            self.description = self._device.describe()
        except GIVING_UP as error:
            self._failure = _reason(error)
            return False
        self._failure = ""
        self._is_open.set()
        return True

    def _serve(self) -> None:
        """Run what comes until it is enough; after a failure every further job is told of it."""
        flying: list[_Job] = []
        failure = ""
        while not self._is_closing.is_set():
            try:
                job = self._jobs.get(timeout=_LOOK_S if flying else None)
            except queue.Empty:
                job = None
            if job is not None:
                flying.append(job)
            try:
                if failure:
                    raise DeviceError(failure)
                if job is not None:
                    self._device.lanes[job.role].enqueue()
                flying = [one for one in flying if not self._finish(one)]
            except GIVING_UP as error:
                failure = _reason(error)
                for one in flying:
                    one.finish(failure)
                flying = []

    def _finish(self, job: _Job) -> bool:
        """Let go of who waits for a job that is done; say whether it is."""
        is_over = self._device.lanes[job.role].is_over()
        if is_over:
            job.finish()
        return is_over


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, DeviceError) else f"unforeseen on the GPU: {error!r}: report it"


def open_tensorrt(plans: Plans, cancel: threading.Event | None = None) -> TrtWorker:
    """Load plans into this machine's GPU.

    Raises:
        DeviceError: TensorRT, pycuda or the GPU is not to be had, a call fails, or `cancel` was set meanwhile.
    """
    trt, driver, libcuda = load_tensorrt(), load_pycuda(), load_libcuda()
    return TrtWorker(TrtDevice(trt, Cuda(driver, libcuda)), plans, cancel=cancel)
