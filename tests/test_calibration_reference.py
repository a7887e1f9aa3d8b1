import functools

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from small_graphs import graph_bytes, observed_ranges, radio_branch, residual_branch
from training import IMAGE, IQ, THERMAL, tiny_network, tiny_spec

from calibration.export import branch_graph
from calibration.graphs import with_uint8_input
from calibration.quantization.emit_int8 import emit_int8
from calibration.quantization.operators import SUPPORTED, view
from calibration.quantization.plan import default_float_nodes, plan_int8
from calibration.quantization.reference import OPERATORS, run_reference
from calibration.session import Session
from models.errors import BundleError

CLOSE = 2e-6  # float32 sums in another order
ONE_STEP = 1.001  # of the integers of a tensor: rounding may fall to either side


@functools.cache
def trained(name):
    """Return the FP32 graph of a branch whose normalisation has seen something, and its recipe."""
    network = tiny_network(tiny_spec(modalities=(IQ, IMAGE, THERMAL))).train()
    torch.manual_seed(3)
    for _ in range(4):
        network({one.name: torch.randn(8, *one.recipe.input_shape) for one in network.spec.modalities})
    graph = branch_graph(network.eval(), name)
    data = graph if isinstance(graph, bytes) else graph.SerializeToString()
    return data, network.spec.modality(name).recipe


def all_tensors(model, names):
    """Return a model with all of these tensors as outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name for value in (*shown.graph.output, *shown.graph.input)}
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    return Session(shown.SerializeToString(), is_exact=True)


@pytest.mark.parametrize(("data", "shape"), [(residual_branch(), (3, 12, 10)), (radio_branch(), (2, 64))])
def test_without_a_plan_it_computes_what_onnx_runtime_computes(data, shape):
    inputs = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    found = run_reference(view(data), {"input": inputs})
    for name, expected in Session(data, is_exact=True).run({"input": inputs}).items():
        np.testing.assert_allclose(found[name], expected, atol=CLOSE)


@pytest.mark.parametrize("name", ["iq", "image"])
@pytest.mark.parametrize("target", ["trt", "cpu-x86", "cpu-arm"])
def test_int8_graphs_of_real_networks_equal_it_to_one_step(name, target):
    data, recipe = trained(name)
    inputs = np.random.default_rng(1).normal(size=(6, *recipe.input_shape)).astype(np.float32)
    graph = view(data)
    plan = plan_int8(graph, observed_ranges(graph, inputs), target, default_float_nodes(graph))
    expected = run_reference(graph, {"input": inputs}, plan)
    found = all_tensors(emit_int8(graph, plan), plan.affines).run({"input": inputs})
    exact = run_reference(graph, {"input": inputs})
    assert plan.nodes
    for tensor, how in plan.affines.items():
        if tensor != "input":
            assert np.abs(found[tensor] - expected[tensor]).max() <= ONE_STEP * how.scale
    error = np.abs(expected["logits"] - exact["logits"]).max()
    assert error > 0
    assert np.abs(found["logits"] - expected["logits"]).max() <= 0.25 * error


@pytest.mark.parametrize("name", ["iq", "image"])
def test_integer_kernels_of_onnx_runtime_answer_as_it_does(name):
    data, recipe = trained(name)
    inputs = np.random.default_rng(1).normal(size=(6, *recipe.input_shape)).astype(np.float32)
    graph = view(data)
    plan = plan_int8(graph, observed_ranges(graph, inputs), "cpu-x86", default_float_nodes(graph))
    found = Session(emit_int8(graph, plan).SerializeToString()).run({"input": inputs})["logits"]
    expected = run_reference(graph, {"input": inputs}, plan)["logits"]
    exact = run_reference(graph, {"input": inputs})["logits"]
    assert np.abs(found - expected).max() <= 0.5 * np.abs(expected - exact).max()


@pytest.mark.parametrize("target", ["trt", "cpu-x86"])
def test_a_graph_that_takes_bytes_is_quantized_alike(target):
    data, recipe = trained("image")
    bytes_fed = with_uint8_input(onnx.load_from_string(data), recipe).SerializeToString()
    inputs = np.random.default_rng(1).integers(0, 256, (6, *recipe.input_shape)).astype(np.uint8)
    graph = view(bytes_fed)
    plan = plan_int8(graph, observed_ranges(graph, inputs), target, default_float_nodes(graph))
    expected = run_reference(graph, {"input": inputs}, plan)["logits"]
    found = Session(emit_int8(graph, plan).SerializeToString(), is_exact=True).run({"input": inputs})["logits"]
    exact = run_reference(graph, {"input": inputs})["logits"]
    assert np.abs(found - exact).max() > 0
    assert np.abs(found - expected).max() <= 0.25 * np.abs(found - exact).max()


@given(
    size=st.integers(7, 12), kernel=st.integers(1, 3), stride=st.integers(1, 3), dilation=st.integers(1, 2),
    before=st.integers(0, 2), after=st.integers(0, 2), groups=st.sampled_from([1, 2, 4]), has_bias=st.booleans(),
)  # fmt: skip
def test_a_convolution_of_any_shape_is_that_of_onnx_runtime(
    size, kernel, stride, dilation, before, after, groups, has_bias
):
    rng = np.random.default_rng(size)
    constants = {"w": rng.normal(size=(8, 4 // groups, kernel)).astype(np.float32)}
    constants |= {"b": rng.normal(size=8).astype(np.float32)} if has_bias else {}
    attributes = {"strides": [stride], "dilations": [dilation], "pads": [before, after], "group": groups}
    node = helper.make_node("Conv", ["input", *constants], ["feature"], **attributes)
    places = (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
    data = graph_bytes([node], constants, {"input": (4, size)}, {"feature": (8, places)})
    inputs = rng.normal(size=(2, 4, size)).astype(np.float32)
    expected = Session(data, is_exact=True).run({"input": inputs})["feature"]
    np.testing.assert_allclose(run_reference(view(data), {"input": inputs})["feature"], expected, atol=10 * CLOSE)


ROWS = (2, 4, 6)
SMALL = {
    "Transpose": ({"perm": [0, 2, 1]}, (), (6, 4)),
    "Flatten": ({"axis": 1}, (), (24,)),
    "Softmax": ({"axis": 1}, (), (4, 6)),
    "LogSoftmax": ({}, (), (4, 6)),
    "Exp": ({}, (), (4, 6)),
    "Neg": ({}, (), (4, 6)),
    "Identity": ({}, (), (4, 6)),
    "Clip": ({}, (np.float32(-0.2), np.float32(0.4)), (4, 6)),
    "Unsqueeze": ({}, (np.array([1]),), (1, 4, 6)),
    "Reshape": ({}, (np.array([0, 3, -1]),), (3, 8)),
    "Slice": ({}, (np.array([1]), np.array([9]), np.array([2]), np.array([2])), (4, 3)),
    "ReduceSum": ({"keepdims": 1}, (np.array([-1]),), (4, 1)),
    "ReduceMax": ({"keepdims": 0}, (np.array([2]),), (4,)),
    "GlobalAveragePool": ({}, (), (4, 1)),
    "Sub": ({}, (np.float32(0.3),), (4, 6)),
    "Mul": ({}, (np.float32(0.3),), (4, 6)),
    "Div": ({}, (np.float32(0.3),), (4, 6)),
    "MatMul": ({}, (np.ones((6, 5), np.float32),), (4, 5)),
}


@pytest.mark.parametrize("operator", SMALL)
def test_small_operators_are_those_of_onnx_runtime(operator):
    attributes, operands, shape = SMALL[operator]
    constants = {f"c{n}": value for n, value in enumerate(operands)}
    node = helper.make_node(operator, ["input", *constants], ["feature"], **attributes)
    data = graph_bytes([node], constants, {"input": ROWS[1:]}, {"feature": shape})
    inputs = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    expected = Session(data, is_exact=True).run({"input": inputs})["feature"]
    np.testing.assert_allclose(run_reference(view(data), {"input": inputs})["feature"], expected, atol=CLOSE)


def test_a_squeezed_and_cast_tensor_and_a_dense_layer_with_factors_are_those_of_onnx_runtime():
    nodes = [
        helper.make_node("Cast", ["input"], ["cast"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["cast"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Squeeze", ["back", "axis"], ["rows"]),
        helper.make_node("Gemm", ["rows", "w", "b"], ["feature"], alpha=0.5, beta=2.0, transB=0),
    ]
    constants = {"axis": np.array([1]), "w": np.ones((6, 3), np.float32), "b": np.ones(3, np.float32)}
    data = graph_bytes(nodes, constants, {"input": (1, 6)}, {"feature": (3,)})
    inputs = np.random.default_rng(0).normal(size=(2, 1, 6)).astype(np.float32)
    expected = Session(data, is_exact=True).run({"input": inputs})["feature"]
    np.testing.assert_allclose(run_reference(view(data), {"input": inputs})["feature"], expected, atol=CLOSE)


def test_every_operator_that_may_be_quantized_around_is_computed():
    assert set(OPERATORS) == SUPPORTED - {"Constant"}


@pytest.mark.parametrize(
    ("operator", "inputs", "attributes", "shape", "what"),
    [
        ("Conv", ["input", "w"], {"auto_pad": "SAME_UPPER"}, (4, 6), "auto_pad"),
        ("ReduceMax", ["input"], {}, (1, 1), "no axes"),
    ],
)
def test_an_operator_used_otherwise_than_our_graphs_do_is_refused(operator, inputs, attributes, shape, what):
    node = helper.make_node(operator, inputs, ["feature"], name="x", **attributes)
    data = graph_bytes([node], {"w": np.ones((4, 4, 3), np.float32)}, {"input": (4, 6)}, {"feature": shape})
    with pytest.raises(BundleError, match=f"node x: {operator} with {what}"):
        run_reference(view(data), {"input": np.ones((2, 4, 6), np.float32)})
