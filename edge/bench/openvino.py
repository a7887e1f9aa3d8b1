"""OpenVINO, which flies nothing here: only for setting its inference beside ours."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DeviceError

_ONE_THREAD = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}


def import_openvino() -> Any:
    """Return the library; raises DeviceError where it is not installed."""
    try:
        import openvino
    except ImportError as error:
        raise DeviceError("openvino is not installed: pip install 'uav-fusion-edge[openvino]'") from error
    return openvino


def openvino_call(graph: bytes, inputs: Mapping[str, NDArray[np.generic]]) -> Callable[[], object]:
    """Return what computes a graph once, in one thread, with FP32 wherever the graph says nothing else.

    Raises:
        DeviceError: OpenVINO is not installed, or cannot take the graph.
    """
    core: Any = import_openvino().Core()
    try:
        compiled = core.compile_model(core.read_model(graph), "CPU", _ONE_THREAD | {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise DeviceError(f"OpenVINO cannot take this graph: {str(error)[:200]}: leave openvino out") from error
    request = compiled.create_infer_request()
    fixed = dict(inputs)
    return lambda: request.infer(fixed, share_inputs=True, share_outputs=True)
