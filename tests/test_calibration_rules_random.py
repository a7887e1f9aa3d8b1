"""Laws of the TensorRT rules on random networks: legal ones pass, and one change is found wherever it is made."""

import numpy as np
import onnx
import pytest
from drawing import Drawing
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import numpy_helper
from test_calibration_rules import CASES, rules_broken

from calibration.plans import engine
from calibration.rules import check_graph
from calibration.rules.form import OPERATORS

BLOCKS = st.tuples(
    st.sampled_from(["quantized", "float", "residual"]), st.sampled_from(["Relu", "Clip", ""]), st.booleans()
)
CHANGES = sorted(name for name, case in CASES.items() if case.legal.__name__ in ("quantized_network", "float_network"))


@st.composite
def networks(draw, least=0):
    """Return a network of random blocks behind a quantized stem, with legal Q/DQ."""
    drawing = Drawing(seed=draw(st.integers(0, 99)))
    tensor = drawing.activation(drawing.conv("input", 3), "Relu")
    for kind, operator, is_stored in draw(st.lists(BLOCKS, min_size=least, max_size=5)):
        if kind == "residual":
            tensor = drawing.residual(tensor, operator, is_stored=is_stored)
        else:
            tensor = drawing.conv(tensor, is_quantized=kind == "quantized", is_stored=is_stored)
            tensor = drawing.activation(tensor, operator)
    tail = drawing.classify(tensor, is_quantized=draw(st.booleans()), is_transposed=draw(st.booleans()))
    return drawing.model(tail, opset=draw(st.integers(13, 20)))


@given(networks())
def test_a_network_with_legal_quantization_breaks_no_rule(model):
    onnx.checker.check_model(model, full_check=True)
    assert check_graph(model) == []


@given(networks())
def test_nvidia_reads_a_network_with_legal_quantization(model):
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install 'uav-fusion-edge[trt-check]'")
    assert engine.parse(trt, model.SerializeToString()) == []


@given(networks(least=1), st.sampled_from(CHANGES), st.data())
def test_a_change_against_a_rule_is_found_wherever_it_is_made(model, change, data):
    def pick(places):
        assume(places)
        return places[data.draw(st.integers(0, len(places) - 1), label="place")]

    CASES[change].broken(model, pick)
    assert CASES[change].rule in rules_broken(model)


@st.composite
def damages(draw, model):
    """Damage a model in one place, as no exporter would."""
    node = draw(st.sampled_from(list(model.graph.node)))
    tensor = draw(st.sampled_from(list(model.graph.initializer)))
    kind = draw(st.sampled_from(["operator", "input", "no input", "no output", "shape", "type", "no attributes"]))
    if kind == "operator":
        node.op_type = draw(st.sampled_from(sorted(OPERATORS)))
    elif kind == "input" and node.input:
        names = [name for one in model.graph.node for name in (*one.input, *one.output)]
        node.input[draw(st.integers(0, len(node.input) - 1))] = draw(st.sampled_from(["", *names]))
    elif kind == "no input" and node.input:
        del node.input[draw(st.integers(0, len(node.input) - 1))]
    elif kind == "no output":
        del node.output[:]
    elif kind == "shape":
        shape = draw(st.sampled_from([(), 0, 3, (2, 0), (1, 2)]))
        tensor.CopyFrom(numpy_helper.from_array(np.zeros(shape, np.int8), tensor.name))
    elif kind == "type":
        tensor.data_type = draw(st.integers(0, 25))
    else:
        del node.attribute[:]
    return kind


@given(networks(), st.data())
def test_a_damaged_graph_never_ends_the_check(model, data):
    for _ in range(data.draw(st.integers(1, 3))):
        data.draw(damages(model))
    assert all(violation.reason for violation in check_graph(model))
