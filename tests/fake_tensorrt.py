"""A fake of TensorRT, for fake_gpu.py: runtime, engines and execution contexts, whose plans are given models."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np

from edge.backends.onnx import OnnxSession


def module_of(name, **members):
    """Return a module with these members."""
    module = ModuleType(name)
    vars(module).update(members)
    return module


class Owned:
    """Something that is released when its last reference goes, as Boost's and pybind's objects are."""

    def __init__(self, gpu):
        name = type(self).__name__
        gpu.alive.append(name)
        alive, released = gpu.alive, gpu.released
        weakref.finalize(self, lambda: (alive.remove(name), released.append(name)))


@dataclass
class Model:
    """What a plan computes: shapes and types of what goes in and out, and a function from the ones to the others."""

    inputs: dict[str, tuple[tuple[int, ...], str]]
    outputs: dict[str, tuple[tuple[int, ...], str]]
    compute: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def onnx_model(graph: bytes) -> Model:
    """Return a graph as a model, computed by ONNX Runtime."""
    session = OnnxSession(graph)

    def compute(inputs):
        for name, value in inputs.items():
            session.inputs[name][...] = value
        session.run()
        return session.outputs

    kinds = [
        {name: (array.shape, "UINT8" if array.dtype == np.uint8 else "FLOAT") for name, array in arrays.items()}
        for arrays in (session.inputs, session.outputs)
    ]
    return Model(*kinds, compute)


def fake_tensorrt(gpu):
    """Return what stands for the tensorrt module."""
    severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)

    class ILogger:
        Severity = severity

        def log(self, severity, message):
            raise NotImplementedError

    class Runtime(Owned):
        def __init__(self, logger):
            if gpu.refuses("Runtime"):
                logger.log(severity.ERROR, "CUDA initialization failure with error: 35")
                raise TypeError("pybind11::init(): factory function returned nullptr")
            super().__init__(gpu)
            self._logger = logger

        def deserialize_cuda_engine(self, plan):
            if gpu.refuses("deserialize_cuda_engine") or bytes(plan) not in gpu.models:
                self._logger.log(severity.ERROR, "Serialization assertion failed")
                return None
            return ICudaEngine(gpu, gpu.models[bytes(plan)])

    return module_of(
        "tensorrt",
        __version__="10.3.0",
        ILogger=ILogger,
        Runtime=Runtime,
        TensorIOMode=SimpleNamespace(NONE=0, INPUT=1, OUTPUT=2),
        DataType=SimpleNamespace(FLOAT="FLOAT", HALF="HALF", UINT8="UINT8"),
    )


class ICudaEngine(Owned):
    def __init__(self, gpu, model):
        super().__init__(gpu)
        self._gpu, self._model = gpu, model
        self._tensors = {**model.inputs, **model.outputs}

    @property
    def num_io_tensors(self):
        return len(self._tensors)

    def get_tensor_name(self, index):
        if self._gpu.refuses("get_tensor_name"):
            raise RuntimeError("get_tensor_name raised")
        return list(self._tensors)[index]

    def get_tensor_mode(self, name):
        if self._gpu.refuses("get_tensor_mode"):
            raise RuntimeError("get_tensor_mode raised")
        return 1 if name in self._model.inputs else 2

    def get_tensor_shape(self, name):
        if self._gpu.refuses("get_tensor_shape"):
            raise RuntimeError("get_tensor_shape raised")
        return (-1, *self._tensors[name][0][1:])

    def get_tensor_dtype(self, name):
        if self._gpu.refuses("get_tensor_dtype"):
            raise RuntimeError("get_tensor_dtype raised")
        return self._tensors[name][1]

    def create_execution_context(self):
        return None if self._gpu.refuses("create_execution_context") else IExecutionContext(self._gpu, self._model)


class IExecutionContext(Owned):
    def __init__(self, gpu, model):
        super().__init__(gpu)
        self._gpu, self._model = gpu, model
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name, shape):
        self._shapes[name] = tuple(shape)
        return not self._gpu.refuses("set_input_shape")

    def get_tensor_shape(self, name):
        if self._gpu.refuses("get_tensor_shape"):
            raise RuntimeError("get_tensor_shape raised")
        if self._shapes.keys() != self._model.inputs.keys():
            self._gpu.violations.append("shape of an output before those of all inputs")
        return {**self._model.inputs, **self._model.outputs}[name][0]

    def set_tensor_address(self, name, memory):
        self._addresses[name] = memory
        return not self._gpu.refuses("set_tensor_address")

    def execute_async_v3(self, stream_handle):
        if self._gpu.refuses("execute_async_v3"):
            return False
        gpu, model, addresses = self._gpu, self._model, dict(self._addresses)

        def work():
            inputs = {name: _view(gpu, addresses[name], *kind) for name, kind in model.inputs.items()}
            for name, value in model.compute(inputs).items():
                _view(gpu, addresses[name], *model.outputs[name])[...] = value

        gpu.streams[stream_handle].put(work)
        return True


def _view(gpu, address, shape, kind):
    dtype = np.dtype(np.uint8 if kind == "UINT8" else np.float32)
    size_bytes = int(np.prod(shape)) * dtype.itemsize
    return gpu.touch(address)[:size_bytes].view(dtype).reshape(shape)
