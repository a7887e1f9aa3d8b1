"""Graphs rewritten as values: batch, bytes as input, several in one."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from calibration.graphs import IR_VERSION, OPSET, join, serialize, with_batch, with_uint8_input
from models.errors import BundleError
from models.preprocess import image_scaling
from models.spec import ImageRecipe

RECIPE = ImageRecipe(height_px=8, width_px=9, mean=(0.1, 0.5, 0.7), std=(0.2, 0.25, 0.4))
ROUNDING = 1e-6


def branch(shape=(3, 8, 9), gain=2.0, opset=OPSET, ir_version=IR_VERSION):
    """Return a model whose feature is its input's mean over everything but channels, and whose logits are `gain` it."""
    nodes = [
        helper.make_node("ReduceMean", ["input", "axes"], ["feature"], name="mean", keepdims=0),
        helper.make_node("Mul", ["feature", "gain"], ["logits"], name="scale"),
    ]
    axes = numpy_helper.from_array(np.arange(2, 1 + len(shape)), "axes")
    weights = numpy_helper.from_array(np.array([gain], np.float32), "gain")
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *shape])]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", shape[0]]) for n in ("feature", "logits")]
    graph = helper.make_graph(nodes, "branch", inputs, outputs, [axes, weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def fusion(names):
    """Return a head whose logits are the sum of the branches' own, its weights the mask, its entropies all features."""
    nodes = [
        helper.make_node("Sum", [f"logits_{name}" for name in names], ["logits"], name="sum"),
        helper.make_node("Identity", ["mask"], ["weights"], name="copy"),
        helper.make_node("Concat", [f"feature_{name}" for name in names], ["entropies"], name="all", axis=1),
    ]
    inputs = [helper.make_tensor_value_info(f"{k}_{n}", TensorProto.FLOAT, ["batch", 3])
              for k in ("feature", "logits") for n in names]  # fmt: skip
    inputs.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", len(names)]))
    sizes = {"logits": 3, "weights": len(names), "entropies": 3 * len(names)}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n]) for name, n in sizes.items()]
    graph = helper.make_graph(nodes, "fusion", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def answers(model, **feeds):
    return onnxruntime.InferenceSession(serialize(model)).run(None, feeds)


def test_a_model_for_three_takes_three_and_nothing_else():
    inputs = np.random.default_rng(1).random((3, 3, 8, 9), np.float32)
    fixed = with_batch(branch(), 3)
    for found, expected in zip(answers(fixed, input=inputs), answers(branch(), input=inputs), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(Exception, match="Got: 2 Expected: 3"):
        answers(fixed, input=inputs[:2])


def test_rewriting_leaves_the_model_it_was_given():
    model = branch()
    before = model.SerializeToString(deterministic=True)
    with_batch(model, 1), with_uint8_input(model, RECIPE), join({"a": model, "b": model}, fusion(["a", "b"]))
    assert model.SerializeToString(deterministic=True) == before


def test_bytes_are_normalised_as_the_recipe_says():
    planes = np.random.default_rng(2).integers(0, 256, (4, 3, 8, 9), np.uint8)
    scale, offset = image_scaling(RECIPE)
    expected = answers(branch(), input=planes * scale + offset)
    for found, one in zip(answers(with_uint8_input(branch(), RECIPE), input=planes), expected, strict=True):
        np.testing.assert_allclose(found, one, atol=ROUNDING)


def test_one_graph_of_all_answers_as_its_parts_one_after_the_other():
    rng = np.random.default_rng(3)
    parts = {"a": branch(gain=2.0), "b": branch(shape=(3, 16), gain=-3.0)}
    inputs = {"a": rng.random((2, 3, 8, 9), np.float32), "b": rng.random((2, 3, 16), np.float32)}
    mask = rng.random((2, 2), np.float32)
    feature_a, logits_a = answers(parts["a"], input=inputs["a"])
    feature_b, logits_b = answers(parts["b"], input=inputs["b"])
    whole = join(parts, fusion(["a", "b"]))
    logits, weights, entropies = answers(whole, input_a=inputs["a"], input_b=inputs["b"], mask=mask)
    np.testing.assert_allclose(logits, logits_a + logits_b, atol=ROUNDING)
    np.testing.assert_array_equal(weights, mask)
    np.testing.assert_array_equal(entropies, np.concatenate([feature_a, feature_b], axis=1))


def test_a_part_with_a_graph_inside_a_node_is_refused():
    empty = helper.make_graph([], "then", [], [])
    model = branch()
    model.graph.node.append(helper.make_node("If", ["feature"], [], then_branch=empty, else_branch=empty))
    with pytest.raises(BundleError, match=r"a: If .* holds a graph of its own"):
        join({"a": model}, fusion(["a"]))


@pytest.mark.parametrize("versions", [{"opset": OPSET + 1}, {"ir_version": IR_VERSION + 1}])
def test_a_model_newer_than_what_flies_reads_is_refused(versions):
    with pytest.raises(BundleError, match=f"expected at most {OPSET} and {IR_VERSION}"):
        serialize(branch(**versions))


def test_an_unsound_model_is_refused():
    model = branch()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(onnx.checker.ValidationError, match="nowhere"):
        serialize(model)
