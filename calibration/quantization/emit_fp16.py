"""An FP16 graph from an FP32 one: casts at inputs and outputs, and islands of what must stay float32."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

from calibration.quantization.operators import GraphView
from models.errors import BundleError

ISLANDS = frozenset(
    {"Cast", "Div", "Exp", "GlobalAveragePool", "LogSoftmax", "Neg", "ReduceMean", "ReduceSum", "Softmax"}
)
"""Computed in float32: sums lose their last terms in FP16, logarithms and quotients their meaning near zero."""
LEAST_BOUND = np.float32(1e-4)
"""A Clip at less stays float32: FP16 has no such number with all its digits (its smallest is 6.1e-5)."""
LARGEST = 65504.0


def emit_fp16(graph: GraphView) -> ModelProto:
    """Return a graph that computes in FP16 but for its islands; its inputs and outputs stay as they are.

    Raises:
        BundleError: a constant does not fit into FP16.
    """
    model = ModelProto()
    model.CopyFrom(graph.model)
    body = _Body(model, graph)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        body.take_node(node)
    body.drop_unused_constants()
    onnx.checker.check_model(model, full_check=True)
    return model


class _Body:
    """The graph that is being written, and under which name each tensor is there in which precision."""

    def __init__(self, model: ModelProto, graph: GraphView) -> None:
        self._graph = model.graph
        self._view = graph
        inferred = shape_inference.infer_shapes(graph.model, strict_mode=True).graph
        typed = [*inferred.input, *inferred.output, *inferred.value_info]
        self._floats = {one.name for one in typed if one.type.tensor_type.elem_type == TensorProto.FLOAT}
        self._floats |= {name for name, value in graph.constants.items() if value.dtype == np.float32}
        self._names: dict[tuple[str, bool], str] = {
            (name, False): name for name in self._floats if name not in graph.producers
        }

    def take_node(self, node: NodeProto) -> None:
        """Write a node in its precision, its inputs cast to that."""
        is_half = not self._is_island(node)
        node.input[:] = [self._in_precision(name, is_half) for name in node.input]
        outputs = [str(name) for name in node.output]
        made = [f"{name}_half" if is_half and name in self._floats else name for name in outputs]
        node.output[:] = made
        self._graph.node.append(node)
        for name, actual in zip(outputs, made, strict=True):
            self._names[name, is_half] = actual
            if name in self._view.outputs and actual != name:
                self._cast(actual, name, TensorProto.FLOAT)
                self._names[name, False] = name

    def drop_unused_constants(self) -> None:
        """Leave out what only the FP32 graph needs."""
        used = {name for node in self._graph.node for name in node.input}
        kept = [one for one in self._graph.initializer if one.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _is_island(self, node: NodeProto) -> bool:
        bounds = [self._view.constants[name] for name in node.input[1:] if name in self._view.constants]
        is_tiny = node.op_type == "Clip" and any(0 < abs(np.float32(one)) < LEAST_BOUND for one in bounds)
        return node.op_type in ISLANDS or is_tiny

    def _in_precision(self, name: str, is_half: bool) -> str:
        """Return the name under which a tensor is there as float32 or FP16; what is no float stays what it is."""
        if name not in self._floats:
            return name
        if (name, is_half) not in self._names:
            made = f"{name}_half" if is_half else f"{name}_float"
            if name in self._view.constants:
                self._graph.initializer.append(numpy_helper.from_array(_halved(self._view.constants[name], name), made))
            else:
                self._cast(self._names[name, not is_half], made, TensorProto.FLOAT16 if is_half else TensorProto.FLOAT)
            self._names[name, is_half] = made
        return self._names[name, is_half]

    def _cast(self, source: str, made: str, kind: int) -> None:
        self._graph.node.append(helper.make_node("Cast", [source], [made], name=f"cast_{made}", to=kind))


def _halved(value: NDArray[Any], name: str) -> NDArray[Any]:
    if not (np.abs(value) <= LARGEST).all():
        raise BundleError(f"constant {name}: up to {np.abs(value).max():.3g}, FP16 ends at {LARGEST}: fly it in fp32")
    return value.astype(np.float16)
