"""An ONNX graph as the quantizer looks at it: constants, producers, consumers, and what it may hold at all."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper, version_converter

from calibration.graphs import IR_VERSION, OPSET
from models.errors import BundleError

QUANTIZABLE = ("Conv", "Gemm", "MatMul")
"""Operators that have an integer kernel worth having, on every target."""
ACTIVATIONS = ("Relu", "Clip")
"""What a kernel of those computes on its way out: nothing may stand between."""
SUPPORTED = frozenset(
    {
        *QUANTIZABLE, *ACTIVATIONS, "Add", "Cast", "Concat", "Constant", "Div", "Exp", "Flatten", "GlobalAveragePool",
        "Identity", "LogSoftmax", "Mul", "Neg", "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Slice", "Softmax",
        "Squeeze", "Sub", "Transpose", "Unsqueeze",
    }
)  # fmt: skip
"""What the NumPy reference computes: what cannot be checked is not quantized."""
_MOVING = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")  # values stay what they are


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphView:
    """A model with its links looked up. Nodes are told apart by their names, each of which is there once."""

    model: ModelProto
    constants: dict[str, NDArray[Any]]
    producers: dict[str, NodeProto]
    """By tensor."""
    consumers: dict[str, list[tuple[NodeProto, int]]]
    """By tensor: who takes it as which input."""
    outputs: frozenset[str]

    @property
    def nodes(self) -> list[NodeProto]:
        """In an order in which they can be computed."""
        return list(self.model.graph.node)

    def activated(self, node: NodeProto) -> str:
        """Return the tensor that leaves a node and the activation behind it, if one has the node to itself."""
        tensor = str(node.output[0])
        followers = self.consumers.get(tensor, [])
        if len(followers) == 1 and followers[0][0].op_type in ACTIVATIONS and tensor not in self.outputs:
            return str(followers[0][0].output[0])
        return tensor

    def varying_inputs(self, node: NodeProto) -> list[tuple[int, str]]:
        """Return (index, tensor) of the inputs that are not constant, the bias aside."""
        return [(n, name) for n, name in enumerate(node.input[:2]) if name and name not in self.constants]


def view(data: bytes) -> GraphView:
    """Return a graph of opset 20 with named nodes and all constants as initializers.

    Raises:
        BundleError: not an ONNX graph, or it holds an operator that is not supported here.
    """
    model = _load(data)
    _name_nodes(model)
    _lift_constants(model)
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    producers: dict[str, NodeProto] = {}
    consumers: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in model.graph.node:
        _check_operator(node)
        producers.update({str(name): node for name in node.output})
        for index, name in enumerate(node.input):
            consumers.setdefault(str(name), []).append((node, index))
    outputs = frozenset(value.name for value in model.graph.output)
    return GraphView(model=model, constants=constants, producers=producers, consumers=consumers, outputs=outputs)


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return an attribute's value, or what the operator takes for it where it is absent."""
    found = [one for one in node.attribute if one.name == name]
    return helper.get_attribute_value(found[0]) if found else default


def tensors_to_calibrate(graph: GraphView) -> list[str]:
    """Return the tensors that some plan may quantize: what dense layers, convolutions and sums take and give."""
    wanted: dict[str, None] = {}
    for node in graph.nodes:
        inputs = graph.varying_inputs(node)
        if node.op_type in QUANTIZABLE or (node.op_type == "Add" and len(inputs) == 2):
            wanted.update(dict.fromkeys(name for _, name in inputs))
            wanted[graph.activated(node)] = None
    return list(wanted)


def tensors_with_maxima(graph: GraphView) -> list[str]:
    """Return the tensors to calibrate of which a maximum is taken: their largest values are what counts."""
    return [name for name in tensors_to_calibrate(graph) if _reaches_maximum(graph, name)]


def _reaches_maximum(graph: GraphView, tensor: str) -> bool:
    followers = [node for node, index in graph.consumers.get(tensor, []) if index == 0]
    return any(
        node.op_type == "ReduceMax" or (node.op_type in _MOVING and _reaches_maximum(graph, str(node.output[0])))
        for node in followers
    )


def _load(data: bytes) -> ModelProto:
    try:
        onnx.checker.check_model(data, full_check=True)
        model = onnx.load_from_string(data)
        if {entry.domain: entry.version for entry in model.opset_import}.get("", 0) < OPSET:
            model = version_converter.convert_version(model, OPSET)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise BundleError(f"not a sound ONNX graph ({error}): export the bundle anew") from error
    model.ir_version = min(model.ir_version, IR_VERSION)
    del model.graph.value_info[:]
    return model


def _name_nodes(model: ModelProto) -> None:
    """Name what has no name, or the name of another, after its first output."""
    seen = Counter(node.name for node in model.graph.node)
    for node in model.graph.node:
        if not node.name or seen[node.name] > 1:
            node.name = f"make_{node.output[0]}"


def _lift_constants(model: ModelProto) -> None:
    graph = model.graph
    for node in [one for one in graph.node if one.op_type == "Constant"]:
        value = attribute(node, "value", None)
        if value is None:
            raise BundleError(f"node {node.name}: a Constant without a tensor: export with torch 2.6 or newer")
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _check_operator(node: NodeProto) -> None:
    if node.op_type not in SUPPORTED or node.domain not in ("", "ai.onnx"):
        raise BundleError(
            f"node {node.name}: operator {node.op_type} cannot be quantized, for the NumPy reference that checks every"
            f" graph does not compute it (it knows {', '.join(sorted(SUPPORTED))}): build the network of those, or fly"
            " it in fp32"
        )
