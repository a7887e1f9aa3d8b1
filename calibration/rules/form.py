"""Rules on the form of a model: its versions, its operators, its shapes."""

from collections.abc import Iterator

import onnx
from onnx import ModelProto

from calibration.graphs import IR_VERSION, OPSET
from calibration.rules.view import AnyGraph, external_tensors, label

OPSETS = range(13, OPSET + 1)
"""From the first Q/DQ per channel to what TensorRT 10.3 reads."""
OPERATORS = frozenset({
    "Abs", "Add", "And", "AveragePool", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "DequantizeLinear", "Div", "Equal", "Erf", "Exp", "Expand", "Flatten", "Gather", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Less", "Log", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "Not", "Or", "PRelu", "Pad",
    "Pow", "QuantizeLinear", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu",
    "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile",
    "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""What our networks are made of and TensorRT 10.3 reads; a new one is added when its first graph has been built."""
CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
SIZED_BY_VALUES = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
SHAPE_OPERANDS = {
    "ConstantOfShape": (0,), "Expand": (1,), "Pad": (1, 3), "ReduceMax": (1,), "ReduceMean": (1,), "ReduceMin": (1,),
    "ReduceSum": (1,), "Reshape": (1,), "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Tile": (1,),
    "Unsqueeze": (1,),
}  # fmt: skip
"""Which inputs of an operator decide the shape of what it makes."""
_INSTEAD = {
    "BatchNormalization": "fold it into the convolution before it",
    "Dropout": "export for inference, not for training",
    "DynamicQuantizeLinear": "quantize with constant scales, from calibration",
    "QLinearConv": "write Conv between DequantizeLinear and QuantizeLinear",
    "ConvInteger": "write Conv between DequantizeLinear and QuantizeLinear",
}


def opset(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find a version of the operators that TensorRT 10.3 does not read."""
    if view.opset not in OPSETS:
        yield "graph", f"opset {view.opset}: expected {OPSETS.start} to {OPSETS.stop - 1}"


def ir_version(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find a file format that is too new."""
    if view.model.ir_version > IR_VERSION:
        yield "graph", f"IR version {view.model.ir_version}: expected at most {IR_VERSION}"


def external_data(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find weights that the model only points at."""
    for tensor in external_tensors(view.model):
        where = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        yield tensor.name or "graph", f"its values lie in another file, {where!r}"


def unsupported_operator(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find operators that are not known to build, but for those of which another rule speaks."""
    for node in view.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield label(node), f"{node.op_type} of the domain {node.domain!r}, which is not ONNX's own"
        elif node.op_type not in OPERATORS | CONTROL_FLOW | SIZED_BY_VALUES:
            hint = f": {_INSTEAD[node.op_type]}" if node.op_type in _INSTEAD else ""
            yield label(node), f"{node.op_type} is not among the operators known to build{hint}"


def control_flow(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find graphs inside the graph."""
    for node in view.nodes:
        if node.op_type in CONTROL_FLOW:
            yield label(node), f"{node.op_type} decides at run time what is computed"


def data_dependent_shape(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find tensors whose shape follows from values."""
    for node in view.nodes:
        if node.op_type in SIZED_BY_VALUES:
            yield label(node), f"what {node.op_type} makes is as large as its input's values say"
        for position in SHAPE_OPERANDS.get(node.op_type, ()):
            if position < len(node.input) and view.depends_on_data(node.input[position]):
                yield label(node), f"input {position} of {node.op_type} is a shape that is computed from data"


def dynamic_dimension(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find inputs of which more than the batch is left open."""
    for value in view.inputs:
        dimensions = list(value.type.tensor_type.shape.dim)[1:]
        named = {n: one.dim_param or "?" for n, one in enumerate(dimensions, 1) if one.dim_value <= 0}
        if named:
            listed = ", ".join(f"{n} ({name})" for n, name in named.items())
            yield value.name, f"the input's dimension {listed} is open: expected the batch alone, dimension 0"


def invalid_graph(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find what ONNX itself refuses; silent where a rule above says it better."""
    found = complaint(view.model)
    better = (opset, ir_version, external_data, unsupported_operator)
    if found is not None and not any(True for rule in better for _ in rule(view)):
        yield "graph", found


def contradiction(view: AnyGraph) -> Iterator[tuple[str, str]]:
    """Find shapes and types that do not fit each other."""
    found = complaint(view.model, is_thorough=True)
    if found is not None:
        yield "graph", found


def complaint(model: ModelProto, *, is_thorough: bool = False) -> str | None:
    """Return what ONNX's checker says against a model, None when it is sound; types and shapes if thorough."""
    try:
        onnx.checker.check_model(model, full_check=is_thorough)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        return " ".join(str(error).split())[:300]
    return None
