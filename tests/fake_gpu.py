"""A recording fake of a GPU: the part of pycuda and libcuda that the backend touches, and nothing more.

tests/test_edge_backends_api.py holds its names and parameters to the real bindings'. Work is put into streams and done
later, as on a GPU: a result that is read too early is not there yet. Every call is recorded and may be made to fail.
A call from any thread but the one that opened the device is a violation, and so is a use of memory given back, and a
flag that is missing where a real GPU would do harm without it, if not on every machine.
"""

import ctypes
import itertools
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
from fake_tensorrt import Model, Owned, fake_tensorrt, module_of

DEVICEMAP, SINGLE, NON_BLOCKING, THREAD_LOCAL = 2, 4, 1, 1
"""Flags, with their values in cuda.h."""


class Error(Exception):
    """What pycuda raises."""


@dataclass
class Gpu:
    """The fake; `driver`, `libcuda` and `tensorrt` are what the backend is given."""

    models: dict[bytes, Model]
    fails_at: Callable[[str, int], bool] = lambda call, number: False
    """Whether a call fails, by its name and how many calls came before it."""
    raises: bool = False
    """Whether TensorRT raises where it fails, instead of answering no."""
    memory_bytes: int = 8 << 30
    """How much there is."""
    held: set[int] = field(default_factory=set)
    """Handles of streams whose work is not done while they are in here."""
    calls: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.numbers = itertools.count(0x1000, 0x1000)
        self.memory: dict[int, np.ndarray] = {}
        self.streams: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.executables: dict[int, list[Callable[[], None]]] = {}
        self.alive: list[str] = []
        self.owner: int | None = None
        self.driver = fake_driver(self)
        self.libcuda = LibCuda(self)
        self.tensorrt = fake_tensorrt(self)

    def fails(self, call: str) -> bool:
        """Record a call, and say whether it is to fail."""
        if self.owner is None:
            self.owner = threading.get_ident()
        if threading.get_ident() != self.owner:
            self.violations.append(f"{call} from {threading.current_thread().name}")
        self.calls.append(call)
        return self.fails_at(call, len(self.calls) - 1)

    def check(self, call: str) -> None:
        """Record a call of pycuda, and raise where it is to fail."""
        if self.fails(call):
            raise Error("an illegal memory access was encountered")

    def refuses(self, call: str) -> bool:
        """Record a call of TensorRT; where it is to fail raise, or say so."""
        is_failing = self.fails(call)
        if is_failing and self.raises:
            raise RuntimeError(f"{call} raised")
        return is_failing

    def touch(self, address: int) -> np.ndarray:
        """Return the memory at an address, as bytes."""
        if address not in self.memory:
            self.violations.append(f"use of memory at {address:#x}, which was given back")
            return np.zeros(1 << 20, np.uint8)
        return self.memory[address]


def fake_driver(gpu: Gpu) -> ModuleType:
    """Return what stands for pycuda.driver."""

    def init(flags=0):
        gpu.check("init")

    return module_of(
        "pycuda.driver",
        Error=Error,
        Stream=named("Stream", lambda flags=0: Stream(gpu, flags)),
        Event=named("Event", lambda flags=0: Event(gpu, flags)),
        event_flags=SimpleNamespace(BLOCKING_SYNC=1),
        host_alloc_flags=SimpleNamespace(DEVICEMAP=DEVICEMAP),
        mem_attach_flags=SimpleNamespace(GLOBAL=1, SINGLE=SINGLE),
        init=init,
        get_version=lambda: (13, 0, 0),
        **fake_device(gpu),
        **fake_memory(gpu),
    )


def fake_device(gpu):
    """Return the classes of the GPU and its context, by name."""

    class Device:
        def __init__(self, number):
            gpu.check("Device")

        @staticmethod
        def count():
            gpu.check("count")
            return 1

        def name(self):
            gpu.check("name")
            return "Fake GPU"

        def retain_primary_context(self):
            gpu.check("retain_primary_context")
            return Context()

    class Context(Owned):
        def __init__(self):
            super().__init__(gpu)

        def push(self):
            gpu.check("push")

        @staticmethod
        def pop():
            gpu.released.append("pop")
            gpu.check("pop")

        def detach(self):
            gpu.released.append("detach")
            try:
                gpu.check("detach")
            finally:
                gpu.owner = None  # given back: whichever thread opens it next owns it

    return {"Device": Device, "Context": Context}


def fake_memory(gpu):
    """Return the functions that make memory and copy it, by name."""

    def mem_alloc(size):
        gpu.check("mem_alloc")
        return DeviceAllocation(gpu, size)

    def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
        gpu.check("pagelocked_empty")
        return np.asarray(PagelockedHostAllocation(gpu, shape, dtype, mem_flags))

    def managed_empty(shape, dtype, order="C", mem_flags=0):
        gpu.check("managed_empty")
        return np.asarray(ManagedAllocation(gpu, shape, dtype))

    def mem_get_info():
        gpu.check("mem_get_info")
        return gpu.memory_bytes - sum(memory.nbytes for memory in gpu.memory.values()), gpu.memory_bytes

    def memcpy_htod_async(dest, src, stream=None):
        gpu.check("memcpy_htod_async")
        address, source = int(dest), src  # the array is kept by the queue, its content is read when its turn comes
        stream.put(lambda: np.copyto(gpu.touch(address)[: source.nbytes], source.reshape(-1).view(np.uint8)))

    def memcpy_dtoh_async(dest, src, stream=None):
        gpu.check("memcpy_dtoh_async")
        address, target = int(src), weakref.ref(dest.base)

        def copy():
            array = np.asarray(target())
            array.reshape(-1).view(np.uint8)[...] = gpu.touch(address)[: array.nbytes]

        stream.put(copy)

    functions = (mem_alloc, pagelocked_empty, managed_empty, mem_get_info, memcpy_htod_async, memcpy_dtoh_async)
    return {function.__name__: function for function in functions}


def named(name, function):
    """Return a function under the name that the real one has."""
    function.__name__ = name
    return function


class DeviceAllocation(Owned):
    def __init__(self, gpu, size):
        super().__init__(gpu)
        self._address = next(gpu.numbers) << 20
        gpu.memory[self._address] = np.zeros(size, np.uint8)
        weakref.finalize(self, gpu.memory.pop, self._address)

    def __int__(self):
        return self._address


class HostAllocation(Owned):
    """Memory of the host that numpy sees, and the GPU too."""

    def __init__(self, gpu, shape, dtype):
        super().__init__(gpu)
        self._gpu = gpu
        self._array = np.empty(shape, dtype)
        self._address = next(gpu.numbers) << 20
        self.__array_interface__ = self._array.__array_interface__
        gpu.memory[self._address] = self._array.reshape(-1).view(np.uint8)
        weakref.finalize(self, gpu.memory.pop, self._address)

    def get_device_pointer(self):
        self._gpu.check("get_device_pointer")
        return self._address


class PagelockedHostAllocation(HostAllocation):
    def __init__(self, gpu, shape, dtype, mem_flags):
        super().__init__(gpu, shape, dtype)
        self._is_mapped = mem_flags == DEVICEMAP

    def get_device_pointer(self):
        if not self._is_mapped:
            self._gpu.violations.append("an address on the GPU of memory that is not mapped there")
        return super().get_device_pointer()


class ManagedAllocation(HostAllocation):
    """As on a Jetson: the host may touch it only when it has become the own of one stream."""

    def __init__(self, gpu, shape, dtype):
        super().__init__(gpu, shape, dtype)
        self._owners = []

    def attach(self, mem_flags, stream=None):
        self._gpu.check("attach")
        owners, handle = self._owners, stream.handle
        stream.put(lambda: owners.append(handle) if mem_flags == SINGLE else None)

    def get_device_pointer(self):
        if len(self._owners) != 1:
            self._gpu.violations.append("managed memory that is in use before it belongs to one stream")
        return super().get_device_pointer()


class Stream(Owned):
    def __init__(self, gpu, flags=0):
        gpu.check("Stream")
        super().__init__(gpu)
        if flags != NON_BLOCKING:
            gpu.violations.append("a stream that waits for the legacy default stream")
        self._gpu = gpu
        self.handle = next(gpu.numbers)
        self._todo: list[Callable[[], None]] = []
        self._captured: list[Callable[[], None]] | None = None
        gpu.streams[self.handle] = self

    def put(self, work):
        (self._todo if self._captured is None else self._captured).append(work)

    def step(self):
        """Do one piece of work; say whether there was any that can be done."""
        if not self._todo or self.handle in self._gpu.held:
            return False
        self._todo.pop(0)()
        return True

    def synchronize(self):
        self._gpu.check("synchronize")
        while self.step():
            pass

    def wait_for_event(self, event):
        self._gpu.check("wait_for_event")
        self.put(event.catch_up)

    def begin(self):
        self._captured = []

    def end(self):
        captured, self._captured = self._captured, None
        return captured


class Event(Owned):
    def __init__(self, gpu, flags=0):
        gpu.check("Event")
        super().__init__(gpu)
        self._gpu = gpu
        self._stream = None
        self._is_over = True
        self._number = 0

    def record(self, stream=None):
        self._gpu.check("record")
        self._stream, self._is_over = weakref.ref(stream), False
        self._number = next(self._gpu.numbers)
        mark = weakref.ref(self)
        stream.put(lambda: setattr(mark(), "_is_over", True))
        return self

    def query(self):
        """Say whether it is over; each look finds the GPU a step further."""
        self._gpu.check("query")
        if not self._is_over:
            self._stream().step()
        return self._is_over

    def time_since(self, event):
        self._gpu.check("time_since")
        if not (self._is_over and event._is_over):
            raise Error("device not ready")
        return 0.25 if self._number > event._number else -0.25

    def catch_up(self):
        """Do the other stream's work up to the mark."""
        while not self._is_over:
            self._stream().step()


class LibCuda:
    """The driver's library: functions that return 0, or a CUDA error."""

    def __init__(self, gpu):
        self._gpu = gpu

    def cuStreamBeginCapture_v2(self, stream, mode):  # noqa: N802
        if self._gpu.fails("cuStreamBeginCapture_v2"):
            return 719
        if mode != THREAD_LOCAL:
            self._gpu.violations.append("a capture that breaks the CUDA calls of other threads")
        self._gpu.streams[stream].begin()
        return 0

    def cuStreamEndCapture(self, stream, graph):  # noqa: N802
        captured = self._gpu.streams[stream].end()
        if self._gpu.fails("cuStreamEndCapture"):
            return 901
        graph._obj.value = next(self._gpu.numbers)
        self._gpu.graphs[graph._obj.value] = captured
        return 0

    def cuGraphInstantiateWithFlags(self, executable, graph, flags):  # noqa: N802
        if self._gpu.fails("cuGraphInstantiateWithFlags"):
            return 719
        executable._obj.value = next(self._gpu.numbers)
        self._gpu.executables[executable._obj.value] = self._gpu.graphs[graph.value]
        return 0

    def cuGraphLaunch(self, executable, stream):  # noqa: N802
        if self._gpu.fails("cuGraphLaunch"):
            return 719
        for work in self._gpu.executables[executable.value]:
            self._gpu.streams[stream].put(work)
        return 0

    def cuGraphExecDestroy(self, executable):  # noqa: N802
        is_failing = self._gpu.fails("cuGraphExecDestroy")
        del self._gpu.executables[executable.value]  # a real one is lost to the process either way
        self._gpu.released.append("cuGraphExecDestroy")
        return 719 if is_failing else 0

    def cuGraphDestroy(self, graph):  # noqa: N802
        is_failing = self._gpu.fails("cuGraphDestroy")
        del self._gpu.graphs[graph.value]
        return 719 if is_failing else 0

    def cuGetErrorName(self, code, text):  # noqa: N802
        text._obj.value = ctypes.c_char_p(f"CUDA_ERROR_{code}".encode()).value
        return 0
