"""A graph as the rules look at it: who makes and who takes a tensor, its type, and what is constant."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that run on INT8 kernels, when both of their operands are quantized."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnyGraph:
    """A model, sound or not, with its tensors looked up by name; what shape inference cannot tell is absent."""

    model: ModelProto
    producers: dict[str, NodeProto]
    consumers: dict[str, list[NodeProto]]
    constants: dict[str, NDArray[Any]]
    types: dict[str, int]
    """Element types, as `onnx.TensorProto.DataType` counts them."""

    @property
    def nodes(self) -> list[NodeProto]:
        """The nodes in the order of the graph."""
        return list(self.model.graph.node)

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators; 0 where the model names none."""
        return max((one.version for one in self.model.opset_import if one.domain in ("", "ai.onnx")), default=0)

    @property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """The graph's inputs, without weights that are declared as such."""
        return [value for value in self.model.graph.input if value.name not in self.constants]

    def made_by(self, name: str, *operators: str) -> NodeProto | None:
        """Return the node that makes a tensor, where it is of one of these operators."""
        node = self.producers.get(name)
        return node if node is not None and node.op_type in operators else None

    def dequantized(self, name: str) -> NodeProto | None:
        """Return the DequantizeLinear that makes a tensor, None where another node does."""
        return self.made_by(name, DEQUANTIZE)

    def quantized_constant(self, dequantize: NodeProto) -> NDArray[Any] | None:
        """Return the weights behind a DequantizeLinear, stored in INT8 or quantized from floats; else None."""
        source = dequantize.input[0]
        quantize = self.made_by(source, QUANTIZE)
        return self.constants.get(source if quantize is None else quantize.input[0])

    def depends_on_data(self, name: str) -> bool:
        """Say whether a tensor's values follow from an input's values, and not from shapes and constants alone."""
        waiting, seen = [name], set()
        while waiting:
            tensor = waiting.pop()
            if tensor in self.constants or tensor in seen or not tensor:
                continue
            seen.add(tensor)
            node = self.producers.get(tensor)
            if node is None:
                return True
            if node.op_type not in ("Shape", "Size"):
                waiting.extend(node.input)
        return False


def look_up(model: ModelProto) -> AnyGraph:
    """Look a model's tensors up; what is wrong with the model is for the rules to say, not for this."""
    graph = model.graph
    consumers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in filter(None, node.input):
            consumers.setdefault(name, []).append(node)
    return AnyGraph(
        model=model,
        producers={name: node for node in graph.node for name in node.output if name},
        consumers=consumers,
        constants=_constants(model),
        types=_types(model),
    )


def label(node: NodeProto) -> str:
    """Return what to call a node: its name, else what it makes."""
    return str(node.name) or f"{node.op_type} of {node.output[0] if node.output else 'nothing'}"


def type_name(kind: int) -> str:
    """Return an element type's name as ONNX writes it, in small letters."""
    known = kind in TensorProto.DataType.values()
    return str(TensorProto.DataType.Name(kind)).lower() if known else f"number {kind}, which ONNX does not know"


def attribute(node: NodeProto, name: str, default: int) -> int:
    """Return a whole number among a node's attributes."""
    return next((int(helper.get_attribute_value(one)) for one in node.attribute if one.name == name), default)


def external_tensors(model: ModelProto) -> list[TensorProto]:
    """Return the weights whose bytes lie in another file."""
    tensors = [*model.graph.initializer]
    for node in model.graph.node:
        tensors += [one.t for one in node.attribute if one.HasField("t")]
        tensors += [tensor for one in node.attribute for tensor in one.g.initializer]
    return [tensor for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL]


def _constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    """Return the constant tensors by name, those in other files left out."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    constants: dict[str, NDArray[Any]] = {}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output:
            for one in node.attribute:
                if one.name == "value":
                    tensors[node.output[0]] = one.t
                elif one.name in ("value_float", "value_floats"):
                    constants[node.output[0]] = np.asarray(helper.get_attribute_value(one), np.float32)
                elif one.name in ("value_int", "value_ints"):
                    constants[node.output[0]] = np.asarray(helper.get_attribute_value(one), np.int64)
    for name, tensor in tensors.items():
        values = _values(tensor)
        if values is not None:
            constants[name] = values
    return constants


def _values(tensor: TensorProto) -> NDArray[Any] | None:
    """Return a constant's numbers, None where they are elsewhere or damaged, which rules on the form tell of."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return None
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (KeyError, TypeError, ValueError):
        return None


def _types(model: ModelProto) -> dict[str, int]:
    """Return element types by tensor; what the model notes itself is not believed but inferred anew."""
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):  # the rule invalid-graph says why
        graph = bare.graph
    values = (*graph.value_info, *graph.output, *graph.input)
    types = {value.name: int(value.type.tensor_type.elem_type) for value in values}
    types |= {tensor.name: int(tensor.data_type) for tensor in graph.initializer}
    return {name: kind for name, kind in types.items() if kind != TensorProto.UNDEFINED}
