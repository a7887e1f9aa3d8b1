import dataclasses
import json

import msgspec
import pytest
from judging import flying_bundle, quantized, ranges_of, small_examples
from small_graphs import residual_branch

from calibration.cli import main
from calibration.judging.answers import ask_branches
from calibration.judging.gates import Gates
from calibration.judging.ladder import RUNGS, Verification, roles, verify
from calibration.judging.verify import with_work
from calibration.judging.verify_page import write_page
from calibration.release.assembly import hashes
from models.errors import BundleError

LOOSE = Gates(
    least_agreement=0.8,
    most_accuracy_lost=0.2,
    most_recall_lost=0.3,
    least_sqnr_db=15,
    most_weight_drift=0.2,
    most_order_flips=0.2,
)
NOTHING_PASSES = Gates(least_sqnr_db=1000)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    base = flying_bundle(tmp_path_factory.mktemp("bundle"))
    return quantized(base, ranges_of(base))


def twice_as_fast(graph, fp32):
    """Stand in for a stopwatch."""
    return 1.0, 2.0


def judged(bundle, gates, machine="cpu-x86", stopwatch=twice_as_fast):
    told = []
    accuracy, results = verify(
        bundle, small_examples(), gates, machine=machine, stopwatch=stopwatch, on_rung=told.append
    )
    return accuracy, {one.target: one for one in results}, told


def test_the_first_rung_that_keeps_to_the_gates_flies(bundle):
    accuracy, found, told = judged(bundle, LOOSE)
    assert set(accuracy) == {"all", "without_iq", "without_image"}
    assert list(found) == ["cpu-x86", "cpu-arm", "trt"]
    assert all(one.approved == {"iq": "int8", "image": "int8"} for one in found.values())
    assert len(told) == 7
    assert [rung.precision for rung in found["trt"].rungs] == list(RUNGS)


def test_where_every_rung_fails_fp32_flies_and_each_failure_is_told(bundle):
    _, found, _ = judged(bundle, NOTHING_PASSES)
    assert all(one.approved == {} and one.chosen == "fp32" for one in found.values())
    why = found["trt"].why
    assert [text.split()[0] for text in why.split("; ")] == ["int8", "mixed", "fp16", "fp32"]
    assert "SQNR" in why


def test_the_ladder_stops_at_the_rung_between(bundle):
    _, found, _ = judged(bundle, LOOSE)
    exact = {rung.precision: min(one.sqnr_db for one in rung.figures.values()) for rung in found["trt"].rungs}
    assert exact["fp16"] > exact["int8"]
    between = msgspec.structs.replace(LOOSE, least_sqnr_db=(exact["fp16"] + max(exact["int8"], exact["mixed"])) / 2)
    _, stricter, _ = judged(bundle, between)
    assert stricter["trt"].chosen == "fp16"
    assert stricter["trt"].why.startswith("int8 fails")


def test_graphs_for_tensorrt_are_computed_as_written_and_others_as_they_fly(bundle, monkeypatch):
    asked = []

    def told(graphs, spec, examples, *, is_literal=False):
        asked.append((set(graphs.values()), is_literal))
        return ask_branches(graphs, spec, examples, is_literal=is_literal)

    monkeypatch.setattr("calibration.judging.ladder.ask_branches", told)
    judged(bundle, NOTHING_PASSES)
    for target, is_literal in (("trt", True), ("cpu-x86", False), ("cpu-arm", False)):
        graphs = {bundle.graph(role, "int8", target, batch="any") for role in ("iq", "image")}
        assert (graphs, is_literal) in asked


def test_a_role_that_is_no_faster_stays_fp32_on_this_machine_alone(bundle):
    image = bundle.graph("image", "int8", "cpu-x86")

    def slow_image(graph, fp32):
        return (3.0, 2.0) if graph == image else (1.0, 2.0)

    _, found, _ = judged(bundle, LOOSE, stopwatch=slow_image)
    assert found["cpu-x86"].approved == {"iq": "int8"}
    assert "image is not 1.05 x as fast in int8 (0.67 x) and stays fp32" in found["cpu-x86"].why
    assert found["cpu-arm"].approved == {"iq": "int8", "image": "int8"}
    assert found["cpu-arm"].timings == {}


def with_image_graph(bundle, data):
    files = [one.file for one in bundle.manifest.graphs if (one.role, one.precision) == ("image", "int8")]
    return dataclasses.replace(bundle, contents=bundle.contents | dict.fromkeys(files, data))


def test_a_graph_of_another_model_does_not_pass(bundle):
    _, found, _ = judged(with_image_graph(bundle, residual_branch(seed=5)), LOOSE)
    assert all(any("SQNR" in text for text in one.rungs[0].broken) for one in found.values())
    assert found["trt"].chosen == "mixed"


def test_a_graph_that_is_cut_off_is_refused(bundle):
    with pytest.raises(BundleError, match="cannot load a graph"):
        judged(with_image_graph(bundle, residual_branch()[:500]), LOOSE)


def test_roles_are_those_that_have_a_graph(bundle):
    assert roles(bundle, "int8", "cpu-x86") == ("iq", "image")
    assert roles(bundle, "mixed", "cpu-x86") == ("iq", "image")
    assert roles(bundle, "fp16", "cpu-x86") == ()


def test_page_and_json_tell_the_same_and_hold_nothing_that_is_no_number(bundle, tmp_path):
    accuracy, found, _ = judged(bundle, LOOSE)
    whole = Verification(
        bundle="small-1",
        graphs={},
        examples=60,
        note="made up",
        gates=LOOSE,
        accuracy=accuracy,
        targets=tuple(found.values()),
    )
    write_page(tmp_path / "verify.html", whole)
    page = (tmp_path / "verify.html").read_text()
    assert all(one.why in page for one in whole.targets)
    assert page.count("<svg") == 4  # one for each target, and times of this machine's
    assert "http" not in page.replace("http://www.w3.org", "")
    told = json.loads(json.dumps(whole.as_json(), allow_nan=False))
    assert told["approved"]["trt"] == {"iq": "int8", "image": "int8"}
    assert told["targets"][0]["timings"]["iq"]["fp32_ms"] == 2.0
    assert len(whole.lines()) > 20


def test_work_folder_without_graphs_ends_with_exit_code_3(root, tmp_path, capsys):
    bundle = str(root / "models" / "bundles" / "demo-1.uavb")
    assert main(["verify", "--bundle", bundle, "--work", str(tmp_path), "--examples", str(tmp_path / "no.npz")]) == 7
    assert "no.npz: no such file" in capsys.readouterr().err


@pytest.fixture
def work(bundle, tmp_path):
    """A work folder with the bundle's quantized graphs."""
    for entry in bundle.manifest.graphs:
        if entry.precision != "fp32":
            (tmp_path / entry.file).parent.mkdir(exist_ok=True)
            (tmp_path / entry.file).write_bytes(bundle.contents[entry.file])
    return tmp_path


def test_what_flies_is_what_is_judged(bundle, work):
    whole = with_work(bundle, work)
    assert hashes(whole.contents).keys() == {entry.file for entry in bundle.manifest.graphs}
    file = work / "onnx" / "iq.int8-trt.onnx"
    file.write_bytes((work / "onnx" / "image.int8-trt.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"iq\.int8-trt\.onnx: not what the graph for any number of examples"):
        with_work(bundle, work)


def test_a_graph_for_one_example_that_nothing_judges_is_refused(bundle, work):
    (work / "onnx" / "image.mixed-cpu-arm-any-batch.onnx").unlink()
    with pytest.raises(BundleError, match="so nothing judges it: run uav-calibrate quantize again"):
        with_work(bundle, work)
