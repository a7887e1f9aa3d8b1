"""What of a graph is computed in INT8, and on which integers: decided once, then emitted and checked by the same plan.

Where quantization stands differs by target. TensorRT merges Q/DQ pairs into the kernel that takes the tensor, and a
pair between a convolution and its activation breaks their fusion: pairs stand on inputs only. ONNX Runtime's integer
convolution takes integers and gives integers: pairs stand behind the activation, and all who take the tensor see it
rounded.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from calibration.quantization.operators import ACTIVATIONS, QUANTIZABLE, GraphView, attribute
from models.errors import ConfigError, InputError
from models.quantization import LEAST_CHANNELS, SCHEMES, Affine, affine, weight_axis, weight_scales

Edge = tuple[str, int]
"""A node's name, and which of its inputs."""
FloatRanges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightGrid:
    """How a constant operand becomes int8."""

    scales: NDArray[np.float32]
    """(channels,)"""
    axis: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is quantized in one graph for one target."""

    target: str
    nodes: tuple[str, ...]
    """Computed in INT8."""
    edges: frozenset[Edge]
    """Inputs that take a tensor quantized, which others may take as it is."""
    leaving: frozenset[str]
    """Tensors that are quantized as they are made, for all who take them."""
    affines: Mapping[str, Affine]
    """Of every tensor that an edge takes or that leaves."""
    weights: Mapping[Edge, WeightGrid]
    biases: Mapping[Edge, NDArray[np.float32]]
    """Steps (channels,) of biases that become int32; on TensorRT they stay float."""

    def is_quantized(self, tensor: str, edge: Edge) -> bool:
        """Return whether an input sees the quantized form of its tensor."""
        return tensor in self.leaving or edge in self.edges


def default_float_nodes(graph: GraphView) -> tuple[str, ...]:
    """Return the nodes that stay float whatever the sensitivity.

    Embedding and heads (dense layers): small, and every answer hangs on them. Convolutions over few channels, as the
    first one over I/Q samples or over an image: rounding what the sensor delivers harms most of all, and an integer
    kernel leaves most of its lanes empty there.
    """
    dense = [node.name for node in graph.nodes if node.op_type in ("Gemm", "MatMul")]
    narrow = [node.name for node in graph.nodes if node.op_type == "Conv" and _is_narrow(graph, node)]
    return (*dense, *narrow)


def quantizable_nodes(graph: GraphView, float_nodes: Collection[str]) -> list[NodeProto]:
    """Return the nodes that could be computed in INT8, but for those that shall not.

    Raises:
        ConfigError: a name in `float_nodes` is no node of the graph.
    """
    unknown = sorted(set(float_nodes) - {node.name for node in graph.nodes})
    if unknown:
        candidates = [node.name for node in graph.nodes if node.op_type in QUANTIZABLE]
        raise ConfigError(f"float nodes {unknown}: the graph has none so named; those to name: {', '.join(candidates)}")
    return [node for node in graph.nodes if node.op_type in QUANTIZABLE and node.name not in float_nodes]


def plan_int8(graph: GraphView, ranges: FloatRanges, target: str, float_nodes: Collection[str]) -> Plan:
    """Decide what is quantized for a target.

    Args:
        graph: an FP32 graph.
        ranges: (low, high) of the tensors of `tensors_to_calibrate`.
        target: trt, cpu-x86 or cpu-arm.
        float_nodes: names of nodes that stay float.
    Raises:
        ConfigError: nothing is left to quantize, or a float node does not exist.
        InputError: a range is missing or not finite.
    """
    nodes = quantizable_nodes(graph, float_nodes)
    leaving: list[str] = []
    if target == "trt":
        edges = [(node.name, n) for node in nodes for n, _ in graph.varying_inputs(node)]
        edges += _skip_edges(graph, {node.name for node in nodes})
    else:
        nodes, leaving = _integer_chain(graph, nodes, float_nodes)
        edges = [(node.name, n) for node in nodes for n, tensor in graph.varying_inputs(node) if tensor not in leaving]
    if not nodes:
        raise ConfigError(f"int8 for {target}: no node is left to quantize: name fewer float nodes, or fly fp32")
    by_name = {node.name: node for node in graph.nodes}
    tensors = [*leaving, *(by_name[name].input[n] for name, n in edges)]
    affines = {tensor: _affine(tensor, ranges, target) for tensor in tensors}
    if target != "trt":
        entering = [tensor for tensor in affines if tensor not in leaving]
        affines |= {tensor: _shield(graph, tensor, leaving, affines[tensor]) for tensor in entering}
    weights = {(node.name, n): _weight_grid(graph, node, n) for node in nodes for n in _constant_operands(graph, node)}
    biases = {}
    if target != "trt":
        biases = {
            (node.name, 2): np.float32(affines[node.input[0]].scale) * weights[node.name, 1].scales
            for node in nodes
            if _has_constant_bias(graph, node) and (node.name, 1) in weights and node.input[0] in affines
        }
    return Plan(
        target=target,
        nodes=tuple(node.name for node in nodes),
        edges=frozenset(edges),
        leaving=frozenset(leaving),
        affines=affines,
        weights=weights,
        biases=biases,
    )


def _skip_edges(graph: GraphView, quantized: Collection[str]) -> list[Edge]:
    """Return, of each residual sum, the input that does not come straight from the last quantized convolution.

    With that one quantized, TensorRT computes convolution, sum and activation in one kernel, integers in and out.
    """
    edges = []
    order = {node.name: n for n, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        inputs = graph.varying_inputs(node)
        if node.op_type != "Add" or len(inputs) != 2:
            continue
        makers = {n: graph.producers[tensor].name for n, tensor in inputs if tensor in graph.producers}
        fused = [n for n, maker in makers.items() if maker in quantized and len(graph.consumers[node.input[n]]) == 1]
        if fused:
            last = max(fused, key=lambda n: order[makers[n]])
            edges.append((node.name, 1 - last))
    return edges


def _integer_chain(
    graph: GraphView, candidates: list[NodeProto], float_nodes: Collection[str]
) -> tuple[list[NodeProto], list[str]]:
    """Return the nodes whose output can leave as integers, sums of such outputs among them, and those outputs."""
    wanted = {node.name for node in candidates}
    nodes: list[NodeProto] = []
    leaving: list[str] = []
    bare: set[str] = set()  # outputs of float layers that no activation shields
    for node in graph.nodes:
        inputs = [tensor for _, tensor in graph.varying_inputs(node)]
        is_sum = node.op_type == "Add" and len(inputs) == 2 and node.name not in float_nodes
        is_wanted = node.name in wanted or (is_sum and any(tensor in leaving for tensor in inputs))
        output = graph.activated(node)
        if is_wanted and output not in graph.outputs and not bare & set(inputs):
            nodes.append(node)
            leaving.append(output)
        elif node.op_type in QUANTIZABLE and output == node.output[0]:
            bare.add(output)
    return nodes, leaving


def _shield(graph: GraphView, tensor: str, leaving: Collection[str], how: Affine) -> Affine:
    """Return the affine of a tensor that enters an integer kernel, so that the layer which makes it stays float.

    Where a float layer takes dequantized numbers and its activation could be left to the quantization behind it, ONNX
    Runtime takes the layer for an integer one and quantizes its weights. One level below zero keeps the activation in
    its place.
    """
    activation = graph.producers.get(tensor)
    if activation is None or activation.op_type not in ACTIVATIONS or how.zero_point != how.scheme.lowest:
        return how
    layer = graph.producers.get(activation.input[0])
    if layer is None or layer.op_type not in QUANTIZABLE or layer.input[0] not in leaving:
        return how
    scale = float(np.float32(how.scale * 255 / 254))
    return replace(how, scale=scale, zero_point=how.zero_point + 1)


def _is_narrow(graph: GraphView, node: NodeProto) -> bool:
    """Return whether each output of a convolution sees all its channels, and these are few."""
    weights = graph.constants.get(node.input[1])
    return weights is not None and attribute(node, "group", 1) == 1 and weights.shape[1] < LEAST_CHANNELS


def _affine(tensor: str, ranges: FloatRanges, target: str) -> Affine:
    if tensor not in ranges:
        raise InputError(f"no range for {tensor!r}: collect again: the ranges are of another graph")
    low, high = ranges[tensor]
    return affine(low, high, SCHEMES[target])


def _constant_operands(graph: GraphView, node: NodeProto) -> list[int]:
    if node.op_type not in QUANTIZABLE:
        return []
    return [n for n, name in enumerate(node.input[:2]) if name in graph.constants]


def _weight_grid(graph: GraphView, node: NodeProto, index: int) -> WeightGrid:
    weights = graph.constants[node.input[index]].astype(np.float32)
    axis = weight_axis(node.op_type, bool(attribute(node, "transB", 0))) % weights.ndim
    return WeightGrid(scales=weight_scales(weights, axis), axis=axis)


def _has_constant_bias(graph: GraphView, node: NodeProto) -> bool:
    return len(node.input) > 2 and node.input[2] in graph.constants and node.op_type in ("Conv", "Gemm")
