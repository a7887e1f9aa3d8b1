import dataclasses
import json

import msgspec
import numpy as np
import onnx
import pytest
from judging import quantized, ranges_of, small_examples
from small_graphs import example_arrays, residual_branch, small_bundle, small_spec

from calibration.cli import main
from calibration.judging.rivals import DEFAULTS, FP32, OPENVINO, OURS, compete, quantized_by_defaults
from edge.backends.select import cpu_target
from models.errors import ConfigError, InputError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    base = small_bundle(tmp_path_factory.mktemp("bundle"))
    return quantized(base, ranges_of(base))


def has_openvino():
    try:
        import openvino  # noqa: F401
    except ImportError:
        return False
    return True


def test_every_branch_is_computed_by_everybody_in_one_run(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("models.bundle.open_bundle", lambda path: bundle)
    for name, seed in (("examples", 3), ("judge", 9)):
        np.savez(tmp_path / f"{name}.npz", **example_arrays(small_spec(), 40, seed))
    files = ["--examples", str(tmp_path / "examples.npz"), "--judged-by", str(tmp_path / "judge.npz")]
    assert main(["rivals", "--bundle", "any", *files, "--json"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    contests = json.loads(last)["contests"]
    assert [one["role"] for one in contests] == ["iq", "image"]
    expected = [FP32, OURS, DEFAULTS, *([OPENVINO] if has_openvino() else [])]
    for contest in contests:
        by_name = {one["name"]: one for one in contest["contenders"]}
        assert list(by_name) == expected
        assert by_name[FP32]["speedup"] == pytest.approx(1)
        assert by_name[FP32]["sqnr_db"] is None
        assert all(20 < by_name[name]["sqnr_db"] < 80 for name in expected[1:])
        assert all(one["ms"] > 0 for one in by_name.values())
    assert len(lines) == len(contests) * (1 + len(expected))


def test_defaults_are_those_of_the_other_tool_not_ours():
    inputs = small_examples(40).inputs["image"]
    made = onnx.load_from_string(quantized_by_defaults(residual_branch(), inputs))
    zero_points = [one for one in made.graph.initializer if "zero_point" in one.name]
    assert any(onnx.numpy_helper.to_array(one).any() for one in zero_points)


def test_a_branch_that_the_other_tool_cannot_quantize_is_told(bundle):
    with pytest.raises(InputError, match=r"onnxruntime\.quantization cannot quantize the branch"):
        quantized_by_defaults(residual_branch(), np.zeros((0, 3, 12, 10), np.float32))


def test_a_bundle_without_int8_for_this_machine_is_refused(bundle):
    kept = tuple(one for one in bundle.manifest.graphs if one.target != cpu_target())
    without = dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, graphs=kept))
    with pytest.raises(ConfigError, match="no INT8 graph for"):
        list(compete(without, small_examples(), small_examples()))
