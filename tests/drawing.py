"""Small graphs drawn for tests of the TensorRT rules: legal ones, by the block."""

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 8
SIZE = 12


@dataclass
class Drawing:
    """A graph in the making; each method adds nodes and returns the name of what they make."""

    dtype: type = np.float32
    seed: int = 0
    nodes: list = field(default_factory=list)
    constants: list = field(default_factory=list)
    pairs: dict = field(default_factory=dict)

    def add(self, operator, *inputs, **attributes):
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def constant(self, values, dtype=None):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype or self.dtype), name))
        return name

    def random(self, *shape):
        return np.random.default_rng(self.seed + len(self.constants)).normal(0, 0.3, shape).astype(self.dtype)

    def qdq(self, tensor, scale=0.05):
        """Quantize an activation and back; a tensor has one pair, however many take it."""
        if tensor not in self.pairs:
            numbers = (self.constant(scale), self.constant(0, np.int8))
            self.pairs[tensor] = self.add("DequantizeLinear", self.add("QuantizeLinear", tensor, *numbers), *numbers)
        return self.pairs[tensor]

    def quantized_weights(self, weights, axis, is_stored):
        others = tuple(n for n in range(weights.ndim) if n != axis)
        scales = (np.abs(weights).max(others) / 127 + 1e-4).astype(self.dtype)
        numbers = (self.constant(scales), self.constant(np.zeros(len(scales)), np.int8))
        if is_stored:
            shape = [-1 if n == axis else 1 for n in range(weights.ndim)]
            source = self.constant(np.clip(np.rint(weights / scales.reshape(shape)), -128, 127), np.int8)
        else:
            source = self.add("QuantizeLinear", self.constant(weights), *numbers, axis=axis)
        return self.add("DequantizeLinear", source, *numbers, axis=axis)

    def conv(self, tensor, inputs=CHANNELS, *, is_quantized=True, is_stored=True):
        weights, bias = self.random(CHANNELS, inputs, 3, 3), self.constant(self.random(CHANNELS))
        if is_quantized:
            tensor, kernel = self.qdq(tensor), self.quantized_weights(weights, 0, is_stored)
        else:
            kernel = self.constant(weights)
        return self.add("Conv", tensor, kernel, bias, pads=[1, 1, 1, 1])

    def activation(self, tensor, operator):
        if operator == "Clip":
            return self.add("Clip", tensor, self.constant(0), self.constant(6))
        return self.add(operator, tensor) if operator else tensor

    def residual(self, tensor, operator="Relu", *, is_stored=True):
        inner = self.activation(self.conv(tensor, is_stored=is_stored), operator)
        return self.activation(self.add("Add", self.conv(inner, is_stored=is_stored), self.qdq(tensor)), operator)

    def classify(self, tensor, *, is_quantized=False, is_transposed=True):
        flat = self.add("Flatten", self.add("GlobalAveragePool", tensor))
        weights = self.random(5, CHANNELS) if is_transposed else self.random(CHANNELS, 5)
        if is_quantized:
            flat, kernel = self.qdq(flat), self.quantized_weights(weights, int(not is_transposed), True)
        else:
            kernel = self.constant(weights)
        return self.add("Gemm", flat, kernel, self.constant(self.random(5)), transB=int(is_transposed))

    def model(self, output, opset=20):
        """Return the model with its input, and `output` as `logits`."""
        self.nodes.append(helper.make_node("Identity", [output], ["logits"], name="logits"))
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes,
            "drawn",
            [helper.make_tensor_value_info("input", kind, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("logits", TensorProto.UNDEFINED, None)],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        return with_inferred_output(model)


def with_inferred_output(model):
    """Return the model with the type of its outputs, as shape inference finds it."""
    inferred = onnx.shape_inference.infer_shapes(model)
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    return model


def quantized_network(dtype=np.float32):
    """Return a stem, a residual block, a convolution with a Clip, a quantized and a float classifier behind it."""
    draw = Drawing(dtype=dtype)
    tensor = draw.activation(draw.conv("input", 3), "Relu")
    tensor = draw.residual(tensor)
    tensor = draw.activation(draw.conv(tensor, is_stored=False), "Clip")
    return draw.model(draw.classify(tensor, is_quantized=True))


def float_network(dtype=np.float32):
    """Return the same in float."""
    draw = Drawing(dtype=dtype)
    tensor = draw.activation(draw.conv("input", 3, is_quantized=False), "Relu")
    return draw.model(draw.classify(draw.activation(draw.conv(tensor, is_quantized=False), "Clip")))


def half_entropy():
    """Return a float16 network whose entropy is computed in an island of float32, from a clamp in float16."""
    draw = Drawing(dtype=np.float16)
    logits = draw.classify(draw.activation(draw.conv("input", 3, is_quantized=False), "Relu"))
    clamped = draw.add("Clip", draw.add("Abs", logits), draw.constant(1e-3))
    island = draw.add("Log", draw.add("Cast", clamped, to=TensorProto.FLOAT))
    probs = draw.add("Softmax", draw.add("Cast", logits, to=TensorProto.FLOAT), axis=-1)
    product = draw.add("Mul", island, probs)
    return draw.model(draw.add("Add", draw.add("Cast", product, to=TensorProto.FLOAT16), draw.constant(0.5)))
