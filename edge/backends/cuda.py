"""CUDA by pycuda, and CUDA graphs, which pycuda lacks, by ctypes: all that the TensorRT backend asks of the device.

pycuda and the driver's library are handed in, so that a fake can take their place. What they raise comes out as a
DeviceError that names the call and what to do. One thread opens the device, makes all calls, and closes it: pycuda
keeps a stack of contexts for each thread, and does not release what another thread drops.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import DeviceError, OnboardError

MemoryMode = Literal["pinned", "mapped", "managed"]
"""pinned: host memory is copied to and from the GPU's. mapped: the GPU reads and writes the host's own memory, no copy;
on a Jetson both share the same chips. managed: the driver moves pages as they are touched."""
MEMORY_MODES: tuple[MemoryMode, ...] = ("pinned", "mapped", "managed")

UNFORESEEN: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    BufferError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)
"""What native libraries on an unknown machine may raise, or make us raise; a thread that dies of it ends the flight."""
GIVING_UP: tuple[type[Exception], ...] = (OnboardError, *UNFORESEEN)
"""After which the flight goes on without the GPU."""

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: a stream that does not wait for the legacy default stream, nor it for the stream."""
_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may use CUDA meanwhile; the default mode breaks their calls with
error 906 (github.com/roboflow/inference/pull/2866, seen on a Jetson)."""
_REMEDIES = {
    "no cuda-capable device": "run on a machine with an NVIDIA GPU, and give a container access to it",
    "insufficient": "the driver is older than this CUDA: install the one that belongs to it",
    "initialization failure with error: 35": "the driver is older than TensorRT's CUDA: install a newer one",
    "outofmemory": "the GPU's memory is taken: end other programs on it, or fly a smaller model",
    "out of memory": "the GPU's memory is taken: end other programs on it, or fly a smaller model",
    "not enough memory": "the GPU's memory is taken: end other programs on it, or fly a smaller model",
    "illegal": "the GPU's state is lost until this process ends: rebuild the plan, and report it if it comes again",
    "launch": "the GPU's state is lost until this process ends: look at dmesg for its reason",
}
"""By a part of what CUDA says."""
_OTHERWISE = "look at dmesg for the GPU's own message, and rebuild the plan with uav-calibrate build"


def load_pycuda() -> Any:
    """Return pycuda's driver module.

    Raises:
        DeviceError: it cannot be imported.
    """
    try:
        import pycuda.driver
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"expected pycuda, found none ({error}): on a Jetson put /usr/local/cuda/bin on PATH, set"
            " CUDA_ROOT=/usr/local/cuda, and pip install 'uav-fusion-edge[jetson]'"
        ) from error
    return pycuda.driver


def cuda_of_pycuda(driver: Any) -> str:
    """Return the version of CUDA that pycuda was built for, such as 12.6.0."""
    return ".".join(str(part) for part in driver.get_version())


def load_libcuda() -> Any:
    """Return the driver's library with the types of the functions that CUDA graphs need.

    Raises:
        DeviceError: it is absent, or older than CUDA 11.4.
    """
    handle, to_handle = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
    try:
        libcuda = ctypes.CDLL("libcuda.so.1")
        libcuda.cuStreamBeginCapture_v2.argtypes = [handle, ctypes.c_int]
        libcuda.cuStreamEndCapture.argtypes = [handle, to_handle]
        libcuda.cuGraphInstantiateWithFlags.argtypes = [to_handle, handle, ctypes.c_ulonglong]
        libcuda.cuGraphLaunch.argtypes = [handle, handle]
        libcuda.cuGraphExecDestroy.argtypes = [handle]
        libcuda.cuGraphDestroy.argtypes = [handle]
        libcuda.cuGetErrorName.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    except (OSError, AttributeError) as error:
        raise DeviceError(
            f"expected a CUDA driver of 11.4 or later, found none ({error}): install the NVIDIA driver of this machine"
        ) from error
    return libcuda


@dataclass(frozen=True, kw_only=True, slots=True)
class Buffer:
    """Memory for one input or output of an engine."""

    array: NDArray[Any]
    """What the host reads and writes."""
    address: int
    """What the GPU reads and writes."""
    allocation: Any
    """The GPU's own memory, which the host's is copied to or from; None where it needs no copy."""


class Cuda:
    """The first GPU and its primary context, which others in this process may share."""

    def __init__(self, driver: Any, libcuda: Any) -> None:
        self._driver = driver
        self._libcuda = libcuda
        self._cuda_context: Any = None
        self.name = ""
        """What the GPU calls itself, once it is open."""

    def open(self) -> None:
        """Take the first GPU for this thread.

        Raises:
            DeviceError: there is none, or the driver does not work.
        """
        driver = self._driver
        self.call(driver.init)
        if not self.call(driver.Device.count):
            raise DeviceError("expected an NVIDIA GPU, found none: run on a machine with one")
        device = self.call(driver.Device, 0)
        self.name = str(self.call(device.name))
        cuda_context = self.call(device.retain_primary_context)
        self.call(cuda_context.push)
        self._cuda_context = cuda_context

    def close(self) -> None:
        """Give the GPU back; everything made on it has been dropped before."""
        cuda_context, self._cuda_context = self._cuda_context, None
        if cuda_context is not None:
            self.call(self._driver.Context.pop)
            self.call(cuda_context.detach)

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return what a function of pycuda or TensorRT does.

        Raises:
            DeviceError: it raised; the message names it and says what to do.
        """
        failure = ""
        try:
            return function(*args, **options)
        except (self._driver.Error, *UNFORESEEN) as error:
            failure = " ".join(str(error).split()) or type(error).__name__
        raise device_error(function.__name__, failure)  # out here: a traceback would keep objects of the GPU alive

    def memory_bytes(self) -> tuple[int, int]:
        """Return how much memory of the GPU is free, and how much it has; on a Jetson it is the host's, too."""
        free, total = self.call(self._driver.mem_get_info)
        return int(free), int(total)

    def make_stream(self) -> Any:
        """Return a queue of work."""
        return self.call(self._driver.Stream, _NON_BLOCKING)

    def make_event(self) -> Any:
        """Return a mark in a queue of work, with its time; who waits for it sleeps."""
        return self.call(self._driver.Event, self._driver.event_flags.BLOCKING_SYNC)

    def synchronize(self, stream: Any) -> None:
        """Wait until all work of a stream is done."""
        self.call(stream.synchronize)

    def record(self, event: Any, stream: Any) -> None:
        """Put a mark after the work that a stream has by now."""
        self.call(event.record, stream)

    def is_over(self, event: Any) -> bool:
        """Say whether the work before a mark is done."""
        return bool(self.call(event.query))

    def wait_for(self, stream: Any, event: Any) -> None:
        """Let a stream go on when the work before another stream's mark is done; the host goes on at once."""
        self.call(stream.wait_for_event, event)

    def elapsed_ms(self, start: Any, event: Any) -> float:
        """Return the GPU's time between two marks that are over, in ms."""
        return float(self.call(event.time_since, start))

    def allocate(self, shape: tuple[int, ...], dtype: type[np.generic], mode: MemoryMode, stream: Any) -> Buffer:
        """Return zeroed memory that host and GPU see.

        Args:
            shape: of the array.
            dtype: of the array.
            mode: how the GPU comes to it.
            stream: the only one that will use it.
        Raises:
            DeviceError: there is not enough, or this GPU does not know the mode.
        """
        driver, allocation = self._driver, None
        if mode == "managed":
            array = self.call(driver.managed_empty, shape, dtype, mem_flags=driver.mem_attach_flags.GLOBAL)
            managed = array.base
            # A Jetson's CPU must not touch managed memory while any kernel runs, unless it belongs to one stream.
            self.call(managed.attach, driver.mem_attach_flags.SINGLE, stream)
            self.synchronize(stream)
            address = int(self.call(managed.get_device_pointer))
        elif mode == "mapped":
            array = self.call(driver.pagelocked_empty, shape, dtype, mem_flags=driver.host_alloc_flags.DEVICEMAP)
            mapped = array.base
            address = int(self.call(mapped.get_device_pointer))
        else:
            array = self.call(driver.pagelocked_empty, shape, dtype)
            allocation = self.call(driver.mem_alloc, array.nbytes)
            address = int(allocation)
        array[...] = 0
        return Buffer(array=array, address=address, allocation=allocation)

    def upload(self, buffer: Buffer, stream: Any) -> None:
        """Put a buffer's way to the GPU into a stream; nothing where both see the same memory."""
        if buffer.allocation is not None:
            self.call(self._driver.memcpy_htod_async, buffer.allocation, buffer.array, stream)

    def download(self, buffer: Buffer, stream: Any) -> None:
        """Put a buffer's way to the host into a stream; nothing where both see the same memory."""
        if buffer.allocation is not None:
            self.call(self._driver.memcpy_dtoh_async, buffer.array, buffer.allocation, stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> ctypes.c_void_p:
        """Return a CUDA graph of what `work` puts into a stream, ready to be launched; nothing is carried out.

        Raises:
            DeviceError: the work cannot be captured; the stream is as it was.
        """
        libcuda, graph, executable = self._libcuda, ctypes.c_void_p(), ctypes.c_void_p()
        self._ask(libcuda.cuStreamBeginCapture_v2, stream.handle, _THREAD_LOCAL)
        is_whole = False
        try:
            work()
            is_whole = True
        finally:  # without its end the stream takes no more work
            ended = libcuda.cuStreamEndCapture(stream.handle, ctypes.byref(graph))
            if graph.value and not (is_whole and ended == 0):
                libcuda.cuGraphDestroy(graph)
        self._check(libcuda.cuStreamEndCapture, ended)
        made = libcuda.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0)
        dropped = libcuda.cuGraphDestroy(graph)
        if dropped and not made:
            libcuda.cuGraphExecDestroy(executable)
        self._check(libcuda.cuGraphInstantiateWithFlags, made)
        self._check(libcuda.cuGraphDestroy, dropped)
        return executable

    def launch(self, executable: ctypes.c_void_p, stream: Any) -> None:
        """Put all work of a CUDA graph into a stream."""
        self._ask(self._libcuda.cuGraphLaunch, executable, stream.handle)

    def destroy(self, executable: ctypes.c_void_p) -> None:
        """Drop a CUDA graph."""
        self._ask(self._libcuda.cuGraphExecDestroy, executable)

    def _ask(self, function: Callable[..., int], *args: Any) -> None:
        """Call a function of the driver's library; raise DeviceError where it answers with an error."""
        self._check(function, function(*args))

    def _check(self, function: Callable[..., int], code: int) -> None:
        if code:
            text = ctypes.c_char_p()
            self._libcuda.cuGetErrorName(code, ctypes.byref(text))
            raise device_error(function.__name__, f"{(text.value or b'unknown error').decode()} ({code})")


def device_error(call: str, failure: str) -> DeviceError:
    """Return the error of a call that failed, with what to do about it."""
    said = failure.lower().replace("_", " ")
    remedy = next((remedy for part, remedy in _REMEDIES.items() if part in said), _OTHERWISE)
    return DeviceError(f"{call} failed: {failure}: {remedy}")
