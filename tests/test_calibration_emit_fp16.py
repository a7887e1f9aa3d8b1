from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_graphs import graph_bytes, radio_branch, residual_branch, weights

from calibration.graphs import with_batch
from calibration.quantization.clipping import sqnr_db
from calibration.quantization.emit_fp16 import emit_fp16
from calibration.quantization.operators import view
from calibration.rules import check_graph
from calibration.session import Session
from models.errors import BundleError

HALF_DB = 55  # 11 bits, a few sums deep


@pytest.mark.parametrize(("data", "shape"), [(residual_branch(), (4, 3, 12, 10)), (radio_branch(), (4, 2, 64))])
def test_answers_are_those_of_fp32_to_eleven_bits(data, shape):
    inputs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    model = emit_fp16(view(data))
    exact = Session(data).run({"input": inputs})
    found = Session(model.SerializeToString(), is_exact=True).run({"input": inputs})
    for name in ("feature", "logits"):
        assert found[name].dtype == np.float32
        assert HALF_DB < sqnr_db(exact[name], found[name]) < 100
    one = with_batch(model, 1)
    onnx.checker.check_model(one, full_check=True)


def test_weights_are_halved_inputs_and_outputs_are_not():
    model = emit_fp16(view(residual_branch()))
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    assert kinds["one.weight_half"] == kinds["embed.bias_half"] == kinds["six_half"] == TensorProto.FLOAT16
    assert kinds["places"] == TensorProto.INT64
    assert TensorProto.FLOAT not in kinds.values()
    assert {one.type.tensor_type.elem_type for one in (*model.graph.input, *model.graph.output)} == {TensorProto.FLOAT}


def test_sums_over_places_are_an_island_of_float32():
    model = emit_fp16(view(residual_branch()))
    (mean,) = (node for node in model.graph.node if node.op_type == "ReduceMean")
    assert mean.input[0] == "d_float"
    assert Counter(node.op_type for node in model.graph.node)["Cast"] == 5


def test_the_rule_checker_finds_nothing_in_it():
    found = check_graph(emit_fp16(view(residual_branch())))
    assert [violation for violation in found if violation.severity == "error"] == []


@pytest.mark.parametrize(("bound", "is_island"), [(1e-7, True), (9e-5, True), (1e-4, False), (0.0, False)])
def test_a_clip_at_what_fp16_cannot_tell_from_zero_stays_float32(bound, is_island):
    nodes = [
        helper.make_node("Clip", ["input", "bound"], ["clipped"], name="clip"),
        helper.make_node("LogSoftmax", ["clipped"], ["feature"], name="log", axis=1),
    ]
    data = graph_bytes(nodes, {"bound": np.float32(bound)}, {"input": (4,)}, {"feature": (4,)})
    model = emit_fp16(view(data))
    clip, log = (next(node for node in model.graph.node if node.name == name) for name in ("clip", "log"))
    assert (clip.input[0] == "input") == is_island
    assert log.output[0] == "feature"
    assert log.input[0] == ("clipped" if is_island else "clipped_float")


def test_a_weight_that_fp16_cannot_hold_is_refused_by_name():
    data = residual_branch()
    model = onnx.load_from_string(data)
    for one in model.graph.initializer:
        if one.name == "four.weight":
            one.CopyFrom(numpy_helper.from_array(weights(np.random.default_rng(0), 8, 1, 3, 3) * 1e6, one.name))
    with pytest.raises(BundleError, match=r"constant four\.weight: up to .* FP16 ends at 65504.0: fly it in fp32"):
        emit_fp16(view(model.SerializeToString()))
