"""What this project's own emitters write for TensorRT breaks no rule, and NVIDIA builds it."""

import io

import numpy as np
import pytest
from small_graphs import observed_ranges, radio_branch, residual_branch

from calibration.plans import engine
from calibration.quantization.emit_fp16 import emit_fp16
from calibration.quantization.emit_int8 import emit_int8
from calibration.quantization.operators import view
from calibration.quantization.plan import default_float_nodes, plan_int8
from calibration.rules import check_graph
from models.bundle import GOLDEN, open_bundle, shipped_bundle

BUNDLE = open_bundle(shipped_bundle())
RNG = np.random.default_rng(2)
SMALL = {
    "residual": (residual_branch(), RNG.normal(size=(2, 3, 12, 10)).astype(np.float32)),
    "radio": (radio_branch(), RNG.normal(size=(2, 2, 64)).astype(np.float32)),
}


def int8(data, inputs, target="trt", float_nodes=()):
    graph = view(data)
    return emit_int8(graph, plan_int8(graph, observed_ranges(graph, inputs), target, float_nodes))


def shipped_int8(role, target="trt"):
    with np.load(io.BytesIO(BUNDLE.contents[GOLDEN])) as golden:
        inputs = golden[f"input_{role}"][:1]
    data = BUNDLE.graph(role)
    return int8(data, inputs, target, default_float_nodes(view(data)))


def builds(model):
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx: pip install 'uav-fusion-edge[trt-check]'")
    return len(engine.build(trt, model.SerializeToString())) > 0


@pytest.fixture(
    scope="module",
    params=["residual", "residual without two", "radio", "shipped iq", "shipped image", "half residual", "half iq",
            "half image", "half fusion"],
)  # fmt: skip
def emitted(request):
    """Return a graph for TensorRT."""
    kind, _, name = request.param.partition(" ")
    if kind == "shipped":
        return shipped_int8(name)
    if kind == "half":
        return emit_fp16(view(SMALL["residual"][0] if name == "residual" else BUNDLE.graph(name)))
    return int8(*SMALL[kind], float_nodes=("two",) if name else ())


def test_what_is_emitted_for_tensorrt_breaks_no_rule(emitted):
    assert check_graph(emitted) == []


def test_what_is_emitted_for_tensorrt_builds(emitted):
    assert builds(emitted)


@pytest.mark.parametrize(("target", "rule"), [("cpu-x86", "quantized-type"), ("cpu-arm", "quantized-bias")])
def test_what_is_emitted_for_a_cpu_is_refused(target, rule):
    model = shipped_int8("image", target)
    assert rule in {violation.rule for violation in check_graph(model)}
