"""Rules on types and numbers: what TensorRT has no type for, and what half precision cannot hold."""

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, TensorProto

from calibration.rules.form import SHAPE_OPERANDS, SIZED_BY_VALUES
from calibration.rules.view import DEQUANTIZE, QUANTIZE, AnyGraph, label, type_name

TYPES = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL})
SMALLEST_GUARD = 1e-4
"""Below it float16 loses digits, and what was to keep a logarithm from zero no longer does."""
SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)
SAME_TYPE = frozenset({
    "Add", "Clip", "Concat", "Conv", "ConvTranspose", "Div", "Equal", "Gemm", "Greater", "Less", "MatMul", "Max", "Min",
    "Mul", "PRelu", "Pow", "Sub", "Sum", "Where",
})  # fmt: skip
"""Operators whose inputs are of one type, but for the condition of a Where."""
_SENSITIVE = frozenset({"Exp", "Log", "LogSoftmax", "Softmax"})
_FLOATS = (np.float16, np.float32, np.float64)


def unsupported_type(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find tensors of a type that TensorRT has not, or that only an input may have; INT8 belongs to Q/DQ."""
    quantized = _quantized_tensors(view)
    takers = {value.name: {node.op_type for node in view.consumers.get(value.name, ())} for value in view.inputs}
    for name, kind in view.types.items():
        is_image = kind == TensorProto.UINT8 and takers.get(name) == {"Cast"}
        if kind not in TYPES and name not in quantized and not is_image:
            node = view.producers.get(name)
            yield (name if node is None else label(node)), f"{name} is of type {type_name(kind)}"


def int64_data(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find 64-bit integers that are data and not shapes, of which another rule speaks."""
    for name, kind in view.types.items():
        if kind == TensorProto.INT64 and view.depends_on_data(name) and not _is_shape(view, name):
            node = view.producers.get(name)
            yield (name if node is None else label(node)), f"{name} is int64 computed from data"


def non_finite_weight(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find constants with NaN or infinity, but for bounds of a Clip, and scales, of which another rule speaks."""
    for name, value in view.constants.items():
        takers = view.consumers.get(name, [])
        elsewhere = [n for n in takers if not (n.op_type in ("Clip", QUANTIZE, DEQUANTIZE) and n.input[0] != name)]
        if elsewhere and value.dtype in _FLOATS and not np.isfinite(value).all():
            yield label(elsewhere[0]), f"{name} holds {int((~np.isfinite(value)).sum())} numbers that are not finite"


def mixed_types(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find nodes whose inputs should be of one type and are not."""
    for node in view.nodes:
        if node.op_type in SAME_TYPE:
            inputs = node.input[1:] if node.op_type == "Where" else node.input
            found = sorted({type_name(view.types[name]) for name in inputs if name in view.types})
            if len(found) > 1:
                yield label(node), f"{node.op_type} takes {' and '.join(found)} at once"


def fp16_underflow(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find float16 constants that are too small to do what they are there for."""
    for node in view.nodes:
        for position, name in enumerate(node.input):
            value = view.constants.get(name)
            if value is None or value.dtype != np.float16 or not value.size:
                continue
            smallest = float(np.abs(value).min())
            if node.op_type in (QUANTIZE, DEQUANTIZE) and position == 1 and 0 < smallest < SMALLEST_NORMAL:
                yield label(node), f"scale {smallest:.2g} is below the smallest normal float16, {SMALLEST_NORMAL:.2g}"
            elif value.size == 1 and _guards_nothing(view, node, position, smallest):
                yield (
                    label(node),
                    f"{smallest:.2g} in float16 keeps nothing from zero: expected {SMALLEST_GUARD} or more",
                )


def fp16_softmax(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find exponentials and logarithms in half precision."""
    for node in view.nodes:
        if node.op_type in _SENSITIVE and view.types.get(node.input[0]) == TensorProto.FLOAT16:
            yield label(node), f"{node.op_type} in float16"


def _quantized_tensors(view: AnyGraph) -> set[str]:
    """Return the tensors between Q and DQ, and zero points: the rules on quantization speak of their types."""
    names = set()
    for node in view.nodes:
        if node.op_type in (QUANTIZE, DEQUANTIZE):
            names.update(node.output if node.op_type == QUANTIZE else node.input[:1])
            names.update(node.input[1:])
    return names


def _is_shape(view: AnyGraph, name: str) -> bool:
    """Say whether a tensor is a shape, or has one that its values decide."""
    if view.made_by(name, *SIZED_BY_VALUES):
        return True
    takers = view.consumers.get(name, [])
    return bool(takers) and all(
        list(taker.input).index(name) in SHAPE_OPERANDS.get(taker.op_type, ()) for taker in takers
    )


def _guards_nothing(view: AnyGraph, node: NodeProto, position: int, value: float) -> bool:
    """Say whether a constant is there to keep numbers away from zero, and is too small to."""
    is_bound = node.op_type == "Max" or (node.op_type == "Clip" and position == 1)
    if value == 0:
        return is_bound and _must_not_be_zero(view, node.output[0])
    return value < SMALLEST_GUARD and (is_bound or node.op_type == "Add")


def _must_not_be_zero(view: AnyGraph, name: str) -> bool:
    """Say whether a logarithm or a quotient of a tensor is taken."""
    return any(
        taker.op_type in ("Log", "Reciprocal") or (taker.op_type == "Div" and taker.input[1] == name)
        for taker in view.consumers.get(name, [])
    )
