import dataclasses

import numpy as np
import pytest

from calibration.judging.answers import ALL, Answers, Fused
from calibration.judging.gates import Gates, judge

CLASSES = ("a", "b")
EXAMPLES = 400
LABELS = np.arange(EXAMPLES) % 2


def answers(case=ALL, count=EXAMPLES):
    """Return answers that are right, and as certain of one modality as they can be."""
    logits = np.where(np.eye(2)[LABELS[:count]] > 0, 4.0, -4.0).astype(np.float32)
    entropies = np.tile(np.float32([0.2, 0.7]), (count, 1))
    weights = np.tile(np.float32([0.6, 0.4]), (count, 1))
    fused = Fused(rows=np.arange(count), logits=logits, weights=weights, entropies=entropies)
    return Answers(branch_logits={}, cases={case: fused})


def changed(one, case=ALL, **arrays):
    return Answers(branch_logits={}, cases={case: dataclasses.replace(one.cases[case], **arrays)})


def wrong(rows):
    """Return right answers but for some rows."""
    logits = answers().cases[ALL].logits.copy()
    logits[rows] *= -1
    return changed(answers(), logits=logits)


def verdict(candidate, gates=None, labels=LABELS):
    return judge(answers(), candidate, labels, CLASSES, gates or Gates())


def test_the_same_answers_pass_every_gate():
    found = verdict(answers())
    assert found.is_passed
    figures = found.figures[ALL]
    assert (figures.agreement, figures.accuracy, figures.accuracy_lost, figures.order_flips) == (1, 1, 0, 0)
    assert figures.sqnr_db == np.inf


@pytest.mark.parametrize(
    ("candidate", "complaint"),
    [
        (wrong(slice(0, 6)), "class changed in 1.50% of 400 examples, at most 1.00%"),
        (wrong(slice(0, 6)), "accuracy lost in 1.50% of 400 examples"),
        (wrong([0, 2, 4, 6, 8]), "recall of a lost in 2.50% of 200 examples"),
        (changed(answers(), logits=1.04 * answers().cases[ALL].logits), "SQNR 28.0 dB, at least 30.0 dB"),
        (changed(answers(), weights=answers().cases[ALL].weights + 0.03), "weight drift 3.00%, at most 2.00%"),
        (changed(answers(), entropies=answers().cases[ALL].entropies[:, ::-1]), "entropy order flipped in 100.00%"),
    ],
)
def test_each_gate_says_what_is_wrong_and_in_which_case(candidate, complaint):
    assert any(text.startswith(f"all: {complaint}") for text in verdict(candidate).broken)


def test_what_is_at_the_limit_passes():
    assert not any("recall" in text or "accuracy" in text for text in verdict(wrong([0, 1, 2, 3])).broken)


def test_one_example_lost_is_chance_however_few_there_are():
    few, two_lost = answers(count=20), wrong([0, 2])
    one = few.cases[ALL].logits.copy()
    one[0] *= -1
    gates = Gates(least_sqnr_db=-100)
    assert judge(few, changed(few, logits=one), LABELS[:20], CLASSES, gates).is_passed
    two = changed(few, logits=two_lost.cases[ALL].logits[:20])
    assert judge(few, two, LABELS[:20], CLASSES, gates).broken == (
        "all: class changed in 10.00% of 20 examples, at most 1.00%",
        "all: accuracy lost in 10.00% of 20 examples, at most 1.00%",
        "all: recall of a lost in 20.00% of 10 examples, at most 2.00%",
    )


def test_without_labels_the_answers_are_compared_with_each_other_alone():
    found = verdict(wrong(slice(0, 6)), labels=np.full(EXAMPLES, -1))
    assert [text.split()[1] for text in found.broken] == ["class", "SQNR"]
    assert np.isnan(found.figures[ALL].accuracy)


def test_nonsense_breaks_the_gate_of_noise():
    logits = answers().cases[ALL].logits.copy()
    logits[5] = np.nan
    assert any("SQNR" in text for text in verdict(changed(answers(), logits=logits)).broken)


def test_weights_that_are_no_numbers_break_their_gate():
    weights = answers().cases[ALL].weights.copy()
    weights[:20] = np.nan
    assert "all: weight drift nan%, at most 2.00%" in verdict(changed(answers(), weights=weights)).broken


def test_the_entropy_of_a_modality_that_is_gone_counts_for_nothing():
    gone = np.tile(np.float32([0.0, 1.0]), (EXAMPLES, 1))
    reference = changed(answers(), weights=gone)
    candidate = changed(reference, entropies=answers().cases[ALL].entropies[:, ::-1])
    assert judge(reference, candidate, LABELS, CLASSES, Gates()).figures[ALL].order_flips == 0


@pytest.mark.parametrize("numbers", [{"least_agreement": 1.2}, {"most_order_flips": -0.1}, {"least_sqnr_db": np.nan}])
def test_impossible_gates_are_refused(numbers):
    with pytest.raises(ValueError, match="expected"):
        Gates(**numbers)
