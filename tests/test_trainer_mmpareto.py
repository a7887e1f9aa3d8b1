import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import Tones, tiny_network, tiny_spec

from trainer.methods.gradients import add, dot, gradients_of, norm
from trainer.methods.losses import compute_losses
from trainer.methods.mmpareto import MmPareto, MmParetoConfig, least_norm_share, pareto_sum
from trainer.training.batches import BatchMaker

ROUNDING = 1e-3  # of float32 gradients, relative

vectors = st.lists(st.integers(-80, 80).map(lambda n: n / 8), min_size=3, max_size=3).map(torch.tensor)


def test_agreeing_gradients_are_added_and_lengthened():
    found = pareto_sum([torch.tensor([3.0, 0.0])], [torch.tensor([1.0, 2.0])], 1.5)
    torch.testing.assert_close(found[0], torch.tensor([6.0, 3.0]))


def test_conflicting_gradients_give_the_least_norm_in_closed_form():
    first, second = [torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 2.0])]
    assert least_norm_share(first, second) == pytest.approx(0.75)  # <b - a, b> = 6 over |a - b|^2 = 8
    found = pareto_sum(first, second, 1.5)[0]  # towards (0.5, 0.5), 1.5 times as long as (0, 2)
    torch.testing.assert_close(found, torch.full((2,), 3 / math.sqrt(2)))


def test_the_least_norm_may_be_one_of_the_two():
    first, second = [torch.tensor([0.1, 0.0])], [torch.tensor([5.0, 1.0])]
    assert least_norm_share(first, second) == 1.0
    assert least_norm_share(second, first) == 0.0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, 2.0], [-1.0, -2.0], [0.0, 0.0]),
        ([1.0, 2.0], [-3.0, -6.0], [-3.0, -6.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
        ([0.0, 0.0], [1.0, 0.0], [1.5, 0.0]),
        ([-1e-40, 0.0], [2.0, 0.0], [3.0, 0.0]),
        ([1e-15, 0.0], [-1e-15, 1e-15], [0.6708204e-15, 1.3416408e-15]),
    ],
)
def test_no_gradients_give_nan(first, second, expected):
    found = pareto_sum([torch.tensor(first)], [torch.tensor(second)], 1.5)[0]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=ROUNDING, atol=0)


def test_a_missing_gradient_leaves_the_other():
    found = pareto_sum([None, torch.ones(2)], [torch.ones(2), None], 1.0)
    torch.testing.assert_close(found, [torch.ones(2), torch.ones(2)])


@given(vectors, vectors)
def test_the_combination_is_as_long_as_told_and_opposes_neither(first, second):
    found = pareto_sum([first], [second], 1.5)
    sum_length = norm(add([first], [second]))
    assert norm(found) == pytest.approx(1.5 * sum_length, rel=ROUNDING, abs=1e-6)
    if abs(dot([first], [second])) < 0.99 * norm([first]) * norm([second]):
        assert dot(found, [first]) >= -ROUNDING * norm(found) * norm([first])
        assert dot(found, [second]) >= -ROUNDING * norm(found) * norm([second])


def test_encoders_get_the_combination_and_heads_the_plain_sum():
    network = tiny_network(tiny_spec("iemf"))
    batch = BatchMaker(
        data=Tones(), spec=network.spec, seed=1, batch=12, modality_dropout=0.3, outlier_share=0.25
    ).training(0, 0, 0.0)
    MmPareto(network, 1, MmParetoConfig()).backward(batch)
    branch = network.branch("iq")
    encoder, head = branch.encoder_parameters(), list(branch.head.parameters())
    losses = compute_losses(network, batch)
    both = (losses.fused, losses.branches["iq"])
    expected = pareto_sum(*(gradients_of(loss, encoder) for loss in both), 1.5)
    expected += add(*(gradients_of(loss, head) for loss in both))
    for parameter, gradient in zip([*encoder, *head], expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
