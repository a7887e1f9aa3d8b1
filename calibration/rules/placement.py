"""Rules on where Q/DQ stand: in pairs, on every operand or none, and never inside of what TensorRT merges."""

from collections.abc import Iterator

from onnx import NodeProto

from calibration.rules.view import DEQUANTIZE, QUANTIZE, WEIGHTED, AnyGraph, label

ACTIVATIONS = frozenset({"Clip", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid", "Tanh"})
"""What TensorRT merges into the Conv, Gemm, MatMul or Add before it."""


def lone_quantize(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find quantized tensors that something other than a DequantizeLinear takes."""
    outputs = {value.name for value in view.model.graph.output}
    for node in view.nodes:
        if node.op_type == QUANTIZE:
            takers = view.consumers.get(node.output[0], [])
            others = [label(taker) for taker in takers if taker.op_type != DEQUANTIZE]
            if others or node.output[0] in outputs or not takers:
                yield label(node), f"goes to {others[0] if others else 'an output or nowhere'}, not to DequantizeLinear"


def lone_dequantize(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find a DequantizeLinear of what neither a QuantizeLinear made nor is constant."""
    for node in view.nodes:
        if node.op_type != DEQUANTIZE or node.input[0] in view.constants:
            continue
        source = view.producers.get(node.input[0])
        if source is None or source.op_type != QUANTIZE:
            yield label(node), f"takes {'an input' if source is None else label(source)}, not a QuantizeLinear"


def float_activation(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find quantized weights that meet a float activation."""
    yield from _half_quantized(view, "weights are quantized, its other operand is not", wants_constant=True)


def float_weights(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find a quantized activation that meets float weights, or another activation in float."""
    yield from _half_quantized(view, "activation is quantized, its other operand is not", wants_constant=False)


def split_fusion(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find Q/DQ between a Conv, Gemm, MatMul or Add and what TensorRT would merge into it."""
    for node in view.nodes:
        if node.op_type in ACTIVATIONS:
            before = _before_quantization(view, node.input[0], *WEIGHTED, "Add")
            if before is not None:
                yield label(node), f"Q/DQ between {label(before)} and its {node.op_type}"
        elif node.op_type == "Add" and all(view.dequantized(name) for name in node.input):
            before = next(filter(None, (_before_quantization(view, name, *WEIGHTED) for name in node.input)), None)
            if before is not None:
                yield label(node), f"both addends are quantized, so that {label(before)} cannot merge with the Add"


def unquantized_skip(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find a residual Add between INT8 convolutions whose skip branch is float."""
    for node in view.nodes:
        if node.op_type != "Add" or any(not view.depends_on_data(name) for name in node.input):
            continue
        is_float = not any(view.dequantized(name) for name in node.input)
        if is_float and any(_is_quantized(view, name) for name in node.input) and _is_quantized_after(view, node):
            yield label(node), "adds a float skip branch to the result of an INT8 operator, and is quantized itself"


def _half_quantized(view: AnyGraph, reason: str, *, wants_constant: bool) -> Iterator[tuple[str, str]]:
    """Yield operators of which one operand is quantized alone, and that is weights or is an activation."""
    for node in view.nodes:
        operands = [view.dequantized(name) for name in node.input[:2]] if node.op_type in WEIGHTED else []
        found = [one for one in operands if one is not None]
        if len(found) == 1 and len(operands) == 2 and (view.quantized_constant(found[0]) is not None) == wants_constant:
            yield label(node), f"its {reason}"


def _before_quantization(view: AnyGraph, name: str, *operators: str) -> NodeProto | None:
    """Return the node of one of these operators that a tensor comes from through one Q and one DQ."""
    dequantize = view.dequantized(name)
    quantize = None if dequantize is None else view.made_by(dequantize.input[0], QUANTIZE)
    return None if quantize is None else view.made_by(quantize.input[0], *operators)


def _is_quantized(view: AnyGraph, name: str) -> bool:
    """Say whether a tensor comes straight out of an operator on INT8 operands."""
    node = view.made_by(name, *WEIGHTED)
    return node is not None and all(view.dequantized(operand) for operand in node.input[:2])


def _is_quantized_after(view: AnyGraph, node: NodeProto) -> bool:
    """Say whether a result is quantized again, at once or behind its activation."""
    takers = view.consumers.get(node.output[0], [])
    activated = [taker.output[0] for taker in takers if taker.op_type in ACTIVATIONS]
    behind = [taker for name in activated for taker in view.consumers.get(name, [])]
    return any(taker.op_type == QUANTIZE for taker in (*takers, *behind))
