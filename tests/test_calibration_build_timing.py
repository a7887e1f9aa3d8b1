"""What is kept of a build beside its plan: what was timed, and what the inspector says; neither costs the plan."""

import json

import pytest
from fake_builder import FakeTensorrt
from test_calibration_build import DEMO, built

from edge.backends.plan_key import BuilderOptions
from edge.backends.plans import PlanConfig


@pytest.mark.parametrize(
    "call", ["Runtime", "deserialize_cuda_engine", "create_engine_inspector", "get_engine_information"]
)
def test_an_error_in_the_inspector_costs_the_report_its_kernels_and_no_plan(tmp_path, call):
    trt = FakeTensorrt()
    trt.raising = call
    outcome = built(DEMO, tmp_path, trt)
    assert outcome.file.read_bytes() == b"plan of main_graph"
    told = json.loads(outcome.report.with_suffix(".json").read_text())
    assert told["source"] == "parsed network"
    assert f"its layers could not be inspected (RuntimeError('{call} raised'))" in told["note"]
    assert built(DEMO, tmp_path, trt).state == "found"


def test_an_error_in_the_timing_cache_costs_what_was_timed_and_no_plan(tmp_path, caplog):
    trt = FakeTensorrt()
    trt.raising = "get_timing_cache"
    assert built(DEMO, tmp_path, trt).file.is_file()
    assert not timing_file(tmp_path).exists()
    assert "what was timed is not kept: RuntimeError('get_timing_cache raised')" in caplog.text


def test_times_of_another_process_that_break_the_merge_cost_neither_plan_nor_our_times(tmp_path):
    def another(step):
        timing_file(tmp_path).parent.mkdir(exist_ok=True)
        timing_file(tmp_path).write_bytes(b"breaking")

    assert built(DEMO, tmp_path, FakeTensorrt(on_step=another)).file.is_file()
    assert timing_file(tmp_path).read_bytes() == b"timed;"


def timing_file(folder, capability="8.7"):
    return folder / "timing" / f"tensorrt-10.3.0.26-sm{capability}.cache"


def test_what_was_timed_serves_the_next_build_on_the_same_kind_of_gpu(tmp_path):
    trt = FakeTensorrt()
    built(DEMO, tmp_path, trt)
    built(DEMO, tmp_path, trt, driver="541.0")
    assert timing_file(tmp_path).read_bytes() == b"timed;timed;"
    built(DEMO, tmp_path, trt, compute_capability="11.0")
    assert timing_file(tmp_path, "11.0").read_bytes() == b"timed;"


def test_what_another_process_timed_meanwhile_is_kept_too(tmp_path):
    def another(step):
        timing_file(tmp_path).parent.mkdir(exist_ok=True)
        timing_file(tmp_path).write_bytes(b"other;")

    built(DEMO, tmp_path, FakeTensorrt(on_step=another))
    assert timing_file(tmp_path).read_bytes() == b"timed;other;"


def test_timing_caches_of_another_gpu_are_not_used(tmp_path, caplog):
    timing_file(tmp_path).parent.mkdir()
    timing_file(tmp_path).write_bytes(b"foreign")
    built(DEMO, tmp_path, FakeTensorrt())
    assert timing_file(tmp_path).read_bytes() == b"timed;"
    assert "all is timed anew" in caplog.text


def test_without_the_option_nothing_is_timed(tmp_path):
    trt = FakeTensorrt()
    built(DEMO, tmp_path, trt, PlanConfig(builder=BuilderOptions(timing_cache=False)))
    assert trt.configs[0].cache is None
    assert not (tmp_path / "timing").exists()
