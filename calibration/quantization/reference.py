"""A graph computed in NumPy, quantized as a plan says: what every emitted INT8 graph is checked against.

It runs the FP32 graph and rounds where the plan says so, by the arithmetic of `models/quantization.py`; it never looks
at the emitted graph. Operators as in the ONNX specification, opset 20, as far as our graphs use them.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import NodeProto, helper

from calibration.quantization.operators import GraphView, attribute
from calibration.quantization.plan import Plan
from models.errors import BundleError
from models.quantization import along, fake_quantize, quantize_bias, quantize_weights

Arrays = dict[str, NDArray[Any]]


def run_reference(graph: GraphView, feeds: Mapping[str, NDArray[Any]], plan: Plan | None = None) -> Arrays:
    """Return every tensor of a graph by name, as it is before it is quantized for those who take it.

    Args:
        graph: an FP32 graph.
        feeds: its inputs, (batch, ...).
        plan: what to quantize; nothing by default.
    Raises:
        BundleError: an operator is used in a way that our graphs do not.
    """
    tensors: Arrays = {**graph.constants, **feeds}
    for node in graph.nodes:
        inputs = [_input(tensors, node, n, plan) for n in range(len(node.input))]
        tensors[node.output[0]] = OPERATORS[node.op_type](node, inputs)
    return {name: value for name, value in tensors.items() if name not in graph.constants}


def _input(tensors: Arrays, node: NodeProto, index: int, plan: Plan | None) -> Any:
    """Return one input as its node sees it; None where it is left out."""
    name, edge = node.input[index], (node.name, index)
    if not name:
        return None
    value = tensors[name]
    if plan is None:
        return value
    if edge in plan.weights:
        grid = plan.weights[edge]
        integers = quantize_weights(value, grid.scales, grid.axis)
        return integers.astype(np.float32) * along(grid.scales, value.ndim, grid.axis)
    if edge in plan.biases:
        return quantize_bias(value, plan.biases[edge]).astype(np.float32) * plan.biases[edge]
    return fake_quantize(value, plan.affines[name]) if plan.is_quantized(name, edge) else value


def _convolve(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    """Cross-correlate (batch, channels, *places) with (outputs, channels / groups, *kernel)."""
    values, weights = inputs[0], inputs[1]
    places = values.ndim - 2
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b""):
        raise _unusual(node, "auto_pad")
    strides, dilations = _integers(node, "strides", [1] * places), _integers(node, "dilations", [1] * places)
    pads = _integers(node, "pads", [0] * 2 * places)
    groups = cast(int, attribute(node, "group", 1))
    edges = [(pads[n], pads[n + places]) for n in range(places)]
    padded = np.pad(values, [(0, 0), (0, 0), *edges])
    spans = [(size - 1) * step + 1 for size, step in zip(weights.shape[2:], dilations, strict=True)]
    windows = sliding_window_view(padded, spans, axis=tuple(range(2, 2 + places)))
    steps = [slice(None, None, step) for step in strides]
    holes = [slice(None, None, step) for step in dilations]
    everything = [slice(None)] * 2
    windows = windows[tuple(everything + steps + holes)]
    kernel_axes = [1, *range(2 + places, 2 + 2 * places)]
    parts = [
        np.tensordot(windows_of, weights_of, (kernel_axes, list(range(1, 2 + places))))
        for windows_of, weights_of in zip(np.split(windows, groups, 1), np.split(weights, groups, 0), strict=True)
    ]
    result = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    if len(inputs) > 2 and inputs[2] is not None:
        result = result + along(inputs[2], result.ndim, 1)
    return result


def _dense(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    left = inputs[0].T if attribute(node, "transA", 0) else inputs[0]
    right = inputs[1].T if attribute(node, "transB", 0) else inputs[1]
    result = np.float32(attribute(node, "alpha", 1.0)) * (left @ right)
    if len(inputs) > 2 and inputs[2] is not None:
        result = result + np.float32(attribute(node, "beta", 1.0)) * inputs[2]
    return cast(NDArray[Any], result)


def _clip(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    low, high = (inputs[n] if len(inputs) > n else None for n in (1, 2))
    return inputs[0] if low is None and high is None else np.clip(inputs[0], low, high)


def _reduce(function: Callable[..., NDArray[Any]]) -> Callable[[NodeProto, list[NDArray[Any]]], NDArray[Any]]:
    def reduce(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
        if len(inputs) < 2 or inputs[1] is None or not inputs[1].size:
            raise _unusual(node, "no axes")
        axes = tuple(int(one) for one in inputs[1])
        return function(inputs[0], axis=axes, keepdims=bool(attribute(node, "keepdims", 1)))

    return reduce


def _reshape(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    shape = [int(one) for one in inputs[1]]
    if not attribute(node, "allowzero", 0):
        shape = [inputs[0].shape[n] if size == 0 else size for n, size in enumerate(shape)]
    return inputs[0].reshape(shape)


def _flatten(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    axis = cast(int, attribute(node, "axis", 1)) % (inputs[0].ndim + 1)
    return inputs[0].reshape(int(np.prod(inputs[0].shape[:axis])), -1)


def _slice(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    starts, ends = inputs[1], inputs[2]
    axes = inputs[3] if len(inputs) > 3 and inputs[3] is not None else np.arange(len(starts))
    steps = inputs[4] if len(inputs) > 4 and inputs[4] is not None else np.ones(len(starts), np.int64)
    parts = [slice(None)] * inputs[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        parts[int(axis)] = slice(int(start), int(end), int(step))
    return inputs[0][tuple(parts)]


def _log_softmax(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    axis = cast(int, attribute(node, "axis", -1))
    shifted = inputs[0] - inputs[0].max(axis=axis, keepdims=True)
    return cast(NDArray[Any], shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def _unsqueeze(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    return np.expand_dims(inputs[0], tuple(int(one) for one in inputs[1]))


def _squeeze(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    return np.squeeze(inputs[0], tuple(int(one) for one in inputs[1]) if len(inputs) > 1 else None)


def _cast(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    return inputs[0].astype(helper.tensor_dtype_to_np_dtype(cast(int, attribute(node, "to", 1))))


def _transpose(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    return np.transpose(inputs[0], _integers(node, "perm", list(range(inputs[0].ndim))[::-1]))


def _pool(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    return cast(NDArray[Any], inputs[0].mean(axis=tuple(range(2, inputs[0].ndim)), keepdims=True))


def _concatenate(node: NodeProto, inputs: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(inputs, axis=cast(int, attribute(node, "axis", 0)))


OPERATORS: dict[str, Callable[[NodeProto, list[NDArray[Any]]], NDArray[Any]]] = {
    "Add": lambda node, inputs: inputs[0] + inputs[1],
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concatenate,
    "Conv": _convolve,
    "Div": lambda node, inputs: inputs[0] / inputs[1],
    "Exp": lambda node, inputs: np.exp(inputs[0]),
    "Flatten": _flatten,
    "Gemm": _dense,
    "GlobalAveragePool": _pool,
    "Identity": lambda node, inputs: inputs[0],
    "LogSoftmax": _log_softmax,
    "MatMul": lambda node, inputs: inputs[0] @ inputs[1],
    "Mul": lambda node, inputs: inputs[0] * inputs[1],
    "Neg": lambda node, inputs: -inputs[0],
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    "ReduceSum": _reduce(np.sum),
    "Relu": lambda node, inputs: np.maximum(inputs[0], 0),
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": lambda node, inputs: np.exp(_log_softmax(node, inputs)),
    "Squeeze": _squeeze,
    "Sub": lambda node, inputs: inputs[0] - inputs[1],
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def _integers(node: NodeProto, name: str, default: list[int]) -> list[int]:
    return [int(one) for one in cast(list[int], attribute(node, name, default))]


def _unusual(node: NodeProto, what: str) -> BundleError:
    return BundleError(
        f"node {node.name}: {node.op_type} with {what}, which our graphs do not use: export the bundle anew"
    )
