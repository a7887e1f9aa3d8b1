import contextlib
import io
import json
import shutil
import sys

import breaking
import msgspec
import pytest
from drawing import float_network, quantized_network
from test_docs import table

from calibration.cli import main
from calibration.rules import RULES, check_graph
from calibration.rules.files import read_graph, read_graphs
from models.bundle import GraphEntry, open_bundle, shipped_bundle, write_bundle
from models.errors import BundleError, ConfigError, DeviceError, InputError


def save(model, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def broken_by(*changes):
    model = quantized_network()
    for change in changes:
        change(model, lambda places: places[0])
    return model


def check(*arguments):
    """Return the exit code, what was printed, and the JSON object at its end."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["check", *map(str, arguments), "--json"])
    text = printed.getvalue()
    return code, text, json.loads(text.splitlines()[-1])


ZERO_POINT = breaking.zero_point_of_activation(3)


def test_a_graph_that_keeps_to_the_rules_passes(tmp_path):
    path = save(quantized_network(), tmp_path / "a.onnx")
    code, text, summary = check(path)
    assert code == 0
    assert f"{path}: keeps to every rule\n1 graphs checked, 0 skipped, 0 errors, 0 warnings\n" in text
    assert summary == {"graphs": {str(path): []}, "skipped": [], "errors": 0, "warnings": 0, "parser": None}


def test_an_error_is_a_line_with_node_reason_and_remedy_and_exit_code_1(tmp_path):
    path = save(broken_by(ZERO_POINT), tmp_path / "a.onnx")
    code, text, summary = check(path)
    assert code == 1
    remedy = next(rule.fix for rule in RULES if rule.name == "zero-point")
    assert [line for line in text.splitlines() if line.startswith("  ")] == [
        f"  error  zero-point  quantizelinear_0    zero point 3: expected 0: {remedy}",
        f"  error  zero-point  dequantizelinear_1  zero point 3: expected 0: {remedy}",
    ]
    assert summary["errors"] == 2
    assert summary["graphs"][str(path)][0] == {
        "rule": "zero-point",
        "severity": "error",
        "node": "quantizelinear_0",
        "reason": "zero point 3: expected 0",
        "fix": remedy,
    }


def test_a_warning_alone_is_told_and_passes(tmp_path):
    code, text, summary = check(save(broken_by(breaking.float_skip), tmp_path / "a.onnx"))
    assert (code, summary["errors"], summary["warnings"]) == (0, 0, 1)
    assert "warning  unquantized-skip  add_" in text


def test_several_rules_are_found_in_one_go(tmp_path):
    model = broken_by(ZERO_POINT, breaking.float_skip, breaking.opset(21))
    assert {violation.rule for violation in check_graph(model)} == {"zero-point", "unquantized-skip", "opset"}


def test_a_model_that_cannot_be_walked_is_asked_for_its_form_alone():
    model = broken_by(ZERO_POINT, breaking.unknown_operator)
    del model.graph.node[0].input[:]
    assert [violation.rule for violation in check_graph(model)] == ["unsupported-operator"]


def test_a_type_that_onnx_does_not_know_is_told_by_its_number():
    model = float_network()
    model.graph.initializer[0].data_type = 99
    assert "constant_0 is of type number 99" in {violation.reason.partition(",")[0] for violation in check_graph(model)}


@pytest.mark.parametrize("damage", [{"raw_data": b"123"}, {"raw_data": b"1234"}, {"data_type": 0}])
def test_a_damaged_constant_is_an_invalid_graph(damage):
    model = float_network()
    for field, content in damage.items():
        setattr(model.graph.initializer[0], field, content)
    assert [violation.rule for violation in check_graph(model)] == ["invalid-graph"]


def test_graphs_for_a_cpu_are_skipped_and_named(tmp_path):
    illegal = broken_by(ZERO_POINT)
    for name in ("iq.int8-cpu-x86", "iq.int8-cpu-arm-any-batch", "iq.mixed-cpu-x86"):
        save(illegal, tmp_path / "onnx" / f"{name}.onnx")
    for name in ("iq.int8-trt", "iq.int8-trt-any-batch", "iq.fp16"):
        save(quantized_network(), tmp_path / "onnx" / f"{name}.onnx")
    code, text, summary = check(tmp_path)
    assert code == 0
    assert [path.rpartition("/")[2] for path in summary["skipped"]] == [
        "iq.int8-cpu-arm-any-batch.onnx",
        "iq.int8-cpu-x86.onnx",
        "iq.mixed-cpu-x86.onnx",
    ]
    assert len(summary["graphs"]) == 3
    assert "iq.int8-cpu-x86.onnx: skipped: made for a CPU\n" in text


def test_a_graph_that_is_named_is_checked_whatever_it_was_made_for(tmp_path):
    path = save(broken_by(ZERO_POINT), tmp_path / "onnx" / "iq.int8-cpu-x86.onnx")
    assert check(path)[0] == 1


def test_a_bundle_is_checked_by_what_its_manifest_says_of_each_graph(tmp_path):
    bundle = open_bundle(shipped_bundle())
    files = {"any": "onnx/iq.int8.onnx", "cpu-arm": "onnx/iq.int8-cpu-arm.onnx", "trt": "onnx/iq.int8-trt.onnx"}
    extra = [GraphEntry(role="iq", precision="int8", target=target, file=file) for target, file in files.items()]
    manifest = msgspec.structs.replace(bundle.manifest, graphs=(*bundle.manifest.graphs, *extra))
    illegal = broken_by(ZERO_POINT).SerializeToString()
    path = write_bundle(tmp_path, manifest, {**bundle.contents, **dict.fromkeys(files.values(), illegal)})
    code, _, summary = check(path)
    assert code == 1
    assert summary["skipped"] == [f"{path}/onnx/iq.int8-cpu-arm.onnx"]
    found = {name for name, violations in summary["graphs"].items() if violations}
    assert found == {f"{path}/onnx/iq.int8.onnx", f"{path}/onnx/iq.int8-trt.onnx"}


def test_the_shipped_bundle_passes():
    assert check(shipped_bundle())[0] == 0


def test_a_damaged_bundle_is_refused(tmp_path):
    path = tmp_path / "demo-1.uavb"
    shutil.copytree(shipped_bundle(), path)
    (path / "onnx" / "iq.fp32.onnx").write_bytes(b"")
    assert main(["check", str(path)]) == BundleError.exit_code


@pytest.mark.parametrize("content", [None, "empty folder", b"", b"\x08\x0a", b"not a graph"])
def test_what_is_no_graph_is_refused_with_its_name(tmp_path, content, capsys):
    path = tmp_path / "a.onnx"
    if content == "empty folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    code = main(["check", str(path)])
    assert code == (InputError.exit_code if isinstance(content, bytes) else ConfigError.exit_code)
    assert str(path) in capsys.readouterr().err


def external(path, location):
    """Save a model whose first constant lies in another file, and return where that file was written."""
    model = float_network()
    tensor = model.graph.initializer[0]
    (path.parent / "weights.bin").write_bytes(tensor.raw_data)
    breaking.weights_elsewhere(model, lambda places: tensor)
    tensor.external_data[0].value = location
    save(model, path)
    return path


def test_weights_in_a_file_of_the_folder_are_read_and_checked(tmp_path):
    path = external(tmp_path / "a.onnx", "weights.bin")
    assert read_graph(path).graph.initializer[0].raw_data == float_network().graph.initializer[0].raw_data
    assert check(path)[0] == 0


@pytest.mark.parametrize(
    "location", ["../weights.bin", "/etc/passwd", "C:\\weights.bin", "", ".", "sub/../../weights.bin"]
)
def test_weights_outside_of_the_folder_are_refused_before_they_are_opened(tmp_path, location):
    path = external(tmp_path / "a.onnx", location)
    with pytest.raises(InputError, match=r"tensor 'constant_0' takes its values from .* outside of the graph's folder"):
        read_graph(path)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_bytes(bytes(4 * 8 * 3 * 3 * 3))
    path = external(tmp_path / "inner" / "a.onnx", "link")
    (tmp_path / "inner" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="outside of the graph's folder"):
        read_graph(path)


def test_weights_that_are_not_there_are_an_error_with_a_remedy(tmp_path):
    path = external(tmp_path / "a.onnx", "gone.bin")
    with pytest.raises(InputError, match="copy those files too"):
        read_graph(path)


def test_a_graph_for_several_paths_comes_once_per_path(tmp_path):
    paths = [save(float_network(), tmp_path / name) for name in ("b.onnx", "a.onnx")]
    assert [graph.name for graph in read_graphs(paths)] == [str(path) for path in paths]


def test_without_a_builder_the_parser_cannot_be_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    path = save(float_network(), tmp_path / "a.onnx")
    assert main(["check", str(path), "--parser"]) == DeviceError.exit_code
    assert "pip install 'uav-fusion-edge[trt-check]'" in capsys.readouterr().err


def test_the_page_on_rules_says_what_the_rules_say():
    assert table("docs/tensorrt-rules.md", "rule") == [
        [rule.name, rule.severity, rule.forbids, rule.why, rule.fix] for rule in RULES
    ]
