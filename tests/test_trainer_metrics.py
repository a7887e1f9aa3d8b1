import numpy as np
import pytest

from trainer.evaluation import metrics

COUNTS = metrics.confusion(np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 1, 0, 2]), 4)


def test_a_row_of_the_confusion_is_a_truth_and_a_column_an_answer():
    assert COUNTS.tolist() == [[3, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_a_class_that_never_was_has_no_recall_and_no_part_in_the_means():
    assert metrics.recalls(COUNTS)[:3].tolist() == [0.75, 1.0, 0.5]
    assert np.isnan(metrics.recalls(COUNTS)[3])
    assert metrics.average_accuracy(COUNTS) == 0.75
    assert metrics.macro_f1(COUNTS) == pytest.approx((6 / 8 + 4 / 5 + 2 / 3) / 3)


def test_a_class_that_was_said_but_never_was_costs_macro_f1():
    counts = metrics.confusion(np.array([0, 0]), np.array([0, 1]), 3)
    assert metrics.macro_f1(counts) == pytest.approx((2 / 3 + 0) / 2)


def test_kappa_is_agreement_beyond_chance():
    by_chance = (4 * 4 + 2 * 3 + 2 * 1) / 64
    assert metrics.kappa(COUNTS) == pytest.approx((6 / 8 - by_chance) / (1 - by_chance))
    assert metrics.kappa(np.array([[5, 5], [5, 5]])) == 0
    assert np.isnan(metrics.kappa(np.array([[4, 0], [0, 0]])))


def test_auroc_counts_pairs_in_order_with_ties_half():
    low, high = np.array([0.1, 0.4, 0.4]), np.array([0.4, 0.9])
    pairs = [(l < h) + (l == h) / 2 for l in low for h in high]  # noqa: E741
    assert metrics.auroc(low, high) == pytest.approx(np.mean(pairs))
    assert metrics.auroc(high, low) == pytest.approx(1 - np.mean(pairs))


def test_spearman_sees_order_only_and_shares_ranks_of_ties():
    values = np.array([1.0, 2.0, 2.0, 5.0])
    assert metrics.average_ranks(values).tolist() == [1.0, 2.5, 2.5, 4.0]
    assert metrics.spearman(values, np.exp(values)) == pytest.approx(1)
    assert metrics.spearman(values, -(values**3)) == pytest.approx(-1)
    assert np.isnan(metrics.spearman(values, np.ones(4)))
