from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.backends.iemf import IemfHead, iemf_fuse, iemf_weights, stored_head
from models.spec import FusionSpec

FLOAT_ROUNDING = 1e-6

modalities = st.integers(1, 4)
taus = st.floats(0.01, 10.0)
floors = st.floats(0.0, 0.24)


present_or_absent = st.sampled_from([0.0, 1.0])


@st.composite
def cases(draw, mask_values=present_or_absent):
    m = draw(modalities)
    logits = draw(arrays(np.float64, (m, 5), elements=st.floats(-30, 30)))
    mask = draw(arrays(np.float64, (m,), elements=mask_values))
    beta = draw(arrays(np.float64, (m,), elements=st.floats(-2, 2)))
    return logits, mask, beta


@given(cases(), taus, floors)
def test_weights_sum_to_one_or_are_all_zero(case, tau, floor):
    logits, mask, beta = case
    weights, entropies = iemf_weights(logits, mask, tau, floor, beta)
    assert weights.sum() == pytest.approx(float(mask.any()), abs=FLOAT_ROUNDING)
    assert np.isfinite(weights).all()
    assert ((entropies >= -FLOAT_ROUNDING) & (entropies <= 1 + FLOAT_ROUNDING)).all()


@given(cases(), taus, floors)
def test_absent_modality_weighs_nothing_and_a_present_one_at_least_the_floor(case, tau, floor):
    logits, mask, beta = case
    weights, _ = iemf_weights(logits, mask, tau, floor, beta)
    assert (weights[mask == 0] == 0).all()
    assert (weights[mask == 1] >= floor - FLOAT_ROUNDING).all()


@given(cases(st.floats(0.0, 1.0)), taus, floors, st.randoms(use_true_random=False))
def test_order_of_modalities_does_not_matter(case, tau, floor, random):
    logits, mask, beta = case
    order = list(range(len(mask)))
    random.shuffle(order)
    weights, entropies = iemf_weights(logits, mask, tau, floor, beta)
    turned, turned_entropies = iemf_weights(logits[order], mask[order], tau, floor, beta[order])
    np.testing.assert_allclose(turned, weights[order], atol=FLOAT_ROUNDING)
    np.testing.assert_allclose(turned_entropies, entropies[order], atol=FLOAT_ROUNDING)


def test_equal_entropies_get_equal_weights():
    logits = np.array([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]])
    weights, _ = iemf_weights(logits, np.ones(3), 0.2, 0.2, np.zeros(3))
    np.testing.assert_allclose(weights, 1 / 3, atol=FLOAT_ROUNDING)


def test_more_certain_modality_weighs_more():
    weights, entropies = iemf_weights(np.array([[9.0, 0, 0], [0.1, 0, 0]]), np.ones(2), 0.2, 0.2, np.zeros(2))
    assert entropies[0] < 0.01 < 0.99 < entropies[1]
    np.testing.assert_allclose(weights, [0.8, 0.2], atol=0.01)


def test_degraded_modality_weighs_less_than_a_healthy_one_that_is_as_certain():
    logits = np.array([[2.0, 0, 0], [2.0, 0, 0]])
    weights, _ = iemf_weights(logits, np.array([1.0, 0.25]), 0.2, 0.2, np.zeros(2))
    assert weights[0] > 2 * weights[1] > 0
    assert weights.sum() == pytest.approx(1.0, abs=FLOAT_ROUNDING)


def test_formula_holds_on_numbers_worked_by_hand():
    logits = np.log(np.array([[0.5, 0.5], [0.9, 0.1]]))
    weights, entropies = iemf_weights(logits, np.ones(2), 0.5, 0.1, np.array([0.0, -0.3]))
    second = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1)) / np.log(2)
    scores = np.exp([-1 / 0.5, -second / 0.5 - 0.3])
    np.testing.assert_allclose(entropies, [1.0, second], atol=FLOAT_ROUNDING)
    np.testing.assert_allclose(weights, 0.1 + 0.8 * scores / scores.sum(), atol=FLOAT_ROUNDING)


def head_of_three_features(temperatures=(1.0, 1.0)):
    return IemfHead(
        layers=((np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]), np.array([0.1, -0.1])),),
        beta=np.zeros(2),
        temperatures=np.array(temperatures),
        tau=1.0,
        floor=0.1,
    )


def test_fused_logits_hold_on_numbers_worked_by_hand():
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])  # as certain as each other: weights 1/2, which 2 features undo
    fused, weights, _ = iemf_fuse(
        [np.array([1.0, -1.0]), np.array([2.0])], logits, np.ones(2), head_of_three_features()
    )
    np.testing.assert_allclose(weights, [0.5, 0.5])
    np.testing.assert_allclose(fused, [1.0 - 2.0 + 6.0 + 0.1 + 0.5, 0.5 + 1.0 - 0.1 + 0.5])


def test_hidden_layer_stands_between_features_and_classes():
    (last,) = head_of_three_features().layers
    hidden = (np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 1.0]]), np.array([0.0, -3.0, 1.0]))
    head = replace(head_of_three_features(), layers=(hidden, last))
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    fused, _, _ = iemf_fuse([np.array([1.0, -1.0]), np.array([2.0])], logits, np.ones(2), head)
    # features 1, -1, 2 become 1, 1 - 3 < 0, -1 + 2 + 1
    np.testing.assert_allclose(fused, [1.0 + 3 * 2.0 + 0.1 + 0.5, 0.5 - 0.1 + 0.5])
    assert {"head_weight", "head_bias", "head_hidden_weight", "head_hidden_bias"} <= set(head.as_arrays())
    stored = stored_head(head.as_arrays(), FusionSpec(tau=1.0, floor=0.1, hidden=3))
    for one, other in zip(stored.layers, head.layers, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_absent_modality_adds_neither_feature_nor_logits():
    logits = np.array([[1.0, 0.0], [50.0, 70.0]])
    fused, _, _ = iemf_fuse(
        [np.array([1.0, -1.0]), np.array([9.0])], logits, np.array([1.0, 0.0]), head_of_three_features()
    )
    np.testing.assert_allclose(fused, [2 * (1.0 - 2.0) + 0.1 + 1.0, 2 * (0.5 + 1.0) - 0.1])


def test_temperature_is_as_if_the_branch_had_said_so():
    features, logits = [np.ones(2), np.ones(1)], np.array([[4.0, -2.0], [1.0, 3.0]])
    tempered = iemf_fuse(features, logits, np.ones(2), head_of_three_features((2.0, 0.5)))
    plain = iemf_fuse(features, np.array([[2.0, -1.0], [2.0, 6.0]]), np.ones(2), head_of_three_features())
    for one, other in zip(tempered, plain, strict=True):
        np.testing.assert_allclose(one, other)
