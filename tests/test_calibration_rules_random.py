"""Laws of the TensorRT rules on random networks: legal ones pass, and one change is found wherever it is made."""

import onnx
from drawing import Drawing
from hypothesis import assume, given
from hypothesis import strategies as st
from test_calibration_rules import CASES, rules_broken

from calibration.rules import check_graph

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


@given(networks(least=1), st.sampled_from(CHANGES), st.data())
def test_a_change_against_a_rule_is_found_wherever_it_is_made(model, change, data):
    def pick(places):
        assume(places)
        return places[data.draw(st.integers(0, len(places) - 1), label="place")]

    CASES[change].broken(model, pick)
    assert CASES[change].rule in rules_broken(model)
