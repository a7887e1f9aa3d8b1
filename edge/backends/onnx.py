"""ONNX Runtime on the CPU: the embedded default for everything that an accelerator does on the device."""

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from edge.backends.golden import check_fusion, check_golden
from edge.backends.select import PrecisionChoice, choose_graphs, cpu_target
from edge.backends.session import Engines, are_finite
from models.bundle import FUSION, Bundle
from models.errors import BundleError
from models.spec import ImageRecipe

ENGINE_ERRORS: tuple[type[Exception], ...] = (
    ort_state.EPFail,
    ort_state.EngineError,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
)
"""What ONNX Runtime raises; the classes share no parent of their own."""

_DTYPES: dict[str, type[np.generic]] = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class OnnxSession:
    """One graph with buffers bound once: write `inputs`, call `run`, read `outputs`. Batch is 1.

    The buffers are of the graph's own types: float32, or uint8 for images that the graph normalises itself. One thread
    and no spinning: beside other branches, more threads cost latency (measured: docs/decisions.md).
    """

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except ENGINE_ERRORS as error:
            raise BundleError(f"ONNX Runtime cannot load this graph: {error}") from error
        self.inputs = {node.name: _buffer(node) for node in self._session.get_inputs()}
        self.outputs = {node.name: _buffer(node) for node in self._session.get_outputs()}
        self._binding = self._session.io_binding()
        for name, array in self.inputs.items():
            self._binding.bind_cpu_input(name, array)
        for name, array in self.outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self) -> bool:
        """Infer from `inputs` into `outputs`, and say whether these are finite; releases the GIL while it runs."""
        self._session.run_with_iobinding(self._binding)
        return are_finite(self.outputs.values())


def load_engines(bundle: Bundle, choice: PrecisionChoice = "auto") -> Engines:
    """Load the graphs of a bundle that fly on this machine, and compare them with its golden examples, and an entropy
    fusion with its formulas.

    Raises:
        BundleError: a graph does not load, has other inputs or outputs than the contract, answers otherwise than it
            did when it was made, or is no entropy fusion although the manifest says so; or there is none as chosen.
    """
    target = cpu_target()
    precisions = choose_graphs(bundle, choice, target)
    sessions = {role: OnnxSession(bundle.graph(role, precision, target)) for role, precision in precisions.items()}
    engines = Engines(
        branches={name: sessions[name] for name in bundle.spec.modality_names},
        fusion=sessions[FUSION],
        precisions=precisions,
    )
    _check_bytes(bundle, engines)
    check_golden(bundle, engines)
    if precisions[FUSION] == "fp32":
        check_fusion(bundle, engines.fusion)
    return engines


def _check_bytes(bundle: Bundle, engines: Engines) -> None:
    """Raise BundleError where a graph takes bytes but is no image branch: only frames are handed over as bytes."""
    for modality in bundle.spec.modalities:
        buffer = engines.branches[modality.name].inputs.get("input")
        if buffer is not None and buffer.dtype == np.uint8 and not isinstance(modality.recipe, ImageRecipe):
            raise BundleError(
                f"{bundle.path}: the branch of {modality.name} takes bytes, expected float32 of all but images:"
                " export the bundle anew"
            )


def _buffer(node: Any) -> NDArray[Any]:
    """Return zeros of the shape and type of a graph's input or output, symbolic dimensions being 1."""
    if node.type not in _DTYPES:
        raise BundleError(f"graph with {node.name} of {node.type}: expected {' or '.join(_DTYPES)}: export it anew")
    return np.zeros([size if isinstance(size, int) else 1 for size in node.shape], _DTYPES[node.type])
