import dataclasses
import json

import numpy as np
import pytest
from judging import flying_bundle, ranges_of, small_examples
from small_graphs import dense_branch, small_bundle

from calibration.cli import main
from calibration.judging.gates import Gates
from calibration.judging.sensitivity import Findings, Question, Step, choose, examine, thinned
from calibration.judging.sensitivity_report import write_page
from models.errors import ConfigError

STRICT = Gates(least_sqnr_db=1000)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return flying_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def ranges(bundle):
    return ranges_of(bundle)


def question(bundle, ranges, **changes):
    asked = Question(
        bundle=bundle,
        ranges=ranges,
        examples=small_examples(40),
        target="trt",
        gates=STRICT,
        budget=1.0,
        stopwatch=None,
    )
    return dataclasses.replace(asked, **changes)


def found(asked):
    return list(examine(asked))[-1][2]


def step(sqnr_db, broken=(), time=0.5, count=0):
    return Step(float_nodes={"image": ("x",) * count}, fused_sqnr_db=sqnr_db, broken=tuple(broken), time=time)


def test_every_layer_that_could_be_int8_is_tried_alone_and_the_worst_comes_first(bundle, ranges):
    result = found(question(bundle, ranges))
    assert {(one.role, one.node) for one in result.harms} == {
        ("iq", "two"), ("iq", "three"), ("image", "two"), ("image", "three"), ("image", "four"),
    }  # fmt: skip
    exactness = [one.fused_sqnr_db for one in result.harms]
    assert exactness == sorted(exactness)
    assert all(20 < one < 90 for one in exactness)


def test_a_layer_whose_input_is_clipped_away_is_the_most_harmful(bundle, ranges):
    tensors = dict(ranges.histograms["image"])
    small = tensors["b"]
    tensors["b"] = dataclasses.replace(small, minimum=0.0, maximum=small.maximum / 50)
    clipped = dataclasses.replace(ranges, histograms={**ranges.histograms, "image": tensors})
    result = found(question(bundle, clipped))
    assert (result.harms[0].role, result.harms[0].node) == ("image", "three")
    assert result.harms[0].fused_sqnr_db < result.harms[1].fused_sqnr_db - 10


def test_each_step_leaves_one_more_layer_in_float_and_harms_less_in_the_end(bundle, ranges):
    result = found(question(bundle, ranges))
    kept = [sum(len(nodes) for nodes in one.float_nodes.values()) for one in result.steps]
    assert kept == list(range(len(kept)))
    assert result.steps[-1].fused_sqnr_db > result.steps[0].fused_sqnr_db + 3
    assert all(one.time is None for one in result.steps)


def test_the_search_ends_where_the_gates_are_passed(bundle, ranges):
    easy = Gates(
        least_agreement=0,
        most_accuracy_lost=1,
        most_recall_lost=1,
        least_sqnr_db=5,
        most_weight_drift=1,
        most_order_flips=1,
    )
    result = found(question(bundle, ranges, gates=easy))
    assert len(result.steps) == 1
    assert result.float_nodes == {}
    assert result.why == "every layer may be INT8"


def test_time_is_that_of_all_branches_those_left_in_float_too(bundle, ranges):
    asked = question(
        bundle, ranges, target="cpu-x86", stopwatch=lambda graph, fp32: (2.0 if graph == fp32 else 1.0, 2.0)
    )
    result = found(asked)
    assert result.steps[0].time == 0.5
    image = [one.time for one in result.steps if len(one.float_nodes.get("image", ())) == 4]
    assert all(one >= 0.75 for one in image)


@pytest.mark.parametrize(
    ("steps", "budget", "count", "why"),
    [
        ([step(40)], 0.8, 0, "every layer may be INT8"),
        (
            [step(20, ["a"]), step(35, count=1), step(60, count=2)],
            0.8,
            1,
            "all gates are passed with 1 layers in float",
        ),
        ([step(20, ["a"]), step(30, ["b"]), step(60, time=0.9)], 0.8, 1, "no choice passes all gates within 80%"),
        ([step(20, ["a"], time=0.9), step(60, time=0.95)], 0.8, 0, "no choice passes all gates"),
        ([step(20, ["a"], time=None), step(60, time=None)], 0.8, 1, "all gates are passed"),
    ],
)
def test_the_choice_is_the_first_that_passes_else_the_most_exact_both_within_budget(steps, budget, count, why):
    chosen, said = choose(steps, budget)
    assert chosen == count
    assert said.startswith(why)


def test_a_model_with_no_layer_for_int8_is_refused_with_the_remedy(tmp_path):
    bundle = small_bundle(tmp_path, iq=dense_branch(2, 64), image=dense_branch(3, 12, 10))
    with pytest.raises(ConfigError, match="no branch has a layer that INT8 is for: fly it in fp32"):
        found(question(bundle, ranges_of(bundle)))


def test_thinned_examples_are_spread_over_all():
    examples = small_examples(40)
    few = thinned(examples, 4)
    np.testing.assert_array_equal(few.labels, examples.labels[[0, 13, 26, 39]])
    np.testing.assert_array_equal(few.inputs["iq"], examples.inputs["iq"][[0, 13, 26, 39]])
    assert thinned(examples, 1000).count == 40


def test_page_and_json_hold_every_layer_and_nothing_that_is_no_number(bundle, ranges, tmp_path):
    timed = found(question(bundle, ranges, target="cpu-x86", stopwatch=lambda graph, fp32: (1.0, 2.0)))
    both = Findings(targets=(timed, found(question(bundle, ranges))))
    write_page(tmp_path / "sensitivity.html", both, STRICT)
    page = (tmp_path / "sensitivity.html").read_text()
    assert page.count("<svg") == 3  # bars of both, and times where this machine is the target
    assert all(f"{one.role}: {one.node}" in page for one in timed.harms)
    told = json.loads(json.dumps(both.as_json(), allow_nan=False))
    assert told["float_nodes"]["cpu-x86"] == {role: list(nodes) for role, nodes in timed.float_nodes.items()}
    assert set(told["float_nodes"]) == {"cpu-x86", "trt"}
    assert len(both.lines()) == sum(len(one.harms) + len(one.steps) + 2 for one in both.targets)


@pytest.mark.parametrize("budget", ["0", "1.5"])
def test_an_impossible_budget_ends_with_exit_code_2(budget, tmp_path, capsys):
    arguments = ["--bundle", str(tmp_path), "--work", str(tmp_path), "--examples", "x.npz", "--budget", budget]
    assert main(["sensitivity", *arguments]) == 2
    assert "expected a share of FP32's time" in capsys.readouterr().err
