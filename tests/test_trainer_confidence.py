import numpy as np
import pytest

from trainer.evaluation import confidence


def drawn(examples=4000, classes=5, seed=3):
    """Return logits whose softmax is exactly how likely each class is, and labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (examples, classes))
    probs = np.exp(confidence.log_softmax(logits))
    return logits, np.array([rng.choice(classes, p=row) for row in probs])


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_sharpened_honest_logits(factor):
    logits, labels = drawn()
    assert confidence.fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.06)


def test_no_other_temperature_makes_the_truth_more_likely():
    logits, labels = drawn(200)
    best = confidence.fit_temperature(2 * logits, labels)
    least = confidence.likelihood_loss(2 * logits / best, labels)
    for other in (0.97, 1.03):
        assert confidence.likelihood_loss(2 * logits / (best * other), labels) > least


def test_each_modality_has_a_temperature_of_its_own_from_the_rows_that_have_it():
    logits, labels = drawn()
    partly = np.where(np.arange(len(labels))[:, None] < 2000, 3 * logits, np.nan)
    found = confidence.fit_temperatures({"iq": logits, "image": partly, "dead": np.full_like(logits, np.nan)}, labels)
    assert found["iq"] == confidence.fit_temperature(logits, labels)
    assert found["image"] == pytest.approx(confidence.fit_temperature(3 * logits[:2000], labels[:2000]))
    assert found["dead"] == 1.0


def test_a_set_without_errors_sharpens_within_bounds():
    logits = np.eye(4)[np.arange(40) % 4]
    assert confidence.fit_temperature(logits, np.arange(40) % 4) == pytest.approx(0.25)


def test_calibration_error_is_the_gap_between_claimed_and_found():
    claimed = 0.9
    logits = np.log(np.tile([claimed, 1 - claimed], (10, 1)))
    labels = np.array([0] * 6 + [1] * 4)
    assert confidence.calibration_error(logits, labels) == pytest.approx(0.3)
    bins = confidence.reliability(logits, labels)
    assert bins.examples.tolist() == [0] * 13 + [10, 0]
    assert bins.accuracy[13] == pytest.approx(0.6)
    assert np.isnan(bins.accuracy[0])


def test_certainty_of_one_falls_into_the_last_bin():
    assert confidence.reliability(np.array([[200.0, 0.0]]), np.array([0])).examples[-1] == 1


def test_each_half_is_scaled_by_what_the_other_half_shows():
    logits, labels = drawn(2000)
    order = np.argsort(labels, kind="stable")
    logits, labels = logits[order], labels[order]
    starts = np.searchsorted(labels, labels)
    is_odd = (np.arange(2000) - starts) % 2 == 1
    logits[is_odd] *= 4  # only odd rows are too sure, so even rows are to be softened and odd ones hardly
    scaled = confidence.cross_fitted(logits, labels)
    assert (logits[~is_odd] / scaled[~is_odd]).mean() == pytest.approx(4, rel=0.1)
    assert (logits[is_odd] / scaled[is_odd]).mean() == pytest.approx(1, rel=0.1)


def test_halves_hold_every_class_even_where_rows_go_through_classes_in_turn():
    logits, labels = np.zeros((40, 4)), np.arange(40) % 4
    logits[np.arange(40), labels] = 1.0 + labels  # classes differ in certainty: halves of other classes would differ
    scaled = confidence.cross_fitted(logits, labels)
    ratio = (logits[np.arange(40), labels] / scaled[np.arange(40), labels]).reshape(10, 4)
    assert ratio.max() == pytest.approx(ratio.min())


def test_a_single_example_keeps_its_logits():
    assert confidence.cross_fitted(np.array([[1.0, 2.0]]), np.array([0])).tolist() == [[1.0, 2.0]]


def test_entropy_is_one_where_nothing_is_known():
    assert confidence.entropies(np.array([[3.0, 3.0, 3.0], [900.0, 0.0, 0.0]])) == pytest.approx([1, 0])
