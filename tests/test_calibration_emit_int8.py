from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_graphs import graph_bytes, observed_ranges, radio_branch, residual_branch, weights

from calibration.graphs import with_batch
from calibration.quantization.clipping import sqnr_db
from calibration.quantization.emit_int8 import emit_int8
from calibration.quantization.operators import view
from calibration.quantization.plan import default_float_nodes, plan_int8
from calibration.rules import check_graph
from calibration.session import Session
from models.errors import ConfigError, InputError

LIKE_ARM = {"session.qdqisint8allowed": "1"}
"""ONNX Runtime turns signed activations into unsigned ones on x86; on Arm it keeps them."""
RESIDUAL = ("head", "embed")
INPUTS = np.random.default_rng(2).normal(size=(4, 3, 12, 10)).astype(np.float32)


def emitted(target, float_nodes=RESIDUAL, data=None, inputs=INPUTS):
    graph = view(data or residual_branch())
    plan = plan_int8(graph, observed_ranges(graph, inputs), target, float_nodes)
    return plan, emit_int8(graph, plan)


def arrays(model):
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def makers(model):
    return {name: node for node in model.graph.node for name in node.output}


def errors(model):
    return [violation for violation in check_graph(model) if violation.severity == "error"]


def optimized(model, folder, settings=None):
    """Return the operators that ONNX Runtime makes of a model."""
    path = folder / "optimized.onnx"
    Session(model.SerializeToString(), save_optimized=path, settings=settings)
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("target", ["trt", "cpu-x86", "cpu-arm"])
def test_answers_stay_near_those_of_fp32(target):
    _, model = emitted(target)
    exact = Session(residual_branch()).run({"input": INPUTS})
    found = Session(model.SerializeToString()).run({"input": INPUTS})
    assert sqnr_db(exact["logits"], found["logits"]) > 25
    assert sqnr_db(exact["feature"], found["feature"]) > 25


def test_tensorrt_gets_symmetric_integers_float_biases_and_nothing_before_an_activation():
    plan, model = emitted("trt")
    assert plan.nodes == ("one", "two", "three", "four")
    assert model.opset_import[0].version == 20
    assert model.ir_version == 10
    values, made_by = arrays(model), makers(model)
    points = [values[node.input[2]] for node in model.graph.node if node.op_type.endswith("Linear")]
    assert all(point.dtype == np.int8 and not point.any() for point in points)
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert values[node.input[2]].dtype == np.float32
        if node.op_type == "QuantizeLinear":
            assert makers(model).get(node.input[0], node).op_type not in ("Conv", "Add")


def test_tensorrt_gets_the_skip_input_of_a_residual_sum_quantized():
    _, model = emitted("trt")
    (residual,) = (node for node in model.graph.node if node.op_type == "Add")
    assert list(residual.input) == ["three_sum", "a_dequantized"]


def test_the_rule_checker_finds_nothing_in_what_is_emitted_for_tensorrt():
    for data, inputs in ((residual_branch(), INPUTS), (radio_branch(), np.ones((2, 2, 64), np.float32))):
        _, model = emitted("trt", data=data, inputs=inputs)
        for one in (model, with_batch(model, 1)):
            assert errors(one) == []


def test_the_rule_checker_objects_to_what_is_emitted_for_a_cpu():
    assert errors(emitted("cpu-x86")[1])


def test_weights_are_stored_as_integers_with_a_scale_for_each_output_channel():
    _, model = emitted("trt")
    values = arrays(model)
    (stored,) = (node for node in model.graph.node if node.output[0] == "one.weight_of_one_dequantized")
    assert helper.get_attribute_value(stored.attribute[0]) == 0
    assert values[stored.input[0]].dtype == np.int8
    assert values[stored.input[1]].shape == (8,)
    original = arrays(view(residual_branch()).model)["one.weight"]
    restored = values[stored.input[0]] * values[stored.input[1]].reshape(-1, 1, 1, 1)
    assert np.abs(restored - original).max() <= values[stored.input[1]].max() * 0.5001
    assert "one.weight" not in values


def test_on_a_cpu_every_quantized_convolution_and_sum_becomes_an_integer_kernel(tmp_path):
    _, model = emitted("cpu-x86")
    found = optimized(model, tmp_path)
    assert (found["QLinearConv"], found["Conv"] + found["FusedConv"], found["QLinearAdd"]) == (4, 0, 1)
    assert found["Relu"] == found["Clip"] == 0


def test_on_arm_too(tmp_path):
    plan, model = emitted("cpu-arm")
    found = optimized(model, tmp_path, LIKE_ARM)
    assert (found["QLinearConv"], found["Conv"] + found["FusedConv"]) == (4, 0)
    assert {how.scheme.dtype for how in plan.affines.values()} == {"int8"}
    assert plan.affines["a"].zero_point == -128


def test_a_float_node_keeps_its_weights_and_its_neighbours_stay_integers(tmp_path):
    plan, model = emitted("cpu-x86", (*RESIDUAL, "two"))
    assert plan.nodes == ("one", "three", "residual", "four")
    assert "two.weight" in arrays(model)
    found = optimized(model, tmp_path)
    assert (found["QLinearConv"], found["Conv"] + found["FusedConv"]) == (3, 1)


def test_behind_a_float_node_without_activation_nothing_is_quantized_for_it_would_be_too(tmp_path):
    plan, model = emitted("cpu-x86", (*RESIDUAL, "three"))
    assert plan.nodes == ("one", "two", "four")
    found = optimized(model, tmp_path)
    assert (found["QLinearConv"], found["Conv"] + found["FusedConv"]) == (3, 1)


def test_for_tensorrt_a_float_node_takes_the_tensor_as_it_is():
    _, model = emitted("trt", (*RESIDUAL, "two"))
    (node,) = (node for node in model.graph.node if node.name == "two")
    assert list(node.input) == ["a", "two.weight", "two.bias"]


def test_dense_layers_can_be_quantized_where_they_are_not_kept(tmp_path):
    _, model = emitted("trt", ("head",))
    (dense,) = (node for node in model.graph.node if node.name == "embed")
    assert dense.input[0] == "pooled_dequantized"
    assert arrays(model)["embed.weight_of_embed_scale"].shape == (6,)
    assert errors(model) == []


def test_a_matrix_product_has_its_channels_in_columns_and_may_vary_in_both_operands():
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["mixed"], name="by_weight"),
        helper.make_node("MatMul", ["mixed", "input"], ["feature"], name="by_tensor"),
    ]
    data = graph_bytes(nodes, {"w": weights(rng, 8, 8)}, {"input": (8, 8)}, {"feature": (8, 8)})
    inputs = rng.normal(size=(2, 8, 8)).astype(np.float32)
    plan, model = emitted("trt", (), data, inputs)
    assert plan.weights["by_weight", 1].axis == 1
    assert plan.edges == {("by_weight", 0), ("by_tensor", 0), ("by_tensor", 1)}
    exact, found = (Session(one).run({"input": inputs})["feature"] for one in (data, model.SerializeToString()))
    assert sqnr_db(exact, found) > 30


def test_dense_layers_narrow_convolutions_and_the_first_over_samples_stay_float_by_default():
    radio, scene = view(radio_branch()), view(residual_branch())
    assert set(default_float_nodes(radio)) == {"one", "embed", "head"}
    assert set(default_float_nodes(scene)) == {"one", "embed", "head"}


@pytest.mark.parametrize("target", ["trt", "cpu-x86", "cpu-arm"])
def test_a_graph_for_one_example_answers_as_the_one_for_any_batch(target):
    _, model = emitted(target)
    one = with_batch(model, 1)
    onnx.checker.check_model(one, full_check=True)
    assert Session(one.SerializeToString()).shape("input") == [1, 3, 12, 10]
    many = Session(model.SerializeToString()).run({"input": INPUTS})["logits"]
    each = [Session(one.SerializeToString()).run({"input": INPUTS[n : n + 1]})["logits"] for n in range(4)]
    np.testing.assert_allclose(np.concatenate(each), many, atol=1e-6)


def test_a_channel_of_zeros_keeps_its_bias():
    data = residual_branch()
    model = onnx.load_from_string(data)
    for one in model.graph.initializer:
        if one.name == "two.weight":
            value = numpy_helper.to_array(one).copy()
            value[3] = 0
            one.CopyFrom(numpy_helper.from_array(value, "two.weight"))
    data = model.SerializeToString()
    for target in ("trt", "cpu-x86"):
        _, quantized = emitted(target, data=data)
        exact, found = (Session(one).run({"input": INPUTS})["logits"] for one in (data, quantized.SerializeToString()))
        assert sqnr_db(exact, found) > 25


def test_a_float_node_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(ConfigError, match=r"\['stem'\]: the graph has none so named; those to name: one, two, three"):
        emitted("trt", ("stem",))


@pytest.mark.parametrize("target", ["trt", "cpu-x86"])
def test_a_graph_with_nothing_left_to_quantize_is_refused(target):
    with pytest.raises(ConfigError, match="no node is left to quantize"):
        emitted(target, ("one", "two", "three", "four", "residual", *RESIDUAL))


def test_a_tensor_without_range_is_named():
    graph = view(residual_branch())
    with pytest.raises(InputError, match="no range for 'input': collect again"):
        plan_int8(graph, {}, "trt", RESIDUAL)
