"""ONNX Runtime on the CPU: the embedded default for everything that an accelerator does on the device."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from edge.backends.iemf import iemf_fuse, stored_head
from models.bundle import FUSION, GOLDEN, Bundle
from models.errors import BundleError

GOLDEN_TOLERANCE = 1e-3
"""Largest difference from the FP32 outputs stored at export; other CPUs round otherwise, never this much."""

ENGINE_ERRORS: tuple[type[Exception], ...] = (
    ort_state.EPFail,
    ort_state.EngineError,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.RuntimeException,
)
"""What ONNX Runtime raises; the classes share no parent of their own."""

FloatArray = NDArray[np.float32]

_FUSED = ("logits", "weights", "entropies")


class OnnxSession:
    """One graph with buffers bound once: write `inputs`, call `run`, read `outputs`. Batch is 1.

    One thread and no spinning: beside other branches, more threads cost latency (measured: docs/decisions.md).
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
        self.inputs = {node.name: _buffer(node.shape) for node in self._session.get_inputs()}
        self.outputs = {node.name: _buffer(node.shape) for node in self._session.get_outputs()}
        self._binding = self._session.io_binding()
        for name, array in self.inputs.items():
            self._binding.bind_cpu_input(name, array)
        for name, array in self.outputs.items():
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Infer from `inputs` into `outputs`; releases the GIL while it runs."""
        self._session.run_with_iobinding(self._binding)


@dataclass(frozen=True, kw_only=True, slots=True)
class Engines:
    """The loaded graphs of a bundle."""

    branches: Mapping[str, OnnxSession]
    """By modality: input `input`, outputs `feature` and `logits`."""
    fusion: OnnxSession
    """Inputs `feature_<name>`, `logits_<name>`, `mask`; outputs `logits`, `weights`, `entropies`."""


def load_engines(bundle: Bundle) -> Engines:
    """Load a bundle's graphs and compare them with its golden examples, and an entropy fusion with its formulas.

    Raises:
        BundleError: a graph does not load, has other inputs or outputs than the contract, answers otherwise than it
            did when it was exported, or is no entropy fusion although the manifest says so.
    """
    sessions = {role: OnnxSession(bundle.graph(role)) for role in (*bundle.spec.modality_names, FUSION)}
    engines = Engines(branches={name: sessions[name] for name in bundle.spec.modality_names}, fusion=sessions[FUSION])
    check_golden(bundle, engines)
    check_fusion(bundle, engines.fusion)
    return engines


def check_golden(bundle: Bundle, engines: Engines) -> float:
    """Run the golden examples through the engines, and return the largest difference from their stored outputs.

    Raises:
        BundleError: the difference is above GOLDEN_TOLERANCE, or the examples do not fit the graphs.
    """
    worst = 0.0
    try:
        golden = _stored(bundle)
        for n in range(len(golden["mask"])):
            for name, engine in engines.branches.items():
                engine.inputs["input"][0] = golden[f"input_{name}"][n]
                engine.run()
                for output in ("feature", "logits"):
                    worst = max(worst, _difference(engine.outputs[output][0], golden[f"{output}_{name}"][n]))
                    engines.fusion.inputs[f"{output}_{name}"][0] = engine.outputs[output][0]
            engines.fusion.inputs["mask"][0] = golden["mask"][n]
            engines.fusion.run()
            for output in _FUSED:
                worst = max(worst, _difference(engines.fusion.outputs[output][0], golden[output][n]))
    except (KeyError, ValueError, OSError) as error:
        raise _misfit(bundle, error) from error
    if not worst <= GOLDEN_TOLERANCE:
        raise BundleError(
            f"{bundle.path}: answers differ from the golden examples by {worst:.3g}, at most {GOLDEN_TOLERANCE} is"
            " expected: export the bundle anew, or report this ONNX Runtime version and CPU"
        )
    return worst


def check_fusion(bundle: Bundle, engine: OnnxSession) -> float:
    """Run an entropy fusion under every kind of mask, and return the largest difference from its formulas in NumPy.

    The golden examples show what the graph did at export, under one mask each; this shows that it is what the manifest
    says, with whatever sensor gone. A bundle of another fusion form, or without the head's numbers, differs by 0.

    Raises:
        BundleError: the difference is above GOLDEN_TOLERANCE, or the numbers do not fit the graph.
    """
    worst = 0.0
    names = bundle.spec.modality_names
    try:
        golden = _stored(bundle)
        head = stored_head(golden, bundle.spec.fusion)
        if head is None:
            return worst
        for n in range(len(golden["mask"])):
            features, logits = ([golden[f"{output}_{name}"][n] for name in names] for output in ("feature", "logits"))
            for name, feature, one in zip(names, features, logits, strict=True):
                engine.inputs[f"feature_{name}"][0], engine.inputs[f"logits_{name}"][0] = feature, one
            for mask in kinds_of_masks(len(names)):
                engine.inputs["mask"][0] = mask
                engine.run()
                expected = iemf_fuse(features, np.stack(logits), mask, head)
                pairs = zip(_FUSED, expected, strict=True)
                worst = max(worst, *(_difference(engine.outputs[name][0], value) for name, value in pairs))
    except (KeyError, ValueError, OSError) as error:
        raise _misfit(bundle, error) from error
    if not worst <= GOLDEN_TOLERANCE:
        raise BundleError(
            f"{bundle.path}: the fusion graph differs by {worst:.3g} from the entropy fusion that the manifest names,"
            f" at most {GOLDEN_TOLERANCE} is expected: export the bundle anew"
        )
    return worst


def kinds_of_masks(modalities: int) -> FloatArray:
    """Return masks (kinds, modalities): all there, none, each alone, each gone, and all degraded."""
    alone = np.eye(modalities)
    degraded = np.arange(1, modalities + 1) / (modalities + 1)
    kinds = [np.ones(modalities), np.zeros(modalities), *alone, *(1 - alone), degraded]
    return np.array(kinds, np.float32)


def _stored(bundle: Bundle) -> dict[str, FloatArray]:
    with np.load(io.BytesIO(bundle.contents[GOLDEN]), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _misfit(bundle: Bundle, error: Exception) -> BundleError:
    return BundleError(f"{bundle.path}: {GOLDEN} does not fit the graphs ({error}): export the bundle anew")


def _buffer(shape: list[int | str | None]) -> FloatArray:
    """Return zeros of a graph's shape, symbolic dimensions being 1."""
    return np.zeros([size if isinstance(size, int) else 1 for size in shape], np.float32)


def _difference(found: FloatArray, expected: NDArray[np.floating]) -> float:
    """Return the largest absolute difference; infinite where either holds something that is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.max(np.abs(found - expected), initial=0.0))
