import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.plans.engine import NetworkLayer
from calibration.plans.layers import Intent, count_int8, from_inspector, from_network, intents
from calibration.plans.progress import Progress

WANTED = {"conv": Intent(is_int8=True, why=""), "head": Intent(is_int8=False, why="left in float")}


def inspected(*layers):
    return from_inspector({"Layers": list(layers)}, WANTED)


@pytest.mark.parametrize(
    ("told", "precision"),
    [
        ({"Weights": {"Type": "Int8", "Count": 4}}, "INT8"),
        ({"Weights": {"Type": "Half", "Count": 4}, "Inputs": [{"Format/Datatype": "Row major Int8"}]}, "FP16"),
        ({"Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}]}, "INT8"),
        ({"Inputs": [{"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}]}, "FP16"),
        ({"Inputs": [{"Format/Datatype": "Row major linear FP32"}]}, "FP32"),
        ({"Inputs": [{"Format/Datatype": "Float"}]}, "FP32"),
        ({"Inputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]}, "unknown"),
        ({"Inputs": ["a"]}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_precision_is_that_of_the_weights_else_of_the_input(told, precision):
    (layer,) = inspected({"Name": "x", **told})
    assert layer.precision == precision


def test_a_plan_without_details_still_names_its_layers():
    layers = inspected("conv + relu", "head")
    assert [(layer.nodes, layer.precision) for layer in layers] == [
        (("conv", "relu"), "unknown"),
        (("head",), "unknown"),
    ]
    assert layers[1].why == "left in float"


def test_a_layer_that_only_moves_numbers_has_no_reason_to_give():
    (layer,) = inspected({"Name": "copy", "LayerType": "Reformat", "Metadata": "[ONNX Layer: conv]"})
    assert (layer.is_int8_wanted, layer.why) == (False, "")


def network_layer(name, kind, inputs, dtype="FLOAT", metadata=""):
    return NetworkLayer(name=name, kind=kind, inputs=inputs, outputs=(f"{name}_out",), dtype=dtype, metadata=metadata)


def test_a_network_layer_is_int8_where_both_operands_are_dequantized_behind_a_change_of_shape():
    layers = from_network(
        [
            network_layer("a", "DEQUANTIZE", ("x", "scale")),
            network_layer("wide", "UNSQUEEZE", ("a_out",)),
            network_layer("w", "DEQUANTIZE", ("weights", "scale")),
            network_layer("c", "CONVOLUTION", ("wide_out", "w_out"), metadata="[ONNX Layer: conv]"),
            network_layer("h", "CONVOLUTION", ("a_out", "weights"), "HALF", "[ONNX Layer: head]"),
            network_layer("b", "ELEMENTWISE", ("c_out", "bias"), metadata="[ONNX Layer: conv]"),
        ],
        WANTED,
    )
    assert [(one.name, one.precision, one.why) for one in layers] == [
        ("c", "INT8", ""), ("h", "FP16", "left in float"), ("b", "FP32", ""),
    ]  # fmt: skip
    assert count_int8(layers) == (1, 1)


def quantized(channels, group=1, weights=True):
    """Return a convolution whose input is quantized, and its weights where asked."""
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["a"], name="dq"),
        helper.make_node("Conv", ["a", "w" if weights else "floats"], ["out"], name="conv", group=group),
    ]
    shape = (channels, channels // group, 3)
    constants = {"scale": np.float32(0.1), "integers": np.ones(shape, np.int8), "floats": np.ones(shape, np.float32)}
    if weights:
        nodes.insert(2, helper.make_node("DequantizeLinear", ["integers", "scale"], ["w"], name="dqw"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, channels, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    ("model", "is_int8", "why"),
    [
        (quantized(8), True, ""),
        (quantized(8, group=8), True, "grouped convolution"),
        (quantized(6), True, "from 6 to 6 channels, no multiples of 4"),
        (quantized(8, weights=False), False, "only the input is quantized"),
    ],
)
def test_what_the_graph_wants_of_a_convolution_is_told_with_what_stands_in_the_way(model, is_int8, why):
    assert (intents(model)["conv"].is_int8, why in intents(model)["conv"].why) == (is_int8, True)


def test_a_graph_without_quantization_wants_nothing():
    model = quantized(8)
    del model.graph.node[:-1]
    model.graph.node[0].input[:] = ["input", "floats"]
    onnx.checker.check_model(model)
    assert intents(model) == {}


def recorded():
    shares, names = [], []
    return Progress(shares.append, names.append), shares, names


def test_progress_counts_phases_within_phases_as_parts_of_a_step():
    progress, shares, names = recorded()
    progress.start("all", None, 2)
    progress.start("part", "all", 4)
    assert progress.step("part", 0)
    assert progress.step("part", 1)
    progress.finish("part")
    progress.step("all", 0)
    progress.finish("all")
    assert shares == [0.125, 0.25, 0.5, 1.0]
    assert names == ["all", "part"]


def test_progress_never_falls_and_survives_phases_that_nobody_announced():
    progress, shares, _ = recorded()
    progress.step("unknown", 3)
    progress.start("one", None, 1)
    progress.step("one", 0)
    progress.start("two", None, 0)
    progress.step("two", -1)
    progress.finish("unknown")
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)


def test_a_cancelled_build_is_told_so_at_its_next_step():
    progress, _, _ = recorded()
    progress.start("all", None, 2)
    assert progress.step("all", 0)
    progress.cancel()
    assert not progress.step("all", 1)
    progress.finish("all")
    assert progress.is_cancelled


def test_only_the_outer_phases_are_told():
    progress, _, names = recorded()
    progress.start("all", None, 1)
    progress.start("part", "all", 1)
    progress.start("detail", "part", 1)
    assert names == ["all", "part"]
