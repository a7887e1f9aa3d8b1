"""Rules on the numbers of Q/DQ: types, zero points, scales, and along which axis weights have them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from calibration.rules.view import DEQUANTIZE, QUANTIZE, WEIGHTED, AnyGraph, attribute, label, type_name

FIRST_OPSET_OF_HALF_SCALES = 19
_BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})


def zero_point(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find zero points that are not zero."""
    for node in _quantizers(view):
        found = _constant(view, node, 2)
        if found is not None and found.astype(np.int64).any():
            yield label(node), f"zero point {_range(found)}: expected 0"


def quantized_type(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find tensors that are quantized to another type than INT8; INT32 has a rule of its own."""
    for node in _quantizers(view):
        tensor = node.output[0] if node.op_type == QUANTIZE else node.input[0]
        kind = view.types.get(tensor, TensorProto.INT8)
        if node.op_type == QUANTIZE and len(node.input) < 3:
            yield label(node), "without a zero point ONNX quantizes to uint8: expected an int8 zero point, 0"
        elif kind not in (TensorProto.INT8, TensorProto.INT32) and view.made_by(tensor, QUANTIZE) in (None, node):
            yield label(node), f"quantized to {type_name(kind)}: expected int8"


def quantized_bias(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find biases behind a DequantizeLinear, and INT32 behind one anywhere."""
    for node in view.nodes:
        if node.op_type == DEQUANTIZE and view.types.get(node.input[0]) == TensorProto.INT32:
            yield label(node), f"{node.input[0]} is int32, which NVIDIA's parser does not dequantize"
        elif node.op_type in _BIASED and len(node.input) > 2:
            bias = view.dequantized(node.input[2])
            if bias is not None and view.types.get(bias.input[0]) != TensorProto.INT32:
                yield label(node), f"its bias {node.input[2]} is quantized"


def computed_scale(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find scales and zero points that are not constants."""
    for node in _quantizers(view):
        computed = [name for name in node.input[1:3] if name and name not in view.constants]
        if computed:
            yield label(node), f"{' and '.join(computed)} are not constants"


def scale_value(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find scales that are no scales."""
    for node in _quantizers(view):
        scale = _constant(view, node, 1)
        if scale is not None and not (np.isfinite(scale).all() and (scale > 0).all() and scale.size):
            yield label(node), f"scale {_range(scale)}: expected positive and finite"


def scale_type(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find scales of another float type than what they scale, or of one that this opset has not."""
    for node in _quantizers(view):
        kind = view.types.get(node.input[1], TensorProto.FLOAT)
        scaled = view.types.get(node.input[0], kind) if node.op_type == QUANTIZE else kind
        half = view.opset < FIRST_OPSET_OF_HALF_SCALES and kind == TensorProto.FLOAT16
        if kind not in (TensorProto.FLOAT, TensorProto.FLOAT16) or scaled != kind:
            yield label(node), f"{type_name(kind)} scale for {type_name(scaled)}: expected float or float16 for both"
        elif half:
            yield label(node), f"float16 scale in opset {view.opset}: expected {FIRST_OPSET_OF_HALF_SCALES} or more"


def scale_mismatch(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find a DequantizeLinear that undoes another quantization than the one before it."""
    for node in view.nodes:
        quantize = view.made_by(node.input[0], QUANTIZE) if node.op_type == DEQUANTIZE else None
        if quantize is None:
            continue
        there, here = _constant(view, quantize, 1), _constant(view, node, 1)
        if there is None or here is None:
            continue
        if there.dtype != here.dtype or not np.array_equal(there, here, equal_nan=True):
            yield label(node), f"scale {_range(here)} undoes {_range(there)} of {label(quantize)}"
        elif here.size > 1 and attribute(node, "axis", 1) != attribute(quantize, "axis", 1):
            yield label(node), f"axis {attribute(node, 'axis', 1)} undoes {attribute(quantize, 'axis', 1)}"


def weight_axis(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find weights with scales along another axis than their output channels."""
    for node, position, dequantize, weights in _quantized_weights(view):
        scale, expected = _constant(view, dequantize, 1), channel_axis(node, position, weights.ndim)
        axis = attribute(dequantize, "axis", 1) % weights.ndim
        if scale is None or scale.size <= 1:
            continue
        if axis != expected:
            yield label(dequantize), f"scales along axis {axis}: expected {expected} for the weights of {node.op_type}"
        elif scale.size != weights.shape[axis]:
            yield label(dequantize), f"{scale.size} scales for {weights.shape[axis]} channels"


def per_tensor_weights(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find weights that share one scale."""
    for node, position, dequantize, weights in _quantized_weights(view):
        scale, axis = _constant(view, dequantize, 1), channel_axis(node, position, weights.ndim)
        if scale is not None and scale.size == 1 and weights.shape[axis] > 1:
            yield label(dequantize), f"one scale for {weights.shape[axis]} output channels of {node.op_type}"


def per_channel_activation(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find activations with more than one scale."""
    for node in _quantizers(view):
        scale = _constant(view, node, 1)
        is_constant = (
            node.input[0] in view.constants if node.op_type == QUANTIZE else view.quantized_constant(node) is not None
        )
        if scale is not None and scale.size > 1 and not is_constant:
            yield label(node), f"{scale.size} scales for an activation: expected one"


def channel_axis(node: NodeProto, position: int, rank: int) -> int:
    """Return the axis of the output channels in the weights of a Conv, ConvTranspose, Gemm or MatMul."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        is_transposed = attribute(node, "transB" if position else "transA", 0) != 0
        return int(not is_transposed) if position else int(is_transposed)
    if node.op_type == "MatMul":
        return rank - 1 if position else max(rank - 2, 0)
    return 1


def _quantizers(view: AnyGraph) -> Iterator[NodeProto]:
    return (node for node in view.nodes if node.op_type in (QUANTIZE, DEQUANTIZE) and len(node.input) > 1)


def _quantized_weights(view: AnyGraph) -> Iterator[tuple[NodeProto, int, NodeProto, NDArray[Any]]]:
    """Yield (node, position of the operand, its DequantizeLinear, its values)."""
    for node in view.nodes:
        for position, name in enumerate(node.input[:2] if node.op_type in WEIGHTED else ()):
            dequantize = view.dequantized(name)
            weights = None if dequantize is None else view.quantized_constant(dequantize)
            if dequantize is not None and weights is not None and weights.ndim > 1:
                yield node, position, dequantize, weights


def _constant(view: AnyGraph, node: NodeProto, position: int) -> NDArray[Any] | None:
    return view.constants.get(node.input[position]) if position < len(node.input) else None


def _range(values: NDArray[Any]) -> str:
    if not values.size:
        return "of no numbers"
    low, high = values.astype(np.float64).min(), values.astype(np.float64).max()
    return f"{low:.4g}" if low == high or values.size == 1 else f"{low:.4g} to {high:.4g}"
