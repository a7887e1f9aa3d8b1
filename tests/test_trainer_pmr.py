import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from training import Tones, tiny_network, tiny_spec

from trainer.methods.gradients import gradients_of
from trainer.methods.joint import Joint
from trainer.methods.losses import compute_losses
from trainer.methods.pmr import Pmr, PmrConfig, class_means, hold, prototype_scores, push
from trainer.training.batches import BatchMaker

ALL = torch.tensor([True, True, True])


def set_up(epoch=0, **knobs):
    network = tiny_network(tiny_spec("concat"))
    batches = BatchMaker(data=Tones(), spec=network.spec, seed=1, batch=12, modality_dropout=0.3, outlier_share=0.25)
    method = Pmr(network, 10, PmrConfig(**knobs))
    method.begin_epoch(epoch, lambda count: [batches.probe(n) for n in range(count)])
    network.eval()  # the same features in every pass
    return network, method, batches.training(epoch, 0, 0.0)


def test_prototypes_are_the_means_of_their_classes():
    features = torch.tensor([[0.0, 2.0], [4.0, 0.0], [2.0, 4.0]])
    found = class_means(features, torch.tensor([0, 2, 0]), 3)
    torch.testing.assert_close(found, torch.tensor([[1.0, 3.0], [0.0, 0.0], [4.0, 0.0]]))


def test_scores_are_minus_the_distances():
    prototypes = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    found = prototype_scores(torch.tensor([[3.0, 4.0]]), prototypes, ALL)
    torch.testing.assert_close(found, torch.tensor([[-5.0, 0.0, -5.0]]))


def test_a_class_without_prototype_is_never_likely():
    features = torch.tensor([[0.1, 0.0]])
    scores = prototype_scores(features, torch.zeros(3, 2), torch.tensor([True, False, True]))
    torch.testing.assert_close(torch.softmax(scores, dim=1), torch.tensor([[0.5, 0.0, 0.5]]))


def test_a_feature_on_its_prototype_has_a_finite_gradient():
    features = torch.ones(2, 3, requires_grad=True)
    cross_entropy(prototype_scores(features, torch.ones(3, 3), ALL), torch.tensor([0, 1])).backward()
    assert torch.isfinite(features.grad).all()


def test_push_and_hold_follow_the_lead():
    assert [push(rho) for rho in (0.0, 0.25, 0.8, 1.0, 3.0)] == pytest.approx([1, 1, 0.25, 0, 0])
    assert [hold(rho) for rho in (0.5, 1.0, 1.4, 5.0)] == pytest.approx([0, 0, 0.4, 1])


@pytest.mark.parametrize("is_early", [True, False])
def test_the_modality_behind_is_pulled_and_the_one_ahead_held_back_early(is_early):
    _, method, _ = set_up(epoch=0 if is_early else 9, alpha=0.5, mu=2.0)
    scores = {"iq": torch.tensor([[0.5, 0.25, 0.25]]).log(), "image": torch.tensor([[0.7, 0.2, 0.1]]).log()}
    found = method._rebalance(scores, torch.tensor([0]))
    pulled = 0.5 * (0.7 / 0.5 - 1) * -math.log(0.5)
    held = 2.0 * (0.7 / 0.5 - 1) * -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    assert found.item() == pytest.approx(pulled - held if is_early else pulled, abs=1e-5)


def test_examples_of_a_class_without_prototype_pull_at_nothing():
    _, method, _ = set_up()
    method._is_present = torch.tensor([True, True, False])
    scores = {"iq": torch.randn(2, 3, requires_grad=True), "image": torch.randn(2, 3, requires_grad=True)}
    assert method._rebalance(scores, torch.tensor([2, 2])).item() == 0


def test_an_encoder_moves_by_the_fused_loss_and_the_pull_of_its_prototypes():
    network, method, batch = set_up()
    method.backward(batch)
    encoders = [one for name in ("iq", "image") for one in network.branch(name).encoder_parameters()]
    found = [one.grad.clone() for one in encoders]
    losses = compute_losses(network, batch)
    scores = {
        name: prototype_scores(feature, method._prototypes[name], method._is_present)
        for name, feature in losses.answer.features.items()
    }
    expected = gradients_of(losses.fused + method._rebalance(scores, batch.labels), encoders)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_without_any_pull_it_is_joint_training():
    network, method, batch = set_up(alpha=0.0, mu=0.0)
    method.backward(batch)
    found = {name: one.grad.clone() for name, one in network.named_parameters()}
    network.zero_grad(set_to_none=True)
    Joint(network, 10).backward(batch)
    for name, one in network.named_parameters():
        torch.testing.assert_close(found[name], one.grad)


def test_taking_prototypes_moves_nothing():
    network = tiny_network(tiny_spec("concat"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches = BatchMaker(data=Tones(), spec=network.spec, seed=1, batch=12, modality_dropout=0, outlier_share=0)
    method = Pmr(network, 10, PmrConfig())
    assert method.begin_epoch(0, lambda count: [batches.probe(n) for n in range(count)]) == "pmr:entropy"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training
