"""The self-test at start: FP32 repeats its golden answers, another precision keeps within bounds of its own.

FP32 graphs stand in for rounded ones here; the golden answers are moved instead of the graphs'.
"""

import dataclasses
import io

import msgspec
import numpy as np
import pytest

from edge.backends.golden import check_golden, sqnr_db
from edge.backends.onnx import Engines, load_engines
from edge.backends.select import cpu_target
from models.bundle import FUSION, GOLDEN, Bundle, GraphEntry, open_bundle, shipped_bundle
from models.errors import BundleError

onnx = pytest.importorskip("onnx", reason="graphs are edited with onnx, which the drone may lack")

ROLES = ("iq", "image", FUSION)


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return open_bundle(shipped_bundle())


def with_int8(bundle: Bundle, graphs: dict[str, bytes]) -> Bundle:
    """Return a bundle that has these graphs as INT8 ones, approved for this machine."""
    target = cpu_target()
    files = {role: f"onnx/{role}.int8-{target}.onnx" for role in graphs}
    entries = [GraphEntry(role=role, precision="int8", target=target, file=file) for role, file in files.items()]
    manifest = msgspec.structs.replace(
        bundle.manifest,
        graphs=(*bundle.manifest.graphs, *entries),
        approved={target: dict.fromkeys(graphs, "int8")},
    )
    contents = {files[role]: graph for role, graph in graphs.items()}
    return dataclasses.replace(bundle, manifest=manifest, contents={**bundle.contents, **contents})


def with_golden(bundle: Bundle, change) -> Bundle:
    """Return a bundle whose golden examples `change` has been let loose on."""
    with np.load(io.BytesIO(bundle.contents[GOLDEN])) as stored:
        golden = {name: stored[name] for name in stored.files}
    change(golden)
    buffer = io.BytesIO()
    np.savez(buffer, **golden)
    return dataclasses.replace(bundle, contents={**bundle.contents, GOLDEN: buffer.getvalue()})


def noisy(share: float):
    """Return a change that adds noise of this share of each output's RMS."""

    def change(golden):
        rng = np.random.default_rng(4)
        for name, values in golden.items():
            if name.startswith(("feature", "logits", "weights", "entropies")):
                rms = np.sqrt(np.mean(values**2))
                golden[name] = (values + share * rms * rng.standard_normal(values.shape)).astype(np.float32)

    return change


def all_int8(bundle: Bundle) -> Bundle:
    return with_int8(bundle, {role: bundle.graph(role) for role in ROLES})


def test_auto_flies_what_is_approved_for_this_machine(shipped):
    bundle = with_int8(shipped, {"iq": shipped.graph("iq")})
    assert load_engines(bundle).precisions == {"iq": "int8", "image": "fp32", FUSION: "fp32"}
    assert load_engines(bundle, "fp32").precisions == {"iq": "fp32", "image": "fp32", FUSION: "fp32"}


def test_rounding_that_fp32_would_not_have_is_accepted_of_another_precision(shipped):
    bundle = with_golden(all_int8(shipped), noisy(0.03))
    assert set(load_engines(bundle).precisions.values()) == {"int8"}
    with pytest.raises(BundleError, match=r"golden examples by .*at most 0\.001"):
        load_engines(bundle, "fp32")


def test_errors_of_a_fifth_of_the_signal_and_more_are_refused(shipped):
    bundle = with_golden(all_int8(shipped), noisy(0.22))
    with pytest.raises(BundleError, match=r"iq in int8: feature .* 1\d\.\d dB .* at least 15: .* precision fp32"):
        load_engines(bundle)


def test_a_damaged_graph_is_refused(shipped):
    graph = shipped.graph("iq")
    with pytest.raises(BundleError, match="cannot load this graph"):
        load_engines(with_int8(shipped, {"iq": graph[: len(graph) // 2]}))


def test_the_graph_of_another_branch_is_refused(shipped):
    with pytest.raises(BundleError, match="does not fit the graphs"):
        load_engines(with_int8(shipped, {"iq": shipped.graph("image")}))


def test_a_head_that_fuses_otherwise_is_refused(shipped):
    def change(golden):
        golden["mask"] = golden["mask"][::-1].copy()

    bundle = with_golden(with_int8(shipped, {FUSION: shipped.graph(FUSION)}), change)
    with pytest.raises(BundleError, match=r"fusion in int8: .* expected at least 15"):
        load_engines(bundle)


def test_another_first_class_by_a_clear_margin_is_refused_however_small_the_error(shipped):
    def change(golden):
        for name in [name for name in golden if not name.startswith("head_")]:
            golden[name] = np.repeat(golden[name], 20, axis=0)
        logits = golden["logits_iq"]
        row = int(np.diff(np.sort(logits, axis=1)[:, -2:]).argmax())
        best = np.argsort(logits[row])[-2:]
        logits[row, best] = logits[row, best[::-1]]

    with pytest.raises(BundleError, match=r"iq in int8: golden examples \[\d+\] are of another class"):
        load_engines(with_golden(all_int8(shipped), change))


class Told:
    """Stands in for a session: answers what it is told to."""

    def __init__(self, inputs, answer):
        self.inputs = inputs
        self.answer = answer
        self.outputs = {}

    def run(self):
        self.outputs = self.answer(self.inputs)


def test_a_fused_answer_that_suffers_from_its_branches_is_refused(shipped):
    """Each branch keeps its bounds, but the head lives on the difference of the two."""
    rng = np.random.default_rng(6)
    common, own = rng.standard_normal((2, 16, 3)).astype(np.float32)
    golden = {"mask": np.ones((16, 2), np.float32)}
    for name, sign in (("iq", 1), ("image", -1)):
        golden[f"input_{name}"] = golden[f"feature_{name}"] = golden[f"logits_{name}"] = common + sign * 0.1 * own
    golden |= {"logits": 0.2 * own, "weights": golden["mask"], "entropies": golden["mask"]}

    def rounded(inputs):
        values = inputs["input"] + rng.normal(0, 0.05, inputs["input"].shape)
        return {"feature": values, "logits": values}

    def fused(inputs):
        return {
            "logits": inputs["logits_iq"] - inputs["logits_image"],
            "weights": inputs["mask"],
            "entropies": inputs["mask"],
        }

    fed = ("feature_iq", "logits_iq", "feature_image", "logits_image")
    rows = {name: np.zeros((1, 3), np.float32) for name in fed}
    engines = Engines(
        branches={name: Told({"input": np.zeros((1, 3), np.float32)}, rounded) for name in ("iq", "image")},
        fusion=Told({**rows, "mask": np.zeros((1, 2), np.float32)}, fused),
        precisions={"iq": "int8", "image": "int8", FUSION: "fp32"},
    )
    bundle = with_golden(shipped, lambda stored: (stored.clear(), stored.update(golden)))
    with pytest.raises(BundleError, match="the fused answer: logits"):
        check_golden(bundle, engines)


def test_golden_examples_of_another_type_than_the_graph_takes_are_refused(shipped):
    def change(golden):
        golden["input_image"] = golden["input_image"].astype(np.uint8)

    with pytest.raises(BundleError, match="does not fit the graphs"):
        load_engines(with_golden(shipped, change))


def test_a_graph_that_loads_and_fails_as_it_runs_is_refused(shipped):
    model = onnx.load_from_string(shipped.graph("iq"))
    longer = onnx.numpy_helper.from_array(np.array([0, 0, 1], np.int64), "longer")
    model.graph.initializer.append(longer)
    for node in model.graph.node:
        node.input[:] = ["stretched" if name == "input" else name for name in node.input]
    for node in reversed(
        [
            onnx.helper.make_node("Shape", ["input"], ["shape"]),
            onnx.helper.make_node("Add", ["shape", "longer"], ["impossible"]),
            onnx.helper.make_node("Reshape", ["input", "impossible"], ["stretched"]),
        ]
    ):
        model.graph.node.insert(0, node)
    with pytest.raises(BundleError, match=r"does not fit the graphs .*Reshape"):
        load_engines(with_int8(shipped, {"iq": model.SerializeToString()}))


def test_no_golden_examples_at_all_are_refused(shipped):
    def change(golden):
        for name in [name for name in golden if not name.startswith("head_")]:
            golden[name] = golden[name][:0]

    with pytest.raises(BundleError, match="no examples"):
        load_engines(with_golden(shipped, change))


def test_the_signal_over_an_error_of_a_tenth_is_20_db():
    signal = np.random.default_rng(2).standard_normal(1000)
    assert sqnr_db(1.1 * signal, signal) == pytest.approx(20.0)
    assert sqnr_db(signal, signal) == np.inf
    assert sqnr_db(np.full(1000, np.nan), signal) == -np.inf
    assert sqnr_db(signal, np.zeros(1000)) == -np.inf
