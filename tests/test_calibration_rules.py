import re
from dataclasses import dataclass

import breaking
import numpy as np
import onnx
import pytest
from drawing import Drawing, float_network, half_entropy, quantized_network
from onnx import TensorProto

from calibration.plans import engine
from calibration.rules import RULES, check_graph
from models.bundle import open_bundle, shipped_bundle
from models.errors import BundleError


def half_quantized():
    return quantized_network(np.float16)


def matrix_products():
    """Return a Gemm without transposition and a MatMul, both quantized, between 8 and 8."""
    draw = Drawing()
    flat = draw.add("Flatten", draw.add("GlobalAveragePool", draw.activation(draw.conv("input", 3), "Relu")))
    for operator in ("Gemm", "MatMul"):
        flat = draw.add(operator, draw.qdq(flat), draw.quantized_weights(draw.random(8, 8), 1, True))
    return draw.model(flat)


def transposed_product():
    """Return a quantized Gemm with transB between 8 and 8."""
    draw = Drawing()
    flat = draw.add("Flatten", draw.add("GlobalAveragePool", draw.activation(draw.conv("input", 3), "Relu")))
    return draw.model(draw.add("Gemm", draw.qdq(flat), draw.quantized_weights(draw.random(8, 8), 0, True), transB=1))


def upsampling():
    """Return a quantized transposed convolution from 8 to 8."""
    draw = Drawing()
    tensor = draw.activation(draw.conv("input", 3), "Relu")
    kernel = draw.quantized_weights(draw.random(8, 8, 2, 2), 1, True)
    return draw.model(draw.classify(draw.add("ConvTranspose", draw.qdq(tensor), kernel, strides=[2, 2])))


def quantized_for_nothing():
    """Return a float network with one pair in front of its pool."""
    draw = Drawing()
    tensor = draw.activation(draw.conv("input", 3, is_quantized=False), "Relu")
    return draw.model(draw.classify(draw.qdq(tensor)))


def half_quantized_for_nothing():
    """Return the same in float16."""
    draw = Drawing(dtype=np.float16)
    tensor = draw.activation(draw.conv("input", 3, is_quantized=False), "Relu")
    return draw.model(draw.classify(draw.add("Cast", draw.qdq(tensor), to=TensorProto.FLOAT16)))


def bytes_in():
    """Return a network that takes an image as bytes."""
    draw = Drawing()
    numbers = draw.add("Mul", draw.add("Cast", "input", to=TensorProto.FLOAT), draw.constant(1 / 255))
    model = draw.model(draw.classify(draw.activation(draw.conv(numbers, 3), "Relu")))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


def any_batch():
    model = quantized_network()
    for one in (*model.graph.input, *model.graph.output):
        one.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def opset_18():
    model = quantized_network()
    model.opset_import[0].version = 18
    return model


LEGAL = (
    any_batch, bytes_in, float_network, half_entropy, half_quantized,
    half_quantized_for_nothing, matrix_products, opset_18,
    quantized_for_nothing, quantized_network, transposed_product, upsampling,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A legal graph, what is changed in it, and the one rule that it then breaks."""

    rule: str
    legal: object
    broken: object
    nvidia_builds: bool | None
    """Whether TensorRT-RTX 1.7 makes a plan of it: where it does, our rules ask for more. None: it takes the process
    down, so that nobody asks it."""


CASES = {
    "opset of tomorrow": Case("opset", quantized_network, breaking.opset(21), True),
    "opset of long ago": Case("opset", float_network, breaking.opset(12), True),
    "newer format": Case("ir-version", quantized_network, breaking.newer_format, True),
    "weights elsewhere": Case("external-data", quantized_network, breaking.weights_elsewhere, False),
    "unknown operator": Case("unsupported-operator", quantized_network, breaking.unknown_operator, True),
    "foreign operator": Case("unsupported-operator", quantized_network, breaking.foreign_operator, True),
    "branch": Case("control-flow", quantized_network, breaking.branch, True),
    "boolean indexing": Case("data-dependent-shape", float_network, breaking.boolean_indexing, False),
    "positions of values": Case("data-dependent-shape", float_network, breaking.positions_of_values, False),
    "computed shape": Case("data-dependent-shape", float_network, breaking.computed_shape, False),
    "missing tensor": Case("invalid-graph", quantized_network, breaking.missing_tensor, False),
    "sum of other size": Case("contradiction", float_network, breaking.sum_of_other_size, False),
    "open height": Case("dynamic-dimension", float_network, breaking.open_height, True),
    "no shape": Case("invalid-graph", float_network, breaking.no_shape, False),
    "double": Case("unsupported-type", float_network, breaking.double, True),
    "bytes without a Cast": Case("unsupported-type", float_network, breaking.bytes_without_a_cast, False),
    "whole numbers": Case("int64-data", float_network, breaking.whole_numbers, True),
    "NaN in a bias": Case("non-finite-weight", quantized_network, breaking.set_in_bias(np.nan), True),
    "infinite bias": Case("non-finite-weight", float_network, breaking.set_in_bias(np.inf), True),
    "two float types": Case("mixed-types", float_network, breaking.two_float_types, False),
    "weights left in float32": Case("mixed-types", half_entropy, breaking.weights_left_in_float32, False),
    "clamp at 1e-7": Case("fp16-underflow", half_entropy, breaking.clamp_at(1e-7), True),
    "clamp at zero": Case("fp16-underflow", half_entropy, breaking.clamp_half_at_zero, True),
    "epsilon": Case("fp16-underflow", half_entropy, breaking.tiny_epsilon, True),
    "tiny scale": Case("fp16-underflow", half_quantized, breaking.tiny_half_scale, True),
    "softmax": Case("fp16-softmax", half_entropy, breaking.no_island("Softmax"), True),
    "logarithm": Case("fp16-softmax", half_entropy, breaking.no_island("Log"), True),
    "zero point": Case("zero-point", quantized_network, breaking.zero_point_of_activation(3), False),
    "negative zero point": Case("zero-point", quantized_network, breaking.zero_point_of_activation(-128), False),
    "zero point of weights": Case("zero-point", quantized_network, breaking.zero_point_of_weights, False),
    "uint8": Case("quantized-type", quantized_network, breaking.quantized_to(np.uint8), True),
    "int16": Case("quantized-type", quantized_network, breaking.quantized_to(np.int16), False),
    "no zero point": Case("quantized-type", quantized_network, breaking.no_zero_point, True),
    "int32 bias": Case("quantized-bias", quantized_network, breaking.dequantized_bias(np.int32), False),
    "int8 bias": Case("quantized-bias", quantized_network, breaking.dequantized_bias(np.int8), True),
    "computed scale": Case("computed-scale", quantized_network, breaking.scale_from_data, None),
    "scale 0": Case("scale-value", quantized_network, breaking.scale_of(0), False),
    "scale -1": Case("scale-value", quantized_network, breaking.scale_of(-1), False),
    "scale inf": Case("scale-value", quantized_network, breaking.scale_of(np.inf), True),
    "scale NaN": Case("scale-value", quantized_network, breaking.scale_of(np.nan), False),
    "one scale 0": Case("scale-value", quantized_network, breaking.one_channel_scale_zero, False),
    "float32 scale in half": Case("scale-type", half_quantized, breaking.float32_scale_in_half, True),
    "half scale of opset 18": Case("scale-type", half_quantized_for_nothing, breaking.opset(18), True),
    "other scale back": Case("scale-mismatch", quantized_network, breaking.other_scale_back, True),
    "other axis back": Case("scale-mismatch", quantized_network, breaking.other_axis_back, True),
    "axis 1 of Conv": Case("weight-axis", quantized_network, breaking.axis_of_weights("Conv", 1), True),
    "no axis of Conv": Case("weight-axis", quantized_network, breaking.axis_of_weights("Conv", None), True),
    "axis 0 of Gemm": Case("weight-axis", matrix_products, breaking.axis_of_weights("Gemm", 0), True),
    "axis 1 of Gemm with transB": Case("weight-axis", transposed_product, breaking.axis_of_weights("Gemm", 1), True),
    "axis 0 of MatMul": Case("weight-axis", matrix_products, breaking.axis_of_weights("MatMul", -2), True),
    "axis 0 of ConvTranspose": Case("weight-axis", upsampling, breaking.axis_of_weights("ConvTranspose", 0), True),
    "too few scales": Case("weight-axis", quantized_network, breaking.too_few_scales, False),
    "one scale for weights": Case("per-tensor-weights", quantized_network, breaking.one_scale_for_weights, True),
    "scales of channels": Case(
        "per-channel-activation", quantized_network, breaking.scale_per_channel_of_activation, True
    ),
    "quantized output": Case("lone-quantize", quantized_network, breaking.quantized_output, True),
    "quantized to nowhere": Case("lone-quantize", quantized_network, breaking.quantized_to_nowhere, True),
    "quantized input": Case("lone-dequantize", float_network, breaking.quantized_input, True),
    "float activation": Case("float-activation", quantized_network, breaking.activation_from_before_its_pair, True),
    "float weights": Case("float-weights", quantized_network, breaking.weights_in_float, True),
    "pair before activation": Case("split-fusion", quantized_network, breaking.pair_before_activation, True),
    "pairs on both addends": Case("split-fusion", quantized_network, breaking.pairs_on_both_addends, True),
    "float skip": Case("unquantized-skip", quantized_network, breaking.float_skip, True),
}


def broken(case):
    model = case.legal()
    case.broken(model, lambda places: places[0])
    return model


def rules_broken(model):
    return {violation.rule for violation in check_graph(model)}


@pytest.mark.parametrize("legal", LEGAL)
def test_a_legal_graph_breaks_no_rule(legal):
    model = legal()
    onnx.checker.check_model(model, full_check=True)
    assert check_graph(model) == []


def test_every_rule_is_broken_by_a_case_whose_origin_is_legal():
    assert {case.rule for case in CASES.values()} == {rule.name for rule in RULES}
    assert {case.legal for case in CASES.values()} <= set(LEGAL)


@pytest.mark.parametrize("name", CASES)
def test_a_broken_graph_breaks_its_rule_alone(name):
    assert rules_broken(broken(CASES[name])) == {CASES[name].rule}


@pytest.mark.parametrize("name", CASES)
def test_a_violation_names_a_place_a_reason_and_a_remedy(name):
    model = broken(CASES[name])
    tensors = [*model.graph.initializer, *model.graph.input]
    places = {"graph", *(node.name for node in model.graph.node), *(tensor.name for tensor in tensors)}
    for violation in check_graph(model):
        assert violation.node in places
        assert re.fullmatch(r"\S.*\S", violation.reason)
        assert len(violation.reason) <= 300
        assert violation.fix


@pytest.fixture(scope="module")
def trt():
    return pytest.importorskip(
        "tensorrt_rtx", reason="needs NVIDIA's builder: pip install 'uav-fusion-edge[trt-check]'"
    )


def builds(trt, model):
    graph = model.SerializeToString()
    if engine.parse(trt, graph):
        return False
    try:
        return len(engine.build(trt, graph)) > 0
    except BundleError:
        return False


@pytest.mark.parametrize("legal", LEGAL)
def test_nvidia_builds_every_legal_graph(trt, legal):
    assert builds(trt, legal())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.nvidia_builds is not None])
def test_what_nvidia_makes_of_a_broken_graph_is_on_record(trt, name):
    assert builds(trt, broken(CASES[name])) == CASES[name].nvidia_builds


def test_what_nvidia_refuses_is_an_error():
    severities = {rule.name: rule.severity for rule in RULES}
    assert all(case.nvidia_builds for case in CASES.values() if severities[case.rule] == "warning")


def test_the_shipped_graphs_break_no_rule_and_build(trt):
    bundle = open_bundle(shipped_bundle())
    for entry in bundle.manifest.graphs:
        model = onnx.load_from_string(bundle.contents[entry.file])
        assert check_graph(model) == []
        assert builds(trt, model)
