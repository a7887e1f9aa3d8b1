import json

import numpy as np
import onnx
import pytest
from small_graphs import dense_branch, example_arrays, residual_branch, small_bundle, small_spec

import calibration.commands.collect as collect_command
import calibration.commands.quantize as quantize_command
from calibration.cli import main
from calibration.examples import Examples
from calibration.graphs import with_uint8_input
from calibration.quantization.ranges import collect_ranges, read_ranges, write_ranges
from calibration.rules.violation import Violation
from calibration.session import Session
from calibration.work import graph_file, noted_steps
from models.errors import BundleError, ConfigError, InputError


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """A bundle that every command opens, whatever path is named."""
    made = small_bundle(tmp_path)
    monkeypatch.setattr("models.bundle.open_bundle", lambda path: made)
    return made


@pytest.fixture
def work(tmp_path, bundle):
    """A work folder with ranges."""
    arrays = example_arrays(small_spec(), 40)
    inputs = {name: arrays[f"input_{name}"] for name in small_spec().modality_names}
    taken = Examples(inputs=inputs, present=arrays["present"], labels=arrays["labels"], note="made up")
    write_ranges(tmp_path / "work/ranges.npz", collect_ranges(bundle, taken, "mse"))
    return tmp_path / "work"


def write_examples(path, **changes):
    np.savez(path, **{**example_arrays(small_spec(), 40), **changes})
    return str(path)


def answer(capsys, command, *arguments):
    """Run a command that succeeds and return its JSON."""
    assert main([command, "--bundle", "any", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_collect_and_quantize_write_every_graph_for_one_and_for_any_batch(bundle, tmp_path, capsys):
    work = tmp_path / "new/work"
    examples = write_examples(tmp_path / "examples.npz")
    report = answer(capsys, "collect", "--examples", examples, "--work", str(work), "--method", "minmax")
    assert report["examples"] == {"iq": 30, "image": 30}
    assert {(one["role"], one["target"]) for one in report["comparisons"]} == {
        ("iq", "cpu-x86"), ("iq", "trt"), ("image", "cpu-x86"), ("image", "trt"),
    }  # fmt: skip
    assert all(set(one["logits_sqnr_db"]) == set(collect_command.METHODS) for one in report["comparisons"])
    report = answer(capsys, "quantize", "--work", str(work))
    assert report["method"] == "minmax"
    files = sorted(one["file"] for one in report["graphs"])
    forms = [("int8", "cpu-x86"), ("int8", "cpu-arm"), ("int8", "trt"), ("fp16", "trt")]
    assert files == sorted(
        graph_file(role, *form, batch) for role in ("iq", "image") for form in forms for batch in ("one", "any")
    )
    assert sorted(str(file.relative_to(work)) for file in work.rglob("*.onnx")) == files
    for one in report["graphs"]:
        assert one["size_bytes"] == (work / one["file"]).stat().st_size
        session = Session((work / one["file"]).read_bytes())
        assert session.shape("input")[0] == (1 if one["batch"] == "one" else "batch")
        assert session.outputs == ["feature", "logits"]


def test_an_image_branch_that_takes_bytes_is_calibrated_on_the_same_examples(tmp_path, monkeypatch, capsys):
    recipe = small_spec().modality("image").recipe
    fed = with_uint8_input(onnx.load_from_string(residual_branch()), recipe).SerializeToString()
    made = small_bundle(tmp_path, images=np.uint8, image=fed)
    monkeypatch.setattr("models.bundle.open_bundle", lambda path: made)
    work, examples = str(tmp_path / "work"), write_examples(tmp_path / "examples.npz")
    report = answer(capsys, "collect", "--examples", examples, "--work", work)
    image = [one for one in report["comparisons"] if one["role"] == "image"]
    assert all(min(one["logits_sqnr_db"].values()) > 15 for one in image)
    report = answer(capsys, "quantize", "--work", work, "--precision", "int8")
    files = [one["file"] for one in report["graphs"] if one["role"] == "image"]
    assert {Session((tmp_path / "work" / file).read_bytes()).inputs["input"] for file in files} == {"tensor(uint8)"}


def test_collect_can_take_the_best_method_by_itself(bundle, tmp_path, capsys):
    work, examples = str(tmp_path / "work"), write_examples(tmp_path / "examples.npz")
    report = answer(capsys, "collect", "--examples", examples, "--work", work, "--method", "best")
    worst = {
        method: min(one["logits_sqnr_db"][method] for one in report["comparisons"])
        for method in collect_command.METHODS
    }
    assert report["method"] == max(worst, key=worst.get)
    assert read_ranges(tmp_path / "work/ranges.npz").method == report["method"]


def test_examples_are_not_added_twice(bundle, tmp_path, capsys):
    work, examples = str(tmp_path / "work"), write_examples(tmp_path / "examples.npz")
    answer(capsys, "collect", "--examples", examples, "--work", work)
    before = (tmp_path / "work/ranges.npz").read_bytes()
    assert main(["collect", "--bundle", "any", "--examples", examples, "--work", work, "--add"]) == 7
    assert "are in the ranges already, and would count twice" in capsys.readouterr().err
    assert (tmp_path / "work/ranges.npz").read_bytes() == before


def test_a_full_run_takes_away_what_an_earlier_one_left(work, capsys):
    answer(capsys, "quantize", "--work", str(work), "--precision", "mixed", "--float-nodes", "image:two")
    answer(capsys, "quantize", "--work", str(work), "--target", "trt")
    left = {file.name for file in (work / "onnx").iterdir()}
    assert not any("mixed-trt" in name for name in left)
    assert {"image.mixed-cpu-x86.onnx", "image.int8-trt.onnx", "image.fp16-trt-any-batch.onnx"} <= left
    answer(capsys, "quantize", "--work", str(work), "--target", "trt", "--precision", "int8")
    assert "image.fp16-trt.onnx" in {file.name for file in (work / "onnx").iterdir()}


def test_what_was_typed_is_noted_in_order_each_command_once(bundle, tmp_path, capsys):
    work, examples = tmp_path / "work", write_examples(tmp_path / "examples.npz")
    more = write_examples(tmp_path / "more.npz", note=np.array("of another day"))
    answer(capsys, "collect", "--examples", examples, "--work", str(work))
    answer(capsys, "quantize", "--work", str(work), "--target", "trt")
    answer(capsys, "collect", "--examples", examples, "--work", str(work))
    answer(capsys, "collect", "--examples", more, "--work", str(work), "--add")
    answer(capsys, "quantize", "--work", str(work), "--target", "trt")
    answer(capsys, "quantize", "--work", str(work))
    here = f"--bundle any --work {work}"
    assert sorted(noted_steps(work)) == sorted(
        [
            f"uav-calibrate collect --bundle any --examples {examples} --work {work}",
            f"uav-calibrate collect --bundle any --examples {more} --work {work} --add",
            f"uav-calibrate quantize {here}",
        ]
    )


def test_a_branch_without_layers_to_quantize_has_no_int8(tmp_path, monkeypatch, capsys):
    made = small_bundle(tmp_path, image=dense_branch(3, 12, 10))
    monkeypatch.setattr("models.bundle.open_bundle", lambda path: made)
    work, examples = str(tmp_path / "work"), write_examples(tmp_path / "examples.npz")
    answer(capsys, "collect", "--examples", examples, "--work", work)
    graphs = answer(capsys, "quantize", "--work", work)["graphs"]
    assert {one["role"] for one in graphs if one["precision"] == "int8"} == {"iq"}
    assert {one["role"] for one in graphs if one["precision"] == "fp16"} == {"iq", "image"}


def test_quantizing_twice_gives_the_same_bytes(work, capsys):
    arguments = ["quantize", "--work", str(work), "--target", "trt"]
    first = [(work / one["file"]).read_bytes() for one in answer(capsys, *arguments)["graphs"]]
    second = [(work / one["file"]).read_bytes() for one in answer(capsys, *arguments)["graphs"]]
    assert first == second


def test_ranges_can_be_added_to(work, tmp_path, capsys):
    examples = write_examples(tmp_path / "more.npz", note=np.array("of another day"))
    report = answer(capsys, "collect", "--examples", examples, "--work", str(work), "--add")
    assert report["examples"] == {"iq": 60, "image": 60}


def test_mixed_takes_its_float_nodes_from_the_sensitivity_report(work, capsys):
    (work / "sensitivity.json").write_text(
        json.dumps({"float_nodes": {"trt": {"image": ["two"], "iq": []}}, "more": 1})
    )
    report = answer(capsys, "quantize", "--work", str(work), "--target", "trt")
    mixed = {one["role"]: one for one in report["graphs"] if one["precision"] == "mixed"}
    assert set(mixed) == {"iq", "image"}
    assert mixed["iq"]["int8_nodes"] == ["two", "three"]
    assert mixed["image"]["int8_nodes"] == ["three", "four"]
    assert mixed["image"]["float_nodes"] == ["one", "two", "embed", "head"]
    model = onnx.load(work / mixed["image"]["file"])
    assert "two.weight" in {one.name for one in model.graph.initializer}


def test_float_nodes_of_the_command_line_come_before_the_report(work, capsys):
    (work / "sensitivity.json").write_text(json.dumps({"float_nodes": {"cpu-x86": {"image": ["two"]}}}))
    arguments = ["--work", str(work), "--precision", "mixed", "--target", "cpu-x86", "--float-nodes", "iq:two"]
    found = {one["role"]: one["int8_nodes"] for one in answer(capsys, "quantize", *arguments)["graphs"]}
    assert found["iq"] == ["three"]
    assert "two" in found["image"]


def test_a_branch_of_which_nothing_is_left_is_fp32_in_mixed(work, bundle, capsys):
    arguments = ["--work", str(work), "--precision", "mixed", "--float-nodes", "iq:two", "iq:three"]
    graphs = answer(capsys, "quantize", *arguments)["graphs"]
    given = np.random.default_rng(1).normal(size=(4, 2, 64)).astype(np.float32)
    exact = Session(bundle.graph("iq", batch="any"), is_exact=True).run({"input": given})["logits"]
    for one in graphs:
        if one["role"] == "iq" and one["batch"] == "any":
            assert one["int8_nodes"] == []
            found = Session((work / one["file"]).read_bytes(), is_exact=True).run({"input": given})["logits"]
            np.testing.assert_array_equal(found, exact)


def test_a_graph_that_breaks_a_rule_of_tensorrt_is_not_written(work, monkeypatch):
    broken = Violation(rule="made-up", severity="error", node="two", reason="it is wrong", fix="mend it")
    monkeypatch.setattr("calibration.rules.check_graph", lambda model: [broken])
    with pytest.raises(BundleError, match="iq in int8 for trt: node two: it is wrong: mend it"):
        quantize_command.run(parsed(work, []))
    assert [file.name for file in work.iterdir()] == ["ranges.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "fp16", "--target", "cpu-x86"], "fp16 for cpu-x86: no CPU computes in FP16 here"),
        (["--precision", "mixed"], "mixed: nothing says which nodes stay float"),
        (["--float-nodes", "sonar:one"], r"--float-nodes: no branch is called \['sonar'\]"),
        (["--float-nodes", "image:stem"], r"\['stem'\]: the graph has none so named"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_and_nothing_written(work, arguments, message):
    with pytest.raises(ConfigError, match=message):
        quantize_command.run(parsed(work, arguments))
    assert [file.name for file in work.iterdir()] == ["ranges.npz"]


@pytest.mark.parametrize("text", ["{", "[]", '{"float_nodes": 3}', "{}"])
def test_a_sensitivity_report_that_is_none_is_refused(work, text):
    (work / "sensitivity.json").write_text(text)
    with pytest.raises(InputError, match=r"no report with float_nodes .*run uav-calibrate sensitivity again"):
        quantize_command.run(parsed(work, []))


def parsed(work, arguments):
    import argparse

    parser = argparse.ArgumentParser()
    quantize_command.configure(parser)
    return parser.parse_args(
        ["--bundle", "any", "--work", str(work), *arguments], argparse.Namespace(typed=["uav-calibrate", "quantize"])
    )


def test_bad_examples_end_with_exit_code_7_and_leave_nothing(bundle, tmp_path, capsys):
    examples = write_examples(tmp_path / "examples.npz", labels=np.ones(40, np.int64))
    assert main(["collect", "--bundle", "any", "--examples", examples, "--work", str(tmp_path / "work")]) == 7
    assert "all examples are of class 'b'" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_without_ranges_quantize_ends_with_exit_code_7(bundle, tmp_path, capsys):
    assert main(["quantize", "--bundle", "any", "--work", str(tmp_path)]) == 7
    assert "no such file: run uav-calibrate collect" in capsys.readouterr().err


def test_a_graph_that_answers_otherwise_than_its_reference_is_not_written(work, monkeypatch):
    monkeypatch.setattr(
        "calibration.quantization.emit_int8.quantize_bias", lambda bias, steps: np.zeros(bias.shape, np.int32)
    )
    with pytest.raises(BundleError, match="iq in int8 for cpu-x86: the graph agrees with its NumPy reference to"):
        quantize_command.run(parsed(work, []))
    assert [file.name for file in work.iterdir()] == ["ranges.npz"]
