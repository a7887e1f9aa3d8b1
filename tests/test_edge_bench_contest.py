"""Backends and precisions side by side: what may be asked for, what is left out, and a short contest."""

import json
import sys

import pytest

from edge.bench import plan
from edge.bench.contest import Choice, ContestPlan, parse_choices, run_contests
from edge.bench.machine import NoiseMeter
from edge.bench.plan import QUICK, contested_feeds
from edge.bench.rig import Aircraft
from edge.cli import main
from models.bundle import Bundle, open_bundle, shipped_bundle
from models.errors import ConfigError

FP32 = Choice(backend="onnxruntime", precision="fp32")
AUTO = Choice(backend="onnxruntime", precision="auto")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(shipped_bundle())


def test_choices_are_backends_with_their_precisions() -> None:
    names = [choice.name for choice in parse_choices(["onnxruntime:fp32,int8", "trt:int8", "onnxruntime:fp32"])]
    assert names == ["onnxruntime:fp32", "onnxruntime:int8", "trt:int8"]


@pytest.mark.parametrize("word", ["onnxruntime", "onnxruntime:", "tpu:int8", "onnxruntime:int4", ":fp32", "trt:fp32,"])
def test_a_choice_that_is_none_is_refused_with_those_there_are(word: str) -> None:
    with pytest.raises(ConfigError, match="onnxruntime, openvino, trt"):
        parse_choices([word, "onnxruntime:fp32"])


def test_one_choice_is_no_comparison(capsys) -> None:
    assert main(["bench", "--compare", "onnxruntime:fp32"]) == 2
    assert "expected at least two" in capsys.readouterr().err


def contest_of(bundle: Bundle, *choices: Choice) -> ContestPlan:
    feeds = contested_feeds(bundle, QUICK)[:1]
    return ContestPlan(aircraft=Aircraft(bundle=bundle), choices=choices, feeds=feeds, seconds=0.02)


def test_what_is_not_to_be_had_is_left_out_with_its_remedy(bundle: Bundle, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    wanted = [Choice(backend="trt", precision="int8"), Choice(backend="openvino", precision="fp32")]
    wanted.append(Choice(backend="onnxruntime", precision="int8"))
    contests, absent = run_contests(contest_of(bundle, FP32, *wanted), NoiseMeter(), lambda: None)
    assert contests == ()
    remedies = {one.name: one.remedy for one in absent}
    assert "uav-calibrate build" in remedies["trt:int8"]
    assert "uav-fusion-edge[openvino]" in remedies["openvino:fp32"]
    assert "uav-calibrate quantize" in remedies["onnxruntime:int8"]


def test_plans_that_do_not_fit_are_left_out_with_the_reason(bundle: Bundle, tmp_path) -> None:
    one = contest_of(bundle, FP32, Choice(backend="trt", precision="auto"))
    aircraft = Aircraft(bundle=bundle, plans=tmp_path)
    changed = ContestPlan(aircraft=aircraft, choices=one.choices, feeds=one.feeds, seconds=one.seconds)
    _, absent = run_contests(changed, NoiseMeter(), lambda: None)
    assert [left_out.name for left_out in absent] == ["trt:auto"]


def test_openvino_is_compared_by_its_inference(bundle: Bundle) -> None:
    pytest.importorskip("openvino")
    plan = contest_of(bundle, FP32, Choice(backend="openvino", precision="fp32"))
    (contest,), absent = run_contests(plan, NoiseMeter(), lambda: None)
    assert absent == ()
    assert (contest.subject, contest.measured) == ("iq", "inference")
    first, second = contest.contenders
    assert (first.name, first.ratio) == ("onnxruntime:fp32", None)
    assert second.latency.samples > 0


def test_what_flies_is_compared_end_to_end_in_one_run(monkeypatch, capsys) -> None:
    lengths = {**{name: getattr(QUICK, name) for name in QUICK.__slots__}, "contest_s": 0.4, "camera_rate_hz": 100.0}
    monkeypatch.setattr(plan, "QUICK", plan.Lengths(**lengths))
    assert main(["bench", "--quick", "--compare", "onnxruntime:fp32,auto", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    measured = [(contest["subject"], contest["measured"]) for contest in found["contests"]]
    assert measured == [("iq", "end to end"), ("iq", "inference"), ("image", "end to end"), ("image", "inference")]
    for contest in found["contests"]:
        assert [one["name"] for one in contest["contenders"]] == ["onnxruntime:fp32", "onnxruntime:auto"]
        assert all(one["latency"]["samples"] > 0 for one in contest["contenders"])
    assert found["latencies"] == []
