"""An INT8 graph from an FP32 one and a plan: QuantizeLinear and DequantizeLinear, weights and biases as integers."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from calibration.quantization.operators import GraphView
from calibration.quantization.plan import Edge, Plan
from models.quantization import quantize_bias, quantize_weights


def emit_int8(graph: GraphView, plan: Plan) -> ModelProto:
    """Return the graph with what the plan names quantized; inputs and outputs stay float."""
    model = ModelProto()
    model.CopyFrom(graph.model)
    body = _Body(model, graph, plan)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for value in model.graph.input:
        body.quantize_tensor(value.name)
    for node in nodes:
        body.take_node(node)
        for tensor in node.output:
            body.quantize_tensor(tensor)
    body.drop_unused_constants()
    onnx.checker.check_model(model, full_check=True)
    return model


class _Body:
    """The graph that is being written, node by node."""

    def __init__(self, model: ModelProto, graph: GraphView, plan: Plan) -> None:
        self._graph = model.graph
        self._view = graph
        self._plan = plan
        self._constants: set[str] = set()

    def quantize_tensor(self, tensor: str) -> None:
        """Write the pair behind a tensor, once for all who take it quantized."""
        how = self._plan.affines.get(tensor)
        if how is None:
            return
        scale = self._constant(f"{tensor}_scale", np.float32(how.scale))
        zero_point = self._constant(f"{tensor}_zero_point", np.dtype(how.scheme.dtype).type(how.zero_point))
        self._add("QuantizeLinear", [tensor, scale, zero_point], f"{tensor}_quantized")
        self._add("DequantizeLinear", [f"{tensor}_quantized", scale, zero_point], f"{tensor}_dequantized")

    def take_node(self, node: NodeProto) -> None:
        """Write a node of the FP32 graph, its inputs quantized as planned."""
        for index, tensor in enumerate(list(node.input)):
            edge = (node.name, index)
            if edge in self._plan.weights:
                node.input[index] = self._weight(tensor, edge)
            elif edge in self._plan.biases:
                node.input[index] = self._bias(tensor, edge)
            elif self._plan.is_quantized(tensor, edge):
                node.input[index] = f"{tensor}_dequantized"
        self._graph.node.append(node)

    def drop_unused_constants(self) -> None:
        """Leave out what only the FP32 graph needs."""
        used = {name for node in self._graph.node for name in node.input}
        kept = [one for one in self._graph.initializer if one.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _weight(self, tensor: str, edge: Edge) -> str:
        grid = self._plan.weights[edge]
        integers = quantize_weights(self._view.constants[tensor].astype(np.float32), grid.scales, grid.axis)
        return self._dequantized(f"{tensor}_of_{edge[0]}", integers, grid.scales, grid.axis)

    def _bias(self, tensor: str, edge: Edge) -> str:
        steps = self._plan.biases[edge]
        integers = quantize_bias(self._view.constants[tensor].astype(np.float32), steps)
        return self._dequantized(f"{tensor}_of_{edge[0]}", integers, steps, 0)

    def _dequantized(self, name: str, integers: NDArray[Any], scales: NDArray[Any], axis: int) -> str:
        inputs = [self._constant(f"{name}_quantized", integers), self._constant(f"{name}_scale", scales)]
        inputs.append(self._constant(f"{name}_zero_point", np.zeros(scales.shape, integers.dtype)))
        return self._add("DequantizeLinear", inputs, f"{name}_dequantized", axis=axis)

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        if name not in self._constants:
            self._constants.add(name)
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._graph.node.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output
