"""Two sets of answers side by side: what changed, what is worse, what is let go or ignored."""

from pathlib import Path

import msgspec
import pytest
from house import ROOT
from regressing import answers, ledger, outcome

from edge.regression.comparison import compare
from edge.regression.figures import Finding
from edge.regression.outcome import Outcome
from edge.regression.tolerances import Ignored, Tolerances, read_tolerances
from edge.regression.verdict import Verdict, verdict_of_all, verdict_of_flight
from models.errors import ConfigError


def verdict(old: Outcome, new: Outcome, **tolerances) -> Verdict:
    limits = Tolerances(**tolerances)
    return verdict_of_all([verdict_of_flight("a.mcap", old, new, limits)], ("demo-1", "demo-2"), limits)


def findings(old: Outcome, new: Outcome, **tolerances) -> dict[str, Finding]:
    return {finding.figure.name: finding for finding in verdict(old, new, **tolerances).flights[0].findings}


def worse(old: Outcome, new: Outcome, **tolerances) -> set[str]:
    return {name for name, finding in findings(old, new, **tolerances).items() if finding.verdict == "worse"}


def test_the_same_answers_change_nothing() -> None:
    found = compare(answers("fflh"), answers("fflh"))
    assert (found.paired, found.changes, found.gone, found.came) == (4, (), 0, 0)


def test_a_changed_answer_has_its_time_both_classes_both_confidences_and_the_truth() -> None:
    found = compare(answers("fff", "ffl", 0.9), answers("ffl", "ffl", 0.7))
    (change,) = found.changes
    assert (change.after_s, change.old, change.new, change.truth) == (0.2, "forest", "lake", "lake")
    assert (change.old_confidence, change.new_confidence) == (0.9, 0.7)


@pytest.mark.parametrize(
    ("old", "new", "truth", "effect"),
    [("f", "l", "l", "fixed"), ("l", "f", "l", "broken"), ("f", "h", "l", ""), ("f", "l", "?", "")],
)
def test_a_change_is_fixed_or_broken_by_the_truth_alone(old, new, truth, effect) -> None:
    (change,) = compare(answers(old, truth), answers(new, truth)).changes
    assert change.effect == effect


def test_answers_of_one_side_alone_are_gone_or_came_and_shift_nothing() -> None:
    found = compare(answers("ff-f"), answers("-fff"))
    assert (found.paired, found.gone, found.came, found.changes) == (2, 1, 1, ())


def test_answers_to_the_same_instant_pair_up_in_order() -> None:
    twice = (*answers("f"), *answers("l"))
    assert compare(twice, twice).changes == ()
    assert len(compare(twice, twice[::-1]).changes) == 2


def test_the_largest_shift_of_a_confidence_counts_where_the_answer_stayed() -> None:
    found = compare(answers("ff", confidence=0.9), answers("fl", confidence=0.75))
    assert found.largest_shift == pytest.approx(0.15)
    assert found.shift_after_s == 0.0


def test_a_drop_of_accuracy_beyond_its_tolerance_is_a_regression() -> None:
    old, new = outcome("f" * 100, "f" * 100), outcome("f" * 95 + "l" * 5, "f" * 100)
    assert worse(old, new) == {"accuracy"}
    assert worse(old, new, accuracy_drop=0.05) == set()
    assert findings(old, new)["accuracy"].figure.worse_by == pytest.approx(0.05)
    assert verdict(new, old).is_regression is False


def test_small_drops_everywhere_are_a_regression_in_sum() -> None:
    old, new = outcome("f" * 100, "f" * 100), outcome("f" * 99 + "l", "f" * 100)
    found = verdict(old, new)
    assert found.flights[0].state == "ok"
    assert [finding.figure.name for finding in found.worse_in_sum] == ["accuracy"]
    assert found.is_regression


def test_a_flight_without_truth_has_no_accuracy_at_all() -> None:
    assert "accuracy" not in findings(outcome("fff"), outcome("fff"))
    found = verdict(outcome("fff"), outcome("fff"))
    assert all(finding.figure.name != "accuracy" for finding in found.in_sum)
    assert found.as_json()["flights"][0]["new"]["scored"] == 0


def test_flights_without_truth_do_not_thin_out_the_accuracy_of_the_others() -> None:
    limits = Tolerances()
    flights = [
        verdict_of_flight("a", outcome("ff", "ff"), outcome("fl", "ff"), limits),
        verdict_of_flight("b", outcome("f" * 98), outcome("f" * 98), limits),
    ]
    found = {finding.figure.name: finding.figure for finding in verdict_of_all(flights, ("1", "2"), limits).in_sum}
    assert (found["accuracy"].old, found["accuracy"].new) == (1.0, 0.5)


def test_too_many_changes_are_a_regression_even_without_truth() -> None:
    assert worse(outcome("ffff"), outcome("fffl")) == {"changed_share"}
    assert worse(outcome("ffff"), outcome("fffl"), changed_share=0.25) == set()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("latency_p99_ms.iq+image", {"latency_ms": {"iq+image": {"p50": 3.0, "p99": 4.5}}}),
        ("masked_share.iq", {"masked": {"iq": {"silent": 1}, "image": {}}}),
        ("unused_share.radio", {"streams": {"radio": ledger(processed=97, rejected={"crc": 3})}}),
        ("unaccounted.radio", {"streams": {"radio": ledger(processed=99)}}),
        ("promises.I2", {"broken": {"I1": 0, "I2": 3}}),
    ],
)
def test_health_that_got_worse_is_a_regression(name, changes) -> None:
    assert worse(outcome("ffff"), outcome("ffff", **changes)) == {name}
    assert worse(outcome("ffff", **changes), outcome("ffff")) == set()


def test_more_answers_of_no_data_are_a_regression() -> None:
    assert "no_data_share" in worse(outcome("ffff"), outcome("fffN"))


def test_answers_that_are_given_no_more_are_a_regression() -> None:
    assert worse(outcome("ffff"), outcome("fff-")) == {"missing_share"}


def test_answers_that_were_not_given_before_are_a_regression() -> None:
    assert worse(outcome("fff-"), outcome("ffff")) == {"new_share"}
    assert worse(outcome("fff-"), outcome("ffff"), new_share=0.25) == set()


def test_a_latency_below_zero_that_rises_is_worse_and_one_that_falls_is_not() -> None:
    low, high = ({"latency_ms": {"iq": {"p50": p99, "p99": p99}}} for p99 in (-4.0, -2.0))
    assert worse(outcome("ffff", **low), outcome("ffff", **high)) == {"latency_p99_ms.iq"}
    assert worse(outcome("ffff", **high), outcome("ffff", **low)) == set()


def test_confidences_are_let_go_unless_a_tolerance_says_otherwise() -> None:
    new = outcome("ffff", answers=answers("ffff", confidence=0.5))
    assert worse(outcome("ffff"), new) == set()
    assert worse(outcome("ffff"), new, confidence_change=0.39) == {"confidence_change"}


def test_wall_time_is_judged_in_sum_where_a_tolerance_says_so() -> None:
    old, new = outcome("ff", wall_s=1.0), outcome("ff", wall_s=2.0)
    assert not verdict(old, new).is_regression
    assert [one.figure.name for one in verdict(old, new, wall_growth=0.5).worse_in_sum] == ["wall_s"]
    assert not verdict(outcome("ff"), new, wall_growth=0.5).is_regression  # what was saved has no time


def test_an_ignored_figure_is_shown_with_its_reason_and_not_judged() -> None:
    entry = Ignored(field="changed_share", reason="the classes were renamed")
    finding = findings(outcome("ff"), outcome("fl"), ignore=(entry,))["changed_share"]
    assert (finding.verdict, finding.reason) == ("ignored", "the classes were renamed")
    assert not verdict(outcome("ff"), outcome("fl"), ignore=(entry,)).is_regression


def test_an_entry_ignores_one_figure_and_one_that_ignores_nothing_is_told() -> None:
    health = {"masked": {"iq": {"silent": 1}, "image": {"dark": 1}}}
    entries = (Ignored(field="masked_share.iq", reason="dusk"), Ignored(field="accuracy.iq", reason="no radio"))
    found = verdict(outcome("ffff"), outcome("ffff", **health), ignore=entries)
    assert [finding.figure.name for finding in found.flights[0].worse] == ["masked_share.image"]
    assert found.notes == ("ignore: accuracy.iq is no figure of these flights: take it out",)


def test_models_with_other_classes_are_compared_by_label_and_it_is_said() -> None:
    found = verdict(outcome("ffl"), outcome("ffl", classes=("forest", "sea", "harbour")))
    assert found.notes == (
        "the models' class lists differ, answers are compared by label: only the old one has lake; only the new one"
        " has sea",
    )
    (note,) = verdict(outcome("f"), outcome("f", classes=("lake", "forest", "harbour"))).notes
    assert note.endswith("the same ones in another order")


def test_another_precision_is_told_where_both_are_known() -> None:
    old, new = {"iq": "fp32", "fusion": "fp32"}, {"iq": "int8", "fusion": "fp32"}
    found = verdict(outcome("f", precisions=old), outcome("f", precisions=new))
    assert found.notes == (
        "flown in another precision: the old model in iq fp32, fusion fp32, the new one in iq int8, fusion fp32",
    )
    assert verdict(outcome("f", precisions=old), outcome("f", precisions=old)).notes == ()
    assert verdict(outcome("f"), outcome("f", precisions=new)).notes == ()


def test_another_file_of_the_same_name_and_a_damaged_one_are_told() -> None:
    notes = verdict(outcome("f"), outcome("f", flight_sha256="e" * 64, damage="truncated")).notes
    assert "not the very file" in notes[0]
    assert "truncated" in notes[1]


def test_a_flight_that_cannot_be_flown_is_an_error_beside_the_others() -> None:
    limits = Tolerances()
    flights = [
        verdict_of_flight("a", outcome("f"), "a: no magic", limits),
        verdict_of_flight("b", outcome("f"), outcome("f"), limits),
    ]
    found = verdict_of_all(flights, ("1", "2"), limits)
    assert [flight.state for flight in found.flights] == ["error", "ok"]
    assert (found.errors, found.is_regression) == (1, False)
    assert found.as_json()["flights"][0] == {"flight": "a", "state": "error", "problem": "a: no magic"}


def entries(count: int, field: str = "accuracy.iq", reason: str = "why") -> str:
    return "ignore:\n" + f"  - {{field: {field}, reason: '{reason}'}}\n" * count


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accuracy_drp: 0.1\n", "unknown key: did you mean accuracy_drop"),
        ("accuracy_drop: -0.1\n", "accuracy_drop is -0.1: expected 0 or more"),
        ("wall_growth: fast\n", "wall_growth"),
        (entries(6), "6 figures are ignored: at most 5"),
        (entries(1, reason=" "), "accuracy.iq: the reason is empty"),
        ("ignore:\n  - {field: accuracy.iq}\n", "reason is missing"),
        (entries(1, field="accuracy.*"), "expected one figure's name"),
        (entries(1, field="acuracy"), "no such figure: its name begins with one of accuracy, changed_share"),
    ],
)
def test_tolerances_that_do_not_fit_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "tolerances.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        read_tolerances(path)


def test_five_figures_may_be_ignored(tmp_path: Path) -> None:
    path = tmp_path / "tolerances.yaml"
    path.write_text(entries(5))
    assert len(read_tolerances(path).ignore) == 5


def test_the_tolerances_that_are_documented_are_the_defaults(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "regress.md").read_text()
    path = tmp_path / "tolerances.yaml"
    path.write_text(text.split("```yaml\n")[1].split("```")[0])
    said = read_tolerances(path)
    assert said.wall_growth is not None
    assert said.ignore
    assert msgspec.structs.replace(said, wall_growth=None, ignore=()) == Tolerances()
